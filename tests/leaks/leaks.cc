// Scenarios that depend on something other than their seed, one for each way
// that `reprise verify` tells apart. `no_leak` depends on its seed only.

#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <ctime>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "sim/scenario/scenario.h"

namespace reprise {
namespace {

void NoteDraw(Worker& worker) {
  Draws random = worker.random("number");
  worker.Note(std::to_string(random.Bits("number")));
}

// The order of objects in memory.
void NoteAddresses(Worker& worker) {
  std::vector<std::unique_ptr<int>> numbers;
  std::set<int*> by_address;
  for (int i = 0; i < 20; ++i) {
    numbers.push_back(std::make_unique<int>(i));
    by_address.insert(numbers.back().get());
  }
  for (const int* number : by_address) worker.Note(std::to_string(*number));
}

void NoteTime(Worker& worker) {
  worker.Note(std::to_string(std::time(nullptr)));
}

void NoteCounter(Worker& worker) {
  worker.Note(std::to_string(__builtin_ia32_rdtsc()));
}

void NoteDevice(Worker& worker) {
  worker.Note(std::to_string(std::random_device()()));  // NOLINT(draws)
}

// Past every library.
void NoteKernelsRandom(Worker& worker) {
  uint64_t bits = 0;
  int64_t result = SYS_getrandom;
  asm volatile("syscall"
               : "+a"(result)
               : "D"(&bits), "S"(sizeof(bits)), "d"(0)
               : "rcx", "r11", "memory");
  worker.Note(std::to_string(bits));
}

int g_runs = 0;

void NoteRuns(Worker& worker) { worker.Note(std::to_string(++g_runs)); }

// The result is the same in each run. Only the thread is not the world's.
void NoteSumOfAThread(Worker& worker) {
  int64_t sum = 0;
  std::thread([&sum] {
    for (int i = 0; i < 1000; ++i) sum += i;
  }).join();
  worker.Note(std::to_string(sum));
}

// A thread of the process that was there before the world.
std::atomic<int> g_asked = 0;
std::atomic<int> g_answered = 0;

// A process that was forked has none of its parent's threads.
void StartHelper() {
  static pid_t started_in = 0;
  if (started_in == getpid()) return;
  started_in = getpid();
  std::thread([] {
    for (;;) {
      g_answered = g_asked.load();
      std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
  }).detach();
}

void AskHelper(Worker& worker) {
  const int question = ++g_asked;
  while (g_answered < question) {
  }
  worker.Note("answered");
}

REPRISE_SCENARIO(no_leak, {.description = "depends on its seed only",
                           .workers = 1,
                           .body = NoteDraw});
REPRISE_SCENARIO(address, {.description = "shows the order of addresses",
                           .workers = 1,
                           .body = NoteAddresses});
REPRISE_SCENARIO(clock_time, {.description = "shows time()",
                              .workers = 1,
                              .body = NoteTime});
REPRISE_SCENARIO(clock_counter, {.description = "shows the time stamp counter",
                                 .workers = 1,
                                 .body = NoteCounter});
REPRISE_SCENARIO(random_device, {.description = "shows std::random_device",
                                 .workers = 1,
                                 .body = NoteDevice});
REPRISE_SCENARIO(random_kernel, {.description = "shows the kernel's numbers",
                                 .workers = 1,
                                 .body = NoteKernelsRandom});
REPRISE_SCENARIO(static_counter, {.description = "shows a global variable",
                                  .workers = 1,
                                  .body = NoteRuns});
REPRISE_SCENARIO(thread_started, {.description = "starts a std::thread",
                                  .workers = 1,
                                  .body = NoteSumOfAThread});
REPRISE_SCENARIO(
    thread_before,
    {.description = "asks a thread that was there before the world",
     .workers = 1,
     .body = AskHelper,
     .faults = [](const Draws&, const ScenarioParams&) {
       StartHelper();
       return std::vector<std::string>();
     }});

}  // namespace
}  // namespace reprise
