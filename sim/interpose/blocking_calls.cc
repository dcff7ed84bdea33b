// Calls that would block the OS thread of all fibers, or that arrive from the
// machine's own time. A world cannot answer them, so the code under test fails
// the run with their name and place. Reads that are ready, and descriptors that
// do not block, are left to libc.

#include <fcntl.h>
#include <poll.h>
#include <signal.h>  // NOLINT(modernize-deprecated-headers): timer_create
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <ctime>

#include "sim/interpose/interposed_world.h"
#include "sim/interpose/real.h"

namespace reprise::interpose {
namespace {

constexpr const char kPollFirst[] =
    "make the descriptor non-blocking, and wait for it with poll or epoll_wait";
constexpr const char kTimers[] =
    "use a thread that sleeps, or a condition variable with a time-out";
constexpr const char kProcesses[] =
    "start no processes from code that runs in a world";

// The world, if the code under test calls.
World* WorldOfUser(const void* return_address) {
  World* const world = WorldOfCaller();
  if (world == nullptr) return nullptr;
  const CodePlace* library = nullptr;
  const CodePlace& place = UserPlace(*world, return_address, &library);
  return place.kind == PlaceKind::kUser ? world : nullptr;
}

// Fails the run if what `events` stands for would block.
void RequireReady(int descriptor, short events,  // NOLINT(google-runtime-int)
                  const char* what, const void* return_address) {
  if (WorldOfCaller() == nullptr) return;
  const KeepErrno keep_errno;
  const int flags = REPRISE_REAL(fcntl)(descriptor, F_GETFL);
  if (flags < 0 || (flags & O_NONBLOCK) != 0) return;
  pollfd asked{descriptor, events, 0};
  if (REPRISE_REAL(poll)(&asked, 1, 0) != 0) return;
  World* const world = WorldOfUser(return_address);
  if (world != nullptr) FailCall(*world, return_address, what, kPollFirst);
}

void Refuse(const char* what, const char* instead, const void* return_address) {
  World* const world = WorldOfUser(return_address);
  if (world != nullptr) FailCall(*world, return_address, what, instead);
}

}  // namespace
}  // namespace reprise::interpose

using namespace reprise::interpose;  // NOLINT(google-build-using-namespace)

#define HERE __builtin_return_address(0)

extern "C" {

ssize_t read(int descriptor, void* bytes, size_t size) {
  RequireReady(descriptor, POLLIN, "read", HERE);
  return REPRISE_REAL(read)(descriptor, bytes, size);
}

ssize_t recv(int socket, void* bytes, size_t size, int flags) {
  if ((flags & MSG_DONTWAIT) == 0) RequireReady(socket, POLLIN, "recv", HERE);
  return REPRISE_REAL(recv)(socket, bytes, size, flags);
}

ssize_t recvfrom(int socket, void* bytes, size_t size, int flags,
                 sockaddr* address, socklen_t* length) {
  if ((flags & MSG_DONTWAIT) == 0) {
    RequireReady(socket, POLLIN, "recvfrom", HERE);
  }
  return REPRISE_REAL(recvfrom)(socket, bytes, size, flags, address, length);
}

ssize_t recvmsg(int socket, msghdr* message, int flags) {
  if ((flags & MSG_DONTWAIT) == 0) {
    RequireReady(socket, POLLIN, "recvmsg", HERE);
  }
  return REPRISE_REAL(recvmsg)(socket, message, flags);
}

int accept(int socket, sockaddr* address, socklen_t* length) {
  RequireReady(socket, POLLIN, "accept", HERE);
  return REPRISE_REAL(accept)(socket, address, length);
}

int accept4(int socket, sockaddr* address, socklen_t* length, int flags) {
  RequireReady(socket, POLLIN, "accept4", HERE);
  return REPRISE_REAL(accept4)(socket, address, length, flags);
}

pid_t wait(int* status) {
  Refuse("wait", kProcesses, HERE);
  return REPRISE_REAL(wait)(status);
}

pid_t waitpid(pid_t pid, int* status, int options) {
  if ((options & WNOHANG) == 0) Refuse("waitpid", kProcesses, HERE);
  return REPRISE_REAL(waitpid)(pid, status, options);
}

int waitid(idtype_t type, id_t id, siginfo_t* information, int options) {
  if ((options & WNOHANG) == 0) Refuse("waitid", kProcesses, HERE);
  return REPRISE_REAL(waitid)(type, id, information, options);
}

int system(const char* command) {
  Refuse("system", kProcesses, HERE);
  return REPRISE_REAL(system)(command);
}

FILE* popen(const char* command, const char* mode) {
  Refuse("popen", kProcesses, HERE);
  return REPRISE_REAL(popen)(command, mode);
}

pid_t fork() noexcept {
  Refuse("fork", kProcesses, HERE);
  return REPRISE_REAL(fork)();
}

int flock(int descriptor, int operation) noexcept {
  if ((operation & LOCK_NB) == 0 && (operation & LOCK_UN) == 0) {
    Refuse("flock", "ask with LOCK_NB, and sleep in between", HERE);
  }
  return REPRISE_REAL(flock)(descriptor, operation);
}

int timer_create(clockid_t clock, sigevent* event, timer_t* timer) noexcept {
  Refuse("timer_create", kTimers, HERE);
  return REPRISE_REAL(timer_create)(clock, event, timer);
}

int timerfd_create(int clock, int flags) noexcept {
  Refuse("timerfd_create", kTimers, HERE);
  return REPRISE_REAL(timerfd_create)(clock, flags);
}

int setitimer(__itimer_which_t which, const itimerval* value,
              itimerval* old) noexcept {
  Refuse("setitimer", kTimers, HERE);
  return REPRISE_REAL(setitimer)(which, value, old);
}

unsigned alarm(unsigned seconds) noexcept {
  Refuse("alarm", kTimers, HERE);
  return REPRISE_REAL(alarm)(seconds);
}

int pause() {
  Refuse("pause", kTimers, HERE);
  return REPRISE_REAL(pause)();
}

int sigwait(const sigset_t* set, int* signal) {
  Refuse("sigwait", kTimers, HERE);
  return REPRISE_REAL(sigwait)(set, signal);
}

}  // extern "C"
