// Calls that a world cannot answer fail the run with their name and place, and
// outside of worlds they are what they are.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pthread.h>
#include <signal.h>  // NOLINT(modernize-deprecated-headers): timer_create
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <string>
#include <thread>

#include "tests/unit/sim/sim_testing.h"

// Not in the namespace of the project, whose own calls have no places.
namespace interpose_test {
namespace {

using namespace reprise;  // NOLINT(google-build-using-namespace)

using testing::HasSubstr;

int empty_pipe[2];

struct Refused {
  const char* name;  // as the failure has it
  void (*call)();
};

// Keeps the compiler from turning a call into a jump, which would be named
// after the caller's caller.
template <typename Result>
void Use(Result result) {
  [[maybe_unused]] volatile Result used = result;
}

void CallRead() {
  char byte = 0;
  Use(read(empty_pipe[0], &byte, 1));
}
void CallRecv() {
  int ends[2];
  char byte = 0;
  if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0)
    Use(recv(ends[0], &byte, 1, 0));
}
void CallRobust() {
  pthread_mutexattr_t attributes;
  pthread_mutexattr_init(&attributes);
  pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
  pthread_mutex_t mutex;
  pthread_mutex_init(&mutex, &attributes);
  Use(pthread_mutex_lock(&mutex));
}
void CallExit() { pthread_exit(nullptr); }
void CallCancel() { Use(pthread_cancel(pthread_self())); }
void CallKill() { Use(pthread_kill(pthread_self(), SIGUSR1)); }
void CallSystem() { Use(system("exit 0")); }
void CallPopen() { Use(popen("exit 0", "r")); }
void CallFork() { Use(fork()); }
void CallClone() { Use(syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0)); }
void CallWait() { Use(wait(nullptr)); }
void CallWaitPid() { Use(waitpid(-1, nullptr, 0)); }
void CallFlock() { Use(flock(empty_pipe[0], LOCK_EX)); }
void CallTimer() {
  timer_t timer{};
  Use(timer_create(CLOCK_MONOTONIC, nullptr, &timer));
}
void CallTimerFd() { Use(timerfd_create(CLOCK_MONOTONIC, 0)); }
void CallSetITimer() {
  const itimerval value{};
  Use(setitimer(ITIMER_REAL, &value, nullptr));
}
void CallAlarm() { Use(alarm(1)); }
void CallPause() { Use(pause()); }
void CallSigWait() {
  sigset_t set;
  sigemptyset(&set);
  int signal = 0;
  Use(sigwait(&set, &signal));
}

constexpr Refused kRefused[] = {
    {"calls read in CallRead (", &CallRead},
    {"calls recv in CallRecv (", &CallRecv},
    {"calls pthread_mutex_lock of a robust mutex in CallRobust (", &CallRobust},
    {"calls pthread_exit of a thread that pthread_create did not start in "
     "CallExit (",
     &CallExit},
    {"calls pthread_cancel in CallCancel (", &CallCancel},
    {"calls pthread_kill in CallKill (", &CallKill},
    {"calls system in CallSystem (", &CallSystem},
    {"calls popen in CallPopen (", &CallPopen},
    {"calls fork in CallFork (", &CallFork},
    {"calls clone or fork in CallClone (", &CallClone},
    {"calls wait in CallWait (", &CallWait},
    {"calls waitpid in CallWaitPid (", &CallWaitPid},
    {"calls flock in CallFlock (", &CallFlock},
    {"calls timer_create in CallTimer (", &CallTimer},
    {"calls timerfd_create in CallTimerFd (", &CallTimerFd},
    {"calls setitimer in CallSetITimer (", &CallSetITimer},
    {"calls alarm in CallAlarm (", &CallAlarm},
    {"calls pause in CallPause (", &CallPause},
    {"calls sigwait in CallSigWait (", &CallSigWait},
};

class RefusalsTest : public testing::Test {
 protected:
  void SetUp() override { ASSERT_EQ(pipe(empty_pipe), 0); }
  void TearDown() override {
    close(empty_pipe[0]);
    close(empty_pipe[1]);
  }
};

TEST_F(RefusalsTest, EachIsNamedWithItsPlace) {
  for (const Refused& refused : kRefused) {
    TestWorld world;
    bool went_on = false;
    world.Start(0, "main", [&] {
      refused.call();
      went_on = true;
    });
    EXPECT_EQ(world.Run(), Outcome::kStopped) << refused.name;
    EXPECT_FALSE(went_on) << refused.name;
    EXPECT_EQ(world->failed_rule(), "not-simulated");
    EXPECT_THAT(world->failed_detail(),
                HasSubstr(std::string("w0/main ") + refused.name));
    EXPECT_THAT(world->failed_detail(), HasSubstr("world cannot answer: "));
  }
}

TEST_F(RefusalsTest, WhatDoesNotBlockIsLeftToLibc) {
  TestWorld world;
  world.Start(0, "main", [&] {
    ASSERT_EQ(write(empty_pipe[1], "x", 1), 1);
    char byte = 0;
    EXPECT_EQ(read(empty_pipe[0], &byte, 1), 1);
    EXPECT_EQ(byte, 'x');
    EXPECT_EQ(waitpid(-1, nullptr, WNOHANG), -1);
    EXPECT_EQ(flock(empty_pipe[0], LOCK_UN), 0);
  });
  EXPECT_EQ(world.Run(), Outcome::kFinished);
  EXPECT_EQ(world->failed_detail(), "");
}

TEST_F(RefusalsTest, OutsideOfWorldsTheyAreReal) {
  EXPECT_EQ(system("exit 3"), 3 << 8);
  const pid_t child = fork();
  if (child == 0) _exit(0);
  EXPECT_EQ(waitpid(child, nullptr, 0), child);
  std::thread writer([] { EXPECT_EQ(write(empty_pipe[1], "y", 1), 1); });
  char byte = 0;
  EXPECT_EQ(read(empty_pipe[0], &byte, 1), 1);  // blocks
  writer.join();
  EXPECT_EQ(byte, 'y');
  timer_t timer{};
  EXPECT_EQ(timer_create(CLOCK_MONOTONIC, nullptr, &timer), 0);
  EXPECT_EQ(timer_delete(timer), 0);
}

}  // namespace
}  // namespace interpose_test
