#include "agent/wire/call_extras.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace reprise {
namespace {

TEST(CallExtrasTest, NothingToSayIsNothingOnTheWire) {
  EXPECT_EQ(EncodeExtras({}), "");
  ASSERT_TRUE(DecodeExtras("").ok());
  EXPECT_EQ(DecodeExtras("")->remaining, absl::InfiniteDuration());
  EXPECT_EQ(EncodeExtras({.remaining = absl::Hours(24 * 365)}), "");
}

TEST(CallExtrasTest, RoundTrip) {
  CallExtras extras;
  extras.remaining = absl::Nanoseconds(1);
  extras.idempotency_key = std::string(kMaxIdempotencyKey, '\0');
  extras.caller_instance = 0xfedcba9876543210;
  const auto read = DecodeExtras(EncodeExtras(extras));
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->remaining, extras.remaining);
  EXPECT_EQ(read->idempotency_key, extras.idempotency_key);
  EXPECT_EQ(read->caller_instance, extras.caller_instance);
  EXPECT_EQ(read->key_number, 0);
}

TEST(CallExtrasTest, KeysAreNumbered) {
  CallExtras extras;
  extras.idempotency_key = "k";
  extras.key_number = uint64_t{1} << 63;
  extras.memory = 2;
  extras.attempt = 3;
  const std::string whole = EncodeExtras(extras);
  const auto read = DecodeExtras(whole);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->key_number, extras.key_number);
  EXPECT_EQ(read->memory, 2);
  EXPECT_EQ(read->attempt, 3);
  // Tags 4, 5 and 6 have ten bytes each, and come together, once, with a key.
  const std::string fields = whole.substr(whole.size() - 30);
  const std::string key = whole.substr(0, whole.size() - 30);
  EXPECT_TRUE(DecodeExtras(key).ok());
  EXPECT_FALSE(DecodeExtras("rp1" + fields).ok());
  for (size_t i = 0; i < 3; ++i) {
    const std::string field = fields.substr(10 * i, 10);
    EXPECT_FALSE(DecodeExtras(key + field).ok()) << i;
    EXPECT_FALSE(DecodeExtras(whole + field).ok()) << i;
    std::string shorter = field.substr(0, 9);
    shorter[1] = 7;
    EXPECT_FALSE(DecodeExtras(key + shorter).ok()) << i;
  }
}

TEST(CallExtrasTest, TheWayBackOfAReply) {
  const Device cpu = CpuDevice();
  const DeviceMap map = {{cpu, GpuDevice(2)}, {GpuDevice(253), cpu}};
  const std::string says = EncodeExtras({.way_back = map});
  EXPECT_EQ(says, std::string("rp1\x09\x04\x00\x03\xfe\x00", 9));
  const auto read = DecodeExtras(says);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->way_back, map);
  // Twice, odd, empty, and not one to one.
  EXPECT_FALSE(DecodeExtras(says + says.substr(3)).ok());
  EXPECT_FALSE(DecodeExtras("rp1\x09\x01x").ok());
  EXPECT_FALSE(DecodeExtras(std::string("rp1\x09\0", 5)).ok());
  EXPECT_FALSE(DecodeExtras("rp1\x09\x04\x01\x01\x01\x02").ok());
  EXPECT_FALSE(DecodeExtras("rp1\x09\x04\x01\x02\x02\x02").ok());
  // What cannot be written.
  EXPECT_EQ(EncodeExtras({.way_back = {{GpuDevice(255), cpu}}}), "");
  EXPECT_EQ(EncodeExtras({.way_back = {{Device{"hip", 0}, cpu}}}), "");
}

TEST(CallExtrasTest, AReplySaysItsId) {
  const std::string asks = EncodeExtras({.wants_reply_id = true});
  EXPECT_EQ(asks, std::string("rp1\x07\0", 5));
  ASSERT_TRUE(DecodeExtras(asks).ok());
  EXPECT_TRUE(DecodeExtras(asks)->wants_reply_id);
  EXPECT_FALSE(DecodeExtras("")->wants_reply_id);
  EXPECT_FALSE(DecodeExtras(asks + asks.substr(3)).ok());
  EXPECT_FALSE(DecodeExtras("rp1\x07\x01x").ok());

  const std::string says = EncodeReplyId(0x0102030405060708);
  EXPECT_EQ(says, std::string("rp1\x08\x08\x08\x07\x06\x05\x04\x03\x02\x01"));
  EXPECT_EQ(ReplyIdOf(says), 0x0102030405060708);
  EXPECT_EQ(ReplyIdOf(EncodeReplyId(-1)), -1);
  EXPECT_EQ(ReplyIdOf("rp1\x7f\x02xy" + says.substr(3)), 0x0102030405060708);
  for (size_t length = 0; length < says.size(); ++length) {
    EXPECT_FALSE(ReplyIdOf(says.substr(0, length)).has_value()) << length;
  }
  EXPECT_FALSE(ReplyIdOf(says + says.substr(3)).has_value());
  EXPECT_FALSE(ReplyIdOf("rq1" + says.substr(3)).has_value());
  EXPECT_FALSE(ReplyIdOf(says + std::string(kMaxMetadata, '\x7f')).has_value());
}

