// URLs of stores that have a server. Pure functions.

#ifndef REPRISE_AGENT_STORE_STORE_URL_H_
#define REPRISE_AGENT_STORE_STORE_URL_H_

#include <map>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace reprise {

// `scheme://[user:password@]host[:port][/path][?name=value&...]`
struct StoreUrl {
  std::string scheme;
  std::string user;      // both decoded
  std::string password;  // never to be shown
  std::string host;      // an IPv6 address is without its brackets
  std::string port;      // decimal, from 1 to 65535
  std::string path;      // without its first slash
  std::map<std::string, std::string> options;

  // "host:port", for texts.
  std::string Address() const;
};

// INVALID_ARGUMENT when `url` is not such a URL, or names no port and
// `default_port` is empty. In user and password '%' begins two hexadecimal
// digits.
absl::StatusOr<StoreUrl> ParseStoreUrl(std::string_view url,
                                       std::string_view default_port);

// `url` in quotes, escaped, with "***" for user and password: for texts.
std::string PrintableUrl(std::string_view url);

// INVALID_ARGUMENT that says `why`, with the printable `url` in its text.
absl::Status BadStoreUrl(std::string_view url, std::string_view why);

}  // namespace reprise

#endif  // REPRISE_AGENT_STORE_STORE_URL_H_
