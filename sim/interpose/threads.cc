// pthread_create, join, detach, exit: std::thread, jthread and async.
//
// A thread is a fiber of the node whose fiber starts it. It is named after the
// function that starts it, "w0/thread:Serve", or as the agent's runtime names
// it. Its handle is a constant plus the fiber's number, so that ids that are
// printed or hashed are the same in every run of the seed. libc must never see
// such a handle: see thread_ids.cc.

#include <pthread.h>
#include <unwind.h>

#include <cerrno>
#include <csetjmp>
#include <exception>

#include "absl/strings/str_cat.h"
#include "sim/interpose/interposed_world.h"
#include "sim/interpose/real.h"
#include "sim/interpose/thread_ids.h"
#include "sim/world/race_annotations.h"

namespace reprise::interpose {
namespace {

// Where pthread_exit goes to.
struct ThreadExit {
  std::jmp_buf buffer;
  uintptr_t frame = 0;  // of the function that called the thread's
  _Unwind_Exception exception{};
};

// pthread_exit unwinds the stack, as libc does it: destructors run, and
// `catch (...)` must throw on.
_Unwind_Reason_Code UnwindUpTo(int /*version*/, _Unwind_Action actions,
                               _Unwind_Exception_Class /*exception_class*/,
                               _Unwind_Exception* /*exception*/,
                               _Unwind_Context* context, void* data) {
  auto* const exit = static_cast<ThreadExit*>(data);
  if ((actions & _UA_END_OF_STACK) != 0 ||
      _Unwind_GetCFA(context) > exit->frame) {
    std::longjmp(exit->buffer, 1);  // NOLINT(cert-err52-cpp)
  }
  return _URC_NO_REASON;
}

__attribute__((noinline)) void* RunThread(InterposedThread& thread,
                                          void* (*function)(void*),
                                          void* argument) {
  ThreadExit exit;
  exit.frame = reinterpret_cast<uintptr_t>(__builtin_frame_address(0));
  thread.exit = &exit;
  if (setjmp(exit.buffer) != 0) return thread.result;  // NOLINT(cert-err52-cpp)
  return function(argument);
}

Fiber* StartFiber(World& world, const CallSite& call, bool detached,
                  void* (*function)(void*), void* argument) {
  const std::string name =
      call.place->is_name
          ? call.place->function
          : absl::StrCat("thread:",
                         call.is_user() ? call.place->function : "library");
  Fiber* const fiber = world.scheduler().Start(
      *Self(world).node, name, [&world, function, argument] {
        Fiber& self = Self(world);
        AnnounceAcquire(&self);
        InterposedThread& thread = ThreadOf(self);
        const OutOfSimulator out_of_simulator;
        thread.result = RunThread(thread, function, argument);
      });
  ThreadOf(*fiber).is_thread = true;
  if (detached) NoteDetached(world, *fiber);
  return fiber;
}

int Join(World& world, pthread_t handle, void** result, int64_t deadline_ns,
         const void* return_address) {
  const InSimulator in_simulator;
  Fiber* const fiber = FiberOf(world, handle);
  if (fiber == nullptr) return ESRCH;
  Fiber& self = Self(world);
  if (fiber == &self) return EDEADLK;
  InterposedThread& thread = ThreadOf(*fiber);
  if (thread.detached || thread.joined) return EINVAL;
  const CallSite call = SiteOfCall(world, Verb::kJoin, return_address);
  Point(world, call);
  while (fiber->state != FiberState::kDone) {
    if (deadline_ns <= world.now_ns()) return ETIMEDOUT;
    const KeepErrno keep_errno;
    fiber->joiner = &self;
    if (!world.scheduler().Block(*call.site, {"joins", fiber->label},
                                 deadline_ns)) {
      fiber->joiner = nullptr;
      return ETIMEDOUT;
    }
  }
  AnnounceAcquire(fiber);
  thread.joined = true;
  if (result != nullptr) *result = thread.result;
  return 0;
}

}  // namespace

Fiber* FiberOf(World& world, pthread_t handle) {
  const auto& fibers = world.scheduler().fibers();
  const uint64_t id = handle - kFirstHandle;
  return id >= 1 && id <= fibers.size() ? fibers[id - 1].get() : nullptr;
}

}  // namespace reprise::interpose

