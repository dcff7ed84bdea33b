#include "agent/wire/call_extras.h"

#include <charconv>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace reprise {
namespace {

constexpr std::string_view kMagic = "rp1";
constexpr char kRemaining = 1;
constexpr char kKey = 2;
constexpr char kInstance = 3;
constexpr char kKeyNumber = 4;
constexpr char kMemory = 5;
constexpr char kAttempt = 6;
constexpr char kWantsReplyId = 7;
constexpr char kReplyId = 8;
constexpr char kWayBack = 9;
constexpr std::string_view kMemoryWord = "memory=";
constexpr std::string_view kPing = "ping ";
constexpr std::string_view kPong = "pong ";
constexpr std::string_view kCancel = "cancel ";

// A remaining time of a week or more is not sent: it counts as no deadline.
constexpr absl::Duration kLongestRemaining = absl::Hours(24 * 7);

void AppendWord(std::string& out, char tag, uint64_t word) {
  out.push_back(tag);
  out.push_back(8);
  for (int i = 0; i < 8; ++i) out.push_back(static_cast<char>(word >> (8 * i)));
}

uint64_t ReadWord(std::string_view bytes) {
  uint64_t word = 0;
  for (int i = 0; i < 8; ++i) {
    word |= uint64_t{static_cast<unsigned char>(bytes[i])} << (8 * i);
  }
  return word;
}

// Takes the next field off `fields`, which is not empty. Returns false when it
// is cut off.
bool TakeField(std::string_view& fields, char& tag, std::string_view& value) {
  if (fields.size() < 2) return false;
  tag = fields[0];
  const size_t length = static_cast<unsigned char>(fields[1]);
  if (fields.size() - 2 < length) return false;
  value = fields.substr(2, length);
  fields.remove_prefix(2 + length);
  return true;
}

// The byte of a device in a way back; -1 when it has none.
int ByteOf(const Device& device) {
  if (device == CpuDevice()) return 0;
  if (device.type != kGpuDeviceType || device.index < 0 ||
      device.index > UINT8_MAX - 1) {
    return -1;
  }
  return device.index + 1;
}

Device DeviceOf(char byte) {
  const int number = static_cast<unsigned char>(byte);
  return number == 0 ? CpuDevice() : GpuDevice(number - 1);
}

// "" when it cannot be written.
std::string EncodeWayBack(const DeviceMap& map) {
  std::string out;
  if (map.size() > UINT8_MAX / 2) return out;
  for (const auto& [theirs, ours] : map) {
    const int from = ByteOf(theirs);
    const int to = ByteOf(ours);
    if (from < 0 || to < 0) return "";
    out.push_back(static_cast<char>(from));
    out.push_back(static_cast<char>(to));
  }
  return out;
}

// False unless it is one to one.
bool DecodeWayBack(std::string_view bytes, DeviceMap& map) {
  if (bytes.empty() || bytes.size() % 2 != 0) return false;
  DeviceMap reversed;
  for (size_t i = 0; i < bytes.size(); i += 2) {
    const Device ours = DeviceOf(bytes[i]);
    const Device theirs = DeviceOf(bytes[i + 1]);
    if (!map.emplace(ours, theirs).second ||
        !reversed.emplace(theirs, ours).second) {
      return false;
    }
  }
  return true;
}

absl::Status Bad(const char* what) {
  return absl::InvalidArgumentError(
      absl::StrCat("the metadata of the message cannot be read: ", what));
}

absl::Status BadControl() {
  return absl::InvalidArgumentError("the control request cannot be read");
}

bool ReadNumber(std::string_view text, int64_t& number) {
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size() &&
         number >= 0;
}

}  // namespace

std::string EncodeExtras(const CallExtras& extras) {
  const bool has_deadline = extras.remaining < kLongestRemaining;
  const std::string way_back = EncodeWayBack(extras.way_back);
  if (!extras.is_to_ours && !has_deadline && extras.idempotency_key.empty() &&
      !extras.wants_reply_id && way_back.empty()) {
    return "";
  }
  std::string out(kMagic);
  if (has_deadline) {
    AppendWord(
        out, kRemaining,
        static_cast<uint64_t>(absl::ToInt64Nanoseconds(extras.remaining)));
  }
  if (!extras.idempotency_key.empty()) {
    out.push_back(kKey);
    out.push_back(static_cast<char>(extras.idempotency_key.size()));
    out.append(extras.idempotency_key);
    AppendWord(out, kInstance, extras.caller_instance);
    if (extras.key_number != 0) {
      AppendWord(out, kKeyNumber, extras.key_number);
      AppendWord(out, kMemory, extras.memory);
      AppendWord(out, kAttempt, extras.attempt);
    }
  }
  if (extras.wants_reply_id) {
    out.push_back(kWantsReplyId);
    out.push_back(0);
  }
  if (!way_back.empty()) {
    out.push_back(kWayBack);
    out.push_back(static_cast<char>(way_back.size()));
    out.append(way_back);
  }
  return out;
}

