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
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "agent/agent.h"
#include "agent/disk/disk.h"
#include "agent/options.h"
#include "sim/random.h"

namespace reprise {

using ScenarioParams = std::map<std::string, int64_t, std::less<>>;

// What the body of a scenario sees of the world. The threads of one worker use
// it, also at the same time.
class Worker {
 public:
  virtual ~Worker() = default;

  const std::string& name() const { return options_.name; }
  int rank() const { return static_cast<int>(options_.id); }
  // The number of members, who have the ranks below it.
  int world_size() const { return static_cast<int>(options_.world_size); }
  // Whether this is one of the scenario's `clients`.
  bool is_client() const { return rank() >= world_size(); }
  // 0 at first; each restart adds 1.
  int incarnation() const { return incarnation_; }
  std::string NameOf(int rank) const { return "w" + std::to_string(rank); }

  // To start agents with: the seams, and options in which the name, the id, the
  // world size and the transports are filled in.
  virtual Environment environment() = 0;
  const AgentOptions& options() const { return options_; }
  Runtime& runtime() { return *environment().runtime; }
  absl::Time In(absl::Duration duration) { return runtime().Now() + duration; }
  void Sleep(absl::Duration duration) { runtime().SleepUntil(In(duration)); }

  // A parameter of the scenario. The process ends if it is not among the
  // scenario's `params`.
  int64_t param(std::string_view name) const;
  bool has_param(std::string_view name) const { return params_.contains(name); }

  // Random numbers for this worker, the same in every run of the seed. `use`
  // names the stream: ask for each one once, as a second one of the same name
  // draws the same numbers. See sim/random.h for how to draw.
  Draws random(std::string_view use) const {
    return Draws(HashCombine(seed_, HashBytes(options_.name)), use);
  }

  // A directory for this worker's files, made at the first call. The worker's
  // next incarnation finds it again. After the run it is removed, unless the
  // run failed: then `reprise run` and `replay` keep it and say where it is.
  // Its path differs from run to run, so do not send or note it. If it cannot
  // be made, the run fails by the rule "scratch-directory" and "" is returned.
  virtual std::string scratch_directory() = 0;

  // The worker's disk, for services that keep files by agent/disk/disk.h. The
  // worker's next incarnation finds what is durable. Between processes it is
  // the folder `disk` of the scratch directory. It lives as long as the worker.
  virtual Disk& disk() = 0;

  // Adds a line to the story.
  virtual void Note(std::string_view text) = 0;
  // Unless `holds`, fails the run with the rule's name and the detail. Returns
  // `holds`.
  virtual bool Check(bool holds, std::string_view rule,
                     std::string_view detail) = 0;
  bool CheckOk(const absl::Status& status, std::string_view rule) {
    return status.ok() || Check(false, rule, status.ToString());
  }
  // Marks that a rare path was taken: a coverage probe of the scenario.
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

// Both ends are allowed.
struct ParamRange {
  int64_t min = 0;
  int64_t max = INT64_MAX;
};

// The parameter of scenarios that run with several numbers of workers. The
// registration adds it to their `params`.
inline constexpr std::string_view kWorkersParam = "workers";

struct Scenario {
  std::string name = {};  // filled in by REPRISE_SCENARIO
  std::string description = {};
  int workers = 3;
  // The numbers of workers for which the body and the faults work
  // (`--workers`). Unset: `workers` only.
  std::optional<ParamRange> worker_range = std::nullopt;
  // How many of the workers, the last ones, are no members of the group: they
  // run the body too, but `world_size()` does not count them, and the rule
  // `barrier` does not wait for them.
  int clients = 0;
  // Parameters and their defaults.
  ScenarioParams params = {};
  // Which values parameters may have. For those that are not here: 0 or more,
  // or any if the default is negative.
  std::map<std::string, ParamRange, std::less<>> param_ranges = {};
  // The parameters that are sizes, such as "calls", and the smallest value that
  // each may have when a failure is made smaller. A parameter that is a bound
  // ("slack_ms") does not belong here: an agent that works would violate a
  // smaller one.
  ScenarioParams smallest = {};
  std::function<void(Worker&)> body = nullptr;
  // The plan of one run: fault lines as docs/faults.md describes them. Null:
  // no faults. Draw from `random` only.
  std::function<std::vector<std::string>(Draws random,
                                         const ScenarioParams& params)>
      faults = nullptr;
  // Coverage probes that an exploration must reach, and kinds of fault (their
  // words) that must strike. An exploration of at least `enough_seeds` seeds
  // that misses one of them is inconclusive.
  std::vector<std::string> probes = {};
  std::vector<std::string> fault_kinds = {};
  int enough_seeds = 200;
  // In a simulated world: what the links between two hosts carry together in
  // each direction. 0: the simulated network's default, 1 GB/s.
  int64_t bytes_per_second = 0;
  // In a simulated world: links that are not as the others, a line each, as
  // sim/network/topology.h describes them: "link w0-w1,w2 latency 20ms".
  std::vector<std::string> topology = {};
  // Lines of the same kind that a seed draws, which come behind those of
  // `topology` and so win over them; `--topology` replaces them. Null: none.
  // Draw from `random` only.
  std::function<std::vector<std::string>(Draws random,
                                         const ScenarioParams& params)>
      draw_topology = nullptr;
  // A run fails if it takes longer than `max_time`, or if a worker ends later
  // than `settle_time` after the last fault. Both are virtual time.
  absl::Duration max_time = absl::Minutes(10);
  absl::Duration settle_time = absl::Minutes(5);
  // For runs over real transports, where time is not free: other defaults of
  // `params`, and a plan of the kinds of fault that exist between processes.
  // Null: no faults.
  ScenarioParams process_params = {};
  std::function<std::vector<std::string>(Draws random,
                                         const ScenarioParams& params)>
      process_faults = nullptr;
  // In a simulated world: the GPUs of each host, and the host of each worker,
  // by rank. Workers beyond the list have a host each, unless `topology` says
  // otherwise. The workers of one host see the same GPUs and can read each
  // other's memory. Without GPUs, workers have no `Environment::devices`.
  int gpus_per_host = 0;
  std::vector<int> hosts = {};
  // Whether the body runs libraries that were not written for worlds. Then, in
  // a simulated world, its threads are OS threads whatever the schedule says,
  // since such code may have `thread_local`s; each run has a process of its
  // own, since it may have statics; and what it keeps allocated is no leak.
  bool foreign_code = false;
};

// The number of workers of a run with these parameters, clients included.
int NumWorkers(const Scenario& scenario, const ScenarioParams& params);

ParamRange RangeOf(const Scenario& scenario, std::string_view param);

// INVALID_ARGUMENT for a parameter that the scenario does not have, which lists
// those that it has, and for a value out of range, which says the range.
absl::Status CheckParams(const Scenario& scenario,
                         const ScenarioParams& params);

// All scenarios that are linked into the program, by name.
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
