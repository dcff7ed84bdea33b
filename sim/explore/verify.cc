#include "sim/explore/verify.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/personality.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fstream>
#include <optional>
#include <set>
#include <utility>

#include "absl/debugging/symbolize.h"
#include "absl/strings/str_cat.h"
#include "sim/explore/clock_trap.h"
#include "sim/explore/isolated_run.h"
#include "sim/world/race_annotations.h"

extern char** environ;

namespace reprise {
namespace {

using Lines = std::vector<std::string>;

// Two clocks that agree in nothing: not in the day, nor in the nanosecond.
constexpr int64_t kFirstClockNs = 1'600'000'000'000'000'000;
constexpr int64_t kSecondClockNs = 1'634'567'890'123'456'789;

Lines LinesOf(const RunResult& result) {
  Lines lines;
  lines.reserve(result.events.size());
  for (const Event& event : result.events) lines.push_back(ToString(event));
  return lines;
}

// Tells whether other threads of the process have worked, from the CPU time
// that the process used and this thread did not. Exact, since the kernel counts
// both together.
class OtherThreads {
 public:
  OtherThreads() {
    const int64_t own_ns = Used(CLOCK_THREAD_CPUTIME_ID);
    at_most_before_ns_ = Used(CLOCK_PROCESS_CPUTIME_ID) - own_ns;
  }
  // At least so long did they work since.
  int64_t worked_ns() const {
    const int64_t all_ns = Used(CLOCK_PROCESS_CPUTIME_ID);
    return all_ns - Used(CLOCK_THREAD_CPUTIME_ID) - at_most_before_ns_;
  }

 private:
  static int64_t Used(clockid_t clock) {
    timespec time = {};
    clock_gettime(clock, &time);
    return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
  }

  int64_t at_most_before_ns_;
};

// Whether the kernel moves the addresses of a process at random, as it does, or
// not.
enum class Layout { kMoved, kFixed };

// Runs the same in a process of its own, and returns its trace.
absl::StatusOr<Lines> TraceOfFreshProcess(const VerifyOptions& options,
                                          Layout layout) {
  const char* const directory = std::getenv("TMPDIR");
  std::string path = absl::StrCat(directory == nullptr ? "/tmp" : directory,
                                  "/reprise-XXXXXX");
  const int fd = mkstemp(path.data());
  if (fd < 0) {
    return absl::UnavailableError(absl::StrCat("cannot make a file like ", path,
                                               ": ", std::strerror(errno)));
  }
  close(fd);
  std::vector<std::string> words = {"reprise"};
  words.insert(words.end(), options.command.begin(), options.command.end());
  words.insert(words.end(), {"--trace", path});
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null",
                                   O_WRONLY, 0);
  pid_t child = 0;
  constexpr unsigned kAsk = 0xffffffff;
  const auto usual = static_cast<unsigned>(personality(kAsk));
  if (layout == Layout::kFixed) personality(usual | ADDR_NO_RANDOMIZE);
  const int error = posix_spawn(&child, "/proc/self/exe", &actions, nullptr,
                                arguments.data(), environ);
  personality(usual);
  posix_spawn_file_actions_destroy(&actions);
  int status = 0;
  if (error == 0) {
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
  }
  Lines lines;
  std::ifstream stream(path);
  for (std::string line; std::getline(stream, line);) {
    lines.push_back(std::move(line));
  }
  unlink(path.c_str());
  if (error != 0 || !WIFEXITED(status) || WEXITSTATUS(status) > 1) {
    return absl::UnavailableError(absl::StrCat(
        "the run in a fresh process failed: ",
        error != 0 ? std::strerror(error)
                   : absl::StrCat("wait status ", status).c_str()));
  }
  return lines;
}

// The functions in which something of `kind` was taken from outside.
Lines PlacesOf(const LeakWatch& watch, LeakKind kind) {
  absl::InitializeSymbolizer("/proc/self/exe");
  std::set<std::string> places;
  for (const Leak& leak : watch.leaks()) {
    char name[256];
    if (leak.kind == kind && leak.caller != nullptr &&
        absl::Symbolize(static_cast<const char*>(leak.caller) - 1, name,
                        sizeof(name))) {
      places.insert(name);
    }
  }
  return {places.begin(), places.end()};
}

// One verification of one seed.
class Verifier {
 public:
  explicit Verifier(const VerifyOptions& options)
      : options_(options), run_(options.run) {
    run_.keep_trace = true;
  }

