#include "agent/python/python_text.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace reprise {
namespace {

constexpr uint32_t kReplacement = 0xfffd;

// Takes the first code point off `text`, which is not empty. Nothing if there
// is none: then one byte is taken.
std::optional<uint32_t> TakeCodePoint(std::string_view& text) {
  const auto byte = [&text](size_t i) {
    return static_cast<uint32_t>(static_cast<unsigned char>(text[i]));
  };
  // The least code point that needs so many bytes.
  constexpr std::array<uint32_t, 5> kLeast = {0, 0, 0x80, 0x800, 0x10000};
  const uint32_t first = byte(0);
  const size_t length = first < 0x80   ? 1
                        : first < 0xc0 ? 0
                        : first < 0xe0 ? 2
                        : first < 0xf0 ? 3
                        : first < 0xf8 ? 4
                                       : 0;
  uint32_t code = length == 1 ? first : first & (0xffu >> (length + 1));
  bool is_good = length != 0 && text.size() >= length;
  for (size_t i = 1; is_good && i < length; ++i) {
    is_good = (byte(i) & 0xc0) == 0x80;
    code = code << 6 | (byte(i) & 0x3f);
  }
  is_good = is_good && code >= kLeast[length] && code <= 0x10ffff &&
            (code < 0xd800 || code > 0xdfff);
  text.remove_prefix(is_good ? length : 1);
  if (!is_good) return std::nullopt;
  return code;
}

}  // namespace

bool IsUtf8(std::string_view text) {
  while (!text.empty()) {
    if (!TakeCodePoint(text).has_value()) return false;
  }
  return true;
}

std::string EscapeForPython(std::string_view text) {
  std::string escaped;
  while (!text.empty()) {
    const uint32_t code = TakeCodePoint(text).value_or(kReplacement);
    if (code == '\\') {
      escaped += "\\\\";
    } else if (code < 0x80) {
      escaped += static_cast<char>(code);
    } else if (code < 0x10000) {
      absl::StrAppendFormat(&escaped, "\\u%04x", code);
    } else {
      absl::StrAppendFormat(&escaped, "\\U%08x", code);
    }
  }
  return escaped;
}

}  // namespace reprise
