#include "sim/interpose/node_runtime.h"

#include <map>
#include <string>
#include <utility>

#include "agent/runtime/mutex.h"
#include "agent/runtime/real_runtime.h"
#include "sim/interpose/interposed_world.h"
#include "sim/interpose/mutexes.h"
#include "sim/world/race_annotations.h"

namespace reprise {
namespace {

using interpose::CallSite;
using interpose::CodePlace;
using interpose::NamedCall;
using interpose::Verb;

// The name of a lock, a condition variable or a thread, as a place.
struct Name {
  const Place* place = nullptr;
  CodePlace code;
};

Name MakeName(const Place& place, std::string text) {
  Name name;
  name.place = &place;
  name.code.kind = interpose::PlaceKind::kUser;
  name.code.is_name = true;
  name.code.function = text;
  name.code.where = std::move(text);
  return name;
}

CallSite SiteOf(World& world, const Name& name) {
  return {&interpose::Self(world).sites.At(*name.place), &name.code};
}

// While one exists, the running fiber is doing this. On no fiber, such as when
// a run is taken down, it does nothing.
class NamedScope {
 public:
  NamedScope(World& world, Verb verb, const Name& name,
             const Name* lock = nullptr)
      : fiber_(world.scheduler().current()) {
    if (fiber_ == nullptr) return;
    const InSimulator in;
    call_ = {verb, SiteOf(world, name),
             lock == nullptr ? CallSite() : SiteOf(world, *lock)};
    interpose::ThreadOf(*fiber_).named = &call_;
  }
  NamedScope(const NamedScope&) = delete;
  NamedScope& operator=(const NamedScope&) = delete;
  ~NamedScope() {
    if (fiber_ == nullptr) return;
    const InSimulator in;
    fiber_->interposed->named = nullptr;
  }

 private:
  Fiber* const fiber_;
  NamedCall call_ = {};
};

class NodeThread final : public Thread {
 public:
  NodeThread(World& world, const Name& join, std::unique_ptr<Thread> real)
      : world_(world), join_(join), real_(std::move(real)) {}

  void Join() override {
    const NamedScope scope(world_, Verb::kJoin, join_);
    real_->Join();
  }
  void Detach() override { real_->Detach(); }

 private:
  World& world_;
  const Name& join_;
  const std::unique_ptr<Thread> real_;
};

class NodeRuntime final : public OsRuntime {
 public:
  NodeRuntime(World& world, Node& node)
      : OsRuntime({.time = node.Now(),
                   .steady_ns = interpose::SteadyNow(node),
                   .random_bits = 0}),
        world_(world),
        node_(node),
        sleep_(MakeName(world.decisions().PlaceAt("sleep"), "")),
        join_(MakeName(world.decisions().PlaceAt("join"), "")),
        random_(world.decisions().PlaceAt("random")) {}

  void SleepUntil(absl::Time deadline) override {
    const NamedScope scope(world_, Verb::kSleep, sleep_);
    OsRuntime::SleepUntil(deadline);
  }

  std::unique_ptr<Thread> StartThread(
      std::string name, absl::AnyInvocable<void()> body) override {
    const Name start = NameOfStart(name);
    const NamedScope scope(world_, Verb::kStart, start);
    std::unique_ptr<Thread> real =
        OsRuntime::StartThread(std::move(name), std::move(body));
    if (real == nullptr) return nullptr;
    return std::make_unique<NodeThread>(world_, join_, std::move(real));
  }

  // As with `SimRuntime`, so that runs with either are alike, as are the draws.
  int yields_before_sleep() const override { return 0; }

  uint64_t RandomBits() override {
    const InSimulator in;
    Site& site = world_.scheduler().SiteHere(node_, random_);
    site.Visit();
    return site.Bits(DecisionKind::kLatency);
  }

  // The reserve is the process's, and all nodes share that.
  bool HasMemory() override {
    const InSimulator in;
    return !node_.memory.Strikes(world_.now_ns());
  }

 private:
  void Lock(Mutex& mutex) override {
    const Name& name = NameIn(mutex.slots().site, "lock", mutex.name());
    const NamedScope scope(world_, Verb::kLock, name);
    Point(name);
    OsRuntime::Lock(mutex);
    NoteWaiters(mutex);
  }

  bool Wait(CondVar& cond_var, Mutex& mutex, absl::Time deadline) override {
    const Name& lock = NameIn(mutex.slots().site, "lock", mutex.name());
    const NamedScope scope(
        world_, Verb::kWait,
        NameIn(cond_var.slots().site, "wait", cond_var.name()), &lock);
    const bool notified = OsRuntime::Wait(cond_var, mutex, deadline);
    NoteWaiters(mutex);
    return notified;
  }

  // A free mutex is anybody's who comes by. `SimRuntime` wakes the next fiber
  // that waits at each release, and so it is here.
  void NoteWaiters(Mutex& mutex) {
    const InSimulator in;
    if (world_.scheduler().current() == nullptr) return;
    interpose::NoteWaiters(world_, mutex.slots().native.native_handle());
  }

  Name NameOfStart(const std::string& thread) {
    const InSimulator in;
    return MakeName(world_.decisions().PlaceAt("start"), thread);
  }

  // Of what has this slot.
  const Name& NameIn(void*& slot, const char* verb, const char* text) {
    const InSimulator in;
    if (slot == nullptr) {
      const Place& place = world_.decisions().PlaceAt(verb, text);
      auto it = names_.find(&place);
      if (it == names_.end()) {
        it = names_.emplace(&place, MakeName(place, text)).first;
      }
      slot = &it->second;
    }
    return *static_cast<const Name*>(slot);
  }

  // The interposed functions have none where the agent locks.
  void Point(const Name& name) {
    const InSimulator in;
    if (world_.scheduler().current() == nullptr) return;
    world_.scheduler().MaybePreempt(*SiteOf(world_, name).site);
  }

  World& world_;
  Node& node_;
  const Name sleep_;
  const Name join_;
  const Place& random_;
  std::map<const Place*, Name> names_;  // looked up only
};

}  // namespace

std::unique_ptr<Runtime> MakeRealRuntimeOn(World& world, Node& node) {
  const InSimulator in;
  return std::make_unique<NodeRuntime>(world, node);
}

}  // namespace reprise
