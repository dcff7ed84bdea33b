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
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "fault_injection/fault.h"
#include "sim/network/topology.h"
#include "sim/random.h"

namespace reprise {
namespace {

constexpr absl::string_view kFirstLine = "reprise replay 2";
constexpr absl::string_view kOlderFirstLine = "reprise replay 1";
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

struct ParsedFile {
  ReplayFile replay;
  std::optional<uint64_t> check;
};

// Takes one line's content into `file`. Returns what is wrong with it, or
// nothing.
std::string ParseLine(absl::string_view word, absl::string_view rest, int line,
                      ParsedFile& file) {
  ReplayFile& replay = file.replay;
  const auto must_be = [](bool is_so, absl::string_view what) {
    return is_so ? std::string() : std::string(what);
  };
  if (word == "scenario") {
    replay.scenario = std::string(rest);
  } else if (word == "seed") {
    return must_be(ParseInt(rest, replay.seed), "the seed must be an integer");
  } else if (word == "param") {
    const std::pair<std::string, std::string> pair =
        absl::StrSplit(rest, absl::MaxSplits(' ', 1));
    replay.param_lines[pair.first] = line;
    return must_be(ParseInt(pair.second, replay.params[pair.first]),
                   "it must be 'param NAME INTEGER'");
  } else if (word == "plant") {
    replay.plant = std::string(rest);
  } else if (word == "topology") {
    replay.topology.emplace_back(rest);
    replay.topology_lines.push_back(line);
  } else if (word == "fault") {
    replay.faults.emplace_back(rest);
    replay.fault_lines.push_back(line);
  } else if (word == "schedule") {
    replay.schedule = std::string(rest);
  } else if (word == "stack-kib") {
    return must_be(ParseInt(rest, replay.stack_kib),
                   "the size of the stacks must be an integer, in KiB");
  } else if (word == "runtime") {
    if (rest == "real") replay.runtime = RuntimeKind::kReal;
    return must_be(rest == "real" || rest == "sim",
                   "the runtime must be real or sim");
  } else if (word == "build") {
    replay.build = std::string(rest);
  } else if (word == "hash") {
    return must_be(ParseInt(rest, replay.hash, 16),
                   "the hash must be 16 hexadecimal digits");
  } else if (word == "rule") {
    replay.rule = std::string(rest);
  } else if (word == "detail") {
    return must_be(absl::CUnescape(rest, &replay.detail),
                   "the detail has a wrong escape");
  } else if (word == "expect") {
    replay.expects_hold = rest == "holds";
    return must_be(replay.expects_hold, "it must be 'expect holds'");
  } else if (word == "decision") {
    std::optional<Decision> decision =
        Decision::Parse(std::string_view(rest.data(), rest.size()));
    if (!decision) {
      return "it must be 'decision THREAD [SECTION] PLACE#COUNT KIND VALUE', "
             "of the kind switch, next, stall, latency or rare";
    }
    replay.decisions.push_back(*std::move(decision));
  } else if (word == "check") {
    uint64_t check = 0;
    if (!ParseInt(rest, check, 16)) {
      return "the check must be 16 hexadecimal digits";
    }
    file.check = check;
  } else {
    return absl::StrCat("there is no line '", absl::CEscape(word), "'");
  }
  return "";
}

// What a file says, without its check and its end.
std::string FormatContent(const ReplayFile& replay) {
  std::string text =
      absl::StrCat("scenario ", replay.scenario, "\nseed ", replay.seed, "\n");
  for (const auto& [name, value] : replay.params) {
    absl::StrAppend(&text, "param ", name, " ", value, "\n");
  }
  if (!replay.plant.empty()) {
    absl::StrAppend(&text, "plant ", replay.plant, "\n");
  }
  for (const std::string& line : replay.topology) {
    absl::StrAppend(&text, "topology ", line, "\n");
  }
  for (const std::string& fault : replay.faults) {
    absl::StrAppend(&text, "fault ", fault, "\n");
  }
  absl::StrAppend(&text, "schedule ", replay.schedule, "\n");
  if (replay.stack_kib != 0) {
    absl::StrAppend(&text, "stack-kib ", replay.stack_kib, "\n");
  }
  if (replay.runtime == RuntimeKind::kReal) text += "runtime real\n";
  absl::StrAppend(&text, "build ", replay.build, "\n");
  absl::StrAppendFormat(&text, "hash %016x\n", replay.hash);
  absl::StrAppend(&text, "rule ", replay.rule, "\ndetail ",
                  absl::CEscape(replay.detail), "\n");
  if (replay.expects_hold) text += "expect holds\n";
  for (const Decision& decision : replay.decisions) {
    absl::StrAppend(&text, "decision ", decision.ToString(), "\n");
  }
  return text;
}

}  // namespace

std::string FormatReplay(const ReplayFile& replay,
                         const std::vector<std::string>& comment) {
  std::string text = absl::StrCat(kFirstLine, "\n");
  for (const std::string& line : comment) {
    absl::StrAppend(&text, "# ", absl::StrReplaceAll(line, {{"\n", " "}}),
                    "\n");
  }
  const std::string content = FormatContent(replay);
  absl::StrAppend(&text, content);
  absl::StrAppendFormat(&text, "check %016x\nend\n", HashBytes(content));
  return text;
}

absl::StatusOr<ReplayFile> ParseReplay(std::string_view text) {
  if (text.size() > kMaxBytes) {
    return absl::InvalidArgumentError("a replay file of over 1 GiB");
  }
  ParsedFile file;
  ReplayFile& replay = file.replay;
  int number = 0;
  bool ended = false;
  for (absl::string_view line :
       absl::StrSplit(absl::string_view(text.data(), text.size()), '\n')) {
    ++number;
    if (number == 1 && line != kFirstLine && line != kOlderFirstLine) {
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
    const std::string wrong = ParseLine(word, rest, number, file);
    if (!wrong.empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat("line ", number, " makes no sense: ",
                       absl::CEscape(line.substr(0, 100)), ": ", wrong));
    }
  }
  if (!ended) {
    return absl::InvalidArgumentError("the file is cut off: it has no 'end'");
  }
  if (replay.scenario.empty()) {
    return absl::InvalidArgumentError("the file names no scenario");
  }
  replay.is_edited =
      !file.check || *file.check != HashBytes(FormatContent(replay));
  return std::move(file.replay);
}

absl::Status CheckReplay(const ReplayFile& replay, const Scenario& scenario) {
  for (const auto& [name, line] : replay.param_lines) {
    if (scenario.params.contains(name)) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("line ", line, ": ", scenario.name, " has no parameter '",
                     name, "'; there are: ",
                     absl::StrJoin(scenario.params, ", ",
                                   [](std::string* out, const auto& entry) {
                                     out->append(entry.first);
                                   })));
  }
  ScenarioParams params = scenario.params;
  for (const auto& [name, value] : replay.params) params[name] = value;
  const int workers = NumWorkers(scenario, params);
  const auto in_line = [](const std::vector<int>& lines, size_t i,
                          const absl::Status& status) {
    return absl::InvalidArgumentError(absl::StrCat(
        i < lines.size() ? absl::StrCat("line ", lines[i], ": ") : "",
        status.message()));
  };
  for (size_t i = 0; i < replay.faults.size(); ++i) {
    const absl::Status status =
        ParseFaults({replay.faults[i]}, workers).status();
    if (!status.ok()) return in_line(replay.fault_lines, i, status);
  }
  for (size_t i = 0; i < replay.topology.size(); ++i) {
    NetworkOptions ignored;
    const absl::Status status =
        ApplyTopology({replay.topology[i]}, workers, ignored);
    if (!status.ok()) return in_line(replay.topology_lines, i, status);
  }
  return absl::OkStatus();
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
