#include "tools/processes/worker_arguments.h"

#include <time.h>

#include <charconv>
#include <string_view>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

namespace reprise {
namespace {

constexpr std::string_view kParam = "param:";

template <typename Int>
bool ParseInt(std::string_view text, Int& value) {
  const char* const end = text.data() + text.size();
  auto [rest, error] = std::from_chars(text.data(), end, value);
  return error == std::errc() && rest == end;
}

std::vector<std::string> SplitList(std::string_view text) {
  return absl::StrSplit(absl::string_view(text.data(), text.size()), ',');
}

bool ParseGpus(std::string_view text, std::vector<int>& gpus) {
  for (const std::string& number : SplitList(text)) {
    if (!ParseInt(number, gpus.emplace_back())) return false;
  }
  return true;
}

bool ParseWord(std::string_view name, std::string_view value,
               WorkerArguments& worker) {
  if (name == "scenario") {
    worker.scenario = std::string(value);
  } else if (name == "transports") {
    worker.transports = SplitList(value);
    if (value.empty()) worker.transports.clear();
  } else if (name == "gpus") {
    return ParseGpus(value, worker.gpus);
  } else if (name == "store") {
    worker.store_url = std::string(value);
  } else if (name == "files") {
    worker.files = std::string(value);
  } else if (name == "plant") {
    worker.plant = std::string(value);
  } else if (name == "rank") {
    return ParseInt(value, worker.rank);
  } else if (name == "world-size") {
    return ParseInt(value, worker.world_size);
  } else if (name == "incarnation") {
    return ParseInt(value, worker.incarnation);
  } else if (name == "seed") {
    return ParseInt(value, worker.seed);
  } else if (name == "trace-fd") {
    return ParseInt(value, worker.trace_fd);
  } else if (name == "start-ns") {
    return ParseInt(value, worker.start_ns);
  } else if (name.substr(0, kParam.size()) == kParam) {
    return ParseInt(value,
                    worker.params[std::string(name.substr(kParam.size()))]);
  } else {
    return false;
  }
  return true;
}

}  // namespace

std::vector<std::string> FormatWorkerArguments(const WorkerArguments& worker) {
  std::vector<std::string> words = {
      absl::StrCat("scenario=", worker.scenario),
      absl::StrCat("rank=", worker.rank),
      absl::StrCat("world-size=", worker.world_size),
      absl::StrCat("incarnation=", worker.incarnation),
      absl::StrCat("seed=", worker.seed),
      absl::StrCat("transports=", absl::StrJoin(worker.transports, ",")),
      absl::StrCat("store=", worker.store_url),
      absl::StrCat("trace-fd=", worker.trace_fd),
      absl::StrCat("start-ns=", worker.start_ns),
  };
  if (!worker.gpus.empty()) {
    words.push_back(absl::StrCat("gpus=", absl::StrJoin(worker.gpus, ",")));
  }
  if (!worker.files.empty()) {
    words.push_back(absl::StrCat("files=", worker.files));
  }
  if (!worker.plant.empty()) {
    words.push_back(absl::StrCat("plant=", worker.plant));
  }
  for (const auto& [name, value] : worker.params) {
    words.push_back(absl::StrCat(std::string(kParam), name, "=", value));
  }
  return words;
}

absl::StatusOr<WorkerArguments> ParseWorkerArguments(
    const std::vector<std::string>& words) {
  WorkerArguments worker;
  for (const std::string& word : words) {
    // For a parameter the last '=' counts: its value is a number, and its name
    // may be anything.
    const bool is_param = word.compare(0, kParam.size(), kParam) == 0;
    const size_t at = is_param ? word.rfind('=') : word.find('=');
    if (at == std::string::npos ||
        !ParseWord(std::string_view(word).substr(0, at),
                   std::string_view(word).substr(at + 1), worker)) {
      return absl::InvalidArgumentError(
          absl::StrCat("not an argument of a worker: '", word, "'"));
    }
  }
  if (worker.scenario.empty() || worker.store_url.empty() ||
      worker.transports.empty() || worker.trace_fd < 0 ||
      worker.world_size < 1 || worker.rank < 0 ||
      worker.rank >= worker.world_size) {
    return absl::InvalidArgumentError(
        "a worker needs a scenario, a transport, a store, a trace, and a rank "
        "below the size of the world");
  }
  return worker;
}

int64_t MonotonicNanoseconds() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

}  // namespace reprise
