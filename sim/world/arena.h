// A heap per simulated run.
//
// A node that crashes is abandoned where it stands: nobody unwinds its stacks
// or frees its objects, as in a real crash. So that it leaks nothing into the
// next run, everything that a run allocates with `operator new` comes from an
// arena of its OS thread, which is emptied afterwards. The arena also counts
// what is alive, which shows leaks, and can scatter addresses, which shows code
// whose behaviour depends on them.
//
// Compiled out under the sanitizers, which bring their own heap: `kHasArena`.
// There what is abandoned is lost, and LeakSanitizer is told so.

#ifndef REPRISE_SIM_WORLD_ARENA_H_
#define REPRISE_SIM_WORLD_ARENA_H_

#include <cstddef>
#include <cstdint>

namespace reprise {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool kHasArena = false;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
inline constexpr bool kHasArena = false;
#else
inline constexpr bool kHasArena = true;
#endif
#else
inline constexpr bool kHasArena = true;
#endif

// While one lives, `operator new` on this OS thread allocates from the
// thread's arena. Objects made inside must not be used once it is gone. Static
// objects must not be made inside: warm them up in a run without a scope.
class ArenaScope {
 public:
  // With `scatter` not 0, addresses are shuffled by it.
  explicit ArenaScope(uint64_t scatter = 0);
  ArenaScope(const ArenaScope&) = delete;
  ArenaScope& operator=(const ArenaScope&) = delete;
  ~ArenaScope();

  // Allocations made inside and not freed. 0 where there is no arena.
  int64_t live_allocations() const;
};

// While one lives, `operator new` on this OS thread is the ordinary one.
class ArenaPause {
 public:
  ArenaPause();
  ArenaPause(const ArenaPause&) = delete;
  ArenaPause& operator=(const ArenaPause&) = delete;
  ~ArenaPause();

 private:
  void* const paused_;
};

// From now on this process has objects that nobody will ever free: a leak
// check at its end would find nothing else. Runs in which nothing was abandoned
// are checked by themselves.
void ExpectLostObjects();

}  // namespace reprise

#endif  // REPRISE_SIM_WORLD_ARENA_H_
