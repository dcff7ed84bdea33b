// How a run ends that takes its process along: a signal, an exception that
// nobody catches, `exit`, an overflown stack, a hang. The process that dies
// leaves a record in memory that it shares with its parent, with the stacks of
// the fibers.

#ifndef REPRISE_SIM_EXPLORE_DEATH_H_
#define REPRISE_SIM_EXPLORE_DEATH_H_

#include <atomic>
#include <cstdint>

namespace reprise {

class RunRecorder;

enum class DeathKind : uint32_t {
  kNone,
  kSignal,     // signal, address
  kOverflow,   // address
  kException,  // message: the type, and what it says
  kTerminate,  // std::terminate without an exception
  kExit,       // exit_code
  kHang,
  kSanitizer,  // a sanitizer has written a report
};

// Plain memory: it is written in signal handlers and read by another process.
struct DeathRecord {
  // Written by the process that runs.
  std::atomic<DeathKind> kind;
  std::atomic<uint64_t> runs;         // begun so far
  std::atomic<bool> in_run;           // between BeginRun and EndRun
  std::atomic<int64_t> progress;      // changes as long as the run goes on
  std::atomic<int64_t> begin_cpu_ns;  // CPU time when the run began
  uint64_t tag;                       // of the run: the caller's
  int64_t begin_output;               // bytes of standard error before the run
  int32_t signal;
  int32_t exit_code;
  uint64_t address;
  char thread[96];  // the label of the fiber that ran; "" for none
  char message[512];
  // The run as it was.
  uint64_t hash;
  int64_t num_events;
  int64_t num_points;
  int64_t num_decisions;
  int64_t now_ns;
  struct Stack {
    char title[160];  // "w1/timer waits for Timer.changed"
    int32_t num_frames;
    void* frames[48];  // return addresses, innermost first
  };
  int32_t num_stacks;
  Stack stacks[96];  // the first is the one that ran
  // Whether each decision of the recording was followed, and their number.
  int64_t num_followed;
  bool followed[1 << 16];
};

// The signal by which a parent ends a run that hangs.
int HangSignal();

// The exit code of a process that has left a record.
inline constexpr int kDeathExitCode = 117;

// To be called once in a child process, on the thread that will run worlds:
// from now on its death leaves `record`, which must outlive the process.
void LeaveRecordAtDeath(DeathRecord* record);

// Brackets each run. `recorder` may be null.
void BeginRun(uint64_t tag, RunRecorder* recorder);
void EndRun();

}  // namespace reprise

#endif  // REPRISE_SIM_EXPLORE_DEATH_H_
