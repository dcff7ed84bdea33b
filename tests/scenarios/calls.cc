#include "tests/scenarios/calls.h"

#include <charconv>
#include <cstring>
#include <string>
#include <utility>

namespace reprise::scenarios {
namespace {

// The `index`-th eight bytes of the content that is made from `tag`.
constexpr uint64_t Word(uint64_t tag, uint64_t index) {
  return (tag + 1) * 0x9e3779b97f4a7c15u + index * 0xd1342543de82ef95u;
}

void Fill(uint64_t tag, char* bytes, size_t count) {
  size_t at = 0;
  for (; at + 8 <= count; at += 8) {
    const uint64_t word = Word(tag, at / 8);
    std::memcpy(bytes + at, &word, 8);
  }
  const uint64_t word = Word(tag, at / 8);
  std::memcpy(bytes + at, &word, count - at);
}

// Returns where the first eight bytes that differ begin, or -1.
int64_t FindWrongByte(uint64_t tag, const char* bytes, size_t count) {
  size_t at = 0;
  for (; at + 8 <= count; at += 8) {
    uint64_t word = 0;
    std::memcpy(&word, bytes + at, 8);
    if (word != Word(tag, at / 8)) return static_cast<int64_t>(at);
  }
  const uint64_t word = Word(tag, at / 8);
  return std::memcmp(bytes + at, &word, count - at) == 0
             ? -1
             : static_cast<int64_t>(at);
}

// Every tensor of a call differs from the others.
uint64_t TagOfTensor(uint64_t tag, size_t index) {
  return tag * 64 + index + 1;
}

Tensor MakeBytes(uint64_t tag, int64_t count) {
  absl::StatusOr<Tensor> tensor = MakeTensor(DType::kUInt8, {count});
  if (!tensor.ok()) return Tensor();
  if (count > 0) {
    Fill(tag, static_cast<char*>(tensor->storage->data()),
         static_cast<size_t>(count));
  }
  return *std::move(tensor);
}

// What a payload that says for whom it is meant begins with.
constexpr char kTo = '>';

void Append(std::string& text, int64_t number) {
  text.append(std::to_string(number)).push_back(' ');
}

// Takes a number and the blank after it off `text`.
bool Take(std::string_view& text, int64_t& number) {
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end == text.data() + text.size() || *end != ' ') {
    return false;
  }
  text.remove_prefix(static_cast<size_t>(end - text.data()) + 1);
  return true;
}

bool Take(std::string_view& text, std::vector<int64_t>& numbers) {
  int64_t size = 0;
  if (!Take(text, size) || size < 0 || size > 64) return false;
  numbers.assign(static_cast<size_t>(size), 0);
  for (int64_t& number : numbers) {
    if (!Take(text, number)) return false;
  }
  return true;
}

absl::Status Wrong(std::string_view what) {
  return absl::InvalidArgumentError(
      absl::string_view(what.data(), what.size()));
}

absl::Status CheckTensors(const CallSpec& spec, const Message& message) {
  if (message.tensors.size() != spec.tensors.size()) {
    return Wrong("it has " + std::to_string(message.tensors.size()) +
                 " tensors instead of " + std::to_string(spec.tensors.size()));
  }
  for (size_t i = 0; i < spec.tensors.size(); ++i) {
    const Tensor& tensor = message.tensors[i];
    if (tensor.dtype != DType::kUInt8 || !CheckBounds(tensor).ok() ||
        tensor.sizes != std::vector<int64_t>{spec.tensors[i]}) {
      return Wrong("tensor " + std::to_string(i) + " has another shape");
    }
    if (spec.tensors[i] == 0) continue;
    const char* const bytes = static_cast<const char*>(tensor.storage->data()) +
                              tensor.storage_offset;
    const int64_t wrong = FindWrongByte(TagOfTensor(spec.tag, i), bytes,
                                        static_cast<size_t>(spec.tensors[i]));
    if (wrong >= 0) {
      return Wrong("tensor " + std::to_string(i) + " differs at byte " +
                   std::to_string(wrong));
    }
  }
  return absl::OkStatus();
}

}  // namespace

