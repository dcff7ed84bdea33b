#include "fault_injection/injector.h"

#include <algorithm>
#include <utility>

namespace reprise {
namespace {

// Orders the injector's events among simultaneous ones: after the network's.
constexpr uint64_t kFaultSource = UINT64_MAX - 1;

bool IsOfTheClock(FaultKind kind) {
  return kind == FaultKind::kClockJump || kind == FaultKind::kClockDrift;
}

int64_t Until(int64_t now_ns, int64_t for_ns) {
  return for_ns == kForEver ? Scheduler::kNever : now_ns + for_ns;
}

BreakKind HowToCut(const Fault& fault) {
  return fault.is_second_ending ? BreakKind::kEndOfStream : BreakKind::kReset;
}

Shortage& ShortageOf(FaultKind kind, Node& node) {
  switch (kind) {
    case FaultKind::kNoDescriptors:
      return node.descriptors;
    case FaultKind::kNoThreads:
      return node.threads;
    case FaultKind::kNoTensorMemory:
      return node.tensor_memory;
    default:
      return node.memory;
  }
}

template <typename Action>
void ForEachLink(const Fault& fault, const Action& action) {
  for (const int32_t from : fault.group) {
    for (const int32_t to : fault.other_group) {
      action(from, to);
      if (!fault.is_one_way) action(to, from);
    }
  }
}

}  // namespace

Injector::Injector(World& world, Network& network, SimStoreServer& store,
                   SimDisks& disks, SimGpus& gpus, std::vector<Fault> faults,
                   WorkerControl control)
    : world_(world),
      network_(network),
      store_(store),
      disks_(disks),
      gpus_(gpus),
      faults_(std::move(faults)),
      control_(std::move(control)),
      progress_(faults_.size()),
      injections_(FaultKinds().size()) {
  const auto struck = [this](FaultKind kind, int32_t worker = -1,
                             int32_t other = -1) {
    const FaultKind present = Struck(kind, worker, other).value_or(kind);
    Injected(present, InfoOf(present).trace_text());
  };
  network_.OnInjected(struck);
  store_.OnInjected(
      [struck](FaultKind kind, int32_t worker) { struck(kind, worker); });
  disks_.OnInjected(
      [struck](FaultKind kind, int32_t worker) { struck(kind, worker); });
  gpus_.OnInjected([struck](FaultKind kind) { struck(kind); });
  for (size_t i = 0; i < faults_.size(); ++i) Arm(i);
  if (std::any_of(faults_.begin(), faults_.end(),
                  [](const Fault& fault) { return fault.at_event; })) {
    world_.trace().AddListener([this](const Event& event) { OnEvent(event); });
  }
}

void Injector::Arm(size_t index) {
  const Fault& fault = faults_[index];
  if (fault.kind == FaultKind::kStoreRestart) store_.KeepHistory();
  if (IsOfTheClock(fault.kind)) {
    WatchStartsOf(fault.worker);
    if (!fault.at_event && fault.after_ns == 0) {
      progress_[index] = {.begun_ns = 0, .until_ns = Scheduler::kNever};
      SetClock(fault);
      return;
    }
  }
  if (fault.kind == FaultKind::kCut && fault.byte >= 0) {
    progress_[index] = {.begun_ns = 0, .until_ns = Scheduler::kNever};
    network_.CutAfter(fault.worker, fault.other, fault.byte, HowToCut(fault));
  } else if (!fault.at_event) {
    world_.AtIfRunning(fault.after_ns, {kFaultSource, index},
                       [this, index] { Begin(index); });
  }
}

void Injector::WatchStartsOf(int32_t rank) {
  world_.clock(rank).on_wrong_start = [this, rank] {
    for (const FaultKind kind :
         {FaultKind::kClockJump, FaultKind::kClockDrift}) {
      if (Struck(kind, rank, -1).has_value())
        Injected(kind, InfoOf(kind).trace_text());
    }
  };
}

void Injector::WatchReadsOf(size_t index) {
  world_.clock(faults_[index].worker).on_jump_seen = [this, index] {
    progress_[index].struck = true;
    Injected(FaultKind::kClockJump, faults_[index].text);
  };
}

void Injector::SetClock(const Fault& fault) {
  const int64_t ns = fault.is_second_ending ? -fault.delay_ns : fault.delay_ns;
  NodeClock& clock = world_.clock(fault.worker);
  if (fault.kind == FaultKind::kClockJump) {
    clock.Jump(ns);
  } else {
    clock.Drift(ns);
  }
}

void Injector::OnEvent(const Event& event) {
  for (size_t i = 0; i < faults_.size(); ++i) {
    const Fault& fault = faults_[i];
    if (!fault.at_event || fault.event != event.kind ||
        fault.event_worker != event.node) {
      continue;
    }
    // `Begin` may not return, as the fault may end the fiber that this runs on.
    if (++progress_[i].events_seen == fault.event_number) Begin(i);
  }
}

void Injector::Injected(FaultKind kind, std::string_view trace_text) {
  const int64_t count = ++injections_[static_cast<size_t>(kind)];
  // The end of what lasts is known from its begin: see `Lasts`.
  if (!InfoOf(kind).lasts()) {
    last_effect_ns_ = std::max(last_effect_ns_, world_.now_ns());
  }
  // A fault that lasts strikes with every message. The first three are enough
  // for the story.
  if (count <= 3) {
    world_.Record(nullptr, {.kind = EventKind::kFault, .text = trace_text});
  }
}

void Injector::Lasts(int64_t until_ns) {
  last_effect_ns_ =
      std::max(last_effect_ns_,
               until_ns == Scheduler::kNever ? world_.now_ns() : until_ns);
}

std::map<std::string, int64_t> Injector::injections() const {
  std::map<std::string, int64_t> by_word;
  for (const FaultKindInfo& info : FaultKinds()) {
    const int64_t count = injections_[static_cast<size_t>(info.kind)];
    if (count != 0) by_word[std::string(info.word)] = count;
  }
  return by_word;
}

std::optional<FaultKind> Injector::Struck(FaultKind kind, int32_t worker,
                                          int32_t other) {
  const int64_t now_ns = world_.now_ns();
  const auto is = [](int32_t wanted, int32_t rank) {
    return wanted == rank || wanted == -1 || rank == -1;
  };
  // Whether the fault lies on the way from `from` to `to`.
  const auto hits = [&](const Fault& fault, int32_t from, int32_t to) {
    const auto has = [](const std::vector<int32_t>& group, int32_t rank) {
      return std::find(group.begin(), group.end(), rank) != group.end();
    };
    switch (InfoOf(fault.kind).target) {
      case FaultTarget::kLinks:
        return has(fault.group, from) && has(fault.other_group, to);
      case FaultTarget::kLink:
        return is(fault.worker, from) && is(fault.other, to);
      default:
        return is(fault.worker, from);
    }
  };
  std::vector<size_t> instant;
  std::vector<size_t> lasting;
  for (size_t i = 0; i < faults_.size(); ++i) {
    const Fault& fault = faults_[i];
    const Progress& progress = progress_[i];
    // A link that is held may be so by a swizzle.
    const bool is_kind =
        fault.kind == kind ||
        (fault.kind == FaultKind::kSwizzle && kind == FaultKind::kHold);
    if (!is_kind || progress.begun_ns < 0 || now_ns > progress.until_ns) {
      continue;
    }
    const bool both_ways = !fault.is_one_way && other != -1;
    if (hits(fault, worker, other) ||
        (both_ways && hits(fault, other, worker))) {
      (progress.until_ns == now_ns ? instant : lasting).push_back(i);
    }
  }
  // What strikes now, such as a cut at a time, is not one that waits, such as a
  // cut at a byte.
  const std::vector<size_t>& struck = instant.empty() ? lasting : instant;
  for (const size_t index : struck) progress_[index].struck = true;
  if (struck.empty()) return std::nullopt;
  const bool is_swizzle =
      std::all_of(struck.begin(), struck.end(), [this](size_t index) {
        return faults_[index].kind == FaultKind::kSwizzle;
      });
  return is_swizzle ? FaultKind::kSwizzle : kind;
}

std::vector<std::string> Injector::never_struck() const {
  std::vector<std::string> lines;
  for (size_t i = 0; i < faults_.size(); ++i) {
    if (!progress_[i].struck) lines.push_back(faults_[i].text);
  }
  return lines;
}

void Injector::Begin(size_t index) {
  if (world_.IsOver()) return;
  const Fault& fault = faults_[index];
  const int64_t now_ns = world_.now_ns();
  const int64_t until_ns = Until(now_ns, fault.for_ns);
  progress_[index].begun_ns = now_ns;
  progress_[index].until_ns = fault.kind == FaultKind::kGpuCopyFails ||
                                      fault.kind == FaultKind::kGpuLost ||
                                      fault.kind == FaultKind::kCorrupt ||
                                      fault.kind == FaultKind::kDiskSyncFails ||
                                      fault.kind == FaultKind::kClockJump
                                  ? Scheduler::kNever
                                  : until_ns;
  const auto strike = [this, index, kind = fault.kind] {
    progress_[index].struck = true;
    Injected(kind, InfoOf(kind).trace_text());
  };
  switch (fault.kind) {
    case FaultKind::kCrash:
      Kill(index, NodeDeath::kReset);
      return;
    case FaultKind::kKill:
      Kill(index, NodeDeath::kKilled);
      return;
    case FaultKind::kPower:
      Kill(index, NodeDeath::kPowerCut);
      return;
    case FaultKind::kPause: {
      Node* const node = control_.node(fault.worker);
      if (node == nullptr || node->paused) return;
      progress_[index].struck = true;
      Injected(fault.kind, fault.text);
      Lasts(until_ns);
      if (until_ns != Scheduler::kNever) {
        world_.At(until_ns, {kFaultSource, static_cast<uint64_t>(fault.worker)},
                  [this, node] { world_.Resume(*node); });
      }
      world_.Pause(*node);
      return;
    }
    case FaultKind::kNoMemory:
    case FaultKind::kNoDescriptors:
    case FaultKind::kNoThreads:
    case FaultKind::kNoTensorMemory: {
      Node* const node = control_.node(fault.worker);
      if (node == nullptr) return;
      Lasts(until_ns);
      ShortageOf(fault.kind, *node) = {.until_ns = until_ns,
                                       .on_strike = strike};
      return;
    }
    case FaultKind::kSlow: {
      Node* const node = control_.node(fault.worker);
      if (node == nullptr) return;
      Lasts(until_ns);
      node->slow_until_ns = until_ns;
      node->slow_step_ns = fault.delay_ns;
      node->on_slow_step = strike;
      return;
    }
    case FaultKind::kClockJump:
      SetClock(fault);
      if (control_.node(fault.worker) != nullptr) WatchReadsOf(index);
      return;
    case FaultKind::kClockDrift:
      SetClock(fault);
      return;
    case FaultKind::kCut:
      network_.Cut(fault.worker, fault.other, HowToCut(fault));
      return;
    case FaultKind::kCorrupt: {
      const Corruption how = {
          .is_short = fault.is_second_ending,
          .bits = Draw(world_.decisions().seed(), HashBytes(fault.text), 0)};
      network_.CorruptNext(fault.worker, fault.other, how);
      if (!fault.is_one_way) {
        network_.CorruptNext(fault.other, fault.worker, how);
      }
      return;
    }
    case FaultKind::kRefuse:
      Lasts(until_ns);
      network_.RefuseConnects(fault.worker, until_ns);
      return;
    case FaultKind::kHold:
    case FaultKind::kPartition:
      Lasts(until_ns);
      ForEachLink(fault, [&](int32_t from, int32_t to) {
        network_.HoldOneWay(from, to, until_ns);
      });
      return;
    case FaultKind::kSwizzle:
      Lasts(until_ns);
      Swizzle(fault, until_ns);
      return;
    case FaultKind::kDelay:
      Lasts(until_ns);
      ForEachLink(fault, [&](int32_t from, int32_t to) {
        network_.DelayOneWay(from, to, fault.delay_ns, until_ns);
      });
      return;
    case FaultKind::kDropConnect:
      network_.DropConnect(fault.worker);
      return;
    case FaultKind::kStoreOutage:
      Lasts(until_ns);
      store_.SetOutage(fault.worker, until_ns);
      return;
    case FaultKind::kStoreDelay:
      Lasts(until_ns);
      store_.SetDelay(fault.delay_ns, until_ns);
      return;
    case FaultKind::kStoreSlowKeys:
      Lasts(until_ns);
      store_.SetSlowKeys(fault.delay_ns, until_ns);
      return;
    case FaultKind::kStoreLostReply:
      Lasts(until_ns);
      store_.LoseReplies(fault.worker, fault.is_second_ending, until_ns);
      return;
    case FaultKind::kStoreLateEffect:
      Lasts(until_ns + fault.delay_ns);
      store_.DelayEffects(fault.worker, fault.delay_ns, until_ns);
      return;
    case FaultKind::kStoreRestart:
      Lasts(until_ns);
      store_.Restart(fault.delay_ns, until_ns);
      return;
    case FaultKind::kDiskFull:
      Lasts(until_ns);
      disks_.SetFull(fault.worker, until_ns);
      return;
    case FaultKind::kDiskSlow:
      Lasts(until_ns);
      disks_.SetSlow(fault.worker, fault.delay_ns, until_ns);
      return;
    case FaultKind::kDiskSyncFails:
      disks_.FailNextSync(fault.worker);
      return;
    case FaultKind::kGpuNoMemory:
      Lasts(until_ns);
      gpus_.RefuseMemory(fault.worker, until_ns);
      return;
    case FaultKind::kGpuCopyFails:
      gpus_.FailNextCopy(fault.worker);
      return;
    case FaultKind::kGpuStall:
      Lasts(until_ns);
      gpus_.StallStreams(fault.worker, until_ns);
      return;
    case FaultKind::kGpuLost:
      gpus_.LoseDevices(fault.worker);
      return;
    case FaultKind::kGpuNoPeer:
      Lasts(until_ns);
      gpus_.RefusePeers(fault.worker, until_ns);
      return;
    case FaultKind::kGpuNoIpc:
      Lasts(until_ns);
      gpus_.RefuseSharing(fault.worker, until_ns);
      return;
  }
}

void Injector::Kill(size_t index, NodeDeath death) {
  const Fault& fault = faults_[index];
  Node* const node = control_.node(fault.worker);
  if (node == nullptr) return;
  progress_[index].struck = true;
  Injected(fault.kind, fault.text);
  const int64_t restart_ns = world_.now_ns() + fault.restart_ns;
  if (fault.restart_ns >= 0) {
    Lasts(restart_ns);
    world_.AtRestart(restart_ns,
                     {kFaultSource, static_cast<uint64_t>(fault.worker)},
                     [this, rank = fault.worker] { control_.restart(rank); });
  }
  world_.Crash(*node, death);
}

void Injector::Swizzle(const Fault& fault, int64_t until_ns) {
  std::vector<int32_t> peers;
  for (int32_t rank = 0; rank < control_.num_workers; ++rank) {
    if (rank != fault.worker) peers.push_back(rank);
  }
  // Each peer has its place in the order in which links are held, and another
  // one in the order in which they heal.
  const int64_t now_ns = world_.now_ns();
  const uint64_t stream = HashBytes("swizzle " + fault.text);
  const auto shuffle = [&](uint64_t count) {
    std::vector<std::pair<uint64_t, int32_t>> order;
    for (const int32_t peer : peers) {
      order.emplace_back(
          Draw(world_.decisions().seed(), stream,
               count * peers.size() + static_cast<uint64_t>(peer)),
          peer);
    }
    std::sort(order.begin(), order.end());
    return order;
  };
  const auto held = shuffle(0);
  const auto healed = shuffle(2);
  const auto steps = static_cast<int64_t>(2 * peers.size());
  const int64_t step_ns = (until_ns - now_ns) / std::max<int64_t>(steps, 1);
  for (size_t i = 0; i < held.size(); ++i) {
    const int32_t peer = held[i].second;
    const auto place = std::find_if(
        healed.begin(), healed.end(),
        [peer](const auto& entry) { return entry.second == peer; });
    const int64_t heal_ns = until_ns - step_ns * (healed.end() - place - 1);
    world_.AtIfRunning(now_ns + step_ns * static_cast<int64_t>(i),
                       {kFaultSource, static_cast<uint64_t>(peer)},
                       [this, worker = fault.worker, peer, heal_ns] {
                         network_.Hold(worker, peer, heal_ns);
                       });
  }
}

}  // namespace reprise
