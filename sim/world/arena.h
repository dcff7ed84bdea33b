// A heap of its own for each simulated run.
//
// A node that crashes is abandoned: its stacks are not unwound and its objects
// are not freed, as in a real crash. So that no memory is lost from run to run,
// everything that a run allocates with `operator new` comes from an arena of
// its OS thread, which is emptied after the run. The arena also counts the
// living allocations, which shows leaks, and can scatter addresses, which shows
// code whose behaviour depends on them.
//
// The sanitizers bring their own heap, so there is no arena in their builds
// (`kHasArena`). There the memory of abandoned objects is lost, and
// LeakSanitizer is told to expect that.

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

// While an ArenaScope exists, `operator new` on this OS thread allocates from
// the thread's arena. Objects made meanwhile must not be used after it. A
// function-local static is made outside of it (static_guard.h).
class ArenaScope {
 public:
  // `scatter` other than 0 is the seed by which addresses are shuffled.
  // `poison`: what is freed is overwritten, so that code that still uses it
  // fails as it would in the worst case.
  explicit ArenaScope(uint64_t scatter = 0, bool poison = false);
  ArenaScope(const ArenaScope&) = delete;
  ArenaScope& operator=(const ArenaScope&) = delete;
  ~ArenaScope();

  // The number of allocations that were made in this scope and not freed. It
  // is 0 in builds without an arena.
  int64_t live_allocations() const;
};

// While an ArenaPause exists, `operator new` on this OS thread is the ordinary
// one. For results that outlive the arena.
class ArenaPause {
 public:
  ArenaPause();
  ArenaPause(const ArenaPause&) = delete;
  ArenaPause& operator=(const ArenaPause&) = delete;
  ~ArenaPause();

 private:
  void* const paused_;
};

// Makes `arena` the one that allocates on this OS thread, and returns the one
// that did so before; null: the ordinary heap. For code that knows which run it
// belongs to, such as a switch of stacks.
void* ExchangeActiveArena(void* arena);

// Tells LeakSanitizer that from now on this process has objects that are never
// freed, so that it does not report them when the process ends. A run in which
// nothing was abandoned checks itself for leaks.
void ExpectLostObjects();

// Whether LeakSanitizer finds memory that is lost, unless some is expected to
// be. It then writes a report. False in builds without it.
bool HasLostMemory();

}  // namespace reprise

#endif  // REPRISE_SIM_WORLD_ARENA_H_
