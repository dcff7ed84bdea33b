#include "tests/unit/agent/cluster.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/transport/transports.h"
#include "gtest/gtest.h"

namespace reprise::testing {

absl::Time Soon() { return RealRuntime().Now() + absl::Seconds(60); }

AgentOptions OptionsFor(int64_t id, int64_t world_size) {
  AgentOptions options;
  options.name = absl::StrCat("w", id);
  options.id = id;
  options.world_size = world_size;
  options.num_worker_threads = 4;
  options.transport.transports = {"uv"};
  options.transport.channels = {"basic"};
  options.transport.bind_address = "127.0.0.1";
  return options;
}

AgentOptions Dynamic(std::string name, int64_t id) {
  AgentOptions options = OptionsFor(0, kDynamicGroup);
  options.name = std::move(name);
  options.id = id;
  options.membership_refresh = absl::Milliseconds(50);
  options.token_lease = absl::Milliseconds(400);
  return options;
}

RequestHandler Echo() {
  return Blocking(
      [](Message request, const RequestInfo&) -> absl::StatusOr<Message> {
        request.type = MessageType::kScriptRet;
        return request;
      });
}

RequestHandler EchoAfter(Gate& gate) {
  return Blocking(
      [&gate](Message request, const RequestInfo&) -> absl::StatusOr<Message> {
        gate.Wait();
        request.type = MessageType::kScriptRet;
        return request;
      });
}

Message Request(std::string payload) {
  Message request;
  request.type = MessageType::kScriptCall;
  request.payload = std::move(payload);
  return request;
}

void BreakListener(const std::string& url) {
  const std::string port = url.substr(url.rfind(':') + 1);
  for (int fd = 0; fd < 1024; ++fd) {
    int listens = 0;
    socklen_t size = sizeof(listens);
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) != 0 ||
        listens == 0) {
      continue;
    }
    sockaddr_in address = {};
    size = sizeof(address);
    if (getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) == 0 &&
        absl::StrCat(ntohs(address.sin_port)) == port) {
      EXPECT_EQ(shutdown(fd, SHUT_RDWR), 0);
      return;
    }
  }
  ADD_FAILURE() << "nobody listens at " << url;
}

Cluster::Cluster(std::shared_ptr<Store> store)
    : store_(store != nullptr ? std::move(store)
                              : MakeMemoryStore(RealRuntime())) {}

Cluster::~Cluster() = default;

void Cluster::Start(int64_t size, RequestHandler handler,
                    const Customize& customize) {
  std::vector<AgentOptions> all;
  for (int64_t id = 0; id < size; ++id) {
    all.push_back(OptionsFor(id, size));
    if (customize) customize(all.back());
  }
  for (const absl::Status& status :
       TryStart(std::move(all), std::move(handler), Soon())) {
    ASSERT_TRUE(status.ok()) << status;
  }
}

std::vector<absl::Status> Cluster::TryStart(std::vector<AgentOptions> options,
                                            RequestHandler handler,
                                            absl::Time deadline) {
  agents_.resize(options.size());
  std::vector<absl::Status> statuses(options.size());
  OnEach([&](int64_t id) {
    absl::StatusOr<std::unique_ptr<Agent>> agent = Agent::Start(
        {&RealRuntime(), store_, &RealTransports(), observer_, devices_},
        options[id], handler, deadline);
    statuses[id] = agent.status();
    if (agent.ok()) agents_[id] = *std::move(agent);
  });
  return statuses;
}

absl::Status Cluster::StartOne(AgentOptions options, RequestHandler handler,
                               absl::Time deadline) {
  const size_t id = options.id;
  if (agents_.size() <= id) agents_.resize(id + 1);
  absl::StatusOr<std::unique_ptr<Agent>> agent = Agent::Start(
      {&RealRuntime(), store_, &RealTransports(), observer_, devices_},
      std::move(options), std::move(handler), deadline);
  if (!agent.ok()) return agent.status();
  agents_[id] = *std::move(agent);
  return absl::OkStatus();
}

void Cluster::OnEach(const std::function<void(int64_t)>& f) {
  std::vector<std::unique_ptr<Thread>> threads;
  for (size_t id = 0; id < agents_.size(); ++id) {
    threads.push_back(RealRuntime().StartThread(
        absl::StrCat("test-", id), [&f, id] { f(static_cast<int64_t>(id)); }));
  }
  for (const std::unique_ptr<Thread>& thread : threads) thread->Join();
}

Gate::Gate()
    : mutex_(RealRuntime(), "Gate"), changed_(RealRuntime(), "Gate.changed") {}

void Gate::Open() {
  MutexLock lock(mutex_);
  open_ = true;
  changed_.NotifyAll();
}

bool Gate::Wait() {
  const absl::Time deadline = Soon();
  MutexLock lock(mutex_);
  while (!open_) {
    if (!changed_.WaitUntil(mutex_, deadline)) return open_;
  }
  return true;
}

}  // namespace reprise::testing
