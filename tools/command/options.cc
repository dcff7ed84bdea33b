#include "tools/command/options.h"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <map>
#include <sstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "sim/explore/child_process.h"
#include "sim/explore/isolated_run.h"
#include "sim/network/topology.h"
#include "tools/command/numbers.h"

namespace reprise {
namespace {

absl::StatusOr<Policy> ParsePolicy(const std::string& name) {
  if (name == "cooperative") return Policy::kCooperative;
  if (name == "random") return Policy::kRandom;
  if (name == "pct") return Policy::kPct;
  return absl::InvalidArgumentError(absl::StrCat(
      "no schedule '", name, "'; there are cooperative, random and pct"));
}

const std::map<std::string, ContextKind>& ContextNames() {
  static const auto* const names = new std::map<std::string, ContextKind>(
      {{"fibers", ContextKind::kFibers}, {"threads", ContextKind::kThreads}});
  return *names;
}

const std::map<std::string, RuntimeKind>& RuntimeNames() {
  static const auto* const names = new std::map<std::string, RuntimeKind>(
      {{"sim", RuntimeKind::kSimulated}, {"real", RuntimeKind::kReal}});
  return *names;
}

std::string NameOf(ContextKind context) {
  return context == ContextKind::kFibers ? "fibers" : "threads";
}

// Returns about how many points a run of the scenario has, measured by a run
// that never switches. The result is the same for every seed.
absl::StatusOr<int64_t> MeasureLength(SimRunOptions options) {
  options.schedule.policy = Policy::kCooperative;
  options.seed = 1;
  absl::StatusOr<RunResult> result = RunIsolated(options);
  if (!result.ok()) return result.status();
  return result->num_points;
}

absl::StatusOr<std::vector<std::string>> ReadTopology(const std::string& path,
                                                      int num_workers) {
  errno = 0;
  std::ifstream stream(path);
  std::ostringstream text;
  // An empty file has no characters to read, which is no error of it.
  if (stream && stream.peek() != std::ifstream::traits_type::eof()) {
    text << stream.rdbuf();
  }
  if (errno != 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--topology ", path, ": cannot read it: ", std::strerror(errno)));
  }
  absl::StatusOr<std::vector<std::string>> lines =
      ParseTopology(text.str(), num_workers);
  if (lines.ok()) return lines;
  return absl::InvalidArgumentError(
      absl::StrCat("--topology ", path, ": ", lines.status().message()));
}

}  // namespace

void IsolationFlags::AddTo(CLI::App& app) {
  app.add_flag("--in-process", in_process,
               "make simulated runs in this process, where a crash is a crash; "
               "implied under a debugger");
  app.add_option("--stack-kib", stack_kib,
                 "the stack of each simulated thread (0: 128, or 512 under a "
                 "sanitizer)")
      ->capture_default_str()
      ->check(WholeNumber(0, 1 << 20));
  app.add_option("--max-wall-seconds-per-seed", max_wall_seconds_per_seed,
                 "a simulated run that uses more CPU time, or sleeps for "
                 "longer, fails by the rule 'hang'")
      ->capture_default_str()
      ->check(NumberFrom(0.1, 1e6));
}

void IsolationFlags::ApplyTo(SimRunOptions& options) const {
  options.in_process = in_process || IsDebugged();
  options.stack_bytes = stack_kib * 1024;
  options.max_wall_seconds = max_wall_seconds_per_seed;
}

void RunFlags::AddTo(CLI::App& app, bool with_seed) {
  app.add_option("scenario", scenario, "the scenario; see 'reprise list'")
      ->required();
  if (with_seed) {
    app.add_option("--seed", seed, "the run's seed")
        ->capture_default_str()
        ->check(WholeNumber());
  }
  const std::string lists =
      with_seed ? "" : "; several: 5..10 or 1,2,4, each of them is explored";
  app.add_option("--param", params,
                 "a parameter of the scenario, as name=value" + lists)
      ->take_all()
      ->allow_extra_args(false);
  app.add_option("--workers", workers,
                 "the number of workers, where the scenario allows another "
                 "than its own" +
                     lists);
  app.add_option("--fault", faults,
                 "a fault, instead of those that the scenario draws, e.g. "
                 "'crash w1 when w1 send.payload#3 restart 200ms'")
      ->take_all()
      ->allow_extra_args(false);
  app.add_flag("--no-faults", no_faults, "leaves out the scenario's faults");
  app.add_option("--topology", topology,
                 "a file that says what the network is like, instead of what "
                 "the scenario draws, e.g. 'link w0-w1 latency 20ms'");
  app.add_option("--schedule", schedule,
                 with_seed ? "cooperative, random or pct"
                           : "cooperative, random or pct; several: "
                             "random,pct or all, each of them is explored")
      ->capture_default_str();
  app.add_option("--switch-probability", switch_probability,
                 "random: the probability of a switch at a point")
      ->capture_default_str()
      ->check(NumberFrom(0, 1));
  app.add_option("--stall-probability", stall_probability,
                 "random and pct: the probability of a stall at a point")
      ->capture_default_str()
      ->check(NumberFrom(0, 1));
  app.add_option("--max-stall-us", max_stall_us, "the longest stall")
      ->capture_default_str()
      ->check(WholeNumber(1, 1'000'000'000));
  app.add_option("--pct-depth", pct_depth,
                 "pct: the depth of the bugs to find; the priority changes one "
                 "time less")
      ->capture_default_str()
      ->check(WholeNumber(1, 1000));
  app.add_option("--pct-length", pct_length,
                 "pct: the number of points in a run (0: measured once)")
      ->capture_default_str()
      ->check(WholeNumber(0, INT64_MAX));
  app.add_flag("--tensorpipe-locks", tensorpipe_locks,
               "switch at TensorPipe's own locks too");
  isolation.AddTo(app);
  AddContextFlag(app, context);
  AddRuntimeFlag(
      app, [this](RuntimeKind kind) { runtime = kind; },
      "the threads, locks and clocks of the workers: the simulator's (sim), or "
      "those of production (real) over a simulated libc, with --context "
      "threads, so that ThreadSanitizer sees them; the run is the same")
      ->default_str("sim");
}

CLI::Option* AddRuntimeFlag(CLI::App& app,
                            std::function<void(RuntimeKind)> take,
                            const std::string& help) {
  return app
      .add_option_function<std::string>(
          "--runtime",
          [take = std::move(take)](const std::string& name) {
            take(RuntimeNames().at(name));
          },
          help)
      ->check(CLI::IsMember(RuntimeNames()));
}

void AddContextFlag(CLI::App& app, ContextKind& context) {
  app.add_option_function<std::string>(
         "--context",
         [&context](const std::string& name) {
           context = ContextNames().at(name);
         },
         "what the threads of a world are: fibers, or (threads) OS threads, "
         "for debuggers and ThreadSanitizer; the run is the same")
      ->check(CLI::IsMember(ContextNames()))
      ->default_str(NameOf(kDefaultContext));
}

absl::StatusOr<const Scenario*> FindScenario(const std::string& name) {
  auto it = AllScenarios().find(name);
  if (it != AllScenarios().end()) return &it->second;
  return absl::InvalidArgumentError(
      absl::StrCat("no scenario '", name, "'; there are ",
                   absl::StrJoin(AllScenarios(), ", ",
                                 [](std::string* out, const auto& entry) {
                                   out->append(entry.first);
                                 })));
}

absl::StatusOr<ScenarioParams> ResolveParams(
    const Scenario& scenario, const std::vector<std::string>& given) {
  ScenarioParams params = scenario.params;
  for (const std::string& pair : given) {
    const auto wrong = [&pair](absl::string_view what) {
      return absl::InvalidArgumentError(
          absl::StrCat("--param ", pair, ": ", what));
    };
    const size_t equals = pair.find('=');
    if (equals == std::string::npos) return wrong("it must be name=value");
    int64_t value = 0;
    if (!ParseNumber(pair.substr(equals + 1), value)) {
      return wrong(
          "the value must be an integer (explore takes lists, as in 5..10)");
    }
    const std::string name = pair.substr(0, equals);
    if (absl::Status status = CheckParams(scenario, {{name, value}});
        !status.ok()) {
      return wrong(status.message());
    }
    params[name] = value;
  }
  return params;
}

absl::StatusOr<ScenarioParams> ResolveProcessParams(
    const Scenario& scenario, const std::vector<std::string>& given) {
  Scenario with_defaults = scenario;
  for (const auto& [name, value] : scenario.process_params) {
    with_defaults.params[name] = value;
  }
  return ResolveParams(with_defaults, given);
}

absl::StatusOr<ScenarioParams> RunFlags::ToParams(bool in_processes) const {
  const absl::StatusOr<const Scenario*> found = FindScenario(scenario);
  if (!found.ok()) return found.status();
  absl::StatusOr<ScenarioParams> resolved =
      in_processes ? ResolveProcessParams(**found, params)
                   : ResolveParams(**found, params);
  if (!resolved.ok() || workers.empty()) return resolved;
  int64_t number = 0;
  const ParamRange range = (*found)->worker_range.value_or(
      ParamRange{(*found)->workers, (*found)->workers});
  if (!ParseNumber(workers, number) || number < range.min ||
      number > range.max) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--workers ", workers, ": ", scenario, " runs with ",
        range.min == range.max
            ? absl::StrCat(range.min, " workers only")
            : absl::StrCat("a number from ", range.min, " to ", range.max)));
  }
  if ((*found)->worker_range) (*resolved)[std::string(kWorkersParam)] = number;
  return resolved;
}

