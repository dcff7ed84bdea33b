#include "agent/store/file_key.h"

#include <sha256.h>

#include <array>
#include <cstdint>

#include "absl/strings/ascii.h"

namespace reprise {
namespace {

// How much of a long key its file name keeps, so that a reader can tell the
// key.
constexpr size_t kHeadBytes = 64;

// Returns the hash in lower-case hexadecimal.
std::string Sha256(std::string_view bytes) {
  std::array<char, SHA256_DIGEST_STRING_LENGTH> digits;
  SHA256Data(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size(),
             digits.data());
  return digits.data();
}

}  // namespace

std::string KeyFileName(std::string_view key) {
  std::string name = "key-";
  for (const char c : key) {
    if (absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '.' ||
        c == '_' || c == '-') {
      name.push_back(c);
    } else {
      const auto byte = static_cast<unsigned char>(c);
      name.push_back('%');
      name.push_back("0123456789ABCDEF"[byte >> 4]);
      name.push_back("0123456789ABCDEF"[byte & 0xf]);
    }
    if (name.size() > kMaxKeyFileNameBytes) {
      name.resize(kHeadBytes);
      return name.append("~").append(Sha256(key));
    }
  }
  return name;
}

}  // namespace reprise
