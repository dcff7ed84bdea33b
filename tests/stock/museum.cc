#include "tests/stock/museum.h"

namespace reprise::scenarios {

absl::StatusOr<std::string> Await(Worker& worker, std::string_view what,
                                  const absl::StatusOr<PendingCall>& call,
                                  absl::Time deadline) {
  absl::StatusOr<std::string> answer =
      call.ok() ? (*call)(deadline)
                : absl::StatusOr<std::string>(call.status());
  NoteStatus(worker,
             std::string(what) + (answer.ok() ? " is answered" : " fails"),
             answer.status());
  return answer;
}

void JoinAndShutdown(Worker& worker, Peer& peer) {
  worker.CheckOk(peer.Join(absl::Seconds(60)), "join");
  worker.CheckOk(peer.Shutdown(), "shutdown");
}

}  // namespace reprise::scenarios
