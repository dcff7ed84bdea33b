// The museum, defect 20: a worker that answers with the id of no call. What
// PyTorch's agent thinks of it, it says by an exception out of a callback that
// must not throw, which ends the process.
//
// The worker that answers so is neither agent: it speaks TensorPipe itself.

#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "agent/message.h"
#include "tensorpipe/tensorpipe.h"
#include "tests/stock/museum.h"

namespace reprise::scenarios {
namespace {

using tensorpipe::Error;

// A request that arrives, and the answer to it. Messages have four payloads:
// the type, the id, the payload and the pickle of the tensors (docs/wire.md).
struct Exchange {
  std::shared_ptr<tensorpipe::Pipe> pipe;
  std::vector<std::string> payloads;
};

void AnswerWrongly(const std::shared_ptr<Exchange>& exchange) {
  if (exchange->payloads.size() != 4 ||
      exchange->payloads[1].size() != sizeof(int64_t)) {
    return;
  }
  const MessageType type = MessageType::kScriptRet;
  exchange->payloads[0].assign(reinterpret_cast<const char*>(&type),
                               sizeof(type));
  int64_t id = 0;
  std::memcpy(&id, exchange->payloads[1].data(), sizeof(id));
  id += 1000;
  std::memcpy(exchange->payloads[1].data(), &id, sizeof(id));
  tensorpipe::Message message;
  for (std::string& payload : exchange->payloads) {
    message.payloads.push_back({payload.data(), payload.size(), ""});
  }
  // The bytes must live until they are written.
  exchange->pipe->write(std::move(message), [exchange](const Error&) {});
}

void ReadRequest(const std::shared_ptr<tensorpipe::Pipe>& pipe) {
  pipe->readDescriptor(
      [pipe](const Error& error, tensorpipe::Descriptor descriptor) {
        if (error) return;
        auto exchange = std::make_shared<Exchange>();
        exchange->pipe = pipe;
        tensorpipe::Allocation allocation;
        for (const auto& payload : descriptor.payloads) {
          exchange->payloads.emplace_back(payload.length, '\0');
        }
        for (std::string& payload : exchange->payloads) {
          allocation.payloads.push_back({payload.data()});
        }
        pipe->read(std::move(allocation), [exchange](const Error& failed) {
          if (!failed) AnswerWrongly(exchange);
        });
      });
}

// Is found by an agent, and answers its first request.
void AnswerOneRequest(Worker& worker) {
  const Environment environment = worker.environment();
  absl::StatusOr<TransportSet> set = environment.transports->Make(
      {.transports = {"sim"}, .channels = {"basic"}, .bind_address = ""});
  if (!worker.CheckOk(set.status(), "transports")) return;
  tensorpipe::Context context(tensorpipe::ContextOptions().name(worker.name()));
  const TransportEntry& transport = set->transports.front();
  context.registerTransport(transport.priority, transport.name,
                            transport.context);
  const ChannelEntry& channel = set->channels.front();
  context.registerChannel(channel.priority, channel.name, channel.context);
  const auto listener = context.listen({transport.name + "://"});
  listener->accept(
      [](const Error& error, const std::shared_ptr<tensorpipe::Pipe>& pipe) {
        if (!error) ReadRequest(pipe);
      });
  const absl::Time deadline = worker.In(absl::Seconds(30));
  Store& store = *environment.store;
  worker.CheckOk(
      store.CompareSet("rpcIsStaticGroup", "", "true", deadline).status(),
      "store");
  worker.CheckOk(store.Set("names/1", worker.name(), deadline), "store");
  worker.CheckOk(store.Set("addrs/" + worker.name(),
                           listener->url(transport.name), deadline),
                 "store");
  worker.Sleep(absl::Seconds(20));
  context.join();
}

void BadReply(Worker& worker) {
  if (worker.rank() == 1) return AnswerOneRequest(worker);
  auto peer = Peer::Start(worker, KindOf(worker));
  if (!worker.CheckOk(peer.status(), "start")) return;
  const absl::Status status =
      Await(worker, "a call", (*peer)->Send(1, "E", absl::Seconds(5)),
            worker.In(absl::Seconds(10)))
          .status();
  worker.Check(!status.ok() && !absl::IsAborted(status), "call-deadline",
               "the call ended with " + status.ToString());
  // The other worker will not come to a barrier.
  worker.CheckOk((*peer)->Shutdown(), "shutdown");
}

REPRISE_SCENARIO(
    stock_bad_reply,
    {.description = "museum, defect 20: an answer to no call ends the process",
     .workers = 2,
     .params = {{"ours", 0}},
     .param_ranges = {{"ours", {0, 1}}},
     .body = BadReply,
     .foreign_code = true});

}  // namespace
}  // namespace reprise::scenarios
