#include "sim/world/scheduler.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "sim/world/fiber_stacks.h"
#include "sim/world/interposition.h"
#include "sim/world/race_annotations.h"
#include "sim/world/static_guard.h"
#include "sim/world/world.h"

namespace reprise {
namespace {

uint64_t Threshold(double probability) {
  return static_cast<uint64_t>(std::clamp(probability, 0.0, 1.0) *
                               4294967296.0);
}

// In a world with so many fibers the memory of their stacks is worth the time
// that it takes to give back what a fiber does not use while it waits for long.
constexpr size_t kManyFibers = 20'000;
constexpr int64_t kLongWaitNs = 1'000'000'000;

// The first waits, the fourth, the eighth, the sixteenth: threads start deep,
// and go as deep again each time that there is work for them.
bool IsWorthARelease(const Fiber& fiber, int64_t now_ns) {
  const uint64_t waits = (fiber.wait_count + 1) / 2;  // their ends count, too
  return fiber.state == FiberState::kBlocked &&
         fiber.wake_ns - now_ns >= kLongWaitNs &&
         (waits < 4 || std::has_single_bit(waits));
}

}  // namespace

Scheduler::Scheduler(World& world, const ScheduleOptions& options)
    : world_(world),
      options_(options),
      switch_below_(options.policy == Policy::kRandom
                        ? Threshold(options.switch_probability)
                        : 0),
      stall_below_(options.policy == Policy::kCooperative
                       ? 0
                       : Threshold(options.stall_probability)),
      main_(options.context),
      main_site_(world.decisions().SiteAt("world", "run")),
      end_(world.decisions().PlaceAt("end")),
      crash_(world.decisions().PlaceAt("crash")),
      pause_(world.decisions().PlaceAt("pause")) {
  if (options.policy == Policy::kPct) {
    const uint64_t stream = HashBytes("pct change points");
    for (int i = 1; i < options.pct_depth; ++i) {
      change_points_.push_back(static_cast<int64_t>(
          Below(Draw(world.decisions().seed() ^ options.salt, stream,
                     static_cast<uint64_t>(i - 1)),
                static_cast<uint64_t>(options.pct_length))));
    }
    std::sort(change_points_.begin(), change_points_.end());
  }
}

Scheduler::~Scheduler() { ReturnStacks(); }

void Scheduler::ReturnStacks() {
  StackPool& pool = StackPool::OfThisThread();
  const InSimulator in;
  for (const auto& fiber : fibers_) {
    fiber->context.End();
    if (fiber->stack.low != nullptr) {
      pool.Return(std::exchange(fiber->stack, {}));
    }
  }
  for (StackPool::Stack stack : free_stacks_) pool.Return(stack);
  free_stacks_.clear();
}

Fiber* Scheduler::Start(Node& node, std::string_view name,
                        absl::AnyInvocable<void()> body, bool daemon) {
  const InSimulator in;
  auto fiber = std::make_unique<Fiber>();
  fiber->world = &world_;
  fiber->node = &node;
  fiber->label = node.label + "/" + std::string(name);
  // Threads of one name are told apart by their number on the node.
  const int same = node.thread_names[std::string(name)]++;
  if (same != 0) fiber->label += "~" + std::to_string(same);
  fiber->label_hash = HashBytes(fiber->label);
  fiber->sites.Start(world_.decisions().seed(), fiber->label,
                     fiber->label_hash);
  fiber->id = fibers_.size() + 1;
  fiber->daemon = daemon;
  fiber->body = std::move(body);
  fiber->priority = static_cast<int64_t>(
      Draw(world_.decisions().seed() ^ options_.salt, fiber->label_hash, 0) >>
      2);
  fiber->context = MakeContext(*fiber);
  Fiber* const result = fiber.get();
  fibers_.push_back(std::move(fiber));
  node.fibers.push_back(result);
  world_.Record(&node, {.kind = EventKind::kFiberStarted, .id = result->id});
  if (node.alive) {
    if (!daemon) ++num_unfinished_;
    MakeReady(result);
  } else {
    result->state = FiberState::kDead;
  }
  return result;
}

ExecutionContext Scheduler::MakeContext(Fiber& fiber) {
  if (options_.context == ContextKind::kThreads) {
    return ExecutionContext(fiber.label, &Scheduler::Enter, &fiber);
  }
  if (free_stacks_.empty()) {
    fiber.stack = StackPool::OfThisThread().Take(world_.options().stack_bytes);
  } else {
    fiber.stack = free_stacks_.back();
    free_stacks_.pop_back();
    StackPool::Wipe(fiber.stack);
  }
  return ExecutionContext(fiber.stack, &Scheduler::Enter, &fiber);
}

void Scheduler::Enter(void* argument) {
  auto* const fiber = static_cast<Fiber*>(argument);
  fiber->world->RunOnThisThread();
  fiber->body();
  BatonThread::DestroyThreadLocals();
  fiber->body = nullptr;
  if (interposition != nullptr) interposition->fiber_ends(*fiber);
  fiber->world->scheduler().Finish(*fiber);
}

void Scheduler::Finish(Fiber& fiber) {
  const InSimulator in;
  fiber.state = FiberState::kDone;
  if (!fiber.daemon) --num_unfinished_;
  world_.Record(fiber.node, {.kind = EventKind::kFiberEnded, .id = fiber.id});
  if (fiber.joiner != nullptr) Wake(fiber.joiner);
  finished_ = &fiber;
  Site& site = fiber.sites.At(end_);
  site.Visit();
  SwitchAway(site, /*for_good=*/true);
}

void Scheduler::MakeDaemon(Fiber& fiber) {
  if (fiber.daemon) return;
  fiber.daemon = true;
  if (fiber.state != FiberState::kDone && fiber.state != FiberState::kDead) {
    --num_unfinished_;
  }
}

void Scheduler::Kill(Fiber& fiber) {
  if (fiber.state == FiberState::kDone || fiber.state == FiberState::kDead) {
    return;
  }
  if (!fiber.daemon) --num_unfinished_;
  fiber.state = FiberState::kDead;
  std::erase(ready_, &fiber);
  std::erase(fiber.node->paused_ready, &fiber);
}

void Scheduler::Run() {
  const InSimulator in;
  main_site_->Visit();
  SwitchAway(*main_site_);
  current_ = nullptr;
  // What comes after the run is after all that its fibers have done.
  for (const auto& fiber : fibers_) AnnounceAcquire(fiber.get());
}

Site& Scheduler::SiteHere(const Node& node, const Place& place) {
  if (Fiber* const fiber = current()) return fiber->sites.At(place);
  return *world_.decisions().SiteAt(node.label, place.label);
}

void Scheduler::MakeReady(Fiber* fiber) {
  fiber->state = FiberState::kReady;
  if (fiber->node->paused) {
    fiber->node->paused_ready.push_back(fiber);
  } else {
    ready_.push_back(fiber);
  }
}

void Scheduler::Wake(Fiber* fiber) {
  if (fiber->state != FiberState::kBlocked) return;
  ++fiber->wait_count;
  MakeReady(fiber);
}

bool Scheduler::IsAlarmStale(const Fiber* fiber, uint64_t wait_count) const {
  return fiber->state != FiberState::kBlocked ||
         fiber->wait_count != wait_count;
}

void Scheduler::Alarm(Fiber* fiber, uint64_t wait_count) {
  if (IsAlarmStale(fiber, wait_count)) return;
  fiber->timed_out = true;
  Wake(fiber);
}

void Scheduler::MaybePreempt(Site& site) {
  // The next run finds the static made, and must find the same points.
  if (StaticScope::IsActive()) return;
  ++num_points_;
  site.Visit();
  if (current() == nullptr) return;
  if (const Node& node = *current_->node;
      node.slow_until_ns > world_.now_ns()) {
    node.on_slow_step();
    Block(site, {"stalls", "", nullptr}, world_.now_ns() + node.slow_step_ns);
    return;
  }
  if (const int64_t stall_ns = DecideStall(site); stall_ns > 0) {
    world_.Record(
        current_->node,
        {.kind = EventKind::kStall, .id = current_->id, .stall_ns = stall_ns});
    Block(site, {"stalls", "", nullptr}, world_.now_ns() + stall_ns);
    return;
  }
  if (DecideSwitch(site)) {
    MakeReady(current_);
    SwitchAway(site);
  }
}

int64_t Scheduler::DecideStall(Site& site) {
  Decisions& decisions = world_.decisions();
  if (decisions.replaying()) {
    return static_cast<int64_t>(
        decisions.Recorded(site, DecisionKind::kStall).value_or(0));
  }
  if (stall_below_ == 0) return 0;
  decisions.CountMade();
  const uint64_t bits = Bits(site, DecisionKind::kStall);
  if ((bits & 0xffffffffu) >= stall_below_) return 0;
  const uint64_t stall_ns =
      1 + Below(Mix(bits), static_cast<uint64_t>(options_.max_stall_ns));
  decisions.Keep(site, DecisionKind::kStall, stall_ns);
  return static_cast<int64_t>(stall_ns);
}

bool Scheduler::DecideSwitch(Site& site) {
  if (ready_.empty()) return false;
  Decisions& decisions = world_.decisions();
  if (decisions.replaying()) {
    return decisions.Recorded(site, DecisionKind::kSwitch).value_or(0) != 0;
  }
  bool result = false;
  if (options_.policy == Policy::kRandom) {
    decisions.CountMade();
    result = (Bits(site, DecisionKind::kSwitch) & 0xffffffffu) < switch_below_;
  } else if (options_.policy == Policy::kPct) {
    decisions.CountMade();
    if (next_change_ < change_points_.size() &&
        num_points_ >= change_points_[next_change_]) {
      ++next_change_;
      current_->priority = -static_cast<int64_t>(next_change_);
    }
    result = std::any_of(ready_.begin(), ready_.end(), [this](Fiber* fiber) {
      return fiber->priority > current_->priority;
    });
  }
  if (result) decisions.Keep(site, DecisionKind::kSwitch, 1);
  return result;
}

bool Scheduler::Block(Site& site, WaitReason reason, int64_t deadline_ns) {
  Fiber* const fiber = current_;
  // This is a visit of its own, because the next fiber may also have been
  // chosen at the point just before.
  site.Visit();
  fiber->state = FiberState::kBlocked;
  fiber->waiting = reason;
  fiber->wake_ns = deadline_ns;
  fiber->timed_out = false;
  ++fiber->wait_count;
  if (deadline_ns != kNever) world_.SetAlarm(deadline_ns, *fiber);
  SwitchAway(site);
  return !fiber->timed_out;
}

void Scheduler::SwitchAway(Site& site, bool for_good) {
  Fiber* const from = current_;
  Fiber* const to = PickNext(site);
  if (to == from && to != nullptr) {
    to->state = FiberState::kRunning;
    return;
  }
  ++num_switches_;
  current_ = to;
  if (to != nullptr) {
    to->state = FiberState::kRunning;
    world_.Record(to->node, {.kind = EventKind::kSwitch, .id = to->id});
  } else if (from == nullptr) {
    return;  // Nothing has ever run.
  }
  // The stack of a fiber that has ended is free for the next fiber that starts.
  if (finished_ != nullptr && finished_ != from) {
    finished_->context.End();
    if (finished_->stack.low != nullptr) {
      free_stacks_.push_back(std::exchange(finished_->stack, {}));
    }
    finished_ = nullptr;
  }
  if (from != nullptr) AnnounceRelease(from);
  if (fibers_.size() >= kManyFibers && from != nullptr &&
      IsWorthARelease(*from, world_.now_ns())) {
    ReleaseUnusedStack(*from);
  }
  const StaticScope::State statics = StaticScope::Suspend();
  ExecutionContext::Switch(from == nullptr ? main_ : from->context,
                           to == nullptr ? main_ : to->context, for_good);
  StaticScope::Resume(statics);
}

Fiber* Scheduler::PickNext(Site& site) {
  for (;;) {
    if (stopped_) return nullptr;
    if (num_points_ > world_.options().max_points) {
      world_.Fail("progress", "the run makes no progress: too many points");
      return nullptr;
    }
    if (!ready_.empty()) return TakeReady(site);
    in_event_ = true;
    const bool more = world_.DeliverNextEvents();
    in_event_ = false;
    if (!more) return nullptr;
  }
}

Fiber* Scheduler::TakeReady(Site& site) {
  const size_t index = ready_.size() == 1 ? 0 : Choose(site);
  Fiber* const fiber = ready_[index];
  if (index == 0) {
    ready_.pop_front();
  } else {
    ready_.erase(ready_.begin() + static_cast<std::ptrdiff_t>(index));
  }
  return fiber;
}

size_t Scheduler::Choose(Site& site) {
  Decisions& decisions = world_.decisions();
  size_t index = 0;
  if (decisions.replaying()) {
    const auto wanted = decisions.Recorded(site, DecisionKind::kNext);
    if (!wanted) return 0;
    for (size_t i = 0; i < ready_.size(); ++i) {
      if (ready_[i]->label_hash == *wanted) return i;
    }
    decisions.Mismatch(site, DecisionKind::kNext);
    return 0;
  }
  switch (options_.policy) {
    case Policy::kCooperative:
      return 0;
    case Policy::kRandom:
      decisions.CountMade();
      index = Below(Bits(site, DecisionKind::kNext), ready_.size());
      break;
    case Policy::kPct:
      decisions.CountMade();
      for (size_t i = 1; i < ready_.size(); ++i) {
        if (ready_[i]->priority > ready_[index]->priority) index = i;
      }
      break;
  }
  if (index != 0) {
    decisions.Keep(site, DecisionKind::kNext, ready_[index]->label_hash,
                   ready_[index]->label);
  }
  return index;
}

void Scheduler::Abandon(Node& node) {
  for (Fiber* fiber : node.fibers) {
    if (fiber->state == FiberState::kDone) continue;
    if (!fiber->daemon) --num_unfinished_;
    fiber->state = FiberState::kDead;
  }
  std::erase_if(ready_,
                [](Fiber* fiber) { return fiber->state == FiberState::kDead; });
  node.paused_ready.clear();
  if (interposition != nullptr) interposition->node_crashed(node);
  if (current() != nullptr && current_->node == &node) {
    Site& site = current_->sites.At(crash_);
    site.Visit();
    SwitchAway(site, /*for_good=*/true);
  }
}

void Scheduler::Pause(Node& node) {
  if (node.paused) return;
  node.paused = true;
  std::erase_if(ready_, [&node](Fiber* fiber) {
    if (fiber->node != &node) return false;
    node.paused_ready.push_back(fiber);
    return true;
  });
  if (current() != nullptr && current_->node == &node) {
    Site& site = current_->sites.At(pause_);
    site.Visit();
    MakeReady(current_);
    SwitchAway(site);
  }
}

void Scheduler::Resume(Node& node) {
  if (!node.paused) return;
  node.paused = false;
  for (Fiber* fiber : node.paused_ready) ready_.push_back(fiber);
  node.paused_ready.clear();
}

}  // namespace reprise
