// A cluster of etcd that tests start on 127.0.0.1.

#ifndef REPRISE_TESTS_UNIT_STORE_ETCD_CLUSTER_H_
#define REPRISE_TESTS_UNIT_STORE_ETCD_CLUSTER_H_

#include <memory>
#include <string>
#include <vector>

#include "tests/unit/store/server_process.h"
#include "tests/unit/store/temporary_directory.h"

namespace reprise {

// Members on free ports. Their data survive a kill. They take requests of up to
// 16 MiB, and choose a new leader within a second or two.
class EtcdCluster {
 public:
  // Why there can be no cluster, or "".
  static std::string Missing();

  // Fails the test if it cannot be started. Serves on return.
  explicit EtcdCluster(int members);

  int size() const { return static_cast<int>(members_.size()); }
  // The store of all members, or of one.
  std::string Url(const std::string& rest = "") const;
  std::string UrlOf(int member, const std::string& rest = "") const;
  std::string Address(int member) const;

  void Kill(int member) { members_[member].process->Kill(); }
  void Signal(int member, int signal) {
    members_[member].process->Signal(signal);
  }
  // To be called after a kill: with the same ports and data.
  void Restart(int member);
  // The member that leads, or -1 while it is not known.
  int Leader() const;

 private:
  struct Member {
    int client_port = 0;
    int peer_port = 0;
    std::unique_ptr<TemporaryDirectory> directory;
    std::unique_ptr<ServerProcess> process;
  };

  void Launch(int member);
  // Waits until a majority serves; false if a member ended.
  bool Serves();

  std::vector<Member> members_;
  std::string initial_cluster_;
};

}  // namespace reprise

#endif  // REPRISE_TESTS_UNIT_STORE_ETCD_CLUSTER_H_
