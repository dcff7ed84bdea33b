// What agents say to each other: a type, opaque bytes, and tensors.
//
// A message has at most 65,536 tensors, and the bytes that
// `AgentOptions::max_payload_bytes` and `max_tensor_bytes` allow.

#ifndef REPRISE_AGENT_MESSAGE_H_
#define REPRISE_AGENT_MESSAGE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "agent/device/stream_set.h"
#include "agent/device/tensor.h"

namespace reprise {

// Values as on the wire. Any value with the request bit may be sent; the named
// ones are those of PyTorch that an agent without TorchScript or Python knows.
enum class MessageType : int32_t {
  kScriptCall = 0x100,
  kScriptRet = 0x201,
  kPythonCall = 0x102,
  kPythonRet = 0x203,
  kException = 0x237,
  kUnknown = 0x3c,
};

inline bool IsRequest(MessageType type) {
  return (static_cast<int32_t>(type) & 0x100) != 0;
}
inline bool IsResponse(MessageType type) {
  return (static_cast<int32_t>(type) & 0x200) != 0;
}

// The payload of a message that is sent is moved, and its tensors' storages are
// shared: what they hold must not change until nobody reads it any more. That
// is not when the call is done: a call that timed out may still wait to be
// written, or be read by its peer.
struct Message {
  MessageType type = MessageType::kUnknown;
  std::string payload;
  std::vector<Tensor> tensors;
  // Of a message that is sent, request or reply: dropped when neither the agent
  // nor a peer reads its tensors any more. See `OnReleased`.
  std::shared_ptr<void> release_guard = nullptr;
  // On which streams its tensors on GPUs are made (docs/devices.md). Of a
  // message that is sent, they are ready for what follows the work that these
  // streams have now; a GPU of which no stream is named counts with its default
  // stream. Of one that has arrived, they are there for what is put on these
  // streams. The agent's own streams, which those are, live as long as
  // `Environment::devices`.
  StreamSet streams = {};
};

// A `Message::release_guard` that calls `callback` once, on the thread that
// drops the last copy of it. That may be a thread of TensorPipe, so the
// callback must neither block nor throw.
std::shared_ptr<void> OnReleased(absl::AnyInvocable<void()> callback);

}  // namespace reprise

#endif  // REPRISE_AGENT_MESSAGE_H_
