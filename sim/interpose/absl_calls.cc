// What of libabsl is not caught beneath it: an uncontended absl::Mutex is taken
// without a system call, the time is read from the processor's counter, and
// random generators are seeded from a pool of the process.
//
// The definitions stand in front of Debian's, as the executable's come first.

#include <string_view>

#include "absl/base/config.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "sim/interpose/interposed_world.h"
#include "sim/interpose/reader_races.h"
#include "sim/interpose/real.h"
#include "sim/world/race_annotations.h"

#define REPRISE_STRING2(text) #text
#define REPRISE_STRING(text) REPRISE_STRING2(text)
// The mangled names below have it.
static_assert(std::string_view(REPRISE_STRING(
                  ABSL_OPTION_INLINE_NAMESPACE_NAME)) == "debian3");

namespace reprise::interpose {
namespace {

constinit Real real_now("_ZN4absl7debian33NowEv");
constinit Real real_nanos("_ZN4absl7debian319GetCurrentTimeNanosEv");
constinit Real real_lock("_ZN4absl7debian35Mutex4LockEv");
constinit Real real_try_lock("_ZN4absl7debian35Mutex7TryLockEv");
constinit Real real_reader_lock("_ZN4absl7debian35Mutex10ReaderLockEv");
constinit Real real_reader_try_lock("_ZN4absl7debian35Mutex13ReaderTryLockEv");
constinit Real real_fill(
    "_ZN4absl7debian315random_internal10RandenPoolIhE4FillENS0_4SpanIhEE");

void PointAtLock(const void* return_address) {
  World* const world = WorldOfCaller();
  if (world == nullptr) return;
  const InSimulator in_simulator;
  const CodePlace& place = ImmediatePlace(*world, return_address);
  if (place.kind == PlaceKind::kQuiet || place.in_shared_library) return;
  Point(*world, SiteOfCall(*world, Verb::kLock, return_address));
}

void Call(Real& function, absl::Mutex* mutex) {
  reinterpret_cast<void (*)(absl::Mutex*)>(function.get())(mutex);
}

bool Try(Real& function, absl::Mutex* mutex) {
  return reinterpret_cast<bool (*)(absl::Mutex*)>(function.get())(mutex);
}

}  // namespace

// absl::random_internal::RandenPool<unsigned char>::Fill: the span comes as its
// address and its length.
void FillSeed(unsigned char* bytes, size_t size) asm(
    "_ZN4absl7debian315random_internal10RandenPoolIhE4FillENS0_4SpanIhEE");

void FillSeed(unsigned char* bytes, size_t size) {
  World* const world = WorldOfCaller();
  if (world == nullptr) {
    reinterpret_cast<void (*)(unsigned char*, size_t)>(real_fill.get())(bytes,
                                                                        size);
    return;
  }
  FillRandom(*world, bytes, size);
}

}  // namespace reprise::interpose

namespace absl {
ABSL_NAMESPACE_BEGIN

using reprise::interpose::ClockNow;
using reprise::interpose::PointAtLock;
using reprise::interpose::WorldOfCaller;

int64_t GetCurrentTimeNanos() {
  if (reprise::World* const world = WorldOfCaller()) {
    return ClockNow(*world, CLOCK_REALTIME);
  }
  return reinterpret_cast<int64_t (*)()>(
      reprise::interpose::real_nanos.get())();
}

Time Now() {
  if (reprise::World* const world = WorldOfCaller()) {
    return FromUnixNanos(ClockNow(*world, CLOCK_REALTIME));
  }
  return reinterpret_cast<Time (*)()>(reprise::interpose::real_now.get())();
}

void Mutex::Lock() {
  reprise::interpose::PointAtLock(__builtin_return_address(0));
  reprise::interpose::Call(reprise::interpose::real_lock, this);
  reprise::interpose::AnnounceAcquireOf(this);
}

bool Mutex::TryLock() {
  reprise::interpose::PointAtLock(__builtin_return_address(0));
  const bool holds =
      reprise::interpose::Try(reprise::interpose::real_try_lock, this);
  if (holds) reprise::interpose::AnnounceAcquireOf(this);
  return holds;
}

void Mutex::ReaderLock() {
  reprise::interpose::PointAtLock(__builtin_return_address(0));
  reprise::interpose::Call(reprise::interpose::real_reader_lock, this);
  reprise::interpose::AnnounceReaderAcquireOf(this);
}

bool Mutex::ReaderTryLock() {
  reprise::interpose::PointAtLock(__builtin_return_address(0));
  const bool holds =
      reprise::interpose::Try(reprise::interpose::real_reader_try_lock, this);
  if (holds) reprise::interpose::AnnounceReaderAcquireOf(this);
  return holds;
}

ABSL_NAMESPACE_END
}  // namespace absl
