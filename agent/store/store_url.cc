#include "agent/store/store_url.h"

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace reprise {
namespace {

constexpr std::string_view kSchemeEnd = "://";

std::optional<std::string> PercentDecoded(std::string_view text) {
  std::string decoded;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      decoded.push_back(text[i]);
      continue;
    }
    if (i + 2 >= text.size() || !absl::ascii_isxdigit(text[i + 1]) ||
        !absl::ascii_isxdigit(text[i + 2])) {
      return std::nullopt;
    }
    decoded += absl::HexStringToBytes(std::string(text.substr(i + 1, 2)));
    i += 2;
  }
  return decoded;
}

bool IsPort(const std::string& port) {
  uint32_t number = 0;
  for (const char c : port) {
    if (!absl::ascii_isdigit(static_cast<unsigned char>(c))) return false;
  }
  return absl::SimpleAtoi(port, &number) && number >= 1 && number <= 65535;
}

bool IsHost(std::string_view host) {
  for (const char c : host) {
    if (!absl::ascii_isgraph(static_cast<unsigned char>(c))) return false;
  }
  return !host.empty();
}

// Splits `text` at the first `separator`; the second is empty if there is none.
std::pair<std::string_view, std::string_view> Split(std::string_view text,
                                                    char separator) {
  const size_t at = text.find(separator);
  if (at == std::string_view::npos) return {text, {}};
  return {text.substr(0, at), text.substr(at + 1)};
}

}  // namespace

std::string StoreUrl::Address() const {
  if (host.find(':') == std::string::npos) return host + ":" + port;
  return absl::StrCat("[", host, "]:", port);
}

std::string PrintableUrl(std::string_view url) {
  const size_t scheme = url.find(kSchemeEnd);
  const size_t begin =
      scheme == std::string_view::npos ? 0 : scheme + kSchemeEnd.size();
  const size_t at = url.rfind('@');
  std::string shown(url);
  if (at != std::string_view::npos && at >= begin) {
    shown.replace(begin, at - begin, "***");
  }
  return absl::StrCat("\"", absl::CHexEscape(shown), "\"");
}

absl::Status BadStoreUrl(std::string_view url, std::string_view why) {
  return absl::InvalidArgumentError(absl::StrCat(
      "store: not a valid URL: ", PrintableUrl(url), ": ", std::string(why)));
}

absl::StatusOr<StoreUrl> ParseStoreUrl(std::string_view url,
                                       std::string_view default_port) {
  StoreUrl parsed;
  const size_t scheme = url.find(kSchemeEnd);
  if (scheme == std::string_view::npos) return BadStoreUrl(url, "no scheme");
  parsed.scheme = std::string(url.substr(0, scheme));
  const auto [before_query, query] =
      Split(url.substr(scheme + kSchemeEnd.size()), '?');
  const auto [authority, path] = Split(before_query, '/');
  parsed.path = std::string(path);

  std::string_view host_port = authority;
  if (const size_t at = authority.rfind('@'); at != std::string_view::npos) {
    host_port = authority.substr(at + 1);
    const auto [user, password] = Split(authority.substr(0, at), ':');
    const auto decoded_user = PercentDecoded(user);
    const auto decoded_password = PercentDecoded(password);
    if (!decoded_user || !decoded_password) {
      return BadStoreUrl(url, "in user and password '%' must be written %25");
    }
    parsed.user = *decoded_user;
    parsed.password = *decoded_password;
  }

  std::string_view host = host_port;
  std::string_view port;
  if (!host_port.empty() && host_port.front() == '[') {
    const size_t end = host_port.find(']');
    if (end == std::string_view::npos) return BadStoreUrl(url, "no ']'");
    host = host_port.substr(1, end - 1);
    const std::string_view rest = host_port.substr(end + 1);
    if (!rest.empty() && (rest.front() != ':' || rest.size() == 1)) {
      return BadStoreUrl(url, "no port after ']'");
    }
    if (!rest.empty()) port = rest.substr(1);
  } else if (const size_t colon = host_port.find(':');
             colon != std::string_view::npos) {
    host = host_port.substr(0, colon);
    port = host_port.substr(colon + 1);
    if (port.empty()) return BadStoreUrl(url, "no port after ':'");
  }
  if (!IsHost(host)) return BadStoreUrl(url, "no host");
  parsed.host = std::string(host);
  parsed.port = std::string(port.empty() ? default_port : port);
  if (!IsPort(parsed.port)) {
    return BadStoreUrl(url, "it needs a port from 1 to 65535");
  }

  if (query.empty()) return parsed;
  const std::vector<std::string> options =
      absl::StrSplit(std::string(query), '&');
  for (const std::string& option : options) {
    const auto [name, value] = Split(option, '=');
    if (!parsed.options.emplace(std::string(name), std::string(value)).second) {
      return BadStoreUrl(url, "an option is given twice");
    }
  }
  return parsed;
}

}  // namespace reprise
