#include "sim/world/leak_watch.h"

#include <array>
#include <atomic>

#include "sim/world/world.h"

namespace reprise {
namespace {

struct Slot {
  std::atomic<uint8_t> kind_plus_one{0};  // 0: free
  std::atomic<const void*> caller{nullptr};
  std::atomic<int64_t> count{0};
};

std::atomic<bool> g_is_on = false;
std::array<Slot, 64> g_slots;

bool IsInWorld() {
  World* const world = World::Current();
  return world != nullptr && world->scheduler().current() != nullptr;
}

}  // namespace

std::string_view ToString(LeakKind kind) {
  switch (kind) {
    case LeakKind::kAddress:
      return "address";
    case LeakKind::kClock:
      return "clock";
    case LeakKind::kRandom:
      return "random";
    case LeakKind::kStatic:
      return "static";
    case LeakKind::kThread:
      return "thread";
  }
  return "?";
}

void NoteLeak(LeakKind kind, const void* caller) {
  if (!g_is_on.load(std::memory_order_relaxed) || !IsInWorld()) return;
  const auto wanted = static_cast<uint8_t>(static_cast<int>(kind) + 1);
  for (Slot& slot : g_slots) {
    uint8_t free = 0;
    if (slot.kind_plus_one.compare_exchange_strong(free, wanted)) {
      slot.caller = caller;
      slot.count = 1;
      return;
    }
    if (free == wanted && slot.caller == caller) {
      ++slot.count;
      return;
    }
  }
}

LeakWatch::LeakWatch() {
  for (Slot& slot : g_slots) slot.kind_plus_one = 0;
  g_is_on = true;
}

LeakWatch::~LeakWatch() { g_is_on = false; }

bool LeakWatch::IsOn() { return g_is_on; }

std::vector<Leak> LeakWatch::leaks() const {
  std::vector<Leak> leaks;
  for (const Slot& slot : g_slots) {
    const uint8_t kind = slot.kind_plus_one;
    if (kind == 0) break;
    leaks.push_back({static_cast<LeakKind>(kind - 1), slot.caller, slot.count});
  }
  return leaks;
}

}  // namespace reprise
