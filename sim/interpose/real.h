// The real functions behind the entry points that sim/interpose defines.
//
//   return REPRISE_REAL(nanosleep)(time, left);
//
// They are looked up at the first call and kept, without a static's guard,
// since they are called before `main` and by the dynamic linker's clients.

#ifndef REPRISE_SIM_INTERPOSE_REAL_H_
#define REPRISE_SIM_INTERPOSE_REAL_H_

#include <dlfcn.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>

namespace reprise::interpose {

class Real {
 public:
  // `version`: of the symbol, where libc has an older one, too.
  explicit constexpr Real(const char* name, const char* version = nullptr)
      : name_(name), version_(version) {}

  void* get() {
    void* function = function_.load(std::memory_order_relaxed);
    if (__builtin_expect(function == nullptr, 0)) function = LookUp();
    return function;
  }

 private:
  __attribute__((noinline)) void* LookUp() {
    void* const found = version_ == nullptr
                            ? dlsym(RTLD_NEXT, name_)
                            : dlvsym(RTLD_NEXT, name_, version_);
    if (found == nullptr) {
      static constexpr char kMessage[] =
          "reprise: libc lacks a function that sim/interpose stands in for: ";
      [[maybe_unused]] ssize_t written =
          write(STDERR_FILENO, kMessage, sizeof(kMessage) - 1);
      const char* end = name_;
      while (*end != 0) ++end;
      written = write(STDERR_FILENO, name_, static_cast<size_t>(end - name_));
      std::abort();
    }
    function_.store(found, std::memory_order_relaxed);
    return found;
  }

  const char* const name_;
  const char* const version_;
  std::atomic<void*> function_{nullptr};
};

// The real function named `name`, as it is declared.
#define REPRISE_REAL(name)                                   \
  (reinterpret_cast<decltype(&::name)>([]() {                \
    static constinit ::reprise::interpose::Real real(#name); \
    return real.get();                                       \
  }()))

// The same for a symbol of which libc has an older version, too.
#define REPRISE_REAL_VERSION(name, version)                           \
  (reinterpret_cast<decltype(&::name)>([]() {                         \
    static constinit ::reprise::interpose::Real real(#name, version); \
    return real.get();                                                \
  }()))

// A system call, without libc's `syscall`, which is interposed too. Returns -1
// and sets errno on an error.
inline long SystemCall(long number, long a = 0, long b = 0,  // NOLINT
                       long c = 0, long d = 0, long e = 0,   // NOLINT
                       long f = 0) {                         // NOLINT
  register long r10 asm("r10") = d;                          // NOLINT
  register long r8 asm("r8") = e;                            // NOLINT
  register long r9 asm("r9") = f;                            // NOLINT
  long result = 0;                                           // NOLINT
  asm volatile("syscall"
               : "=a"(result)
               : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
               : "rcx", "r11", "memory");
  if (result < 0 && result > -4096) {
    errno = static_cast<int>(-result);
    return -1;
  }
  return result;
}

}  // namespace reprise::interpose

#endif  // REPRISE_SIM_INTERPOSE_REAL_H_
