#include "tests/unit/explore/killers.h"

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <exception>
#include <limits>
#include <new>
#include <stdexcept>
#include <utility>

#include "absl/base/internal/raw_logging.h"
#include "agent/agent.h"
#include "glog/logging.h"

namespace reprise {
namespace {

// Compilers must not see what happens, and the functions below must be in the
// stacks: they are not inlined, and none ends with a call.
volatile int g_zero = 0;
int* volatile g_null = nullptr;

// Keeps the frame of its caller while a call before it lasts.
void Stay() { g_zero = 0; }

#define KILLER [[gnu::noinline]]

void LookAt(void* memory) { asm volatile("" : : "r"(memory) : "memory"); }

[[gnu::noinline]] void Throw() {
  if (g_zero == 0) throw std::out_of_range("nobody may throw here");
}
KILLER void NullWrite(Worker&, Agent&) { *g_null = 1; }
KILLER void NullCall(Worker&, Agent&) {
  reinterpret_cast<void (*)()>(g_null)();
}
KILLER void DivideByZero(Worker&, Agent&) { g_zero = 100 / g_zero; }
KILLER void GlogCheck(Worker&, Agent&) { CHECK_EQ(g_zero, 1) << "they differ"; }
KILLER void AbslCheck(Worker&, Agent&) {
  ABSL_RAW_CHECK(g_zero == 1, "an invariant of absl");
  Stay();
}
KILLER void ThrowOutOfBody(Worker&, Agent&) {
  throw std::runtime_error("of the user's");
}
KILLER void ThrowAnInt(Worker&, Agent&) { throw 42; }
KILLER void ThrowInThread(Worker& worker, Agent&) {
  worker.runtime()
      .StartThread("thrower", [] { throw std::logic_error("in a thread"); })
      ->Join();
}
KILLER void AbortInHandler(Worker& worker, Agent& agent) {
  Message request;
  request.type = MessageType::kScriptCall;
  request.payload = "abort";
  agent.Send("w0", std::move(request)).Wait();
  worker.Sleep(absl::Seconds(1));
}
KILLER void ThrowInNoexcept(Worker&, Agent&) {
  []() noexcept { Throw(); }();
  Stay();
}
KILLER void Terminate(Worker&, Agent&) {
  std::terminate();
  Stay();
}

int Recurse(int depth) {
  char frame[1000];
  LookAt(frame);
  return depth == 0 ? frame[0] : Recurse(depth - 1) + frame[1];
}
KILLER void OverflowByRecursion(Worker&, Agent&) {
  g_zero = Recurse(std::numeric_limits<int>::max());
}
KILLER void OverflowByALargeLocal(Worker&, Agent&) {
  char local[200 << 10];
  std::memset(local, 1, sizeof(local));
  LookAt(local);
}
KILLER void EndlessLoop(Worker&, Agent&) {
  while (g_zero == 0) {
  }
}
// Blocks in the kernel, where no layer that knows of fibers sees it.
KILLER void SleepForEver(Worker&, Agent&) {
  sigset_t none;
  sigemptyset(&none);
  sigsuspend(&none);
}
KILLER void Exit(Worker&, Agent&) {
  std::exit(0);
  Stay();
}
KILLER void QuickExit(Worker&, Agent&) {
  std::quick_exit(3);
  Stay();
}
KILLER void UnderscoreExit(Worker&, Agent&) {
  _exit(0);
  Stay();
}
KILLER void DoubleFree(Worker&, Agent&) {
  int* volatile memory = new int(1);
  delete memory;
  delete memory;
  Stay();
}
KILLER void DoubleFreeOfMalloc(Worker&, Agent&) {
  void* volatile memory = std::malloc(100);
  std::free(memory);
  std::free(memory);
  Stay();
}
KILLER void HugeAllocation(Worker&, Agent&) {
  volatile size_t size = size_t{1} << 50;
  LookAt(new char[size]);
  Stay();
}
KILLER void KillItself(Worker&, Agent&) {
  kill(getpid(), SIGKILL);
  Stay();
}
KILLER void TerminateItself(Worker&, Agent&) {
  raise(SIGTERM);
  Stay();
}
KILLER void ReadProtected(Worker&, Agent&) {
  void* const page =
      mmap(nullptr, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  g_zero = *static_cast<volatile int*>(page);
}

absl::StatusOr<Message> Serve(Message message, const RequestInfo&) {
  if (message.payload == "abort") std::abort();
  message.type = MessageType::kScriptRet;
  return message;
}

void Body(const Killer& killer, Worker& worker) {
  auto agent = Agent::Start(worker.environment(), worker.options(),
                            Blocking(Serve), worker.In(absl::Minutes(1)));
  if (!worker.CheckOk(agent.status(), "started")) return;
  if (worker.rank() == 1) {
    Message request;
    request.type = MessageType::kScriptCall;
    (*agent)->Send("w0", std::move(request)).Wait();
    killer.kill(worker, **agent);
  }
  (*agent)->JoinForShutdown(worker.In(absl::Minutes(1))).IgnoreError();
  (*agent)->Shutdown(worker.In(absl::Minutes(1))).IgnoreError();
}

}  // namespace

const std::vector<Killer>& Killers() {
  static const std::vector<Killer> killers = {
      {"null_write", "crash", "SIGSEGV at address 0x0", "NullWrite", NullWrite},
      {"null_call", "crash", "SIGSEGV at address 0x0", "", NullCall},
      {"divide_by_zero", "crash", "SIGFPE", "DivideByZero", DivideByZero},
      {"glog_check", "crash", "Check failed: ", "GlogCheck", GlogCheck},
      {"absl_check", "crash", "an invariant of absl", "AbslCheck", AbslCheck},
      {"throw_out_of_body", "exception", "std::runtime_error: of the user's",
       "ThrowOutOfBody", ThrowOutOfBody},
      {"throw_an_int", "exception", "w1/main: int", "ThrowAnInt", ThrowAnInt},
      {"throw_in_thread", "exception", "w1/thrower: std::logic_error", "",
       ThrowInThread},
      {"abort_in_handler", "crash", "SIGABRT", "Serve", AbortInHandler},
      {"throw_in_noexcept", "exception", "nobody may throw here",
       "ThrowInNoexcept", ThrowInNoexcept},
      {"terminate", "crash", "std::terminate was called", "Terminate",
       Terminate},
      {"overflow_by_recursion", "stack-overflow", "--stack-kib", "Recurse",
       OverflowByRecursion},
      {"overflow_by_a_large_local", "stack-overflow", "--stack-kib",
       "OverflowByALargeLocal", OverflowByALargeLocal},
      {"endless_loop", "hang", "of CPU time", "EndlessLoop", EndlessLoop},
      {"sleep_for_ever", "hang", "slept for", "SleepForEver", SleepForEver},
      {"exit", "exit", "exit(0) was called", "Exit", Exit},
      {"quick_exit", "exit", "quick_exit was called", "QuickExit", QuickExit},
      {"underscore_exit", "exit", "exit code 0", "", UnderscoreExit},
      {"double_free", "crash", "memory is freed twice", "DoubleFree",
       DoubleFree},
      {"double_free_of_malloc", "crash", "the heap of libc is corrupt",
       "DoubleFreeOfMalloc", DoubleFreeOfMalloc},
      {"huge_allocation", "exception", "std::bad_alloc", "HugeAllocation",
       HugeAllocation},
      {"kill_itself", "crash", "killed by SIGKILL", "", KillItself},
      {"terminate_itself", "crash", "SIGTERM", "TerminateItself",
       TerminateItself},
      {"read_protected", "crash", "SIGSEGV", "ReadProtected", ReadProtected},
  };
  return killers;
}

Scenario ScenarioOf(const Killer& killer) {
  return {.name = killer.name, .workers = 2, .body = [killer](Worker& worker) {
            Body(killer, worker);
          }};
}

}  // namespace reprise
