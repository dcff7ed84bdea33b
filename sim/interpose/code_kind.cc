#include "sim/interpose/code_kind.h"

#include <cstring>
#include <string>
#include <vector>

namespace reprise {

class Runtime;
__attribute__((weak)) Runtime& RealRuntime();  // of the agent, if it is linked

namespace interpose {
namespace {

bool Contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

// The folder that the project lies in, as the debug information of `function`
// has it, whose file lies in `folder`.
void AddRoot(uintptr_t function, std::string_view folder,
             std::vector<std::string>& roots) {
  for (const Frame& frame : FramesAt(function + 1)) {
    const size_t end = frame.file.rfind(folder);
    if (end != std::string::npos) {
      roots.push_back(frame.file.substr(0, end));
      return;
    }
  }
}

// The agent may have been compiled elsewhere.
const std::vector<std::string>& Roots() {
  static const std::vector<std::string>* const roots = [] {
    auto* const found = new std::vector<std::string>();
    AddRoot(reinterpret_cast<uintptr_t>(&KindOfObject), "sim/interpose/",
            *found);
    if (&RealRuntime != nullptr) {
      AddRoot(reinterpret_cast<uintptr_t>(&RealRuntime), "agent/runtime/",
              *found);
    }
    return found;
  }();
  return *roots;
}

// The path of a file of the project's, from its root, or an empty text.
std::string_view PathInProject(std::string_view file) {
  for (const std::string& root : Roots()) {
    if (!file.starts_with(root)) continue;
    const std::string_view path = file.substr(root.size());
    for (const char* folder :
         {"agent/", "sim/", "fault_injection/", "tools/"}) {
      if (path.starts_with(folder)) return path;
    }
  }
  return "";
}

}  // namespace

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

PlaceKind KindOf(const Frame& frame, bool in_program) {
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
    // A library's functions may have arguments of TensorPipe's types.
    const bool is_tensorpipe = in_program ? Contains(name, "tensorpipe::")
                                          : name.starts_with("tensorpipe::");
    return name.starts_with("reprise::") || is_tensorpipe ? PlaceKind::kQuiet
                                                          : PlaceKind::kUser;
  }
  if (Contains(file, "/c++/") || Contains(file, "/absl/") ||
      Contains(file, "/boost/") || Contains(file, "/gtest/") ||
      Contains(file, "/gmock/")) {
    return PlaceKind::kLibrary;
  }
  if (Contains(file, "/tensorpipe/")) return PlaceKind::kQuiet;
  const std::string_view path = PathInProject(file);
  // What is interposed is called in place of a library's function.
  if (path.starts_with("sim/interpose/")) return PlaceKind::kLibrary;
  return path.empty() ? PlaceKind::kUser : PlaceKind::kQuiet;
}

}  // namespace interpose
}  // namespace reprise
