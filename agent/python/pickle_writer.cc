#include "agent/python/pickle_writer.h"

#include <bit>
#include <limits>
#include <utility>

#include "agent/wire/pickle_opcode.h"

namespace reprise {

namespace op = pickle_opcode;

PickleWriter::PickleWriter(std::string prefix, int protocol)
    : protocol_(protocol), bytes_(std::move(prefix)) {
  bytes_ += op::kProto;
  bytes_ += static_cast<char>(protocol);
}

void PickleWriter::Number(uint64_t number, size_t num_bytes) {
  for (size_t i = 0; i < num_bytes; ++i) {
    bytes_ += static_cast<char>(number >> (8 * i));
  }
}

void PickleWriter::None() { bytes_ += op::kNone; }

void PickleWriter::Bool(bool value) {
  bytes_ += value ? op::kNewTrue : op::kNewFalse;
}

void PickleWriter::Int(int64_t value) {
  if (value >= 0 && value <= std::numeric_limits<uint8_t>::max()) {
    bytes_ += op::kBinInt1;
    Number(static_cast<uint64_t>(value), 1);
  } else if (value == static_cast<int32_t>(value)) {
    bytes_ += op::kBinInt;
    Number(static_cast<uint64_t>(value), 4);
  } else {
    bytes_ += op::kLong1;
    Number(8, 1);
    Number(static_cast<uint64_t>(value), 8);
  }
}

void PickleWriter::Float(double value) {
  bytes_ += op::kBinFloat;
  Number(__builtin_bswap64(std::bit_cast<uint64_t>(value)), 8);
}

void PickleWriter::Counted(char short_opcode, char opcode,
                           std::string_view bytes) {
  const bool is_short =
      protocol_ > 2 && bytes.size() <= std::numeric_limits<uint8_t>::max();
  bytes_ += is_short ? short_opcode : opcode;
  Number(bytes.size(), is_short ? 1 : 4);
  bytes_ += bytes;
}

void PickleWriter::Text(std::string_view utf8) {
  Counted(op::kShortBinUnicode, op::kBinUnicode, utf8);
}

void PickleWriter::Bytes(std::string_view bytes) {
  Counted(op::kShortBinBytes, op::kBinBytes, bytes);
}

void PickleWriter::Global(std::string_view module, std::string_view name) {
  if (protocol_ == 2) {
    bytes_ += op::kGlobal;
    for (const std::string_view part : {module, name}) {
      bytes_ += part;
      bytes_ += '\n';
    }
    return;
  }
  Text(module);
  Text(name);
  bytes_ += op::kStackGlobal;
}

void PickleWriter::EmptyTuple() { bytes_ += op::kEmptyTuple; }
void PickleWriter::EmptyList() { bytes_ += op::kEmptyList; }
void PickleWriter::EmptyDict() { bytes_ += op::kEmptyDict; }
void PickleWriter::Mark() { bytes_ += op::kMark; }
void PickleWriter::Tuple() { bytes_ += op::kTuple; }
void PickleWriter::Appends() { bytes_ += op::kAppends; }
void PickleWriter::SetItems() { bytes_ += op::kSetItems; }
void PickleWriter::Reduce() { bytes_ += op::kReduce; }
void PickleWriter::NewObject() { bytes_ += op::kNewObj; }
void PickleWriter::Build() { bytes_ += op::kBuild; }

std::string PickleWriter::Finish() && {
  bytes_ += op::kStop;
  return std::move(bytes_);
}

}  // namespace reprise
