#include "sim/explore/signature.h"

#include <cctype>

#include "sim/explore/obituary.h"

namespace reprise {
namespace {

constexpr size_t kMaxSignature = 300;

bool IsDigit(char c) { return std::isdigit(static_cast<unsigned char>(c)); }
bool IsHexDigit(char c) { return std::isxdigit(static_cast<unsigned char>(c)); }

}  // namespace

std::string SignatureOf(std::string_view rule, std::string_view detail) {
  std::string signature(rule);
  if (!detail.empty()) signature += ": ";
  for (size_t i = 0; i < detail.size() && signature.size() < kMaxSignature;) {
    if (!IsDigit(detail[i])) {
      signature += detail[i++];
      continue;
    }
    const bool is_hex = detail.substr(i, 2) == "0x";
    if (is_hex) i += 2;
    while (i < detail.size() &&
           (is_hex ? IsHexDigit(detail[i]) : IsDigit(detail[i]))) {
      ++i;
    }
    signature += '#';
  }
  return signature;
}

bool IsSameFailure(const RunResult& failed, const RunResult& run) {
  if (run.rule != failed.rule) return false;
  return !IsDeathRule(run.rule) || SignatureOf(run.rule, run.detail) ==
                                       SignatureOf(failed.rule, failed.detail);
}

}  // namespace reprise