  absl::StatusOr<VerifyResult> Verify() {
    using Step = absl::Status (Verifier::*)();
    const std::vector<Step> steps =
        options_.run.scenario->foreign_code
            ? std::vector<Step>{&Verifier::RunInTwoProcesses,
                                &Verifier::RunInFreshProcess}
            : std::vector<Step>{
                  &Verifier::RunFirst, &Verifier::RunWithAnotherClock,
                  &Verifier::RunScattered, &Verifier::RunAfterOthers,
                  &Verifier::RunInFreshProcess};
    for (const Step step : steps) {
      absl::Status status = (this->*step)();
      if (!status.ok()) return status;
      if (result_.leak) {
        result_.places = PlacesOf(watch_, *result_.leak);
        break;
      }
    }
    return std::move(result_);
  }

 private:
  // Foreign code may have statics, and may order what it has by its address,
  // which is the same in each process.
  absl::Status RunInTwoProcesses() {
    for (const bool is_first : {true, false}) {
      absl::StatusOr<RunResult> run = RunIsolated(run_);
      if (!run.ok()) return run.status();
      last_ = *std::move(run);
      Lines lines = LinesOf(last_);
      if (is_first) {
        result_.hash = last_.hash;
        expected_ = std::move(lines);
      } else if (!Compare(lines, "in another process")) {
        result_.leak = LeakKind::kRandom;
      }
    }
    return absl::OkStatus();
  }

  absl::Status RunFirst() {
    // The first run of the process makes what lives as long as the process, and
    // would begin later on the trap's clock than the others.
    static const bool is_warm = RunSimulated(run_).ok();
    (void)is_warm;
    absl::StatusOr<Lines> lines = Run(kFirstClockNs);
    if (!lines.ok()) return lines.status();
    result_.hash = last_.hash;
    expected_ = *std::move(lines);
    return absl::OkStatus();
  }

  absl::Status RunWithAnotherClock() {
    const OtherThreads threads;
    absl::StatusOr<Lines> lines = Run(kSecondClockNs);
    const int64_t worked_ns = threads.worked_ns();
    if (!lines.ok()) return lines.status();
    // Where they are OS threads, the world's own threads are others, too.
    if (worked_ns > 0 && ContextOf(run_) == ContextKind::kFibers) {
      constexpr std::string_view kHow =
          "with a thread that the world does not schedule";
      result_.leak = LeakKind::kThread;
      if (Compare(*lines, kHow)) {
        result_.differs = absl::StrCat(std::string(kHow), ", which worked for ",
                                       worked_ns / 1000, " us");
      }
      return absl::OkStatus();
    }
    if (Compare(*lines, "with another clock")) return absl::OkStatus();
    lines = Run(kFirstClockNs);
    if (!lines.ok()) return lines.status();
    if (*lines == expected_ && ClockTrap::IsSupported()) {
      result_.leak = LeakKind::kClock;
      return absl::OkStatus();
    }
    Compare(*lines, "again");
    return TellByFreshProcesses();
  }

  // The run has other events each time in this process.
  absl::Status TellByFreshProcesses() {
    result_.leak = LeakKind::kStatic;
    if (options_.command.empty()) return absl::OkStatus();
    absl::StatusOr<Lines> first = TraceOfFreshProcess(options_, Layout::kFixed);
    if (!first.ok()) return first.status();
    absl::StatusOr<Lines> second =
        TraceOfFreshProcess(options_, Layout::kFixed);
    if (!second.ok()) return second.status();
    if (*first != *second) {
      result_.leak = LeakKind::kRandom;
      return absl::OkStatus();
    }
    absl::StatusOr<Lines> moved = TraceOfFreshProcess(options_, Layout::kMoved);
    if (!moved.ok()) return moved.status();
    if (*moved != *first) result_.leak = LeakKind::kAddress;
    return absl::OkStatus();
  }

