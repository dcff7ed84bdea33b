// SHA-256 (FIPS 180-4).

#ifndef REPRISE_AGENT_STORE_SHA256_H_
#define REPRISE_AGENT_STORE_SHA256_H_

#include <string>
#include <string_view>

namespace reprise {

// The digest of `bytes` as 64 lower-case hexadecimal digits.
std::string Sha256Hex(std::string_view bytes);

}  // namespace reprise

#endif  // REPRISE_AGENT_STORE_SHA256_H_
