#include "tests/unit/store/etcd_cluster.h"

#include <unistd.h>

#include <random>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/time.h"
#include "agent/runtime/runtime.h"
#include "agent/store/etcd_client.h"
#include "agent/store/etcd_store.h"
#include "gtest/gtest.h"

namespace reprise {
namespace {

constexpr char kProgram[] = "/usr/bin/etcd";
// The ports are below those that the system gives to clients.
constexpr int kFirstPort = 10000;
constexpr int kPorts = 10000;
constexpr int kPortTries = 20;

std::string Http(int port) { return absl::StrCat("http://127.0.0.1:", port); }

}  // namespace

std::string EtcdCluster::Missing() {
  return access(kProgram, X_OK) == 0
             ? ""
             : absl::StrCat("no ", kProgram, " (tools/setup.sh)");
}

EtcdCluster::EtcdCluster(int members) {
  // In a sandbox all tests have the same process id.
  static unsigned next = std::random_device()();
  for (int i = 0; i < kPortTries; ++i) {
    members_.clear();
    std::vector<std::string> peers;
    for (int j = 0; j < members; ++j) {
      Member member;
      member.client_port = kFirstPort + static_cast<int>(next++ % kPorts);
      member.peer_port = kFirstPort + static_cast<int>(next++ % kPorts);
      member.directory = std::make_unique<TemporaryDirectory>();
      peers.push_back(absl::StrCat("m", j, "=", Http(member.peer_port)));
      members_.push_back(std::move(member));
    }
    initial_cluster_ = absl::StrJoin(peers, ",");
    for (int j = 0; j < members; ++j) Launch(j);
    if (Serves()) return;
  }
  ADD_FAILURE() << "cannot start etcd (" << kProgram << ")";
}

std::string EtcdCluster::Url(const std::string& rest) const {
  std::vector<std::string> addresses;
  for (int i = 0; i < size(); ++i) addresses.push_back(Address(i));
  return absl::StrCat("etcd://", absl::StrJoin(addresses, ","), rest);
}

std::string EtcdCluster::UrlOf(int member, const std::string& rest) const {
  return absl::StrCat("etcd://", Address(member), rest);
}

std::string EtcdCluster::Address(int member) const {
  return absl::StrCat("127.0.0.1:", members_[member].client_port);
}

void EtcdCluster::Restart(int member) { Launch(member); }

void EtcdCluster::Launch(int member) {
  Member& one = members_[member];
  one.process = std::make_unique<ServerProcess>(
      kProgram, std::vector<std::string>{"etcd",
                                         "--name",
                                         absl::StrCat("m", member),
                                         "--data-dir",
                                         one.directory->path(),
                                         "--listen-client-urls",
                                         Http(one.client_port),
                                         "--advertise-client-urls",
                                         Http(one.client_port),
                                         "--listen-peer-urls",
                                         Http(one.peer_port),
                                         "--initial-advertise-peer-urls",
                                         Http(one.peer_port),
                                         "--initial-cluster",
                                         initial_cluster_,
                                         "--heartbeat-interval",
                                         "50",
                                         "--election-timeout",
                                         "500",
                                         "--max-request-bytes",
                                         "16777216",
                                         "--logger",
                                         "zap",
                                         "--log-level",
                                         "error"});
}

bool EtcdCluster::Serves() {
  const auto store = OpenEtcdStore(RealRuntime(), Url());
  if (!store.ok()) return false;
  while (true) {
    const absl::Status status =
        (*store)->Set("is it up", "", RealRuntime().Now() + absl::Seconds(5));
    // Another test's server may answer on a port, so all of ours must run.
    for (const Member& member : members_) {
      if (!member.process->IsAlive()) return false;
    }
    if (status.ok()) return true;
    RealRuntime().SleepUntil(RealRuntime().Now() + absl::Milliseconds(20));
  }
}

int EtcdCluster::Leader() const {
  const auto client = EtcdClient::Make();
  if (!client.ok()) return -1;
  for (int i = 0; i < size(); ++i) {
    EtcdClient::Request request;
    request.url = Http(members_[i].client_port) + "/v3/maintenance/status";
    request.body = "{}";
    request.connect_timeout = request.timeout = absl::Seconds(2);
    const EtcdClient::Answer answer = (*client)->Post(request);
    // It names the leader by the number that a member has in its own header.
    if (answer.status.ok() && answer.json.contains("leader") &&
        answer.json["leader"] == answer.json["header"]["member_id"]) {
      return i;
    }
  }
  return -1;
}

}  // namespace reprise
