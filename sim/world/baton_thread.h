// An OS thread that runs only while it holds the baton of its world.
//
// Each has a futex word. Whoever holds the baton hands it on by setting the
// word of the next, and waits on its own. ThreadSanitizer sees nothing of that
// (see race_annotations.h); to everything else, such as a debugger, `errno` and
// `thread_local`, it is a thread as any other.

#ifndef REPRISE_SIM_WORLD_BATON_THREAD_H_
#define REPRISE_SIM_WORLD_BATON_THREAD_H_

#include <pthread.h>

#include <cstdint>
#include <string>
#include <vector>

namespace reprise {

// All functions are called by the holder of the baton.
class BatonThread {
 public:
  // For the calling thread. It is never ended.
  BatonThread() = default;

  // Makes a thread that calls `entry(argument)`, which must not return, when it
  // first gets the baton. It allocates where its creator does. Its name is cut
  // to 15 characters. If the system has no thread to give, the process says so
  // and ends.
  BatonThread(const std::string& name, void (*entry)(void*), void* argument);

  BatonThread(const BatonThread&) = delete;
  BatonThread& operator=(const BatonThread&) = delete;

  // `End` must have been called.
  ~BatonThread();

  // Hands the baton from `from`, which calls this, to `to`. Returns when `from`
  // gets it again.
  static void Switch(BatonThread& from, BatonThread& to);

  // Destroys the `thread_local`s of the calling thread that it has made since
  // it began, as its end would. Does nothing on other threads.
  static void DestroyThreadLocals();

  // Ends a thread that will never get the baton again, and waits until it is
  // gone. Nothing on its stack is unwound and no `thread_local` is destroyed,
  // so it may stand anywhere.
  void End();

 private:
  friend struct ThreadLocals;
  enum Word : uint32_t { kWait, kGo, kEnd };
  struct Destructor {
    void (*function)(void*);
    void* object;
  };

  static void* Main(void* self);
  void Wait();
  void Give(Word word);

  uint32_t word_ = kWait;
  bool is_ended_ = true;
  pthread_t handle_ = {};
  void (*const entry_)(void*) = nullptr;
  void* const argument_ = nullptr;
  void* const arena_ = nullptr;
  char name_[16] = "";
  std::vector<Destructor> thread_locals_;
};

}  // namespace reprise

#endif  // REPRISE_SIM_WORLD_BATON_THREAD_H_
