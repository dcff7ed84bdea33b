// A scenario: what every worker of a group does, and what must hold.
//
//   void Echo(Worker& worker) {
//     auto agent = Agent::Start(worker.environment(), worker.options(),
//                               Blocking(...), worker.In(absl::Seconds(30)));
//     if (!worker.CheckOk(agent.status(), "start")) return;
//     Future reply = (*agent)->Send("w0", request);
//     ...
//   }
//   REPRISE_SCENARIO(echo, {.description = "every worker calls every other",
//                           .workers = 3,
//                           .body = Echo});
//
// The body is ordinary blocking code. It does not know whether it runs in a
// simulated world or in a process of its own over real transports; a worker
// that is restarted after a crash runs it again.

#ifndef REPRISE_SIM_SCENARIO_SCENARIO_H_
#define REPRISE_SIM_SCENARIO_SCENARIO_H_

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "agent/agent.h"
#include "agent/options.h"
#include "sim/random.h"

namespace reprise {

using ScenarioParams = std::map<std::string, int64_t, std::less<>>;

// What one worker's body sees of the world. Used by that worker's threads.
class Worker {
 public:
  virtual ~Worker() = default;

  const std::string& name() const { return options_.name; }
  int rank() const { return static_cast<int>(options_.id); }
  int world_size() const { return static_cast<int>(options_.world_size); }
  // 0, and one more after each restart.
  int incarnation() const { return incarnation_; }
  std::string NameOf(int rank) const { return "w" + std::to_string(rank); }

  // To start agents with: the seams, and options with name, id, world size and
  // transports filled in.
  virtual Environment environment() = 0;
  const AgentOptions& options() const { return options_; }
  Runtime& runtime() { return *environment().runtime; }
  absl::Time In(absl::Duration duration) { return runtime().Now() + duration; }
  void Sleep(absl::Duration duration) { runtime().SleepUntil(In(duration)); }

  // A parameter of the scenario; it must be among its `params`.
  int64_t param(std::string_view name) const;

  // Random numbers of this worker, the same in every run of the seed.
  RandomStream random(std::string_view use) const {
    return RandomStream(HashCombine(seed_, HashBytes(options_.name)), use);
  }

  // A line of the story.
  virtual void Note(std::string_view text) = 0;
  // Fails the run, with the rule's name and the detail, unless `holds`.
  // Returns `holds`.
  virtual bool Check(bool holds, std::string_view rule,
                     std::string_view detail) = 0;
  bool CheckOk(const absl::Status& status, std::string_view rule) {
    return status.ok() || Check(false, rule, status.ToString());
  }
  // A rare path was taken: one of the scenario's `probes`.
  virtual void Reached(std::string_view probe) = 0;

 protected:
  Worker(AgentOptions options, int incarnation, uint64_t seed,
         const ScenarioParams& params)
      : options_(std::move(options)),
        incarnation_(incarnation),
        seed_(seed),
        params_(params) {}

 private:
  const AgentOptions options_;
  const int incarnation_;
  const uint64_t seed_;
  const ScenarioParams& params_;
};

struct Scenario {
  std::string name = {};  // filled in by REPRISE_SCENARIO
  std::string description = {};
  int workers = 3;
  // Parameters and their defaults.
  ScenarioParams params = {};
  std::function<void(Worker&)> body = nullptr;
  // The faults of one run, in the words of docs/faults.md; null: none. Draw
  // from `random` only.
  std::function<std::vector<std::string>(RandomStream& random,
                                         const ScenarioParams& params)>
      faults = nullptr;
  // Rare paths that an exploration must reach, and kinds of faults that must
  // strike, in `enough_seeds` seeds.
  std::vector<std::string> probes = {};
  std::vector<std::string> fault_kinds = {};
  int enough_seeds = 200;
  // In a simulated world: what each connection carries in each direction. 0:
  // the simulated network's default, 1 GB/s.
  int64_t bytes_per_second = 0;
  // A run must be over by then, and so long after the last fault.
  absl::Duration max_time = absl::Minutes(10);
  absl::Duration settle_time = absl::Minutes(5);
  // The same over real transports, in processes of their own, where time is
  // not free: other defaults of `params`; and a smaller group of faults, those
  // that have a real counterpart. Null: none.
  ScenarioParams process_params = {};
  std::function<std::vector<std::string>(RandomStream& random,
                                         const ScenarioParams& params)>
      process_faults = nullptr;
};

// All scenarios linked into the program, by name.
const std::map<std::string, Scenario, std::less<>>& AllScenarios();

class ScenarioRegistration {
 public:
  ScenarioRegistration(std::string name, Scenario scenario);
};

#define REPRISE_SCENARIO(name, ...)                                     \
  static const ::reprise::ScenarioRegistration reprise_scenario_##name( \
      #name, ::reprise::Scenario __VA_ARGS__)

}  // namespace reprise

#endif  // REPRISE_SIM_SCENARIO_SCENARIO_H_
