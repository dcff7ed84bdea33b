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
  const PeerFeatures own = ParseFeatures(OwnFeatures());
  EXPECT_TRUE(own.epoch);
  EXPECT_TRUE(own.known && own.deadline && own.cancel && own.keepalive &&
              own.idempotency);
  const PeerFeatures some = ParseFeatures("1 cancel telepathy");
  EXPECT_TRUE(some.cancel);
  EXPECT_FALSE(some.deadline || some.keepalive || some.idempotency);
  const PeerFeatures later = ParseFeatures("2 deadline");
  EXPECT_TRUE(later.known);
  EXPECT_FALSE(later.deadline);
  EXPECT_FALSE(PeerFeatures().known);
}

}  // namespace
}  // namespace reprise