Message MakeRequest(const CallSpec& spec) {
  Message request;
  request.type = MessageType::kPythonCall;
  std::string& payload = request.payload;
  if (spec.to >= 0) {
    payload.push_back(kTo);
    Append(payload, spec.to);
  }
  Append(payload, static_cast<int64_t>(spec.tag));
  Append(payload, absl::ToInt64Nanoseconds(spec.work));
  Append(payload, absl::ToInt64Nanoseconds(spec.via_timeout));
  Append(payload, static_cast<int64_t>(spec.via.size()));
  for (const int rank : spec.via) Append(payload, rank);
  Append(payload, static_cast<int64_t>(spec.tensors.size()));
  for (const int64_t bytes : spec.tensors) Append(payload, bytes);
  Append(payload, spec.padding);
  const size_t header = payload.size();
  payload.resize(header + static_cast<size_t>(spec.padding));
  Fill(spec.tag, payload.data() + header, static_cast<size_t>(spec.padding));
  for (size_t i = 0; i < spec.tensors.size(); ++i) {
    request.tensors.push_back(
        MakeBytes(TagOfTensor(spec.tag, i), spec.tensors[i]));
  }
  return request;
}

absl::StatusOr<CallSpec> ReadRequest(const Message& request) {
  CallSpec spec;
  std::string_view rest = request.payload;
  int64_t tag = 0;
  int64_t work_ns = 0;
  int64_t via_timeout_ns = 0;
  std::vector<int64_t> via;
  int64_t to = -1;
  if (rest.starts_with(kTo)) {
    rest.remove_prefix(1);
    if (!Take(rest, to)) return Wrong("it does not say for whom it is meant");
  }
  if (request.type != MessageType::kPythonCall || !Take(rest, tag) ||
      !Take(rest, work_ns) || !Take(rest, via_timeout_ns) || !Take(rest, via) ||
      !Take(rest, spec.tensors) || !Take(rest, spec.padding) ||
      rest.size() != static_cast<size_t>(spec.padding)) {
    return Wrong("its payload cannot be read");
  }
  spec.tag = static_cast<uint64_t>(tag);
  spec.to = static_cast<int>(to);
  spec.work = absl::Nanoseconds(work_ns);
  spec.via_timeout = absl::Nanoseconds(via_timeout_ns);
  spec.via.assign(via.begin(), via.end());
  if (const int64_t wrong = FindWrongByte(spec.tag, rest.data(), rest.size());
      wrong >= 0) {
    return Wrong("its payload differs at byte " + std::to_string(wrong));
  }
  if (absl::Status status = CheckTensors(spec, request); !status.ok()) {
    return status;
  }
  return spec;
}

Message MakeReply(const CallSpec& spec, Message request) {
  Message reply;
  reply.type = MessageType::kPythonRet;
  Append(reply.payload, static_cast<int64_t>(spec.tag));
  reply.tensors = std::move(request.tensors);
  return reply;
}

absl::Status CheckReply(const CallSpec& spec, const Message& reply) {
  std::string_view rest = reply.payload;
  int64_t tag = 0;
  if (reply.type != MessageType::kPythonRet || !Take(rest, tag) ||
      !rest.empty()) {
    return Wrong("it is no reply of an echo");
  }
  if (static_cast<uint64_t>(tag) != spec.tag) {
    return Wrong("it is the reply to call " + std::to_string(tag));
  }
  return CheckTensors(spec, reply);
}

Message MakeBrokenRequest() {
  CallSpec spec;
  spec.tensors = {64};
  Message request = MakeRequest(spec);
  request.tensors[0].storage_offset = 32;
  return request;
}

absl::Duration DrawDuration(Draws& random, DrawName name,
                            absl::Duration longest) {
  return absl::Nanoseconds(
      random.Between(name, 0, absl::ToInt64Nanoseconds(longest)));
}

}  // namespace reprise::scenarios
