// Which file of a file store holds a key.

#ifndef REPRISE_AGENT_STORE_FILE_KEY_H_
#define REPRISE_AGENT_STORE_FILE_KEY_H_

#include <cstddef>
#include <string>
#include <string_view>

namespace reprise {

// Some file systems (eCryptfs) allow no names of more than 143 bytes.
inline constexpr size_t kMaxKeyFileNameBytes = 140;

// "key-" and the key, percent-encoded except for letters, digits, '.', '_',
// '-'. A key whose name would be longer than `kMaxKeyFileNameBytes` keeps its
// head, then '~' and its SHA-256. Different keys have different names. Any
// bytes are a key, also none.
std::string KeyFileName(std::string_view key);

}  // namespace reprise

#endif  // REPRISE_AGENT_STORE_FILE_KEY_H_
