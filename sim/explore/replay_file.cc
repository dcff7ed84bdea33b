#include "sim/explore/replay_file.h"

#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <optional>
#include <sstream>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "sim/random.h"

namespace reprise {
namespace {

constexpr absl::string_view kFirstLine = "reprise replay 1";
constexpr size_t kMaxBytes = size_t{1} << 30;

template <typename Int>
bool ParseInt(absl::string_view text, Int& value, int base = 10) {
  auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), value, base);
  return error == std::errc() && end == text.data() + text.size();
}

absl::StatusOr<std::string> ReadFile(const std::string& path) {
  errno = 0;
  std::ifstream stream(path, std::ios::binary);
  std::ostringstream text;
  if (!stream || !(text << stream.rdbuf())) {
    return absl::NotFoundError(
        absl::StrCat("cannot read ", path, ": ", std::strerror(errno)));
  }
  return text.str();
}

// Takes one line's content into `replay`. Returns false if the line makes no
// sense.
bool ParseLine(absl::string_view word, absl::string_view rest,
               ReplayFile& replay) {
  if (word == "scenario") {
    replay.scenario = std::string(rest);
  } else if (word == "seed") {
    return ParseInt(rest, replay.seed);
  } else if (word == "param") {
    const std::pair<std::string, std::string> pair =
        absl::StrSplit(rest, absl::MaxSplits(' ', 1));
    return ParseInt(pair.second, replay.params[pair.first]);
  } else if (word == "plant") {
    replay.plant = std::string(rest);
  } else if (word == "fault") {
    replay.faults.emplace_back(rest);
  } else if (word == "schedule") {
    replay.schedule = std::string(rest);
  } else if (word == "build") {
    replay.build = std::string(rest);
  } else if (word == "hash") {
    return ParseInt(rest, replay.hash, 16);
  } else if (word == "rule") {
    replay.rule = std::string(rest);
  } else if (word == "detail") {
    return absl::CUnescape(rest, &replay.detail);
  } else if (word == "decision") {
    std::optional<Decision> decision =
        Decision::Parse(std::string_view(rest.data(), rest.size()));
    if (!decision) return false;
    replay.decisions.push_back(*std::move(decision));
  } else {
    return false;
  }
  return true;
}

}  // namespace

std::string FormatReplay(const ReplayFile& replay) {
  std::string text =
      absl::StrCat(kFirstLine, "\n", "scenario ", replay.scenario, "\nseed ",
                   replay.seed, "\n");
  for (const auto& [name, value] : replay.params) {
    absl::StrAppend(&text, "param ", name, " ", value, "\n");
  }
  if (!replay.plant.empty()) {
    absl::StrAppend(&text, "plant ", replay.plant, "\n");
  }
  for (const std::string& fault : replay.faults) {
    absl::StrAppend(&text, "fault ", fault, "\n");
  }
  absl::StrAppend(&text, "schedule ", replay.schedule, "\nbuild ", replay.build,
                  "\n");
  absl::StrAppendFormat(&text, "hash %016x\n", replay.hash);
  absl::StrAppend(&text, "rule ", replay.rule, "\ndetail ",
                  absl::CEscape(replay.detail), "\n");
  for (const Decision& decision : replay.decisions) {
    absl::StrAppend(&text, "decision ", decision.ToString(), "\n");
  }
  text += "end\n";
  return text;
}

absl::StatusOr<ReplayFile> ParseReplay(std::string_view text) {
  if (text.size() > kMaxBytes) {
    return absl::InvalidArgumentError("a replay file of over 1 GiB");
  }
  ReplayFile replay;
  int number = 0;
  bool ended = false;
  for (absl::string_view line :
       absl::StrSplit(absl::string_view(text.data(), text.size()), '\n')) {
    ++number;
    if (number == 1 && line != kFirstLine) {
      return absl::InvalidArgumentError(
          absl::StrCat("not a replay file: line 1 is not '", kFirstLine, "'"));
    }
    if (number == 1 || line.empty() || line[0] == '#' || ended) continue;
    if (line == "end") {
      ended = true;
      continue;
    }
    const size_t blank = line.find(' ');
    const absl::string_view word = line.substr(0, blank);
    const absl::string_view rest = blank == absl::string_view::npos
                                       ? absl::string_view()
                                       : line.substr(blank + 1);
    if (!ParseLine(word, rest, replay)) {
      return absl::InvalidArgumentError(absl::StrCat(
          "line ", number,
          " makes no sense: ", absl::CEscape(line.substr(0, 100))));
    }
  }
  if (!ended) {
    return absl::InvalidArgumentError("the file is cut off: it has no 'end'");
  }
  if (replay.scenario.empty()) {
    return absl::InvalidArgumentError("the file names no scenario");
  }
  return replay;
}

absl::StatusOr<ReplayFile> ReadReplay(const std::string& path) {
  absl::StatusOr<std::string> text = ReadFile(path);
  if (!text.ok()) return text.status();
  absl::StatusOr<ReplayFile> replay = ParseReplay(*text);
  if (!replay.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": ", replay.status().message()));
  }
  return replay;
}

absl::Status WriteFile(const std::string& path, std::string_view text) {
  const std::string partial = path + ".partial";
  errno = 0;
  std::FILE* const file = std::fopen(partial.c_str(), "wb");
  bool written = file != nullptr &&
                 std::fwrite(text.data(), 1, text.size(), file) == text.size();
  if (file != nullptr && std::fclose(file) != 0) written = false;
  if (!written || std::rename(partial.c_str(), path.c_str()) != 0) {
    const int error = errno;
    std::remove(partial.c_str());
    return absl::UnavailableError(
        absl::StrCat("cannot write ", path, ": ", std::strerror(error)));
  }
  return absl::OkStatus();
}

std::string BuildId() {
  static const std::string* const id = [] {
    absl::StatusOr<std::string> program = ReadFile("/proc/self/exe");
    return new std::string(
        program.ok() ? absl::StrFormat("%016x", HashBytes(*program)) : "?");
  }();
  return *id;
}

}  // namespace reprise
