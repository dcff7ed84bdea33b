#include "agent/worker_info.h"

#include <algorithm>

#include "absl/strings/ascii.h"

namespace reprise {

bool IsWorkerName(std::string_view name) {
  return !name.empty() && name.size() < kMaxWorkerName &&
         std::all_of(name.begin(), name.end(), [](unsigned char c) {
           return absl::ascii_isalnum(c) || c == '-' || c == '_' || c == ':';
         });
}

}  // namespace reprise