  absl::Status RunScattered() {
    for (uint64_t scatter = 1; scatter <= 2; ++scatter) {
      run_.scatter = HashCombine(run_.seed, scatter) | 1;
      absl::StatusOr<Lines> lines = Run(kFirstClockNs);
      run_.scatter = 0;
      if (!lines.ok()) return lines.status();
      if (!Compare(*lines, "with the heap scattered")) {
        result_.leak = LeakKind::kAddress;
        break;
      }
    }
    return absl::OkStatus();
  }

  absl::Status RunAfterOthers() {
    SimRunOptions others = options_.run;
    for (uint64_t offset : {2, 1}) {
      others.seed = run_.seed + offset;
      absl::StatusOr<RunResult> other = RunSimulated(others);
      if (!other.ok()) return other.status();
    }
    absl::StatusOr<Lines> lines = Run(kFirstClockNs);
    if (!lines.ok()) return lines.status();
    if (!Compare(*lines, "after other seeds")) {
      result_.leak = LeakKind::kStatic;
    }
    return absl::OkStatus();
  }

  absl::Status RunInFreshProcess() {
    if (options_.command.empty()) return absl::OkStatus();
    absl::StatusOr<Lines> lines = TraceOfFreshProcess(options_, Layout::kMoved);
    if (!lines.ok()) return lines.status();
    if (Compare(*lines, "in a fresh process")) return absl::OkStatus();
    absl::StatusOr<Lines> fixed = TraceOfFreshProcess(options_, Layout::kFixed);
    if (!fixed.ok()) return fixed.status();
    result_.leak = *fixed == *lines ? LeakKind::kStatic : LeakKind::kAddress;
    return absl::OkStatus();
  }

  // The trace of a run in this process.
  absl::StatusOr<Lines> Run(int64_t clock_ns) {
    const ClockTrap clock(clock_ns);
    absl::StatusOr<RunResult> result = RunSimulated(run_);
    if (!result.ok()) return result.status();
    last_ = *std::move(result);
    return LinesOf(last_);
  }

  // Returns whether `got` is as expected. If not, notes the first difference.
  bool Compare(const Lines& got, std::string_view how) {
    const auto [first, second] = std::mismatch(
        expected_.begin(), expected_.end(), got.begin(), got.end());
    if (first == expected_.end() && second == got.end()) return true;
    result_.differs =
        absl::StrCat(std::string(how), ", at event ",
                     first - expected_.begin() + 1, " of ", expected_.size());
    result_.expected = first == expected_.end() ? "(the end)" : *first;
    result_.got = second == got.end() ? "(the end)" : *second;
    return false;
  }

  const VerifyOptions& options_;
  SimRunOptions run_;
  LeakWatch watch_;
  VerifyResult result_;
  RunResult last_;
  Lines expected_;
};

}  // namespace

absl::StatusOr<VerifyResult> Verify(const VerifyOptions& options) {
  if (kHasTsan) {
    return absl::FailedPreconditionError(
        "this program was built with ThreadSanitizer, which does not bear it "
        "when the clocks are taken over: verify with another build");
  }
  return Verifier(options).Verify();
}

std::string_view AdviceAbout(LeakKind kind) {
  switch (kind) {
    case LeakKind::kAddress:
      return "The order or the value of addresses shows: look for maps and "
             "sets keyed by pointers, hashes of pointers, and what is read "
             "before it is written.";
    case LeakKind::kClock:
      return "A clock of the machine shows: use the runtime's.";
    case LeakKind::kRandom:
      return "Random numbers of the machine show, or what else differs from "
             "process to process, such as its number: draw from "
             "Worker::random.";
    case LeakKind::kStatic:
      return "What an earlier run left in a global or a static variable shows: "
             "keep state in objects that a run makes.";
    case LeakKind::kThread:
      return "A thread is at work that the world does not schedule: start "
             "threads through the runtime.";
  }
  return "";
}

}  // namespace reprise
