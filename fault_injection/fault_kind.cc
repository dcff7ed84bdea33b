#include "fault_injection/fault_kind.h"

#include <array>
#include <cstddef>

#include "absl/strings/str_cat.h"

namespace reprise {
namespace {

constexpr auto kKinds = std::to_array<FaultKindInfo>({
    {.kind = FaultKind::kCrash,
     .word = "crash",
     .target = FaultTarget::kWorker,
     .may_restart = true,
     .in_processes = "kill -9",
     .example = "crash w1 when w1 send.payload#3 restart 200ms",
     .effect = "the worker dies, its connections are reset at once, and it is "
               "started again if the line says so"},
    {.kind = FaultKind::kKill,
     .word = "kill",
     .target = FaultTarget::kWorker,
     .may_restart = true,
     .in_processes = "kill -9",
     .example = "kill w1 when w1 send.payload#3 restart 200ms",
     .effect = "the worker dies, and its kernel closes its connections: what "
               "was written arrives, and then the end of the stream, or a "
               "reset where something was not read"},
    {.kind = FaultKind::kPower,
     .word = "power",
     .target = FaultTarget::kWorker,
     .may_restart = true,
     .example = "power w1 after 2s restart 500ms",
     .effect = "the worker's machine loses its power and is not heard of; "
               "started again, it answers old connections with a reset"},
    {.kind = FaultKind::kPause,
     .word = "pause",
     .target = FaultTarget::kWorker,
     .duration = FaultDuration::kSpanOrForEver,
     .in_processes = "stop and continue",
     .example = "pause w2 when w0 call.started#10 for 300ms",
     .effect = "no thread of the worker runs"},
    {.kind = FaultKind::kNoMemory,
     .word = "no-memory",
     .target = FaultTarget::kWorker,
     .duration = FaultDuration::kSpanOrForEver,
     .example = "no-memory w1 after 1s for 2s",
     .effect = "the worker is short of memory: it lives on its reserve"},
    {.kind = FaultKind::kCut,
     .word = "cut",
     .target = FaultTarget::kLink,
     .may_be_at_a_byte = true,
     .endings = {"reset", "eof"},
     .example = "cut w0>w1 byte 4096 reset",
     .effect = "the write that crosses this byte breaks its connection; at a "
               "time or an event (cut w0-w1 after 1s eof) all connections "
               "between the two break"},
    {.kind = FaultKind::kRefuse,
     .word = "refuse",
     .target = FaultTarget::kWorker,
     .duration = FaultDuration::kSpanOrForEver,
     .example = "refuse w1 after 1s for 2s",
     .effect = "connects to the worker are refused"},
    {.kind = FaultKind::kHold,
     .word = "hold",
     .older_word = "silence",
     .target = FaultTarget::kLinks,
     .duration = FaultDuration::kSpan,
     .example = "hold w0-w1 after 1s for 2s",
     .effect = "what is sent between the two arrives when it is over; "
               "w0>w1: from w0 to w1 only; w0,w1-w2: between groups"},
    {.kind = FaultKind::kPartition,
     .word = "partition",
     .older_word = "silence",
     .target = FaultTarget::kLinks,
     .duration = FaultDuration::kForEver,
     .example = "partition w0-w1 after 1s for ever",
     .effect = "what is sent between the two never arrives"},
    {.kind = FaultKind::kSwizzle,
     .word = "swizzle",
     .target = FaultTarget::kWorker,
     .duration = FaultDuration::kSpan,
     .example = "swizzle w1 after 1s for 2s",
     .effect = "the worker's links are held one after another, and heal in "
               "another order"},
    {.kind = FaultKind::kDelay,
     .word = "delay",
     .target = FaultTarget::kLinks,
     .duration = FaultDuration::kSpan,
     .has_delay = true,
     .example = "delay w0-w1 20ms after 1s for 2s",
     .effect = "what is sent between the two takes so much longer"},
    {.kind = FaultKind::kDropConnect,
     .word = "drop-connect",
     .older_word = "knock",
     .target = FaultTarget::kWorker,
     .example = "drop-connect w1 after 500ms",
     .effect =
         "a client connects to the worker and goes away before its hello"},
    {.kind = FaultKind::kStoreOutage,
     .word = "store-outage",
     .target = FaultTarget::kWorkerOrAll,
     .duration = FaultDuration::kSpanOrForEver,
     .example = "store-outage all after 1s for 2s",
     .effect = "the worker, or all, cannot reach the store"},
    {.kind = FaultKind::kStoreDelay,
     .word = "store-delay",
     .target = FaultTarget::kStore,
     .duration = FaultDuration::kSpanOrForEver,
     .has_delay = true,
     .example = "store-delay 50ms after 1s for 2s",
     .effect = "each way to the store and back takes so much longer"},
    {.kind = FaultKind::kGpuNoMemory,
     .word = "gpu-no-memory",
     .target = FaultTarget::kWorker,
     .duration = FaultDuration::kSpanOrForEver,
     .example = "gpu-no-memory w1 after 1s for 2s",
     .effect = "the worker's allocations on GPUs, and of pinned memory, fail"},
    {.kind = FaultKind::kGpuCopyFails,
     .word = "gpu-copy-fails",
     .target = FaultTarget::kWorker,
     .example = "gpu-copy-fails w1 when w1 gpu.put#3",
     .effect = "the worker's next copy that ends has failed, and half of it "
               "is done"},
    {.kind = FaultKind::kGpuStall,
     .word = "gpu-stall",
     .target = FaultTarget::kWorker,
     .duration = FaultDuration::kSpanOrForEver,
     .example = "gpu-stall w1 after 1s for 2s",
     .effect = "the worker's streams begin no work"},
    {.kind = FaultKind::kGpuLost,
     .word = "gpu-lost",
     .target = FaultTarget::kWorker,
     .example = "gpu-lost w1 after 1s",
     .effect = "the worker loses its GPUs until it is started again"},
    {.kind = FaultKind::kGpuNoPeer,
     .word = "gpu-no-peer",
     .target = FaultTarget::kWorker,
     .duration = FaultDuration::kSpanOrForEver,
     .example = "gpu-no-peer w1 after 0s for ever",
     .effect = "no GPU of the worker may read another GPU's memory"},
    {.kind = FaultKind::kGpuNoIpc,
     .word = "gpu-no-ipc",
     .target = FaultTarget::kWorker,
     .duration = FaultDuration::kSpanOrForEver,
     .example = "gpu-no-ipc w1 after 0s for ever",
     .effect = "the worker can share no GPU memory with other processes"},
    {.kind = FaultKind::kSlow,
     .word = "slow",
     .target = FaultTarget::kWorker,
     .duration = FaultDuration::kSpanOrForEver,
     .has_delay = true,
     .example = "slow w1 1ms after 1s for 2s",
     .effect = "each step of the worker's threads takes so much longer"},
    {.kind = FaultKind::kClockJump,
     .word = "clock-jump",
     .target = FaultTarget::kWorker,
     .has_delay = true,
     .endings = {"ahead", "behind"},
     .example = "clock-jump w1 30s after 0s ahead",
     .effect = "the worker's time of day is set ahead, or back; after 0s: its "
               "clock is so from the beginning"},
    {.kind = FaultKind::kClockDrift,
     .word = "clock-drift",
     .target = FaultTarget::kWorker,
     .duration = FaultDuration::kForEver,
     .has_delay = true,
     .endings = {"fast", "slow"},
     .example = "clock-drift w1 10ms after 0s for ever fast",
     .effect = "the worker's clocks gain or lose so much in a second, from its "
               "next start on; after 0s: from the beginning"},
    {.kind = FaultKind::kStoreSlowKeys,
     .word = "store-slow-keys",
     .target = FaultTarget::kStore,
     .duration = FaultDuration::kSpanOrForEver,
     .has_delay = true,
     .example = "store-slow-keys 50ms after 1s for 2s",
     .effect = "each way takes so much longer for about half of the keys, as "
               "the seed chooses them"},
    {.kind = FaultKind::kStoreLostReply,
     .word = "store-lost-reply",
     .target = FaultTarget::kWorkerOrAll,
     .duration = FaultDuration::kSpan,
     .endings = {"reset", "silent"},
     .example = "store-lost-reply w1 when w1 store#5 for 20ms reset",
     .effect = "the worker's operations take effect, and their replies are "
               "lost: its connection breaks, or is silent until the deadline"},
    {.kind = FaultKind::kStoreLateEffect,
     .word = "store-late-effect",
     .target = FaultTarget::kWorkerOrAll,
     .duration = FaultDuration::kSpan,
     .has_delay = true,
     .example = "store-late-effect w1 500ms when w1 store#5 for 20ms",
     .effect = "the worker's operations fail at once, and take effect so much "
               "later"},
    {.kind = FaultKind::kStoreRestart,
     .word = "store-restart",
     .target = FaultTarget::kStore,
     .duration = FaultDuration::kSpan,
     .has_delay = true,
     .example = "store-restart 200ms after 1s for 500ms",
     .effect = "the store dies, and comes back without the writes of its last "
               "200ms"},
    {.kind = FaultKind::kNoDescriptors,
     .word = "no-descriptors",
     .target = FaultTarget::kWorker,
     .duration = FaultDuration::kSpanOrForEver,
     .example = "no-descriptors w1 after 1s for 2s",
     .effect = "the worker has no file descriptors to spare: it can neither "
               "connect nor listen, and connections to it wait"},
    {.kind = FaultKind::kNoThreads,
     .word = "no-threads",
     .target = FaultTarget::kWorker,
     .duration = FaultDuration::kSpanOrForEver,
     .example = "no-threads w1 after 1s for 2s",
     .effect = "the worker can start no thread"},
    {.kind = FaultKind::kNoTensorMemory,
     .word = "no-tensor-memory",
     .target = FaultTarget::kWorker,
     .duration = FaultDuration::kSpanOrForEver,
     .example = "no-tensor-memory w1 after 1s for 2s",
     .effect = "the worker has no memory for tensors on CPUs that arrive"},
    {.kind = FaultKind::kCorrupt,
     .word = "corrupt",
     .target = FaultTarget::kLink,
     .endings = {"flip", "short"},
     .example = "corrupt w0>w1 when w0 send.descriptor#5 flip",
     .effect = "the next frame that is sent over the link arrives with one bit "
               "flipped, or without its last bytes (short)"},
    {.kind = FaultKind::kDiskFull,
     .word = "disk-full",
     .target = FaultTarget::kWorker,
     .duration = FaultDuration::kSpanOrForEver,
     .example = "disk-full w1 after 1s for 2s",
     .effect = "the worker's disk takes a first part of what is written to it, "
               "and has no room for the rest"},
    {.kind = FaultKind::kDiskSlow,
     .word = "disk-slow",
     .target = FaultTarget::kWorker,
     .duration = FaultDuration::kSpanOrForEver,
     .has_delay = true,
     .example = "disk-slow w1 50ms after 1s for 2s",
     .effect = "each step of the worker's disk takes so much longer"},
    {.kind = FaultKind::kDiskSyncFails,
     .word = "disk-sync-fails",
     .target = FaultTarget::kWorker,
     .example = "disk-sync-fails w1 when w1 file#3",
     .effect =
         "the worker's next sync of a file fails, and what it should have "
         "made durable never will be"},
});

constexpr bool IsInTheOrderOfTheEnum() {
  for (size_t i = 0; i < kKinds.size(); ++i) {
    if (kKinds[i].kind != static_cast<FaultKind>(i)) return false;
  }
  return true;
}
static_assert(IsInTheOrderOfTheEnum());

}  // namespace

std::span<const FaultKindInfo> FaultKinds() { return kKinds; }

const FaultKindInfo& InfoOf(FaultKind kind) {
  return kKinds[static_cast<size_t>(kind)];
}

std::string_view ToString(FaultKind kind) { return InfoOf(kind).word; }

std::vector<FaultKind> FaultKindsNamed(std::string_view word) {
  std::vector<FaultKind> kinds;
  for (const FaultKindInfo& info : kKinds) {
    if (!word.empty() && (info.word == word || info.older_word == word)) {
      kinds.push_back(info.kind);
    }
  }
  return kinds;
}

std::string DescribeFaultKinds() {
  std::string text;
  for (const FaultKindInfo& info : kKinds) {
    absl::StrAppend(&text, "  ", std::string(info.example), "\n      ",
                    std::string(info.effect),
                    info.in_processes.empty()
                        ? ""
                        : absl::StrCat(" (between processes: ",
                                       std::string(info.in_processes), ")"),
                    "\n");
  }
  return text;
}

}  // namespace reprise
