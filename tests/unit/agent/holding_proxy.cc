#include "tests/unit/agent/holding_proxy.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <limits>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace reprise::testing {
namespace {

constexpr int64_t kUnlimited = std::numeric_limits<int64_t>::max();

sockaddr_in Loopback(int port) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

}  // namespace

int PortOfWorker(Cluster& cluster, int64_t id) {
  const std::string address =
      *cluster.store()->TryGet(absl::StrCat("addrs/w", id), Soon());
  return std::stoi(address.substr(address.rfind(':') + 1));
}

void StartCallerThrough(Cluster& cluster, int port,
                        const Cluster::Customize& customize) {
  const std::string address = absl::StrCat("uv://127.0.0.1:", port);
  ASSERT_TRUE(cluster.store()->Set("addrs/w1", address, Soon()).ok());
  // The mark of a member in the group's epoch ends with its address, too
  // (agent/group/static_group.h).
  const std::string epoch = *cluster.store()->TryGet("reprise/epoch", Soon());
  const std::string key =
      absl::StrCat("reprise/epoch/", epoch.substr(0, epoch.find(' ')), "/1");
  const std::string mark = *cluster.store()->TryGet(key, Soon());
  ASSERT_TRUE(
      cluster.store()
          ->Set(key, mark.substr(0, mark.find(' ') + 1) + address, Soon())
          .ok());
  cluster.Stop(0);
  AgentOptions options = OptionsFor(0, 2);
  options.shortest_reconnect_pause = absl::Milliseconds(1);
  options.longest_reconnect_pause = absl::Milliseconds(1);
  if (customize) customize(options);
  ASSERT_TRUE(cluster.StartOne(options, Echo(), Soon()).ok());
}

HoldingProxy::HoldingProxy(int target)
    : target_(target),
      listener_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)),
      wakeup_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  room_.fill(kUnlimited);
  sockaddr_in address = Loopback(0);
  socklen_t size = sizeof(address);
  EXPECT_EQ(bind(listener_, reinterpret_cast<const sockaddr*>(&address), size),
            0);
  EXPECT_EQ(listen(listener_, 64), 0);
  getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size);
  port_ = ntohs(address.sin_port);
  thread_ = RealRuntime().StartThread("proxy", [this] { Run(); });
}

HoldingProxy::~HoldingProxy() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
  }
  Break();
  Wake();
  thread_->Join();
  for (const Connection& connection : connections_) {
    for (const int end : connection.ends) close(end);
  }
  close(listener_);
  close(wakeup_);
}

void HoldingProxy::Hold(Way way, int64_t after_bytes) {
  MutexLock lock(mutex_);
  room_[way] = after_bytes;
}

bool HoldingProxy::WaitUntilHeld() {
  const absl::Time deadline = Soon();
  MutexLock lock(mutex_);
  while (room_[kToTarget] > 0 && room_[kFromTarget] > 0) {
    if (!changed_.WaitUntil(mutex_, deadline)) return false;
  }
  return true;
}

void HoldingProxy::Release() {
  {
    MutexLock lock(mutex_);
    room_.fill(kUnlimited);
  }
  Wake();
}

void HoldingProxy::Break() {
  MutexLock lock(mutex_);
  for (const Connection& connection : connections_) {
    for (const int end : connection.ends) shutdown(end, SHUT_RDWR);
  }
  // Their ends must be seen, held or not.
  room_.fill(kUnlimited);
  const uint64_t one = 1;
  EXPECT_EQ(write(wakeup_, &one, sizeof(one)), sizeof(one));
}

void HoldingProxy::Wake() {
  const uint64_t one = 1;
  EXPECT_EQ(write(wakeup_, &one, sizeof(one)), sizeof(one));
}

void HoldingProxy::Run() {
  while (true) {
    std::vector<Connection> connections;
    std::vector<pollfd> polls = {{listener_, POLLIN, 0}, {wakeup_, POLLIN, 0}};
    {
      MutexLock lock(mutex_);
      if (stopping_) return;
      connections = connections_;
      for (const Connection& connection : connections) {
        for (const Way way : {kToTarget, kFromTarget}) {
          // A negative descriptor is not waited for.
          polls.push_back(
              {room_[way] > 0 ? connection.ends[way] : -1, POLLIN, 0});
        }
      }
    }
    if (poll(polls.data(), polls.size(), -1) < 0) continue;
    uint64_t count = 0;
    if (polls[1].revents != 0 && read(wakeup_, &count, sizeof(count)) < 0) {
      continue;
    }
    if (polls[0].revents != 0) Accept();
    for (size_t i = 0; i < connections.size(); ++i) {
      bool works = true;
      for (const Way way : {kToTarget, kFromTarget}) {
        if (works && polls[2 + 2 * i + way].revents != 0) {
          works = Forward(connections[i], way);
        }
      }
      if (works) continue;
      MutexLock lock(mutex_);
      std::erase_if(connections_, [&](const Connection& connection) {
        return connection.ends == connections[i].ends;
      });
      for (const int end : connections[i].ends) close(end);
    }
  }
}

void HoldingProxy::Accept() {
  const int client = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
  if (client < 0) return;
  const int server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const sockaddr_in address = Loopback(target_);
  if (connect(server, reinterpret_cast<const sockaddr*>(&address),
              sizeof(address)) != 0) {
    close(client);
    close(server);
    return;
  }
  MutexLock lock(mutex_);
  connections_.push_back({{client, server}});
}

bool HoldingProxy::Forward(const Connection& connection, Way way) {
  std::array<char, 65536> bytes;
  size_t most = bytes.size();
  {
    MutexLock lock(mutex_);
    most =
        static_cast<size_t>(std::min(static_cast<int64_t>(most), room_[way]));
  }
  if (most == 0) return true;
  const ssize_t size = recv(connection.ends[way], bytes.data(), most, 0);
  if (size <= 0) return false;
  const int to = connection.ends[way == kToTarget ? kFromTarget : kToTarget];
  if (send(to, bytes.data(), static_cast<size_t>(size), MSG_NOSIGNAL) != size) {
    return false;
  }
  MutexLock lock(mutex_);
  if (room_[way] == kUnlimited) return true;
  // Another bound may have been set meanwhile.
  room_[way] = std::max<int64_t>(0, room_[way] - size);
  if (room_[way] == 0) changed_.NotifyAll();
  return true;
}

}  // namespace reprise::testing
