// What agents say to each other: a type, opaque bytes, and tensors.

#ifndef REPRISE_AGENT_MESSAGE_H_
#define REPRISE_AGENT_MESSAGE_H_

#include <cstdint>
#include <string>
#include <vector>

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

struct Message {
  MessageType type = MessageType::kUnknown;
  std::string payload;
  std::vector<Tensor> tensors;
};

}  // namespace reprise

#endif  // REPRISE_AGENT_MESSAGE_H_