absl::Status RunFlags::Check() const {
  if (absl::StatusOr<Policy> policy = ParsePolicy(schedule); !policy.ok()) {
    return policy.status();
  }
  return ToParams().status();
}

absl::StatusOr<SimRunOptions> RunFlags::ToOptions() const {
  SimRunOptions options;
  absl::StatusOr<const Scenario*> found = FindScenario(scenario);
  if (!found.ok()) return found.status();
  options.scenario = *found;
  absl::StatusOr<ScenarioParams> resolved = ToParams();
  if (!resolved.ok()) return resolved.status();
  options.params = *std::move(resolved);
  options.seed = seed;
  isolation.ApplyTo(options);
  if (no_faults && !faults.empty()) {
    return absl::InvalidArgumentError(
        "--fault and --no-faults exclude each other");
  }
  if (no_faults || !faults.empty()) options.faults = faults;
  if (!topology.empty()) {
    absl::StatusOr<std::vector<std::string>> lines =
        ReadTopology(topology, NumWorkers(*options.scenario, options.params));
    if (!lines.ok()) return lines.status();
    options.topology = *std::move(lines);
  }
  absl::StatusOr<Policy> policy = ParsePolicy(schedule);
  if (!policy.ok()) return policy.status();
  options.schedule.policy = *policy;
  options.schedule.context = context;
  options.runtime = runtime;
  options.schedule.switch_probability = switch_probability;
  options.schedule.stall_probability = stall_probability;
  options.schedule.max_stall_ns = max_stall_us * 1000;
  options.schedule.pct_depth = pct_depth;
  options.schedule.tensorpipe_locks = tensorpipe_locks;
  options.schedule.pct_length = pct_length;
  if (*policy == Policy::kPct && pct_length == 0) {
    absl::StatusOr<int64_t> length = MeasureLength(options);
    if (!length.ok()) return length.status();
    options.schedule.pct_length = std::max<int64_t>(1, *length);
  }
  return options;
}

