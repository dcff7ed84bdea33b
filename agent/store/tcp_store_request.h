// Reads what clients of a TCPStore ask, as the bytes come in. Pure functions of
// these bytes, with bounds for all that a client says.

#ifndef REPRISE_AGENT_STORE_TCP_STORE_REQUEST_H_
#define REPRISE_AGENT_STORE_TCP_STORE_REQUEST_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "agent/store/tcp_store_protocol.h"

namespace reprise {

// What a server takes. PyTorch's own takes anything in protocol 1, and in
// protocol 2 keys of 8 KiB, values of 8 MiB and as many keys as this one.
inline constexpr size_t kMaxTcpStoreKeyBytes = size_t{1} << 20;
inline constexpr size_t kMaxTcpStoreValueBytes = size_t{64} << 20;
inline constexpr size_t kMaxTcpStoreKeys = size_t{128} << 10;
// A query in all; COMPARE_SET has two values.
inline constexpr size_t kMaxTcpStoreRequestBytes =
    2 * kMaxTcpStoreValueBytes + 2 * kMaxTcpStoreKeyBytes;

// Those after kDelete came with PyTorch 2; kWatchKey went away with it.
enum class TcpStoreQuery {
  kSet,
  kCompareSet,
  kGet,
  kAdd,
  kCheck,
  kWait,
  kNumKeys,
  kWatchKey,
  kDelete,
  kAppend,
  kMultiGet,
  kMultiSet,
  kCancelWait,
  kPing,
  kQueuePush,
  kQueuePop,
  kQueueLength,
  kListKeys,
  kBarrier,
};

struct TcpStoreRequest {
  TcpStoreQuery query = TcpStoreQuery::kNumKeys;
  std::vector<std::string> keys;
  std::vector<std::string> values;
  uint64_t number = 0;  // what to add, the size of a barrier, a ping's nonce
};

// Not thread-safe.
class TcpStoreRequestReader {
 public:
  enum class Outcome {
    kMore,      // all bytes were taken, and no request is whole
    kRequest,   // `Take` it; `bytes` may have more
    kNonsense,  // see `error`; the connection is of no use any more
  };

  // Takes bytes from the front of `bytes`, up to the end of a request. The work
  // is proportional to their number, however they are cut. The first bytes of a
  // connection say which protocol its client speaks.
  Outcome Read(std::string_view& bytes);

  // Once after each kRequest.
  TcpStoreRequest Take();

  // kUnknown until the client has sent enough.
  TcpStoreProtocol protocol() const { return protocol_; }
  // Whether a part of a request has come, or of the handshake.
  bool is_within_request() const { return is_within_request_; }
  // How much memory the part of the request that has come takes: half of it at
  // least.
  size_t held_bytes() const { return held_ + part_.capacity(); }
  const std::string& error() const { return error_; }

 private:
  bool ReadProtocol(std::string_view& bytes);
  Outcome ReadFields(std::string_view& bytes);
  bool Begin(unsigned char code);
  // Reads the field that `*field_` is. False if that takes more bytes, or if it
  // is nonsense, which sets `error_`.
  bool ReadField(std::string_view& bytes);
  bool ReadString(std::string_view& bytes, size_t max_size,
                  std::vector<std::string>& strings);
  // Collects `size` bytes in `part_`.
  bool Collect(std::string_view& bytes, size_t size);
  bool ReadNumber(std::string_view& bytes, size_t size, uint64_t& number);
  bool Fail(std::string error);

  TcpStoreProtocol protocol_ = TcpStoreProtocol::kUnknown;
  bool is_within_request_ = false;
  TcpStoreRequest request_;
  // The field that is read, in the pattern of its query; null between requests.
  const char* field_ = nullptr;
  const char* repeated_ = nullptr;  // where the fields that repeat begin
  uint64_t repetitions_ = 0;        // of these fields, with the present one
  bool has_length_ = false;         // of the string that is read
  uint64_t length_ = 0;
  std::string part_;  // of a number, of a string, of the handshake
  size_t held_ = 0;   // by the strings of `request_`
  std::string error_;
};

}  // namespace reprise

#endif  // REPRISE_AGENT_STORE_TCP_STORE_REQUEST_H_
