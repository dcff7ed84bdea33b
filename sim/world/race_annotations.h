// What ThreadSanitizer is told of a simulated run, so that it reports the races
// of the code under test and nothing else. Everything here is empty in builds
// without TSan.
//
// In a build with TSan every thread of a world is an OS thread, of which one
// runs at a time. TSan does not see the baton go from one to the next, as the
// order of threads in one run orders nothing in the next. Hence
//  1. what does order threads (a lock, the start of a thread, a message) is
//     announced by the code that simulates it: `AnnounceRelease` before the
//     hand-over, and `AnnounceAcquire` of the same address after it;
//  2. what the simulator keeps for itself, and only the baton protects, is
//     accessed in the scope of an `InSimulator`. Every function by which code
//     under test enters the simulator begins with one, and the simulator calls
//     back in the scope of an `OutOfSimulator`.
//
// A lock that is taken by the real function, such as `pthread_mutex_trylock`,
// needs no announcement: TSan sees it. All of this may be called by any thread.

#ifndef REPRISE_SIM_WORLD_RACE_ANNOTATIONS_H_
#define REPRISE_SIM_WORLD_RACE_ANNOTATIONS_H_

#if defined(__SANITIZE_THREAD__)
#define REPRISE_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define REPRISE_TSAN 1
#endif
#endif

#ifdef REPRISE_TSAN
extern "C" {
// NOLINTBEGIN(bugprone-reserved-identifier): TSan's names
void __tsan_acquire(void* address);
void __tsan_release(void* address);
void __tsan_ignore_thread_begin();
void __tsan_ignore_thread_end();
void AnnotateIgnoreSyncBegin(const char* file, int line);
void AnnotateIgnoreSyncEnd(const char* file, int line);
// NOLINTEND(bugprone-reserved-identifier)
}
#endif

namespace reprise {

#ifdef REPRISE_TSAN

inline constexpr bool kHasTsan = true;

// What this thread has done so far happens before all that follows an
// `AnnounceAcquire` of the same address. The address stands for the lock, the
// thread, the queue; it is not accessed.
inline void AnnounceRelease(const void* sync) {
  __tsan_release(const_cast<void*>(sync));
}
inline void AnnounceAcquire(const void* sync) {
  __tsan_acquire(const_cast<void*>(sync));
}

// While it exists, TSan takes no note of what this thread reads and writes,
// `memcpy` and the like among it. Locks, atomics and announcements count as
// ever. Scopes may be nested in any way, and the thread may lose the baton in
// them.
class InSimulator {
 public:
  InSimulator() {
    __tsan_ignore_thread_begin();
    ++depth;
  }
  InSimulator(const InSimulator&) = delete;
  InSimulator& operator=(const InSimulator&) = delete;
  ~InSimulator() {
    __tsan_ignore_thread_end();
    --depth;
  }

 private:
  friend class OutOfSimulator;
  static inline thread_local constinit int depth = 0;
};

// While it exists, TSan takes note again, whatever is around it.
class OutOfSimulator {
 public:
  OutOfSimulator() : depth_(InSimulator::depth) { SetDepth(0); }
  OutOfSimulator(const OutOfSimulator&) = delete;
  OutOfSimulator& operator=(const OutOfSimulator&) = delete;
  ~OutOfSimulator() { SetDepth(depth_); }

 private:
  friend void LeaveSimulator();
  static void SetDepth(int depth) {
    for (; InSimulator::depth < depth; ++InSimulator::depth) {
      __tsan_ignore_thread_begin();
    }
    for (; InSimulator::depth > depth; --InSimulator::depth) {
      __tsan_ignore_thread_end();
    }
  }

  const int depth_;
};

// For a thread that leaves all scopes at once and ends.
inline void LeaveSimulator() { OutOfSimulator::SetDepth(0); }

// While it exists, nothing that this thread does orders it after another or
// another after it.
class UnseenSync {
 public:
  UnseenSync() { AnnotateIgnoreSyncBegin(__FILE__, __LINE__); }
  UnseenSync(const UnseenSync&) = delete;
  UnseenSync& operator=(const UnseenSync&) = delete;
  ~UnseenSync() { AnnotateIgnoreSyncEnd(__FILE__, __LINE__); }
};

#else

inline constexpr bool kHasTsan = false;

inline void AnnounceRelease(const void* /*sync*/) {}
inline void AnnounceAcquire(const void* /*sync*/) {}

class InSimulator {
 public:
  InSimulator() {}
  InSimulator(const InSimulator&) = delete;
  InSimulator& operator=(const InSimulator&) = delete;
};

class OutOfSimulator {
 public:
  OutOfSimulator() {}
  OutOfSimulator(const OutOfSimulator&) = delete;
  OutOfSimulator& operator=(const OutOfSimulator&) = delete;
};

inline void LeaveSimulator() {}

class UnseenSync {
 public:
  UnseenSync() {}
  UnseenSync(const UnseenSync&) = delete;
  UnseenSync& operator=(const UnseenSync&) = delete;
};

#endif

}  // namespace reprise

#endif  // REPRISE_SIM_WORLD_RACE_ANNOTATIONS_H_
