// A worker of ours in a group with PyTorch's, that does what it is told.
//
// usage: member
//
// For each line of its input it writes one line: "ok", "ok VALUE", or
// "error STATUS". It ends with its input.
//
//   join NAME ID GROUP PORT   joins the dynamic group GROUP in the store at
//   PORT leave                     leaves it, and shuts down names the members,
//   as this worker knows them wait NAME                 waits until NAME is a
//   member gone NAME                 waits until NAME is none

#include <iostream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"
#include "agent/agent.h"
#include "agent/runtime/runtime.h"
#include "agent/store/tcp_store.h"
#include "agent/transport/transports.h"

namespace reprise {
namespace {

using Answer = absl::StatusOr<std::string>;

absl::Time Soon() { return RealRuntime().Now() + absl::Seconds(60); }

class Member {
 public:
  Answer Do(const std::string& command, const std::vector<std::string>& words) {
    if (command == "join" && words.size() == 5) return Join(words);
    if (agent_ == nullptr) {
      return absl::FailedPreconditionError("not in a group: join first");
    }
    if (command == "leave") return Leave();
    if (command == "names") return Names();
    if (command == "wait" && words.size() == 1) {
      return Empty(agent_->WaitForWorker(words[0], Soon()).status());
    }
    if (command == "gone" && words.size() == 1) return Gone(words[0]);
    return absl::InvalidArgumentError("no such command");
  }

 private:
  static Answer Empty(absl::Status status) {
    if (!status.ok()) return status;
    return std::string();
  }

  Answer Join(const std::vector<std::string>& words) {
    auto store =
        OpenTcpStore(RealRuntime(), absl::StrCat("tcp://127.0.0.1:", words[3]));
    if (!store.ok()) return store.status();
    AgentOptions options;
    options.name = words[0];
    int seconds = 0;
    if (!absl::SimpleAtoi(words[1], &options.id) ||
        !absl::SimpleAtoi(words[4], &seconds)) {
      return absl::InvalidArgumentError("the id or the timeout is no number");
    }
    options.rpc_timeout = absl::Seconds(seconds);
    options.world_size = kDynamicGroup;
    options.num_worker_threads = 4;
    options.membership_refresh = absl::Milliseconds(200);
    options.transport.bind_address = "127.0.0.1";
    // Where PyTorch's workers look that were started as by torchelastic.
    const std::string prefix =
        absl::StrCat("/worker/attempt_0/rpc_prefix_", words[2]);
    auto agent = Agent::Start(
        {&RealRuntime(), MakePrefixStore(*std::move(store), prefix),
         &RealTransports()},
        options,
        Blocking(
            [](Message request, const RequestInfo&) -> absl::StatusOr<Message> {
              return absl::UnimplementedError(absl::StrCat(
                  "handler got type ", static_cast<int32_t>(request.type)));
            }),
        Soon());
    if (!agent.ok()) return agent.status();
    agent_ = *std::move(agent);
    return std::string();
  }

  Answer Leave() {
    absl::Status status = agent_->Leave(Soon());
    const absl::Status shut_down = agent_->Shutdown(Soon());
    agent_ = nullptr;
    return Empty(status.ok() ? shut_down : status);
  }

  Answer Names() const {
    std::vector<std::string> names;
    for (const WorkerInfo& worker : agent_->GetWorkerInfos()) {
      names.push_back(absl::StrCat(worker.name, "-", worker.id));
    }
    return absl::StrJoin(names, ",");
  }

  Answer Gone(const std::string& name) const {
    while (agent_->GetWorkerInfo(name).ok()) {
      const absl::Time next = RealRuntime().Now() + absl::Milliseconds(20);
      RealRuntime().SleepUntil(next);
    }
    return std::string();
  }

  std::unique_ptr<Agent> agent_;
};

void Serve() {
  Member member;
  std::string line;
  while (std::getline(std::cin, line)) {
    std::vector<std::string> words = absl::StrSplit(line, ' ');
    const std::string command = words[0];
    words.erase(words.begin());
    const Answer answer = member.Do(command, words);
    const std::string text =
        !answer.ok()      ? absl::StrCat("error ", answer.status().ToString())
        : answer->empty() ? "ok"
                          : absl::StrCat("ok ", *answer);
    std::cout << absl::StrReplaceAll(text, {{"\n", " "}}) << std::endl;
  }
}

}  // namespace
}  // namespace reprise

int main() {
  reprise::Serve();
  return 0;
}
