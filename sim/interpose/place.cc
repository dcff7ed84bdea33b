#include "sim/interpose/place.h"

#include <cxxabi.h>
#include <link.h>
#include <unwind.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "sim/interpose/program_symbols.h"

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

namespace reprise {

class Runtime;
__attribute__((weak)) Runtime& RealRuntime();  // of the agent, if it is linked

namespace interpose {
namespace {

// A loaded object's code.
struct Module {
  uintptr_t low = 0;
  uintptr_t high = 0;
  PlaceKind kind = PlaceKind::kUser;
  bool is_program = false;
  bool is_tensorpipe = false;
};

struct Frame {
  std::string function;
  std::string file;  // whole path; empty: there is no debug information
  int line = 0;
};

void Ignore(void* /*data*/, const char* /*message*/, int /*error*/) {}

bool Contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

PlaceKind KindOfObject(std::string_view path) {
  for (const char* name : {"/libtensorpipe", "/libglog", "/libuv",
                           "/libhiredis", "/libcuda", "/libnvidia"}) {
    if (Contains(path, name)) return PlaceKind::kQuiet;
  }
  for (const char* name :
       {"/libstdc++", "/libabsl", "/libc.so", "/libm.so", "/libgcc_s",
        "/libpthread", "/ld-linux", "/libasan", "/libtsan", "/libubsan",
        "/libgtest", "/libgmock", "linux-vdso", "linux-gate"}) {
    if (Contains(path, name)) return PlaceKind::kLibrary;
  }
  return PlaceKind::kUser;
}

// "ns::Class<int>::Name(char) const" becomes "Name". The names of lambdas and
// of functors become "operator()".
std::string BaseName(std::string_view name) {
  // GCC's names of lambdas: "With<u::Work()::<lambda()> >".
  std::string flat;
  int depth = 0;  // of angle brackets and parentheses
  for (size_t i = 0; i < name.size(); ++i) {
    if (depth == 0 && name.substr(i).starts_with("operator")) {
      std::string_view rest = name.substr(i + 8);
      for (const char* symbol : {"()", "<=>", "<<=", ">>=", "->*", "<<", ">>",
                                 "<=", ">=", "->", "<", ">"}) {
        if (!rest.starts_with(symbol)) continue;
        flat.append("operator").append(symbol);
        i += 8 + std::strlen(symbol);
        break;
      }
      if (i >= name.size()) break;
    }
    const char c = name[i];
    if (c == '(' && name.substr(i).starts_with("(anonymous namespace)::")) {
      i += 22;
    } else if (c == '(' && depth == 0) {
      // The arguments; "Work()::{lambda()#1}::operator()" goes on after them.
      const size_t close = name.find("::", i);
      if (close == std::string_view::npos) break;
      ++depth;
    } else if (c == '<' || c == '(' || c == '{') {
      ++depth;
    } else if (c == '>' || c == ')' || c == '}') {
      if (depth > 0) --depth;
    } else if (depth == 0) {
      flat += c;
    }
  }
  const size_t colon = flat.rfind("::");
  std::string base = colon == std::string::npos ? flat : flat.substr(colon + 2);
  // "void Name" of a template's symbol.
  if (!base.starts_with("operator")) {
    const size_t blank = base.rfind(' ');
    if (blank != std::string::npos && blank + 1 < base.size()) {
      base = base.substr(blank + 1);
    }
  }
  // GCC's "Name[abi:cxx11]" of what returns a std::string is clang's "Name".
  if (const size_t tag = base.find("[abi:"); tag != std::string::npos) {
    base.resize(tag);
  }
  for (char& c : base) {
    if (c == ' ' || c == '#') c = '_';
  }
  return base;
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

// Whether a mangled name is of a function, or of a lambda in a function, of
// this project or of TensorPipe. Scenarios and tests are in other namespaces.
bool IsOwnSymbol(std::string_view name) {
  for (const char* prefix : {"_ZN", "_ZNK", "_ZZN", "_ZZNK"}) {
    if (!name.starts_with(prefix)) continue;
    const std::string_view rest = name.substr(std::strlen(prefix));
    return rest.starts_with("10tensorpipe") ||
           (rest.starts_with("7reprise") &&
            !rest.starts_with("7reprise9scenarios"));
  }
  return false;
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

class Symbolizer {
 public:
  static Symbolizer& Instance() {
    static Symbolizer* const instance = new Symbolizer();
    return *instance;
  }

  const CodePlace& At(const void* return_address) {
    const std::lock_guard<std::mutex> lock(mutex_);
    auto it = places_.find(return_address);
    if (it == places_.end()) {
      it = places_.emplace(return_address, Make(return_address)).first;
    }
    return *it->second;
  }

  void Read() {
    const std::lock_guard<std::mutex> lock(mutex_);
    Roots();
  }

 private:
  Symbolizer() = default;

  // Reads the debug information of all objects, when it is first needed.
  backtrace_state* state() {
    if (state_ == nullptr) {
      state_ =
          backtrace_create_state(nullptr, /*threaded=*/1, &Ignore, nullptr);
    }
    return state_;
  }

  // Objects may be loaded later, too.
  const Module* ModuleOf(uintptr_t pc) {
    for (int attempt = 0; attempt < 2; ++attempt) {
      for (const Module& module : modules_) {
        if (pc >= module.low && pc < module.high) return &module;
      }
      modules_.clear();
      dl_iterate_phdr(
          [](dl_phdr_info* info, size_t, void* data) {
            auto* const modules = static_cast<std::vector<Module>*>(data);
            const std::string_view path = info->dlpi_name;
            for (int i = 0; i < info->dlpi_phnum; ++i) {
              const auto& header = info->dlpi_phdr[i];
              if (header.p_type != PT_LOAD || (header.p_flags & PF_X) == 0) {
                continue;
              }
              const uintptr_t low = info->dlpi_addr + header.p_vaddr;
              modules->push_back({low, low + header.p_memsz, KindOfObject(path),
                                  path.empty(),
                                  Contains(path, "/libtensorpipe")});
            }
            return 0;
          },
          &modules_);
    }
    return nullptr;
  }

  // From the innermost inlined function to the one that was compiled.
  std::vector<Frame> FramesAt(uintptr_t pc) {
    std::vector<Frame> frames;
    if (state() == nullptr) return frames;
    backtrace_pcinfo(
        state_, pc,
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
        state_, pc,
        [](void* data, uintptr_t, const char* name, uintptr_t, uintptr_t) {
          if (name != nullptr)
            *static_cast<std::string*>(data) = Demangled(name);
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

  // The folders that this project lies in, as the debug information has them.
  // The agent may have been compiled elsewhere.
  const std::vector<std::string>& Roots() {
    if (roots_.empty()) {
      AddRoot(reinterpret_cast<uintptr_t>(&PlaceOf), "sim/interpose/");
      if (&RealRuntime != nullptr) {
        AddRoot(reinterpret_cast<uintptr_t>(&RealRuntime), "agent/runtime/");
      }
    }
    return roots_;
  }

  void AddRoot(uintptr_t function, std::string_view folder) {
    for (const Frame& frame : FramesAt(function + 1)) {
      const size_t end = frame.file.rfind(folder);
      if (end != std::string::npos) {
        roots_.push_back(frame.file.substr(0, end));
        return;
      }
    }
  }

  bool IsOfTheProject(std::string_view file) {
    for (const std::string& root : Roots()) {
      if (!file.starts_with(root)) continue;
      const std::string_view path = file.substr(root.size());
      for (const char* folder :
           {"agent/", "sim/", "fault_injection/", "tools/"}) {
        if (path.starts_with(folder)) return true;
      }
    }
    return false;
  }

  PlaceKind KindOf(const Frame& frame) {
    const std::string_view file = frame.file;
    if (file.empty()) {
      const std::string_view name = frame.function;
      for (const char* prefix :
           {"std::", "void std::", "absl::", "__gthread", "__gnu_cxx::"}) {
        // A lambda of the user's may be inlined into what calls it.
        if (name.starts_with(prefix) && !Contains(name, "_M_run") &&
            !Contains(name, "_M_invoke")) {
          return PlaceKind::kLibrary;
        }
      }
      return name.starts_with("reprise::") || Contains(name, "tensorpipe::")
                 ? PlaceKind::kQuiet
                 : PlaceKind::kUser;
    }
    if (Contains(file, "/c++/") || Contains(file, "/absl/") ||
        Contains(file, "/boost/") || Contains(file, "/gtest/") ||
        Contains(file, "/gmock/")) {
      return PlaceKind::kLibrary;
    }
    return Contains(file, "/tensorpipe/") || IsOfTheProject(file)
               ? PlaceKind::kQuiet
               : PlaceKind::kUser;
  }

  static void Describe(const Frame& frame, CodePlace& place) {
    const size_t slash = frame.file.rfind('/');
    const std::string file =
        slash == std::string::npos ? frame.file : frame.file.substr(slash + 1);
    std::string base = BaseName(frame.function);
    const bool is_lambda = base == "operator()" || base.empty();
    if (is_lambda) base = "lambda";
    place.function = is_lambda && !file.empty() ? base + "@" + file : base;
    place.label = file.empty() ? base : file + ":" + base;
    place.where = base;
    if (!file.empty()) {
      place.where += " (" + file + ":" + std::to_string(frame.line) + ")";
    }
  }

  CodePlace* Make(const void* return_address) {
    auto* const place = new CodePlace();
    const uintptr_t pc = reinterpret_cast<uintptr_t>(return_address) - 1;
    const Module* const module = ModuleOf(pc);
    if (module == nullptr) {
      place->kind = PlaceKind::kLibrary;  // code made at run time
      place->in_shared_library = true;
      return place;
    }
    place->kind = module->kind;
    if (module->kind == PlaceKind::kQuiet) {
      if (module->is_tensorpipe && quiet_code_size == 0) {
        quiet_code_low = module->low;
        quiet_code_size = module->high - module->low;
      }
      return place;
    }
    if (module->is_program && IsOwnSymbol(ProgramSymbolAt(pc))) {
      place->kind = PlaceKind::kQuiet;
      return place;
    }
    place->in_shared_library = module->kind == PlaceKind::kLibrary;
    const std::vector<Frame> frames = FramesAt(pc);
    if (frames.empty()) {
      place->function = place->label = place->where = "unknown";
      return place;
    }
    if (place->in_shared_library) {
      Describe(frames.back(), *place);
      place->where =
          frames.back().function.substr(0, frames.back().function.find('('));
      return place;
    }
    for (const Frame& frame : frames) {
      place->kind = KindOf(frame);
      Describe(frame, *place);
      if (place->kind != PlaceKind::kLibrary) return place;
    }
    return place;
  }

  std::mutex mutex_;
  backtrace_state* state_ = nullptr;
  std::vector<Module> modules_;
  std::unordered_map<const void*, CodePlace*> places_;
  std::vector<std::string> roots_;
};

struct Walk {
  const void* from;
  bool seen = false;
  const CodePlace* found = nullptr;
  const CodePlace* library = nullptr;
};

}  // namespace

const CodePlace& PlaceOf(const void* return_address) {
  return Symbolizer::Instance().At(return_address);
}

void ReadDebugInformation() { Symbolizer::Instance().Read(); }

const CodePlace& PlaceOfUser(const void* return_address,
                             const CodePlace** library) {
  Walk walk{return_address};
  _Unwind_Backtrace(
      [](_Unwind_Context* context, void* data) {
        auto& walk = *static_cast<Walk*>(data);
        const auto* const address =
            reinterpret_cast<const void*>(_Unwind_GetIP(context));
        if (address == walk.from) walk.seen = true;
        if (!walk.seen) return _URC_NO_REASON;
        const CodePlace& place = PlaceOf(address);
        if (place.kind == PlaceKind::kLibrary) {
          walk.library = &place;
          return _URC_NO_REASON;
        }
        walk.found = &place;
        return _URC_END_OF_STACK;
      },
      &walk);
  *library = walk.library;
  if (walk.found != nullptr) return *walk.found;
  static const CodePlace* const nobody = [] {
    auto* const place = new CodePlace();
    place->kind = PlaceKind::kLibrary;
    place->function = place->label = place->where = "a library";
    return place;
  }();
  return *nobody;
}

}  // namespace interpose
}  // namespace reprise
