// Two agents in one process, over real transports: one greets the other.

#include <iostream>
#include <memory>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "agent/agent.h"
#include "agent/runtime/runtime.h"
#include "agent/store/memory_store.h"
#include "agent/transport/transports.h"

namespace {

using ::reprise::Agent;
using ::reprise::Message;
using ::reprise::RequestInfo;

constexpr reprise::MessageType kRequest = reprise::MessageType::kScriptCall;
constexpr reprise::MessageType kReply = reprise::MessageType::kScriptRet;

absl::StatusOr<Message> Greet(Message request, const RequestInfo& info) {
  return Message{kReply, request.payload + ", " + info.caller + "!", {}};
}

absl::Status Run(const std::shared_ptr<reprise::Store>& store, int id) {
  reprise::Runtime& runtime = reprise::RealRuntime();
  const absl::Time deadline = runtime.Now() + absl::Seconds(30);

  reprise::AgentOptions options;
  options.name = id == 0 ? "alice" : "bob";
  options.id = id;
  options.world_size = 2;
  options.transport.bind_address = "127.0.0.1";
  absl::StatusOr<std::unique_ptr<Agent>> agent =
      Agent::Start({&runtime, store, &reprise::RealTransports()}, options,
                   reprise::Blocking(Greet), deadline);
  if (!agent.ok()) return agent.status();

  if (id == 0) {
    reprise::Future reply =
        (*agent)->Send("bob", Message{kRequest, "Hello", {}});
    if (!reply.Wait(deadline)) {
      return absl::DeadlineExceededError("no reply");
    }
    if (!reply.status().ok()) return reply.status();
    std::cout << "bob says: " << reply.result()->payload << "\n";
    if (reply.result()->payload != "Hello, alice!") {
      return absl::InternalError("this is not what bob says");
    }
  }
  absl::Status joined = (*agent)->JoinForShutdown(deadline);
  absl::Status shut_down = (*agent)->Shutdown(deadline);
  return joined.ok() ? shut_down : joined;
}

}  // namespace

int main() {
  auto store = reprise::MakeMemoryStore(reprise::RealRuntime());
  absl::Status bob;
  std::thread bobs_thread([&] { bob = Run(store, 1); });
  absl::Status alice = Run(store, 0);
  bobs_thread.join();
  std::cout << "alice: " << alice << "\nbob: " << bob << "\n";
  return alice.ok() && bob.ok() ? 0 : 1;
}
