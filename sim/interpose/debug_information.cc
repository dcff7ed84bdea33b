#include "sim/interpose/debug_information.h"

#include <cxxabi.h>
#include <dlfcn.h>
#include <sys/mman.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

// GCC's libbacktrace. Its header lies where only GCC finds it.
extern "C" {
struct backtrace_state;
using BacktraceError = void (*)(void* data, const char* message, int error);
using BacktraceFrame = int (*)(void* data, uintptr_t pc, const char* file,
                               int line, const char* function);
using BacktraceSymbol = void (*)(void* data, uintptr_t pc, const char* symbol,
                                 uintptr_t address, uintptr_t size);
backtrace_state* backtrace_create_state(const char* program, int threaded,
                                        BacktraceError error, void* data);
int backtrace_pcinfo(backtrace_state* state, uintptr_t pc, BacktraceFrame frame,
                     BacktraceError error, void* data);
int backtrace_syminfo(backtrace_state* state, uintptr_t pc,
                      BacktraceSymbol symbol, BacktraceError error, void* data);
}

namespace reprise::interpose {
namespace {

backtrace_state* g_state = nullptr;

// Shared by a parent and its children; null before the first `PrepareChild`.
std::atomic<int>* g_reads = nullptr;

void Ignore(void* /*data*/, const char* /*message*/, int /*error*/) {}

// libbacktrace reads the debug information of all objects at its first look.
backtrace_state* State() {
  if (g_state == nullptr) {
    g_state = backtrace_create_state(nullptr, /*threaded=*/1, &Ignore, nullptr);
    if (g_reads != nullptr) ++*g_reads;
  }
  return g_state;
}

std::string Demangled(const char* symbol) {
  if (symbol == nullptr) return "";
  if (std::strncmp(symbol, "_Z", 2) != 0) return symbol;
  int status = 0;
  char* const text = abi::__cxa_demangle(symbol, nullptr, nullptr, &status);
  if (text == nullptr) return symbol;
  std::string result(text);
  std::free(text);
  return result;
}

// "/src/./agent/agent.h" becomes "/src/agent/agent.h".
std::string Normal(const char* file) {
  std::string path = file == nullptr ? "" : file;
  for (size_t at; (at = path.find("/./")) != std::string::npos;) {
    path.erase(at, 2);
  }
  if (path.starts_with("./")) path.erase(0, 2);
  return path;
}

}  // namespace

std::vector<Frame> FramesAt(uintptr_t pc) {
  std::vector<Frame> frames;
  if (State() == nullptr) return frames;
  backtrace_pcinfo(
      g_state, pc,
      [](void* data, uintptr_t, const char* file, int line,
         const char* function) {
        auto* const list = static_cast<std::vector<Frame>*>(data);
        if (file != nullptr || function != nullptr) {
          list->push_back({Demangled(function), Normal(file), line});
        }
        return 0;
      },
      &Ignore, &frames);
  // clang's -g1 has files and lines, but no names of functions into which
  // nothing was inlined.
  if (!frames.empty() && !frames.back().function.empty()) return frames;
  std::string symbol;
  backtrace_syminfo(
      g_state, pc,
      [](void* data, uintptr_t, const char* name, uintptr_t, uintptr_t) {
        if (name != nullptr) *static_cast<std::string*>(data) = Demangled(name);
      },
      &Ignore, &symbol);
  if (symbol.empty()) return frames;
  if (frames.empty()) {
    frames.push_back({std::move(symbol), "", 0});
  } else {
    frames.back().function = std::move(symbol);
  }
  return frames;
}

std::string ExportedSymbolAt(uintptr_t pc) {
  Dl_info info = {};
  return dladdr(reinterpret_cast<void*>(pc), &info) == 0
             ? ""
             : Demangled(info.dli_sname);
}

void PrepareChild() {
  if (g_reads == nullptr) {
    void* const memory = mmap(nullptr, sizeof(*g_reads), PROT_READ | PROT_WRITE,
                              MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return;
    g_reads = new (memory) std::atomic<int>(g_state == nullptr ? 0 : 1);
  }
  if (*g_reads != 0 && g_state == nullptr) {
    FramesAt(reinterpret_cast<uintptr_t>(&PrepareChild) + 1);
  }
}

int NumReadsOfDebugInformation() {
  return g_reads == nullptr ? 0 : g_reads->load();
}

}  // namespace reprise::interpose