TEST(CallExtrasTest, WhatIsCutOffOrTwiceIsRefused) {
  CallExtras extras;
  extras.remaining = absl::Seconds(1);
  extras.idempotency_key = "key";
  const std::string whole = EncodeExtras(extras);
  const std::string deadline = EncodeExtras({.remaining = absl::Seconds(1)});
  for (size_t length = 1; length < whole.size(); ++length) {
    const std::string part = whole.substr(0, length);
    // At the ends of fields: the magic alone, and the deadline alone.
    const bool is_whole = part == deadline || part == "rp1";
    EXPECT_EQ(DecodeExtras(part).ok(), is_whole) << length;
  }
  EXPECT_FALSE(DecodeExtras(whole + deadline.substr(3)).ok());
  EXPECT_FALSE(DecodeExtras("something else").ok());
  EXPECT_FALSE(DecodeExtras(std::string("rp1\x02\x00", 5)).ok());
  EXPECT_FALSE(
      DecodeExtras(std::string("rp1\x01\x08\0\0\0\0\0\0\0\0", 13)).ok());
  EXPECT_FALSE(
      DecodeExtras(std::string("rp1\x01\x08\0\0\0\0\0\0\0\xff", 13)).ok());
  // Of fields that are skipped.
  std::string longest = "rp1";
  while (longest.size() + 2 <= kMaxMetadata) longest += {'\x7f', '\0'};
  EXPECT_TRUE(DecodeExtras(longest).ok());
  longest += {'\x7f', '\0'};
  EXPECT_FALSE(DecodeExtras(longest).ok());
}

TEST(CallExtrasTest, AnUnknownFieldIsSkipped) {
  EXPECT_TRUE(DecodeExtras("rp1\x7f\x02xy").ok());
}

TEST(CallExtrasTest, Controls) {
  const auto ping =
      DecodeControl(EncodeControl({.bound = absl::Milliseconds(15)}));
  ASSERT_TRUE(ping.ok());
  EXPECT_EQ(ping->kind, Control::Kind::kPing);
  EXPECT_EQ(ping->bound, absl::Milliseconds(15));
  const auto cancel =
      DecodeControl(EncodeControl({Control::Kind::kCancel, {}, 4711}));
  ASSERT_TRUE(cancel.ok());
  EXPECT_EQ(cancel->kind, Control::Kind::kCancel);
  EXPECT_EQ(cancel->call_id, 4711);
  for (const char* bad : {"", "ping", "ping ", "ping -1", "ping 1 ",
                          "ping 99999999999999999999", "cancel x", "stop 1"}) {
    EXPECT_FALSE(DecodeControl(bad).ok()) << bad;
  }
}

TEST(CallExtrasTest, ControlsAreARequestAndAResponse) {
  EXPECT_TRUE(IsRequest(kControlRequest) && !IsResponse(kControlRequest));
  EXPECT_TRUE(IsResponse(kControlResponse) && !IsRequest(kControlResponse));
}

TEST(CallExtrasTest, APongCarriesTheInstance) {
  const std::string instance = FormatInstance(0x12ab);
  EXPECT_EQ(instance, "00000000000012ab");
  EXPECT_EQ(EncodePong(instance), "pong 00000000000012ab");
  EXPECT_EQ(InstanceOfPong(EncodePong(instance)), instance);
  // Of an older version, and of what is no pong.
  EXPECT_EQ(InstanceOfPong("pong"), "");
  EXPECT_EQ(InstanceOfPong("pang 12"), "");
}

TEST(CallExtrasTest, Features) {
  const PeerFeatures own = ParseFeatures(OwnFeatures(0x1f));
  EXPECT_TRUE(own.epoch && own.reply_id && own.way_back);
  EXPECT_TRUE(own.known && own.deadline && own.cancel && own.keepalive &&
              own.idempotency && own.progress);
  EXPECT_EQ(own.memory, 0x1f);
  for (const char* text : {"1 idempotency", "1 memory=", "1 memory=1x",
                           "1 memory=-1", "1 memory=11111111111111111"}) {
    EXPECT_EQ(ParseFeatures(text).memory, 0) << text;
  }
  const PeerFeatures some = ParseFeatures("1 cancel telepathy");
  EXPECT_TRUE(some.cancel);
  EXPECT_FALSE(some.deadline || some.keepalive || some.idempotency ||
               some.progress);
  const PeerFeatures later = ParseFeatures("2 deadline");
  EXPECT_TRUE(later.known);
  EXPECT_FALSE(later.deadline);
  EXPECT_FALSE(PeerFeatures().known);
}

}  // namespace
}  // namespace reprise
