// `reprise explore --on uv`: many seeds, each in processes of its own.

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <map>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "sim/view/story.h"
#include "tools/command/process_flags.h"
#include "tools/command/report.h"
#include "tools/command/subcommands.h"

namespace reprise {
namespace {

using Clock = std::chrono::steady_clock;

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Failures that differ in numbers only, or in what comes behind a semicolon
// such as the last event of each worker, are one and the same.
std::string SignatureOf(const RunResult& result) {
  std::string signature = result.rule + ": ";
  for (const char c : result.detail.substr(0, result.detail.find("; "))) {
    if (!absl::ascii_isdigit(static_cast<unsigned char>(c))) {
      signature += c;
    } else if (signature.back() != '#') {
      signature += '#';
    }
  }
  return signature;
}

// Failures of one signature. The first is kept.
struct Group {
  uint64_t first_seed = 0;
  std::vector<uint64_t> seeds;
  RunResult first;
  std::string trace_path;
};

class ProcessExploration {
 public:
  explicit ProcessExploration(const ExploreCommand& command)
      : command_(command) {}

  absl::Status Run(ProcessRunOptions options) {
    for (const std::string& probe : options.scenario->probes) {
      probes_[probe] = 0;
    }
    double said_at = 0;
    for (uint64_t i = 0; i < command_.seeds; ++i) {
      options.seed = command_.first_seed + i;
      absl::StatusOr<RunResult> result = RunInProcesses(options);
      if (!result.ok()) return result.status();
      if (absl::Status status = Account(options.seed, *std::move(result));
          !status.ok()) {
        return status;
      }
      if (!groups_.empty() && !command_.keep_going) break;
      if (SecondsSince(start_) - said_at < 2) continue;
      said_at = SecondsSince(start_);
      PrintNotice(absl::StrFormat("%d of %d seeds, %d failed", seeds_,
                                  command_.seeds, failed_));
    }
    return absl::OkStatus();
  }

  bool held() const { return groups_.empty(); }

  Json ToJson() const {
    Json json;
    json["scenario"] = command_.run.scenario;
    json["on"] = command_.on;
    json["first_seed"] = command_.first_seed;
    json["outcome"] = held() ? "held" : "violated";
    json["seeds"] = seeds_;
    json["events"] = events_;
    json["wall_seconds"] = SecondsSince(start_);
    json["failures"] = Json::array();
    for (const auto& [signature, group] : groups_) {
      json["failures"].push_back(
          {{"seed", group.first_seed},
           {"rule", group.first.rule},
           {"detail", group.first.detail},
           {"seeds", group.seeds},
           {"trace", group.trace_path},
           {"scratch_directory", group.first.scratch_directory},
           {"faults", group.first.faults},
           {"story", TellStory(group.first)}});
    }
    json["probes"] = Json(probes_);
    json["faults"] = Json(injections_);
    return json;
  }

  void Print() const {
    for (const auto& [signature, group] : groups_) {
      for (const std::string& line : TellStory(group.first)) {
        PrintLine(line);
      }
      PrintLine(absl::StrFormat(
          "seed %d fails on %s, and %d more in the same way; its trace: %s",
          group.first_seed, command_.on, group.seeds.size() - 1,
          group.trace_path));
      if (!group.first.scratch_directory.empty()) {
        PrintLine("its files: " + group.first.scratch_directory);
      }
      PrintLine(absl::StrCat("to run it again:  ", ProgramPath(), " run ",
                             command_.run.scenario, " --on ", command_.on,
                             " --seed ", group.first_seed));
    }
    PrintLine(absl::StrFormat(
        "%s on %s: %d seeds from %d: %d failed, in %d ways; %.1f s",
        command_.run.scenario, command_.on, seeds_, command_.first_seed,
        failed_, groups_.size(), SecondsSince(start_)));
    PrintCounts("seeds that reached: ", probes_);
    PrintCounts("seeds struck by:    ", injections_);
  }

 private:
  static void PrintCounts(const std::string& what,
                          const std::map<std::string, int64_t>& counts) {
    if (counts.empty()) return;
    PrintLine(what + absl::StrJoin(
                         counts, ", ", [](std::string* out, const auto& entry) {
                           absl::StrAppend(out, entry.first, " ", entry.second);
                         }));
  }

  absl::Status Account(uint64_t seed, RunResult result) {
    ++seeds_;
    events_ += result.num_events;
    for (const std::string& probe : result.probes) ++probes_[probe];
    for (const auto& [kind, times] : result.injections) {
      if (times > 0) ++injections_[kind];
    }
    if (result.held()) return absl::OkStatus();
    ++failed_;
    Group& group = groups_[SignatureOf(result)];
    group.seeds.push_back(seed);
    std::error_code ignored;
    if (group.seeds.size() > 1) {
      // The first one is enough.
      if (!result.scratch_directory.empty()) {
        std::filesystem::remove_all(result.scratch_directory, ignored);
      }
      return absl::OkStatus();
    }
    group.first_seed = seed;
    group.trace_path = absl::StrCat(command_.out, "/", command_.run.scenario,
                                    "-", command_.on, "-", seed, ".trace");
    group.first = std::move(result);
    return WriteTrace(group.trace_path, group.first);
  }

  const ExploreCommand& command_;
  const Clock::time_point start_ = Clock::now();
  int64_t seeds_ = 0;
  int64_t failed_ = 0;
  int64_t events_ = 0;
  std::map<std::string, Group> groups_;  // by their signature
  // The number of seeds that reached each probe, and that were struck by each
  // kind of fault.
  std::map<std::string, int64_t> probes_;
  std::map<std::string, int64_t> injections_;
};

}  // namespace

int DoExploreInProcesses(const CommonFlags& common,
                         const ExploreCommand& command, Json* report) {
  absl::StatusOr<ProcessRunOptions> options = ToProcessOptions(
      command.run, command.on, command.device, command.max_wall_seconds);
  if (!options.ok()) return UsageError(options.status(), common.json);
  options->plant = common.plant;
  if (command.jobs > 1) {
    return UsageError(absl::InvalidArgumentError(absl::StrCat(
                          "--jobs ", command.jobs, ": on ", command.on,
                          " the seeds run one after another")),
                      common.json);
  }
  ExploreCommand with_out = command;
  if (with_out.out.empty()) with_out.out = DefaultOutDirectory();
  std::error_code error;
  std::filesystem::create_directories(with_out.out, error);
  if (error) {
    return UsageError(absl::InvalidArgumentError(absl::StrCat(
                          "--out ", with_out.out, ": ", error.message())),
                      common.json);
  }
  ProcessExploration exploration(with_out);
  if (absl::Status status = exploration.Run(*options); !status.ok()) {
    return UsageError(status, common.json);
  }
  if (common.json && report == nullptr) PrintJson(exploration.ToJson());
  if (!common.json) exploration.Print();
  if (report != nullptr) *report = exploration.ToJson();
  return exploration.held() ? kHeld : kViolated;
}

}  // namespace reprise
