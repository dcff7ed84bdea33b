// One caller's way to an etcd cluster: requests to etcd's JSON gateway
// (https://etcd.io/docs/v3.4/dev-guide/api_grpc_gateway/), by libcurl.

#ifndef REPRISE_AGENT_STORE_ETCD_CLIENT_H_
#define REPRISE_AGENT_STORE_ETCD_CLIENT_H_

#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "nlohmann/json.hpp"

namespace reprise {

// Not thread-safe. Blocks in system calls. It keeps connections to the
// endpoints that it has talked to.
class EtcdClient {
 public:
  // RESOURCE_EXHAUSTED if libcurl has no memory.
  static absl::StatusOr<std::unique_ptr<EtcdClient>> Make();
  ~EtcdClient();

  struct Request {
    std::string url;   // of the endpoint and the method
    std::string body;  // a JSON object
    // So that it can never be sent twice, it gets a connection of its own:
    // libcurl sends a request again if a connection that it had kept turns out
    // to be dead, and that cannot be told from a server that died of it.
    bool once = false;
    absl::Duration connect_timeout;
    absl::Duration timeout;  // for all, positive
  };

  struct Answer {
    absl::Status status;  // UNAVAILABLE: another endpoint may do better
    nlohmann::json json;  // an object, if OK
    // Whether the request may have had an effect, if it is not OK.
    bool may_have_effect = false;
    bool timed_out = false;
  };

  // The status is that of etcd's refusal, if it refuses.
  Answer Post(const Request& request);

  // For ConnectionPool. libcurl finds out itself which connections are dead.
  bool IsUsable() const { return true; }

 private:
  struct FreeHandle {
    void operator()(void* handle) const;
  };

  explicit EtcdClient(void* handle);

  const std::unique_ptr<void, FreeHandle> handle_;  // a CURL*
};

// The status that a refusal of etcd becomes; `body` is the answer to a request
// that failed with `http_code`, and may be anything.
absl::Status EtcdError(long http_code,  // NOLINT(google-runtime-int): libcurl's
                       std::string_view body);

}  // namespace reprise

#endif  // REPRISE_AGENT_STORE_ETCD_CLIENT_H_
