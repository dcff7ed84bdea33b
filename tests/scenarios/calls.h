// The messages of the scenarios. The whole content of a message follows from a
// few numbers, so its receiver can check every byte.

#ifndef REPRISE_TESTS_SCENARIOS_CALLS_H_
#define REPRISE_TESTS_SCENARIOS_CALLS_H_

#include <cstdint>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "agent/message.h"
#include "sim/random.h"

namespace reprise::scenarios {

// What a call asks the handler of an `EchoAgent` to do: to sleep, perhaps to
// call another worker, and to send the tensors back.
struct CallSpec {
  // Unique among the calls of a run. The payload and the tensors are made from
  // it.
  uint64_t tag = 0;
  // The rank of the worker for which it is meant; -1: any will do.
  int to = -1;
  int64_t padding = 0;           // of the payload, bytes
  std::vector<int64_t> tensors;  // bytes each
  absl::Duration work;
  // The ranks that the call goes through after the first one, each with the
  // same tensors, and the timeout of each of these calls (0: never).
  std::vector<int> via;
  absl::Duration via_timeout;
};

Message MakeRequest(const CallSpec& spec);

// What a request asks for. INVALID_ARGUMENT says which byte is wrong.
absl::StatusOr<CallSpec> ReadRequest(const Message& request);

Message MakeReply(const CallSpec& spec, Message request);

// OK if `reply` is what `MakeReply` makes of `spec`.
absl::Status CheckReply(const CallSpec& spec, const Message& reply);

// A request that an agent must refuse: its tensor reaches beyond its storage.
Message MakeBrokenRequest();

// Draws a duration uniformly from [0, longest].
absl::Duration DrawDuration(Draws& random, DrawName name,
                            absl::Duration longest);

}  // namespace reprise::scenarios

#endif  // REPRISE_TESTS_SCENARIOS_CALLS_H_