using reprise::Fiber;
using reprise::FiberState;
using reprise::Scheduler;
using reprise::World;
using namespace reprise::interpose;  // NOLINT(google-build-using-namespace)

extern "C" {

int pthread_create(pthread_t* handle, const pthread_attr_t* attributes,
                   void* (*function)(void*), void* argument) noexcept {
  World* const world = WorldOfCaller();
  if (world == nullptr) {
    return REPRISE_REAL(pthread_create)(handle, attributes, function, argument);
  }
  const reprise::InSimulator in_simulator;
  if (Self(*world).node->threads.Strikes(world->now_ns())) return EAGAIN;
  int state = PTHREAD_CREATE_JOINABLE;
  if (attributes != nullptr) pthread_attr_getdetachstate(attributes, &state);
  const CallSite call =
      SiteOfCall(*world, Verb::kStart, __builtin_return_address(0));
  Fiber* const fiber = StartFiber(
      *world, call, state == PTHREAD_CREATE_DETACHED, function, argument);
  reprise::AnnounceRelease(fiber);
  *handle = HandleOf(*fiber);
  Point(*world, call);
  return 0;
}

int pthread_join(pthread_t handle, void** result) {
  World* const world = WorldOfCaller();
  if (world == nullptr) return REPRISE_REAL(pthread_join)(handle, result);
  return Join(*world, handle, result, Scheduler::kNever,
              __builtin_return_address(0));
}

int pthread_tryjoin_np(pthread_t handle, void** result) noexcept {
  World* const world = WorldOfCaller();
  if (world == nullptr) return REPRISE_REAL(pthread_tryjoin_np)(handle, result);
  const int error = Join(*world, handle, result, /*deadline_ns=*/0,
                         __builtin_return_address(0));
  return error == ETIMEDOUT ? EBUSY : error;
}

int pthread_timedjoin_np(pthread_t handle, void** result,
                         const timespec* deadline) {
  World* const world = WorldOfCaller();
  if (world == nullptr) {
    return REPRISE_REAL(pthread_timedjoin_np)(handle, result, deadline);
  }
  return Join(*world, handle, result, DeadlineOn(CLOCK_REALTIME, deadline),
              __builtin_return_address(0));
}

int pthread_clockjoin_np(pthread_t handle, void** result, clockid_t clock,
                         const timespec* deadline) {
  World* const world = WorldOfCaller();
  if (world == nullptr) {
    return REPRISE_REAL(pthread_clockjoin_np)(handle, result, clock, deadline);
  }
  return Join(*world, handle, result, DeadlineOn(clock, deadline),
              __builtin_return_address(0));
}

int pthread_detach(pthread_t handle) noexcept {
  World* const world = WorldOfCaller();
  if (world == nullptr) return REPRISE_REAL(pthread_detach)(handle);
  Fiber* const fiber = FiberOf(*world, handle);
  if (fiber == nullptr) return ESRCH;
  NoteDetached(*world, *fiber);
  return 0;
}

void pthread_exit(void* result) {
  World* const world = WorldOfCaller();
  if (world == nullptr) {
    REPRISE_REAL(pthread_exit)(result);
    __builtin_unreachable();
  }
  reprise::InterposedThread& thread = ThreadOf(Self(*world));
  if (thread.exit == nullptr) {
    FailCall(*world, __builtin_return_address(0),
             "pthread_exit of a thread that pthread_create did not start",
             "return from the function instead");
  }
  thread.result = result;
  auto* const exit = static_cast<ThreadExit*>(thread.exit);
  exit->exception.exception_cleanup = [](_Unwind_Reason_Code,
                                         _Unwind_Exception*) {
    std::terminate();  // A `catch (...)` did not throw on.
  };
  _Unwind_ForcedUnwind(&exit->exception, &UnwindUpTo, exit);
  std::terminate();
}

}  // extern "C"
