#include "sim/explore/death.h"

#include <cxxabi.h>
#include <execinfo.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <iterator>
#include <string_view>
#include <typeinfo>

#include "sim/explore/result_log.h"
#include "sim/world/fiber_stacks.h"
#include "sim/world/interposition.h"
#include "sim/world/world.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define REPRISE_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define REPRISE_SANITIZED 1
#endif
#endif

#ifdef REPRISE_SANITIZED
#include <sanitizer/common_interface_defs.h>
#endif

namespace reprise {
namespace {

constexpr size_t kHandlerStackBytes = size_t{256} << 10;

// Of the process: it has one thread that runs worlds, one world at a time.
DeathRecord* g_record = nullptr;
pid_t g_pid = 0;
RunRecorder* g_recorder = nullptr;

// Appends to `to`, which holds `size` bytes and stays a string.
void Append(char* to, size_t size, std::string_view text) {
  const size_t used = strnlen(to, size - 1);
  const size_t count = std::min(text.size(), size - 1 - used);
  std::memcpy(to + used, text.data(), count);
  to[used + count] = '\0';
}

void CopyRun(World& world) {
  g_record->hash = world.trace().hash();
  g_record->num_events = world.trace().num_events();
  g_record->num_points = world.scheduler().num_points();
  g_record->num_decisions = world.decisions().num_made();
  g_record->now_ns = world.now_ns();
  const std::vector<Decision>* const recording = world.options().recording;
  if (recording == nullptr) return;
  g_record->num_followed = static_cast<int64_t>(
      std::min(recording->size(), std::size(g_record->followed)));
  for (int64_t i = 0; i < g_record->num_followed; ++i) {
    g_record->followed[i] =
        world.decisions().IsFollowed(static_cast<size_t>(i));
  }
}

void AddSuspended(Fiber& fiber) {
  DeathRecord::Stack& stack = g_record->stacks[g_record->num_stacks];
  stack.title[0] = '\0';
  const auto add = [&stack](std::string_view text) {
    Append(stack.title, sizeof(stack.title), text);
  };
  add(fiber.label);
  if (fiber.state == FiberState::kBlocked) {
    add(" ");
    add(fiber.waiting.verb);
    add(" ");
    add(fiber.waiting.name);
  } else {
    add(" can run");
  }
  stack.num_frames =
      StackOfSuspended(fiber, stack.frames, std::size(stack.frames));
  ++g_record->num_stacks;
}

// The first frame that counts is `pc`, if it is among the frames.
void AddRunning(void* pc) {
  DeathRecord::Stack& stack = g_record->stacks[0];
  stack.title[0] = '\0';
  Append(stack.title, sizeof(stack.title),
         g_record->thread[0] == '\0' ? "the world" : g_record->thread);
  Append(stack.title, sizeof(stack.title), " was running");
  constexpr int kMaxFrames = 80;  // our own come before `pc`
  void* frames[kMaxFrames];
  const int count = backtrace(frames, kMaxFrames);
  const auto found = std::find(frames, frames + count, pc);
  const auto begin = found == frames + count ? frames : found;
  const auto wanted =
      std::min<std::ptrdiff_t>(frames + count - begin, std::size(stack.frames));
  std::copy_n(begin, wanted, stack.frames);
  stack.num_frames = static_cast<int32_t>(wanted);
  g_record->num_stacks = 1;
}

// Leaves the record and ends the process. What is written first is what is left
// if it fails in the middle, since the memory may be in any state.
[[noreturn]] void Die(DeathKind kind, void* pc) {
  static std::atomic<bool> dying{false};
  if (g_record == nullptr || dying.exchange(true)) _exit(kDeathExitCode);
  const RealCalls real;
  g_record->kind = kind;
  if (!g_record->in_run) _exit(kDeathExitCode);
  World* const world = World::Current();
  Fiber* const running =
      world == nullptr ? nullptr : world->scheduler().current();
  g_record->thread[0] = '\0';
  if (running != nullptr) {
    Append(g_record->thread, sizeof(g_record->thread), running->label);
  }
  if (world != nullptr) CopyRun(*world);
  AddRunning(pc);
  if (g_recorder != nullptr) g_recorder->Sync();
  if (world != nullptr) {
    for (const auto& fiber : world->scheduler().fibers()) {
      if (fiber.get() == running || fiber->state == FiberState::kDone ||
          fiber->state == FiberState::kDead) {
        continue;
      }
      if (g_record->num_stacks == std::ssize(g_record->stacks)) break;
      AddSuspended(*fiber);
    }
  }
  _exit(kDeathExitCode);
}

bool IsBelowAStack(uintptr_t address) {
  World* const world = World::Current();
  if (world == nullptr) return false;
  return std::any_of(
      world->scheduler().fibers().begin(), world->scheduler().fibers().end(),
      [address](const auto& fiber) {
        const auto low = reinterpret_cast<uintptr_t>(fiber->stack.low);
        return low != 0 && address < low && low - address <= fiber->stack.guard;
      });
}

void OnSignal(int signal, siginfo_t* info, void* context) {
  auto* const machine = static_cast<ucontext_t*>(context);
  void* pc = nullptr;
#if defined(__x86_64__)
  pc = reinterpret_cast<void*>(machine->uc_mcontext.gregs[REG_RIP]);
#elif defined(__aarch64__)
  pc = reinterpret_cast<void*>(machine->uc_mcontext.pc);
#endif
  if (g_record == nullptr) _exit(kDeathExitCode);
  if (signal == HangSignal()) Die(DeathKind::kHang, pc);
  const bool is_request = signal == SIGTERM || signal == SIGINT ||
                          signal == SIGHUP || signal == SIGQUIT;
  // Someone ends the whole command.
  if (is_request && info->si_pid != g_pid) _exit(kDeathExitCode);
  g_record->signal = signal;
  const bool has_address =
      (signal == SIGSEGV || signal == SIGBUS) && info->si_code > 0;
  g_record->address =
      has_address ? reinterpret_cast<uintptr_t>(info->si_addr) : 0;
  if (has_address && IsBelowAStack(g_record->address)) {
    Die(DeathKind::kOverflow, pc);
  }
  Die(DeathKind::kSignal, pc);
}

[[noreturn]] void OnTerminate() {
  const RealCalls real;
  const std::type_info* const type = abi::__cxa_current_exception_type();
  if (type == nullptr || g_record == nullptr) {
    Die(DeathKind::kTerminate, nullptr);
  }
  const auto add = [](std::string_view text) {
    Append(g_record->message, sizeof(g_record->message), text);
  };
  int status = 0;
  char* const name =
      abi::__cxa_demangle(type->name(), nullptr, nullptr, &status);
  g_record->message[0] = '\0';
  add(name == nullptr ? type->name() : name);
  try {
    throw;
  } catch (const std::exception& exception) {
    add(": ");
    add(exception.what());
  } catch (...) {
    // It is of a type that says nothing.
  }
  Die(DeathKind::kException, nullptr);
}

void OnExit(int code, void* /*argument*/) {
  if (g_record == nullptr || !g_record->in_run) return;
  g_record->exit_code = code;
  Die(DeathKind::kExit, nullptr);
}

void OnQuickExit() { OnExit(-1, nullptr); }

#ifdef REPRISE_SANITIZED
void OnReport() { Die(DeathKind::kSanitizer, nullptr); }
#endif

}  // namespace

int HangSignal() { return SIGRTMAX - 3; }

void LeaveRecordAtDeath(DeathRecord* record) {
  g_record = record;
  g_pid = getpid();
  // The first call loads a library, which no signal handler may do.
  void* frames[1];
  backtrace(frames, 1);
  // An overflown stack has no room for a handler.
  void* const memory = mmap(nullptr, kHandlerStackBytes, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
  if (memory != MAP_FAILED) {
    stack_t stack = {};
    stack.ss_sp = memory;
    stack.ss_size = kHandlerStackBytes;
    sigaltstack(&stack, nullptr);
  }
  struct sigaction action = {};
  action.sa_sigaction = &OnSignal;
  // A second signal is delivered, and ends a handler that fails itself.
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
  for (const int signal : {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGABRT,
                           SIGSYS, SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGXCPU,
                           SIGPIPE, SIGALRM, SIGUSR1, SIGUSR2, HangSignal()}) {
    sigaction(signal, &action, nullptr);
  }
  std::set_terminate(&OnTerminate);
  on_exit(&OnExit, nullptr);
  std::at_quick_exit(&OnQuickExit);
#ifdef REPRISE_SANITIZED
  __sanitizer_set_death_callback(&OnReport);
#endif
}

void BeginRun(uint64_t tag, RunRecorder* recorder) {
  g_recorder = recorder;
  g_record->tag = tag;
  struct stat output = {};
  g_record->begin_output =
      fstat(STDERR_FILENO, &output) == 0 ? output.st_size : 0;
  timespec cpu = {};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
  g_record->begin_cpu_ns = cpu.tv_sec * int64_t{1'000'000'000} + cpu.tv_nsec;
  ++g_record->runs;
  g_record->in_run = true;
}

void EndRun() {
  g_record->in_run = false;
  g_recorder = nullptr;
}

}  // namespace reprise
