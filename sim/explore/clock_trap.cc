#include "sim/explore/clock_trap.h"

#include <dlfcn.h>
#include <elf.h>
#include <execinfo.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <ucontext.h>

#include <array>
#include <atomic>
#include <csignal>
#include <cstring>
#include <ctime>
#include <string_view>

#include "sim/world/leak_watch.h"
#include "sim/world/world.h"

namespace reprise {
namespace {

#if defined(__x86_64__)

constexpr int64_t kNanosecondsPerSecond = 1'000'000'000;

std::atomic<bool> g_is_on = false;
std::atomic<int64_t> g_now_ns = 0;
std::atomic<int> g_notes_left = 0;
struct sigaction g_earlier = {};

// The kernel's own, past every function that is taken over. The result is a
// negative error number, as the vDSO's.
int64_t SystemCall(int64_t number, int64_t first, int64_t second) {
  int64_t result = number;
  asm volatile("syscall"
               : "+a"(result)
               : "D"(first), "S"(second), "d"(int64_t{0})
               : "rcx", "r11", "memory");
  return result;
}

bool IsInWorld() {
  World* const world = World::Current();
  return g_is_on && world != nullptr && world->scheduler().current() != nullptr;
}

bool IsNamed(const Dl_info& info, std::string_view part) {
  return info.dli_fname != nullptr &&
         std::string_view(info.dli_fname).find(part) != std::string_view::npos;
}

// Notes the innermost caller that is not of a library. Looking for it takes
// some 50 us, so only the first reads are looked at.
void NoteRead() {
  if (g_notes_left <= 0) return;
  --g_notes_left;
  std::array<void*, 24> frames = {};
  const int number = backtrace(frames.data(), static_cast<int>(frames.size()));
  const void* caller = nullptr;
  for (int i = 2; i < number; ++i) {
    Dl_info info = {};
    if (dladdr(frames[i], &info) == 0) continue;
    if (IsNamed(info, "/libglog.")) return;
    const bool is_library = IsNamed(info, "/libc.") ||
                            IsNamed(info, "/libstdc++.") ||
                            IsNamed(info, "/libabsl_") || IsNamed(info, "vdso");
    if (!is_library && caller == nullptr) caller = frames[i];
  }
  NoteLeak(LeakKind::kClock, caller);
}

// A clock advances by 1 us at each read, and the counter by less, since Abseil
// reads the one between two reads of the other until little time has passed.
int64_t Read(int64_t step_ns) { return g_now_ns.fetch_add(step_ns); }
int64_t ReadClock() { return Read(1000); }

// In place of the vDSO's functions. The process calls them through libc.

int ClockGettime(clockid_t clock, timespec* time) {
  if (!IsInWorld()) {
    return static_cast<int>(
        SystemCall(SYS_clock_gettime, clock, reinterpret_cast<int64_t>(time)));
  }
  NoteRead();
  const int64_t now_ns = ReadClock();
  time->tv_sec = now_ns / kNanosecondsPerSecond;
  time->tv_nsec = now_ns % kNanosecondsPerSecond;
  return 0;
}

int GetTimeOfDay(timeval* time, void* zone) {
  if (!IsInWorld() || time == nullptr) {
    return static_cast<int>(SystemCall(SYS_gettimeofday,
                                       reinterpret_cast<int64_t>(time),
                                       reinterpret_cast<int64_t>(zone)));
  }
  NoteRead();
  const int64_t now_us = ReadClock() / 1000;
  time->tv_sec = now_us / 1'000'000;
  time->tv_usec = now_us % 1'000'000;
  return 0;
}

time_t Time(time_t* time) {
  if (!IsInWorld()) {
    return SystemCall(SYS_time, reinterpret_cast<int64_t>(time), 0);
  }
  NoteRead();
  const time_t now = ReadClock() / kNanosecondsPerSecond;
  if (time != nullptr) *time = now;
  return now;
}

// Lets the thread read the time stamp counter, or makes that a signal.
void PermitCounter(bool permit) {
  SystemCall(SYS_prctl, PR_SET_TSC, permit ? PR_TSC_ENABLE : PR_TSC_SIGSEGV);
}

// rdtsc and rdtscp are answered here; other faults are not ours.
void OnFault(int signal, siginfo_t* info, void* context) {
  greg_t* const registers =
      static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
  const auto* const code =
      reinterpret_cast<const unsigned char*>(registers[REG_RIP]);
  const bool may_be_code = info->si_code == SI_KERNEL;
  const bool is_rdtsc = may_be_code && code[0] == 0x0f && code[1] == 0x31;
  const bool is_rdtscp =
      may_be_code && code[0] == 0x0f && code[1] == 0x01 && code[2] == 0xf9;
  if (!is_rdtsc && !is_rdtscp) {
    // Returning runs the instruction again, under the earlier handler.
    sigaction(signal, &g_earlier, nullptr);
    return;
  }
  uint64_t ticks = 0;
  if (IsInWorld()) {
    NoteRead();
    ticks = static_cast<uint64_t>(Read(10)) * 3;
  } else {
    PermitCounter(true);
    ticks = __builtin_ia32_rdtsc();
    PermitCounter(false);
  }
  registers[REG_RAX] = static_cast<greg_t>(ticks & 0xffffffffu);
  registers[REG_RDX] = static_cast<greg_t>(ticks >> 32);
  if (is_rdtscp) registers[REG_RCX] = 0;
  registers[REG_RIP] += is_rdtsc ? 2 : 3;
}

void Replace(char* function, const void* replacement) {
  // movabs rax, replacement; jmp rax
  std::array<unsigned char, 12> jump = {0x48, 0xb8, 0, 0, 0,    0,
                                        0,    0,    0, 0, 0xff, 0xe0};
  std::memcpy(jump.data() + 2, &replacement, sizeof(replacement));
  std::memcpy(function, jump.data(), jump.size());
}

// Returns whether the three functions were found and replaced.
bool TakeOverVdso() {
  char* const base = reinterpret_cast<char*>(getauxval(AT_SYSINFO_EHDR));
  if (base == nullptr) return false;
  const auto* const header = reinterpret_cast<const Elf64_Ehdr*>(base);
  const auto* const segments =
      reinterpret_cast<const Elf64_Phdr*>(base + header->e_phoff);
  const Elf64_Dyn* dynamic = nullptr;
  size_t size = 0;
  for (int i = 0; i < header->e_phnum; ++i) {
    if (segments[i].p_type == PT_DYNAMIC) {
      dynamic = reinterpret_cast<const Elf64_Dyn*>(base + segments[i].p_vaddr);
    } else if (segments[i].p_type == PT_LOAD) {
      size = segments[i].p_vaddr + segments[i].p_memsz;
    }
  }
  const Elf64_Sym* symbols = nullptr;
  const char* names = nullptr;
  for (; dynamic != nullptr && dynamic->d_tag != DT_NULL; ++dynamic) {
    const char* const at = base + dynamic->d_un.d_ptr;
    if (dynamic->d_tag == DT_SYMTAB) {
      symbols = reinterpret_cast<const Elf64_Sym*>(at);
    } else if (dynamic->d_tag == DT_STRTAB) {
      names = at;
    }
  }
  const auto* const end = reinterpret_cast<const Elf64_Sym*>(names);
  if (symbols == nullptr || end < symbols) return false;
  if (mprotect(base, size, PROT_READ | PROT_WRITE | PROT_EXEC) != 0) {
    return false;
  }
  int replaced = 0;
  for (const Elf64_Sym* symbol = symbols; symbol + 1 <= end; ++symbol) {
    const std::string_view name = names + symbol->st_name;
    const void* replacement = nullptr;
    if (name == "__vdso_clock_gettime") {
      replacement = reinterpret_cast<const void*>(&ClockGettime);
    } else if (name == "__vdso_gettimeofday") {
      replacement = reinterpret_cast<const void*>(&GetTimeOfDay);
    } else if (name == "__vdso_time") {
      replacement = reinterpret_cast<const void*>(&Time);
    }
    if (replacement == nullptr) continue;
    Replace(base + symbol->st_value, replacement);
    ++replaced;
  }
  mprotect(base, size, PROT_READ | PROT_EXEC);
  return replaced == 3;
}

#endif

}  // namespace

#if defined(__x86_64__)

bool ClockTrap::IsSupported() {
  static const bool supported = TakeOverVdso();
  return supported;
}

ClockTrap::ClockTrap(int64_t start_ns) {
  if (!IsSupported()) return;
  // Its first call loads a library.
  std::array<void*, 1> frame = {};
  backtrace(frame.data(), 1);
  struct sigaction action = {};
  action.sa_sigaction = OnFault;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
  sigaction(SIGSEGV, &action, &g_earlier);
  g_now_ns = start_ns;
  g_notes_left = 100;
  PermitCounter(false);
  g_is_on = true;
}

ClockTrap::~ClockTrap() {
  if (!g_is_on.exchange(false)) return;
  PermitCounter(true);
  sigaction(SIGSEGV, &g_earlier, nullptr);
}

#else

bool ClockTrap::IsSupported() { return false; }
ClockTrap::ClockTrap(int64_t /*start_ns*/) {}
ClockTrap::~ClockTrap() = default;

#endif

}  // namespace reprise
