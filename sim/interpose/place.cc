#include "sim/interpose/place.h"

#include <link.h>
#include <unwind.h>

#include <cstdint>
#include <cstring>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "sim/interpose/code_kind.h"
#include "sim/interpose/debug_information.h"
#include "sim/interpose/program_symbols.h"

namespace reprise::interpose {
namespace {

// A loaded object's code.
struct Module {
  uintptr_t low = 0;
  uintptr_t high = 0;
  PlaceKind kind = PlaceKind::kUser;
  bool is_program = false;
  bool is_tensorpipe = false;
};

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
  // "Name(std::string) const [clone .part.0]"
  if (const size_t at = flat.find(" [clone"); at != std::string::npos) {
    flat.resize(at);
  }
  for (std::string_view behind : {" volatile", " const"}) {
    if (flat.ends_with(behind)) flat.resize(flat.size() - behind.size());
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

void Describe(const Frame& frame, CodePlace& place) {
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
      if (it->second->kind == PlaceKind::kQuiet) NoteQuietCall(return_address);
    }
    return *it->second;
  }

 private:
  Symbolizer() = default;

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
              modules->push_back(
                  {low, low + header.p_memsz, KindOfObject(path), path.empty(),
                   path.find("/libtensorpipe") != std::string_view::npos});
            }
            return 0;
          },
          &modules_);
    }
    return nullptr;
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
    if (module->is_program) {
      const std::string_view symbol = ProgramSymbolAt(pc);
      // What counts is who called what is interposed.
      if (symbol == "syscall" || symbol.starts_with("_ZN7reprise9interpose")) {
        place->kind = PlaceKind::kLibrary;
        place->function = place->label = place->where = "interposed";
        return place;
      }
      if (IsOwnSymbol(symbol)) {
        place->kind = PlaceKind::kQuiet;
        return place;
      }
    }
    if (module->kind == PlaceKind::kLibrary) {
      place->in_shared_library = true;
      std::string symbol = ExportedSymbolAt(pc);
      if (symbol.empty()) symbol = "unknown";
      Describe({symbol, "", 0}, *place);
      place->where = symbol.substr(0, symbol.find('('));
      return place;
    }
    const std::vector<Frame> frames = FramesAt(pc);
    if (frames.empty()) {
      place->function = place->label = place->where = "unknown";
      return place;
    }
    for (const Frame& frame : frames) {
      place->kind = KindOf(frame, module->is_program);
      Describe(frame, *place);
      if (place->kind != PlaceKind::kLibrary) return place;
    }
    return place;
  }

  std::mutex mutex_;
  std::vector<Module> modules_;
  std::unordered_map<const void*, CodePlace*> places_;
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

}  // namespace reprise::interpose
