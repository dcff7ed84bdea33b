// What travels with a call beside the message, and how agents of this project
// talk about their calls. None of it is ever sent to a worker that has not
// published that it understands it: a stock worker sees none.
//
// In the metadata of a request's TensorPipe message, which is empty between
// stock workers:
//
//   "rp1"  then fields: tag (1 byte), length (1 byte), that many bytes
//     1  nanoseconds until the caller gives up (8 bytes, little-endian)
//     2  idempotency key (1 .. 128 bytes)
//     3  the caller's instance (8 bytes, little-endian), with 2 only
//     4  the number of the key among the caller's keys, from 1; 8 bytes
//     5  the memory of keys that the key was first written to; 8 bytes
//     6  the number of the attempt, from 0; 8 bytes
//     7  the reply, if it has tensors, is to say the call's id in its metadata;
//        0 bytes
//     9  where tensors of the reply shall arrive: pairs of the callee's device
//        and the caller's, each a byte: 0 for the CPU, i + 1 for cuda:i
//
// Tags 4, 5 and 6 come together, with tag 2 only, and little-endian. A tag that
// is not known is skipped. In the metadata of a reply to such a request:
//
//     8  the call's id (8 bytes, little-endian): known before the tensors are
//        read, so that they can be received where the caller wants them
//
// As requests of a type of our own, whose payload is a text:
//
//   "ping <bound in ns>"  answered by a control response, "pong
//                         <instance>". From then on
//                         its sender lets no `bound` pass without a byte, and
//                         the receiver sends such responses unasked while a
//                         message is arriving, which pings wait behind
//   "cancel <call id>"    not answered
//
// Thread-compatible; nothing here throws.

#ifndef REPRISE_AGENT_WIRE_CALL_EXTRAS_H_
#define REPRISE_AGENT_WIRE_CALL_EXTRAS_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "agent/device/device_map.h"
#include "agent/message.h"

namespace reprise {

inline constexpr size_t kMaxIdempotencyKey = 128;
// Of a message; a longer one is none of ours.
inline constexpr size_t kMaxMetadata = 1024;

struct CallExtras {
  absl::Duration remaining = absl::InfiniteDuration();
  std::string idempotency_key = {};  // empty: none
  uint64_t caller_instance = 0;
  // Where the key stands in the order of the caller's keys: 0 from a caller
  // that does not say. A resend carries the number of the first attempt.
  uint64_t key_number = 0;
  // `PeerFeatures::memory` as it was when the first attempt was written.
  uint64_t memory = 0;
  uint64_t attempt = 0;  // counted where a request is written
  bool wants_reply_id = false;
  // The callee is an agent of this project, and learns by this, if by nothing
  // else, that the caller is one too.
  bool is_to_ours = false;
  // From the callee's devices to the caller's. One that cannot be written, of
  // more than 127 devices or with numbers above 254, is left out.
  DeviceMap way_back = {};
};

// Empty when there is nothing to say. `remaining` must be positive.
std::string EncodeExtras(const CallExtras& extras);

// INVALID_ARGUMENT for what is not exactly the above.
absl::StatusOr<CallExtras> DecodeExtras(std::string_view metadata);

// The metadata of a reply, and the id that it says: nothing when it says none
// or cannot be read.
std::string EncodeReplyId(int64_t call_id);
std::optional<int64_t> ReplyIdOf(std::string_view metadata);

// Stock workers know no such types.
inline constexpr MessageType kControlRequest =
    static_cast<MessageType>(0x72500101);
inline constexpr MessageType kControlResponse =
    static_cast<MessageType>(0x72500201);

struct Control {
  enum class Kind { kPing, kCancel } kind = Kind::kPing;
  absl::Duration bound;  // of a ping: how long silence means death
  int64_t call_id = 0;   // of a cancel
};

std::string EncodeControl(const Control& control);
absl::StatusOr<Control> DecodeControl(std::string_view payload);

// A worker's run, for as long as its agent lives: 16 hexadecimal digits of a
// random number.
std::string FormatInstance(uint64_t instance);
// The answer to a ping, and the instance that one carries ("" for none).
std::string EncodePong(std::string_view instance);
std::string InstanceOfPong(std::string_view payload);

// What an agent understands, as it publishes it in the store beside its
// address: "1 deadline cancel keepalive idempotency progress epoch reply-id
// way-back memory=1f".
struct PeerFeatures {
  bool known = false;    // false: the store could not be asked
  bool is_ours = false;  // an agent of this project, and no stock worker
  bool deadline = false;
  bool cancel = false;
  bool keepalive = false;
  bool idempotency = false;
  bool progress = false;  // it sends pongs unasked while a message arrives
  // The agent's memory of idempotency keys, which ends with the agent: another
  // number means that keys were forgotten. 0: not known.
  uint64_t memory = 0;
  bool reply_id = false;  // it knows tag 7
  bool way_back = false;  // it knows tag 9
  bool epoch = false;     // it enters epochs (agent/group/static_group.h)
};
// `memory` is not 0.
std::string OwnFeatures(uint64_t memory);
// Of what is not a list of version 1: none.
PeerFeatures ParseFeatures(std::string_view text);

}  // namespace reprise

#endif  // REPRISE_AGENT_WIRE_CALL_EXTRAS_H_