std::vector<std::string> RunFlags::ToArguments(
    uint64_t for_seed, int64_t measured_pct_length) const {
  std::vector<std::string> words = {"run", scenario, "--seed",
                                    absl::StrCat(for_seed)};
  for (const std::string& param : params) {
    words.insert(words.end(), {"--param", param});
  }
  for (const std::string& fault : faults) {
    words.insert(words.end(), {"--fault", fault});
  }
  if (!workers.empty()) words.insert(words.end(), {"--workers", workers});
  if (no_faults) words.push_back("--no-faults");
  if (!topology.empty()) words.insert(words.end(), {"--topology", topology});
  if (tensorpipe_locks) words.push_back("--tensorpipe-locks");
  if (context != kDefaultContext) {
    words.insert(words.end(), {"--context", NameOf(context)});
  }
  if (runtime == RuntimeKind::kReal) {
    words.insert(words.end(), {"--runtime", "real"});
  }
  words.insert(
      words.end(),
      {"--schedule", schedule, "--switch-probability",
       absl::StrCat(switch_probability), "--stall-probability",
       absl::StrCat(stall_probability), "--max-stall-us",
       absl::StrCat(max_stall_us), "--pct-depth", absl::StrCat(pct_depth),
       "--pct-length", absl::StrCat(measured_pct_length), "--stack-kib",
       absl::StrCat(isolation.stack_kib), "--max-wall-seconds-per-seed",
       absl::StrCat(isolation.max_wall_seconds_per_seed)});
  return words;
}

std::string RunFlags::Describe() const {
  return absl::StrCat(schedule, tensorpipe_locks ? " tensorpipe-locks" : "");
}

}  // namespace reprise
