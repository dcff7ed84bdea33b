#include "agent/store/open_store.h"

#include <string>

#include "absl/status/status.h"
#include "agent/store/c10d_file_store.h"
#include "agent/store/etcd_store.h"
#include "agent/store/file_store.h"
#include "agent/store/memory_store.h"
#include "agent/store/redis_store.h"
#include "agent/store/store_url.h"
#include "agent/store/tcp_store.h"

namespace reprise {
namespace {

constexpr std::string_view kMemoryUrl = "memory://";
constexpr std::string_view kFileScheme = "file://";
constexpr std::string_view kC10dFileScheme = "c10d-file://";
constexpr std::string_view kRedisScheme = "redis://";
constexpr std::string_view kTcpScheme = "tcp://";
constexpr std::string_view kEtcdScheme = "etcd://";

bool HasScheme(std::string_view url, std::string_view scheme) {
  return url.substr(0, scheme.size()) == scheme;
}

}  // namespace

absl::StatusOr<std::shared_ptr<Store>> OpenStore(Runtime& runtime,
                                                 std::string_view url) {
  if (url == kMemoryUrl) return MakeMemoryStore(runtime);
  if (HasScheme(url, kRedisScheme)) return OpenRedisStore(runtime, url);
  if (HasScheme(url, kTcpScheme)) return OpenTcpStore(runtime, url);
  if (HasScheme(url, kEtcdScheme)) return OpenEtcdStore(runtime, url);
  if (HasScheme(url, kFileScheme)) {
    const std::string_view path = url.substr(kFileScheme.size());
    if (path.size() > 1 && path.front() == '/') {
      return OpenFileStore(runtime, std::string(path));
    }
  }
  if (HasScheme(url, kC10dFileScheme)) {
    const std::string_view path = url.substr(kC10dFileScheme.size());
    if (path.size() > 1 && path.front() == '/') {
      return OpenC10dFileStore(runtime, std::string(path));
    }
  }
  return BadStoreUrl(
      url,
      "supported are memory://, file:///absolute/directory, "
      "c10d-file:///absolute/file, "
      "redis://[[user]:password@]host[:port][/database][?ttl=SECONDS], "
      "tcp://host:port[?protocol=1|2] and "
      "etcd://host[:port][,host[:port]...][/prefix]; there is no rediss://, as "
      "Debian's hiredis has no TLS");
}

}  // namespace reprise
