// The program of a member with our agent.

#include <memory>
#include <stdexcept>
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "agent/agent.h"
#include "agent/runtime/runtime.h"
#include "agent/store/open_store.h"
#include "agent/transport/transports.h"
#include "tests/interop/conversation.h"
#include "tests/interop/our_tensors.h"

namespace reprise::interop {
namespace {

absl::Time Later() { return RealRuntime().Now() + absl::Minutes(2); }

void ThrowUnlessOk(const char* what, const absl::Status& status) {
  if (status.ok()) return;
  throw std::runtime_error(absl::StrCat(what, ": ", status.ToString()));
}

Arrival ToArrival(Message message) {
  Arrival arrival;
  arrival.payload = message.payload;
  arrival.tensors = ViewOurTensors(message.tensors);
  arrival.keeps_tensors = std::make_shared<Message>(std::move(message));
  return arrival;
}

class OurMember : public Member {
 public:
  OurMember(const MemberOptions& options, Service service) {
    const size_t colon = options.store.find(':');
    const bool is_file = absl::StartsWith(options.store, "file:");
    auto store =
        OpenStore(RealRuntime(),
                  absl::StrCat(is_file ? "c10d-file://" : "tcp://127.0.0.1:",
                               options.store.substr(colon + 1)));
    ThrowUnlessOk("the store", store.status());
    AgentOptions settings;
    settings.name = options.names[options.id];
    settings.id = options.id;
    settings.world_size = static_cast<int64_t>(options.names.size());
    settings.num_worker_threads = 4;
    settings.transport.transports = {options.transport};
    settings.transport.channels = {options.channel};
    settings.transport.bind_address = "127.0.0.1";
    auto agent = Agent::Start(
        {&RealRuntime(), *store, &RealTransports()}, settings,
        [service = std::move(service)](Message request, const RequestInfo&,
                                       Reply reply) {
          auto shared = std::make_shared<Reply>(std::move(reply));
          service(ToArrival(std::move(request)), [shared](Answer answer) {
            if (!answer.error.empty()) {
              return (*shared)(absl::UnknownError(answer.error));
            }
            (*shared)(Message{MessageType::kScriptRet, answer.payload,
                              MakeOurTensors(answer.tensors)});
          });
        },
        Later());
    ThrowUnlessOk("the start", agent.status());
    agent_ = *std::move(agent);
  }

  void Call(const std::string& peer, const std::string& payload,
            const MessageSpec& tensors, double timeout,
            std::function<void(Arrival)> done) override {
    CallOptions options;
    options.timeout = absl::Seconds(timeout);
    agent_
        ->Send(peer,
               {MessageType::kScriptCall, payload, MakeOurTensors(tensors)},
               options)
        .Then([done = std::move(done)](const Future::Result& result) {
          if (result.ok()) return done(ToArrival(*result));
          Arrival arrival;
          arrival.error = result.status().ToString();
          arrival.timed_out = absl::IsDeadlineExceeded(result.status());
          done(std::move(arrival));
        });
  }

  std::string Leave() override {
    absl::Status status = agent_->JoinForShutdown(Later());
    if (status.ok()) status = agent_->Shutdown(Later());
    return status.ok() ? "" : status.ToString();
  }

 private:
  std::unique_ptr<Agent> agent_;
};

}  // namespace
}  // namespace reprise::interop

int main(int argc, char** argv) {
  using reprise::interop::MemberOptions;
  using reprise::interop::OurMember;
  return reprise::interop::MemberMain(
      argc, argv,
      [](const MemberOptions& options, reprise::interop::Service service) {
        return std::make_unique<OurMember>(options, std::move(service));
      });
}
