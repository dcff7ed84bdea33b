#include "sim/explore/signature.h"

#include <cctype>

#include "sim/explore/obituary.h"

namespace reprise {
namespace {

constexpr size_t kMaxSignature = 300;

bool IsDigit(char c) { return std::isdigit(static_cast<unsigned char>(c)); }
bool IsHexDigit(char c) { return std::isxdigit(static_cast<unsigned char>(c)); }

// Of "w1/main: the run used 60 s of CPU time; in Read() < Loop()" the thread
// and "Loop()": when the run is made again, the hang is found by another bound
// and at another moment of the loop.
std::string LoopOf(std::string_view detail) {
  constexpr std::string_view kIn = "; in ";
  constexpr std::string_view kCalledBy = " < ";
  const size_t where = detail.find(kIn);
  const size_t thread_end = detail.find(": ");
  std::string loop;
  if (thread_end < where) loop = detail.substr(0, thread_end);
  if (where == std::string_view::npos) return loop;
  const size_t outermost = detail.rfind(kCalledBy);
  loop += detail.substr(outermost == std::string_view::npos || outermost < where
                            ? where + kIn.size()
                            : outermost + kCalledBy.size());
  return loop;
}

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
  if (run.rule == "hang") {
    return SignatureOf("", LoopOf(run.detail)) ==
           SignatureOf("", LoopOf(failed.detail));
  }
  return !IsDeathRule(run.rule) || SignatureOf(run.rule, run.detail) ==
                                       SignatureOf(failed.rule, failed.detail);
}

}  // namespace reprise
