#include "sim/world/world.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "sim/world/arena.h"
#include "sim/world/interposition.h"

namespace reprise {
namespace {

// Alarms come before everything else of the same time, in the order of the
// fibers' ids.
constexpr uint64_t kAlarmSource = 0;

absl::Time Epoch() { return absl::FromUnixSeconds(1'600'000'000); }

}  // namespace

std::string_view ToString(Outcome outcome) {
  switch (outcome) {
    case Outcome::kFinished:
      return "finished";
    case Outcome::kStopped:
      return "stopped";
    case Outcome::kDeadlock:
      return "deadlock";
    case Outcome::kTimeLimit:
      return "time limit";
  }
  return "?";
}

World::World(const WorldOptions& options)
    : options_(options),
      decisions_(options.seed, options.recording, options.keep_trace),
      io_(decisions_.PlaceAt("io")),
      trace_(options.keep_trace),
      scheduler_(*this, options.schedule) {}

World::~World() = default;

void World::Dispose(std::unique_ptr<World> world) {
  if (world->clean_) return;
  world->scheduler_.ReturnStacks();
  (void)world.release();
}

void World::RunOnThisThread() { running_ = this; }

Node& World::AddNode(int32_t rank, std::string name, int32_t incarnation) {
  auto node = std::make_unique<Node>();
  node->world = this;
  node->rank = rank;
  node->incarnation = incarnation;
  node->label =
      incarnation == 0 ? name : name + "+" + std::to_string(incarnation);
  node->name = std::move(name);
  NodeClock& clock = clocks_[rank];
  clock.Start(now_ns_);
  node->clock = &clock;
  node->clock_offset_ns = clock.offset_ns();
  nodes_.push_back(std::move(node));
  return *nodes_.back();
}

Outcome World::Run() {
  const InSimulator in;
  World* const outer = std::exchange(running_, this);
  if (interposition != nullptr) interposition->run_begins(*this);
  scheduler_.Run();
  if (interposition != nullptr) interposition->run_ends(*this);
  running_ = outer;
  const Outcome outcome = Judge();
  if (outcome == Outcome::kDeadlock || outcome == Outcome::kTimeLimit) {
    Fail(outcome == Outcome::kDeadlock ? "deadlock" : "time-limit",
         absl::StrJoin(DescribeFibers(), "; "));
  }
  pending_statics_.ReleaseAll();
  if (outcome != Outcome::kFinished) AbandonFibers();
  return outcome;
}

Outcome World::Judge() const {
  if (!failed_rule_.empty()) return Outcome::kStopped;
  if (over_limit_) return Outcome::kTimeLimit;
  return scheduler_.num_unfinished() == 0 ? Outcome::kFinished
                                          : Outcome::kDeadlock;
}

absl::Time World::Now() const {
  const InSimulator in;
  return Epoch() + absl::Nanoseconds(now_ns_);
}

absl::Time Node::Now() const {
  const InSimulator in;
  return Epoch() +
         absl::Nanoseconds(clock->Steady(world->now_ns()) + clock_offset_ns);
}

int64_t Node::ToNanoseconds(absl::Time time) const {
  const InSimulator in;
  if (time == absl::InfiniteFuture()) return Scheduler::kNever;
  return clock->WorldAt(
      World::ToNanoseconds(time - absl::Nanoseconds(clock_offset_ns)));
}

int64_t World::ToNanoseconds(absl::Time time) {
  if (time == absl::InfiniteFuture()) return Scheduler::kNever;
  const absl::Duration since = time - Epoch();
  const int64_t floor_ns = absl::ToInt64Nanoseconds(since);
  if (floor_ns == INT64_MAX) return Scheduler::kNever - 1;
  return absl::Nanoseconds(floor_ns) < since ? floor_ns + 1 : floor_ns;
}

void World::Push(Event event) {
  event.time_ns = std::max(event.time_ns, now_ns_);
  events_.push_back(event);
  std::push_heap(events_.begin(), events_.end(), Later());
}

void World::Schedule(int64_t time_ns, EventOrder order, EventKeep keep,
                     absl::AnyInvocable<void()> event) {
  const InSimulator in;
  uint32_t slot = 0;
  if (free_calls_.empty()) {
    slot = static_cast<uint32_t>(calls_.size());
    calls_.push_back(std::move(event));
  } else {
    slot = free_calls_.back();
    free_calls_.pop_back();
    calls_[slot] = std::move(event);
  }
  Push({time_ns, {order.source + 1, order.number}, nullptr, 0, slot, keep});
}

void World::SetAlarm(int64_t time_ns, Fiber& fiber) {
  Push({time_ns, {kAlarmSource, fiber.id}, &fiber, fiber.wait_count, 0});
}

bool World::DeliverNextEvents() {
  bool delivered = false;
  while (!events_.empty()) {
    const Event event = events_.front();
    if (event.fiber != nullptr &&
        scheduler_.IsAlarmStale(event.fiber, event.wait_count)) {
      std::pop_heap(events_.begin(), events_.end(), Later());
      events_.pop_back();
      continue;  // A stale alarm must not move the clock.
    }
    if (event.keep == EventKeep::kIfRunning && IsOver()) {
      std::pop_heap(events_.begin(), events_.end(), Later());
      events_.pop_back();
      calls_[event.slot] = nullptr;
      free_calls_.push_back(event.slot);
      continue;
    }
    if (delivered && event.time_ns != now_ns_) break;
    if (event.time_ns > options_.max_time_ns && !IsOver()) {
      over_limit_ = true;
      return false;
    }
    std::pop_heap(events_.begin(), events_.end(), Later());
    events_.pop_back();
    now_ns_ = event.time_ns;
    delivered = true;
    if (event.fiber != nullptr) {
      scheduler_.Alarm(event.fiber, event.wait_count);
    } else {
      absl::AnyInvocable<void()> call = std::move(calls_[event.slot]);
      free_calls_.push_back(event.slot);
      if (event.keep == EventKeep::kRestart) --restarts_to_come_;
      call();
    }
    if (scheduler_.stopped()) return false;
  }
  return delivered;
}

void World::PostIo(Node& node, absl::AnyInvocable<void()> work) {
  const InSimulator in;
  if (!node.alive) return;
  node.io_work.push_back(std::move(work));
  if (node.io == nullptr) {
    node.io = scheduler_.Start(
        node, "io",
        [this, &node] {
          const InSimulator in;
          for (;;) {
            while (!node.io_work.empty()) {
              absl::AnyInvocable<void()> next = std::move(node.io_work.front());
              node.io_work.pop_front();
              next();
            }
            node.io_waits = true;
            Site& site = node.io->sites.At(io_);
            site.Visit();
            scheduler_.Block(site, {"waits for", "the network"},
                             Scheduler::kNever);
          }
        },
        /*daemon=*/true);
  } else if (node.io_waits) {
    node.io_waits = false;
    scheduler_.Wake(node.io);
  }
}

void World::BeginSection(const EventDetails& details) {
  Fiber* const fiber = scheduler_.current();
  if (fiber == nullptr) return;
  switch (details.kind) {
    case EventKind::kCallStarted: {
      std::string who = absl::StrCat("w", details.rank);
      if (!details.text.empty()) who.append(" ").append(details.text);
      fiber->sites.BeginNext(SectionKind::kCall, who);
      break;
    }
    case EventKind::kCallCompleted:
      fiber->sites.Begin(SectionKind::kCompleted,
                         absl::StrCat("w", details.rank), details.id);
      break;
    case EventKind::kRequest:
      fiber->sites.Begin(SectionKind::kRequest, details.text, details.id);
      break;
    case EventKind::kReply:
      fiber->sites.Begin(SectionKind::kReply, details.text, details.id);
      break;
    default:
      break;
  }
}

void World::Fail(std::string_view rule, std::string_view detail) {
  const InSimulator in;
  if (!failed_rule_.empty()) return;
  failed_rule_ = std::string(rule);
  failed_detail_ = std::string(detail);
  scheduler_.Stop();
}

void World::Crash(Node& node, NodeDeath death) {
  const InSimulator in;
  if (!node.alive) return;
  node.alive = false;
  node.death = death;
  AbandonFibers();
  Record(&node, {.kind = EventKind::kCrash,
                 .incarnation = node.incarnation,
                 .death = death});
  for (const auto& watcher : crash_watchers_) watcher(node);
  pending_statics_.ReleaseOf(node);
  scheduler_.Abandon(node);
}

void World::AbandonFibers() {
  clean_ = false;
  ExpectLostObjects();
}

void World::Pause(Node& node) {
  const InSimulator in;
  scheduler_.Pause(node);
}

void World::Resume(Node& node) {
  const InSimulator in;
  scheduler_.Resume(node);
}

std::vector<std::string> World::DescribeFibers() const {
  std::vector<std::string> lines;
  for (const auto& fiber : scheduler_.fibers()) {
    if (fiber->daemon || fiber->state == FiberState::kDone ||
        fiber->state == FiberState::kDead) {
      continue;
    }
    if (fiber->state != FiberState::kBlocked) {
      lines.push_back(absl::StrCat(fiber->label, " can run"));
      continue;
    }
    std::string line = absl::StrCat(
        fiber->label, " ", fiber->waiting.verb, " ",
        std::string(fiber->waiting.name.data(), fiber->waiting.name.size()));
    if (fiber->waiting.holder != nullptr && *fiber->waiting.holder != nullptr) {
      absl::StrAppend(&line, ", held by ",
                      static_cast<const Fiber*>(*fiber->waiting.holder)->label);
    }
    if (fiber->wake_ns != Scheduler::kNever) {
      absl::StrAppendFormat(&line, ", until %.9f s",
                            static_cast<double>(fiber->wake_ns) * 1e-9);
    }
    lines.push_back(std::move(line));
  }
  return lines;
}

}  // namespace reprise
