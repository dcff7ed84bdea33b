#include "agent/store/open_store.h"

#include <string>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "agent/store/file_store.h"
#include "agent/store/memory_store.h"

namespace reprise {
namespace {

constexpr std::string_view kMemoryUrl = "memory://";
constexpr std::string_view kFileScheme = "file://";

}  // namespace

absl::StatusOr<std::shared_ptr<Store>> OpenStore(Runtime& runtime,
                                                 std::string_view url) {
  if (url == kMemoryUrl) return MakeMemoryStore(runtime);
  if (url.substr(0, kFileScheme.size()) == kFileScheme) {
    const std::string_view path = url.substr(kFileScheme.size());
    if (path.size() > 1 && path.front() == '/') {
      return OpenFileStore(runtime, std::string(path));
    }
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "store: no such URL: \"", absl::CHexEscape(std::string(url)),
      "\"; supported are memory:// and file:///absolute/directory"));
}

}  // namespace reprise