absl::StatusOr<CallExtras> DecodeExtras(std::string_view metadata) {
  CallExtras extras;
  if (metadata.empty()) return extras;
  if (metadata.size() > kMaxMetadata) return Bad("it is too long");
  if (metadata.substr(0, kMagic.size()) != kMagic) return Bad("it is not ours");
  metadata.remove_prefix(kMagic.size());
  bool has_remaining = false;
  bool has_instance = false;
  bool has_memory = false;
  bool has_attempt = false;
  while (!metadata.empty()) {
    char tag = 0;
    std::string_view value;
    if (!TakeField(metadata, tag, value)) return Bad("a field is cut off");
    const size_t length = value.size();
    if (tag == kRemaining) {
      if (has_remaining || length != 8) return Bad("the deadline");
      has_remaining = true;
      const auto ns = static_cast<int64_t>(ReadWord(value));
      if (ns <= 0) return Bad("the deadline");
      extras.remaining = absl::Nanoseconds(ns);
    } else if (tag == kKey) {
      if (!extras.idempotency_key.empty() || length == 0 ||
          length > kMaxIdempotencyKey) {
        return Bad("the idempotency key");
      }
      extras.idempotency_key = value;
    } else if (tag == kInstance) {
      if (has_instance || length != 8) return Bad("the caller's instance");
      has_instance = true;
      extras.caller_instance = ReadWord(value);
    } else if (tag == kKeyNumber) {
      if (extras.key_number != 0 || length != 8) return Bad("the key's number");
      extras.key_number = ReadWord(value);
      if (extras.key_number == 0) return Bad("the key's number");
    } else if (tag == kMemory) {
      if (has_memory || length != 8) return Bad("the memory of keys");
      has_memory = true;
      extras.memory = ReadWord(value);
    } else if (tag == kAttempt) {
      if (has_attempt || length != 8) return Bad("the attempt");
      has_attempt = true;
      extras.attempt = ReadWord(value);
    } else if (tag == kWantsReplyId) {
      if (extras.wants_reply_id || length != 0) return Bad("the reply's id");
      extras.wants_reply_id = true;
    } else if (tag == kWayBack) {
      if (!extras.way_back.empty() || !DecodeWayBack(value, extras.way_back)) {
        return Bad("where the reply's tensors shall arrive");
      }
    }
  }
  if (has_instance == extras.idempotency_key.empty()) {
    return Bad("an idempotency key and a caller's instance come together");
  }
  const bool has_number = extras.key_number != 0;
  if (has_memory != has_number || has_attempt != has_number ||
      (has_number && !has_instance)) {
    return Bad("the key's number, memory and attempt come together");
  }
  return extras;
}

std::string EncodeReplyId(int64_t call_id) {
  std::string out(kMagic);
  AppendWord(out, kReplyId, static_cast<uint64_t>(call_id));
  return out;
}

std::optional<int64_t> ReplyIdOf(std::string_view metadata) {
  if (metadata.size() > kMaxMetadata ||
      metadata.substr(0, kMagic.size()) != kMagic) {
    return std::nullopt;
  }
  metadata.remove_prefix(kMagic.size());
  std::optional<int64_t> id;
  while (!metadata.empty()) {
    char tag = 0;
    std::string_view value;
    if (!TakeField(metadata, tag, value)) return std::nullopt;
    if (tag != kReplyId) continue;
    if (id.has_value() || value.size() != 8) return std::nullopt;
    id = static_cast<int64_t>(ReadWord(value));
  }
  return id;
}

std::string EncodeControl(const Control& control) {
  return control.kind == Control::Kind::kPing
             ? absl::StrCat("ping ", absl::ToInt64Nanoseconds(control.bound))
             : absl::StrCat("cancel ", control.call_id);
}

absl::StatusOr<Control> DecodeControl(std::string_view payload) {
  Control control;
  int64_t number = 0;
  if (payload.substr(0, kPing.size()) == kPing) {
    if (!ReadNumber(payload.substr(kPing.size()), number)) return BadControl();
    control.bound = absl::Nanoseconds(number);
    return control;
  }
  if (payload.substr(0, kCancel.size()) != kCancel ||
      !ReadNumber(payload.substr(kCancel.size()), number)) {
    return BadControl();
  }
  control.kind = Control::Kind::kCancel;
  control.call_id = number;
  return control;
}

std::string FormatInstance(uint64_t instance) {
  return absl::StrCat(absl::Hex(instance, absl::kZeroPad16));
}

std::string EncodePong(std::string_view instance) {
  return std::string(kPong) + std::string(instance);
}

std::string InstanceOfPong(std::string_view payload) {
  if (payload.substr(0, kPong.size()) != kPong) return "";
  return std::string(payload.substr(kPong.size()));
}

std::string OwnFeatures(uint64_t memory) {
  return absl::StrCat(
      "1 deadline cancel keepalive idempotency progress epoch reply-id "
      "way-back memory=",
      absl::Hex(memory));
}

PeerFeatures ParseFeatures(std::string_view text) {
  PeerFeatures features;
  features.known = true;
  if (text.size() > kMaxMetadata || text.substr(0, 2) != "1 ") return features;
  features.is_ours = true;
  const absl::string_view list(text.data(), text.size());
  for (const absl::string_view word : absl::StrSplit(list, ' ')) {
    if (word == "deadline") features.deadline = true;
    if (word == "cancel") features.cancel = true;
    if (word == "keepalive") features.keepalive = true;
    if (word == "idempotency") features.idempotency = true;
    if (word == "progress") features.progress = true;
    if (absl::StartsWith(word, "memory=")) {
      const absl::string_view digits = word.substr(kMemoryWord.size());
      uint64_t memory = 0;
      const auto [end, error] = std::from_chars(
          digits.data(), digits.data() + digits.size(), memory, 16);
      if (error == std::errc() && end == digits.data() + digits.size()) {
        features.memory = memory;
      }
    }
    if (word == "epoch") features.epoch = true;
    if (word == "reply-id") features.reply_id = true;
    if (word == "way-back") features.way_back = true;
  }
  return features;
}

}  // namespace reprise
