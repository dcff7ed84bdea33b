#include "agent/store/tcp_store_request.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"

namespace reprise {
namespace {

using Query = TcpStoreQuery;

// What a string takes beside its bytes, roughly.
constexpr size_t kStringBytes = 64;

// The fields of a query: k is a key, v a value, 8 and 4 a number of so many
// bytes. A '*' is the number of times that what follows it comes.
const char* FieldsOf(Query query) {
  switch (query) {
    case Query::kSet:
    case Query::kAppend:
    case Query::kQueuePush:
      return "kv";
    case Query::kCompareSet:
      return "kvv";
    case Query::kGet:
    case Query::kWatchKey:
    case Query::kDelete:
    case Query::kQueuePop:
    case Query::kQueueLength:
      return "k";
    case Query::kAdd:
    case Query::kBarrier:
      return "k8";
    case Query::kCheck:
    case Query::kWait:
    case Query::kMultiGet:
      return "*k";
    case Query::kMultiSet:
      return "*kv";
    case Query::kPing:
      return "4";
    case Query::kNumKeys:
    case Query::kCancelWait:
    case Query::kListKeys:
      return "";
  }
  return "";
}

// The queries in the order of their numbers, from 0 in protocol 1 and from 1 in
// protocol 2. The last four of protocol 1 are those of PyTorch 2.0, which has
// no handshake yet.
constexpr Query kQueries1[] = {
    Query::kSet,       Query::kCompareSet, Query::kGet,      Query::kAdd,
    Query::kCheck,     Query::kWait,       Query::kNumKeys,  Query::kWatchKey,
    Query::kDelete,    Query::kAppend,     Query::kMultiGet, Query::kMultiSet,
    Query::kCancelWait};
constexpr Query kQueries2[] = {
    Query::kSet,      Query::kCompareSet, Query::kGet,      Query::kAdd,
    Query::kCheck,    Query::kWait,       Query::kNumKeys,  Query::kDelete,
    Query::kAppend,   Query::kMultiGet,   Query::kMultiSet, Query::kCancelWait,
    Query::kPing,     Query::kQueuePush,  Query::kQueuePop, Query::kQueueLength,
    Query::kListKeys, Query::kBarrier};

std::string Handshake() {
  std::string bytes(1, '\0');
  AppendLittleEndian(bytes, kTcpStoreMagic, 4);
  return bytes;
}

}  // namespace

TcpStoreRequestReader::Outcome TcpStoreRequestReader::Read(
    std::string_view& bytes) {
  if (!error_.empty()) return Outcome::kNonsense;
  if (protocol_ == TcpStoreProtocol::kUnknown && !ReadProtocol(bytes)) {
    return Outcome::kMore;
  }
  return ReadFields(bytes);
}

// A client of protocol 2 begins with the handshake, one of protocol 1 with a
// query. If that is a SET, its first byte is that of the handshake, and the
// next ones are the length of a key, of which the handshake's number would be
// one that no server takes.
bool TcpStoreRequestReader::ReadProtocol(std::string_view& bytes) {
  static_assert(kMaxTcpStoreKeyBytes < kTcpStoreMagic);
  static const std::string& handshake = *new std::string(Handshake());
  while (!bytes.empty()) {
    is_within_request_ = true;
    if (bytes.front() != handshake[part_.size()]) {
      protocol_ = TcpStoreProtocol::k1;
      // These are fewer than a whole query has.
      const std::string begun = std::exchange(part_, "");
      std::string_view first = begun;
      ReadFields(first);
      return true;
    }
    part_.push_back(bytes.front());
    bytes.remove_prefix(1);
    if (part_.size() == handshake.size()) {
      part_.clear();
      protocol_ = TcpStoreProtocol::k2;
      is_within_request_ = false;
      return true;
    }
  }
  return false;
}

TcpStoreRequestReader::Outcome TcpStoreRequestReader::ReadFields(
    std::string_view& bytes) {
  if (field_ == nullptr) {
    if (bytes.empty()) return Outcome::kMore;
    is_within_request_ = true;
    const auto code = static_cast<unsigned char>(bytes.front());
    bytes.remove_prefix(1);
    if (!Begin(code)) return Outcome::kNonsense;
  }
  while (*field_ != '\0') {
    if (!ReadField(bytes)) {
      return error_.empty() ? Outcome::kMore : Outcome::kNonsense;
    }
    if (*field_ == '\0' && repetitions_ > 1) {
      --repetitions_;
      field_ = repeated_;
    }
  }
  return Outcome::kRequest;
}

TcpStoreRequest TcpStoreRequestReader::Take() {
  field_ = nullptr;
  repeated_ = nullptr;
  repetitions_ = 0;
  held_ = 0;
  is_within_request_ = false;
  return std::exchange(request_, TcpStoreRequest());
}

bool TcpStoreRequestReader::Begin(unsigned char code) {
  const bool is_1 = protocol_ == TcpStoreProtocol::k1;
  const size_t first = is_1 ? 0 : 1;
  const size_t end = is_1 ? std::size(kQueries1) : first + std::size(kQueries2);
  if (code < first || code >= end) {
    return Fail(absl::StrCat("its byte ", static_cast<int>(code),
                             " is not a query of TCPStore's protocol ",
                             is_1 ? 1 : 2));
  }
  request_.query = is_1 ? kQueries1[code] : kQueries2[code - first];
  field_ = FieldsOf(request_.query);
  return true;
}

bool TcpStoreRequestReader::ReadField(std::string_view& bytes) {
  switch (*field_) {
    case '*':
      if (!ReadNumber(bytes, 8, repetitions_)) return false;
      if (repetitions_ > kMaxTcpStoreKeys) {
        return Fail(absl::StrCat("its query is of ", repetitions_,
                                 " keys, and ", kMaxTcpStoreKeys,
                                 " is the limit"));
      }
      repeated_ = field_ + 1;
      field_ = repetitions_ == 0 ? "" : repeated_;
      return true;
    case 'k':
      if (!ReadString(bytes, kMaxTcpStoreKeyBytes, request_.keys)) return false;
      break;
    case 'v':
      if (!ReadString(bytes, kMaxTcpStoreValueBytes, request_.values)) {
        return false;
      }
      break;
    case '8':
      if (!ReadNumber(bytes, 8, request_.number)) return false;
      break;
    default:
      if (!ReadNumber(bytes, 4, request_.number)) return false;
      break;
  }
  ++field_;
  return true;
}

bool TcpStoreRequestReader::ReadString(std::string_view& bytes, size_t max_size,
                                       std::vector<std::string>& strings) {
  if (!has_length_) {
    if (!ReadNumber(bytes, 8, length_)) return false;
    has_length_ = true;
    if (length_ > max_size) {
      return Fail(absl::StrCat("a ", *field_ == 'k' ? "key" : "value", " of ",
                               length_, " bytes, and ", max_size,
                               " is the limit"));
    }
    if (held_ + length_ + kStringBytes > kMaxTcpStoreRequestBytes) {
      return Fail(absl::StrCat("its query has more than ",
                               kMaxTcpStoreRequestBytes, " bytes"));
    }
  }
  if (!Collect(bytes, length_)) return false;
  has_length_ = false;
  held_ += kStringBytes + part_.size();
  strings.push_back(std::exchange(part_, ""));
  return true;
}

bool TcpStoreRequestReader::Collect(std::string_view& bytes, size_t size) {
  const size_t count = std::min(size - part_.size(), bytes.size());
  part_.append(bytes.substr(0, count));
  bytes.remove_prefix(count);
  return part_.size() == size;
}

bool TcpStoreRequestReader::ReadNumber(std::string_view& bytes, size_t size,
                                       uint64_t& number) {
  if (!Collect(bytes, size)) return false;
  number = LittleEndian(part_);
  part_.clear();
  return true;
}

bool TcpStoreRequestReader::Fail(std::string error) {
  error_ = std::move(error);
  return false;
}

}  // namespace reprise
