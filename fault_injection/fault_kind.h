// The kinds of fault, as one table. The parser of fault lines, the injector,
// the coordinator of process runs, `--help` and the statistics of an
// exploration all read it. docs/faults.md explains the lines, and
// docs/extending.md how to add a kind.
//
// Everything here is constant and may be used on any thread. The simulated
// network, store and GPUs report by FaultKind which faults struck, so this file
// depends on nothing of the simulator.

#ifndef REPRISE_FAULT_INJECTION_FAULT_KIND_H_
#define REPRISE_FAULT_INJECTION_FAULT_KIND_H_

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace reprise {

enum class FaultKind : uint8_t {
  kCrash,
  kKill,
  kPower,
  kPause,
  kNoMemory,
  kCut,
  kRefuse,
  kHold,
  kPartition,
  kSwizzle,
  kDelay,
  kDropConnect,
  kStoreOutage,
  kStoreDelay,
  kGpuNoMemory,
  kGpuCopyFails,
  kGpuStall,
  kGpuLost,
  kGpuNoPeer,
  kGpuNoIpc,
  kSlow,
  kClockJump,
  kClockDrift,
  kStoreSlowKeys,
  kStoreLostReply,
  kStoreLateEffect,
  kStoreRestart,
  kNoDescriptors,
  kNoThreads,
  kNoTensorMemory,
  kCorrupt,
  kDiskFull,
  kDiskSlow,
  kDiskSyncFails,
};

// What follows the word in a line: whom the fault hits.
enum class FaultTarget : uint8_t {
  kWorker,       // w1
  kWorkerOrAll,  // w1, or "all"
  kLink,         // w0-w1, or w0>w1 for the one direction from w0 to w1
  kLinks,        // the same, also of groups: w0,w1-w2
  kStore,        // nothing: there is one store
};

enum class FaultDuration : uint8_t {
  kInstant,        // it happens and is over
  kSpan,           // "for 2s"
  kForEver,        // "for ever"
  kSpanOrForEver,  // either
};

struct FaultKindInfo {
  FaultKind kind;
  // The first word of a line.
  std::string_view word;
  // The word in older replay files and scenarios; empty if it has not changed.
  // Two kinds may share an older word: then the duration decides.
  std::string_view older_word = {};
  FaultTarget target;
  FaultDuration duration = FaultDuration::kInstant;

  // Further words of its line, in this order.
  bool has_delay = false;         // "20ms", behind the target: how much later
  bool may_be_at_a_byte = false;  // "byte 4096", instead of a time or an event
  std::string_view endings[2] = {};  // its last word is one of these
  bool may_restart = false;          // "restart 200ms"

  // How it is done to a process on this machine; empty if the fault exists in
  // the simulator only.
  std::string_view in_processes = {};

  // A line and what it does, for `--help`.
  std::string_view example;
  std::string_view effect;

  bool lasts() const { return duration != FaultDuration::kInstant; }
  // The text of its event in the trace when it strikes. This text is part of
  // the hash of a run, so a kind that was renamed keeps its older word here:
  // the hashes in older replay files stay valid. The story shows the new word.
  std::string_view trace_text() const {
    return older_word.empty() ? word : older_word;
  }
};

// One row for each kind, in the order of the enum.
std::span<const FaultKindInfo> FaultKinds();
const FaultKindInfo& InfoOf(FaultKind kind);

// Its word: "crash", "store-outage", ...
std::string_view ToString(FaultKind kind);

// The kinds whose word or older word this is; none for an unknown word.
std::vector<FaultKind> FaultKindsNamed(std::string_view word);

// One line for each kind, with its example and its effect.
std::string DescribeFaultKinds();

}  // namespace reprise

#endif  // REPRISE_FAULT_INJECTION_FAULT_KIND_H_
