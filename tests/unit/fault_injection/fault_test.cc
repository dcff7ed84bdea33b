#include "fault_injection/fault.h"

#include <string>
#include <string_view>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace reprise {
namespace {

using testing::HasSubstr;

constexpr int64_t kMs = 1'000'000;
constexpr int64_t kSecond = 1'000 * kMs;

Fault Parse(std::string_view line) {
  const auto fault = ParseFault(line, 3);
  EXPECT_TRUE(fault.ok()) << fault.status();
  return fault.value_or(Fault());
}

TEST(FaultTest, CrashAtAnEventWithARestart) {
  const Fault fault = Parse("crash w1 when w2 send.payload#3 restart 200ms");
  EXPECT_EQ(fault.kind, FaultKind::kCrash);
  EXPECT_EQ(fault.worker, 1);
  EXPECT_TRUE(fault.at_event);
  EXPECT_EQ(fault.event_worker, 2);
  EXPECT_EQ(fault.event, EventKind::kSendPayload);
  EXPECT_EQ(fault.event_number, 3);
  EXPECT_EQ(fault.restart_ns, 200 * kMs);
  EXPECT_EQ(fault.text, "crash w1 when w2 send.payload#3 restart 200ms");
}

TEST(FaultTest, CrashAtATimeForGood) {
  const Fault fault = Parse("crash w0 after 2s");
  EXPECT_FALSE(fault.at_event);
  EXPECT_EQ(fault.worker, 0);
  EXPECT_EQ(fault.after_ns, 2 * kSecond);
  EXPECT_EQ(fault.restart_ns, -1);
}

TEST(FaultTest, TheFirstEventNeedsNoNumber) {
  EXPECT_EQ(Parse("crash w0 when w0 listening").event_number, 1);
}

TEST(FaultTest, Pause) {
  const Fault fault = Parse("pause w2 when w0 call.started#10 for 300ms");
  EXPECT_EQ(fault.kind, FaultKind::kPause);
  EXPECT_EQ(fault.worker, 2);
  EXPECT_EQ(fault.event_worker, 0);
  EXPECT_EQ(fault.event, EventKind::kCallStarted);
  EXPECT_EQ(fault.event_number, 10);
  EXPECT_EQ(fault.for_ns, 300 * kMs);
}

TEST(FaultTest, CutNow) {
  const Fault reset = Parse("cut w0-w1 after 1s reset");
  EXPECT_EQ(reset.kind, FaultKind::kCut);
  EXPECT_EQ(reset.worker, 0);
  EXPECT_EQ(reset.other, 1);
  EXPECT_EQ(reset.after_ns, kSecond);
  EXPECT_EQ(reset.byte, -1);
  EXPECT_FALSE(reset.is_second_ending);
  const Fault eof = Parse("cut w2-w1 when w1 request#5 eof");
  EXPECT_EQ(eof.worker, 2);
  EXPECT_EQ(eof.other, 1);
  EXPECT_TRUE(eof.at_event);
  EXPECT_EQ(eof.event, EventKind::kRequest);
  EXPECT_EQ(eof.event_number, 5);
  EXPECT_TRUE(eof.is_second_ending);
}

TEST(FaultTest, CutAtAByte) {
  const Fault fault = Parse("cut w0>w1 byte 4096 reset");
  EXPECT_EQ(fault.kind, FaultKind::kCut);
  EXPECT_EQ(fault.worker, 0);
  EXPECT_EQ(fault.other, 1);
  EXPECT_EQ(fault.byte, 4096);
  EXPECT_FALSE(fault.at_event);
  EXPECT_FALSE(fault.is_second_ending);
  EXPECT_TRUE(fault.is_one_way);
  EXPECT_FALSE(Parse("cut w0>w1 after 1s reset").is_one_way);
  EXPECT_EQ(Parse("cut w0>w1 byte 0 eof").byte, 0);
}

TEST(FaultTest, Refuse) {
  const Fault fault = Parse("refuse w1 after 1s for 2s");
  EXPECT_EQ(fault.kind, FaultKind::kRefuse);
  EXPECT_EQ(fault.worker, 1);
  EXPECT_EQ(fault.after_ns, kSecond);
  EXPECT_EQ(fault.for_ns, 2 * kSecond);
}

TEST(FaultTest, Hold) {
  const Fault fault = Parse("hold w0-w1 after 1.5s for 2s");
  EXPECT_EQ(fault.kind, FaultKind::kHold);
  EXPECT_EQ(fault.worker, 0);
  EXPECT_EQ(fault.other, 1);
  EXPECT_EQ(fault.after_ns, 1500 * kMs);
  EXPECT_EQ(fault.for_ns, 2 * kSecond);
}

TEST(FaultTest, Partition) {
  const Fault fault = Parse("partition w2-w1 when w1 request for ever");
  EXPECT_EQ(fault.kind, FaultKind::kPartition);
  EXPECT_EQ(fault.worker, 2);
  EXPECT_EQ(fault.other, 1);
  EXPECT_EQ(fault.for_ns, kForEver);
}

TEST(FaultTest, OneWayAndBetweenGroups) {
  const Fault both = Parse("hold w0-w1 after 1s for 2s");
  EXPECT_EQ(both.group, std::vector<int32_t>{0});
  EXPECT_EQ(both.other_group, std::vector<int32_t>{1});
  EXPECT_FALSE(both.is_one_way);
  const Fault groups = Parse("partition w0,w2>w1 after 1s for ever");
  EXPECT_EQ(groups.group, (std::vector<int32_t>{0, 2}));
  EXPECT_EQ(groups.other_group, std::vector<int32_t>{1});
  EXPECT_TRUE(groups.is_one_way);
  EXPECT_TRUE(Parse("delay w0>w1 20ms after 1s for 2s").is_one_way);
}

TEST(FaultTest, KillAndPower) {
  const Fault kill = Parse("kill w1 when w2 request#3 restart 200ms");
  EXPECT_EQ(kill.kind, FaultKind::kKill);
  EXPECT_EQ(kill.restart_ns, 200 * kMs);
  EXPECT_EQ(Parse("power w2 after 2s").kind, FaultKind::kPower);
  EXPECT_EQ(Parse("power w2 after 2s").restart_ns, -1);
}

TEST(FaultTest, WhatMayEndAndWhatMayNot) {
  EXPECT_EQ(Parse("pause w1 after 1s for ever").for_ns, kForEver);
  EXPECT_EQ(Parse("refuse w1 after 1s for ever").for_ns, kForEver);
  const absl::Status hold =
      ParseFault("hold w0-w1 after 1s for ever", 3).status();
  EXPECT_THAT(std::string(hold.message()), HasSubstr("'partition'"));
  const absl::Status partition =
      ParseFault("partition w0-w1 after 1s for 2s", 3).status();
  EXPECT_THAT(std::string(partition.message()), HasSubstr("'hold'"));
}

TEST(FaultTest, DropConnect) {
  const Fault fault = Parse("drop-connect w1 after 500ms");
  EXPECT_EQ(fault.kind, FaultKind::kDropConnect);
  EXPECT_EQ(fault.worker, 1);
  EXPECT_EQ(fault.after_ns, 500 * kMs);
}

TEST(FaultTest, StoreOutage) {
  const Fault all = Parse("store-outage all after 1s for 2s");
  EXPECT_EQ(all.kind, FaultKind::kStoreOutage);
  EXPECT_EQ(all.worker, kAllWorkers);
  EXPECT_EQ(all.for_ns, 2 * kSecond);
  EXPECT_EQ(Parse("store-outage w1 after 1s for 2s").worker, 1);
}

TEST(FaultTest, StoreDelay) {
  const Fault fault = Parse("store-delay 50ms after 1s for 2s");
  EXPECT_EQ(fault.kind, FaultKind::kStoreDelay);
  EXPECT_EQ(fault.delay_ns, 50 * kMs);
  EXPECT_EQ(fault.after_ns, kSecond);
  EXPECT_EQ(fault.for_ns, 2 * kSecond);
}

TEST(FaultTest, StoreLostReply) {
  const Fault reset = Parse("store-lost-reply all after 1s for 2s reset");
  EXPECT_EQ(reset.kind, FaultKind::kStoreLostReply);
  EXPECT_EQ(reset.worker, kAllWorkers);
  EXPECT_FALSE(reset.is_second_ending);
  EXPECT_TRUE(
      Parse("store-lost-reply w1 after 1s for 2s silent").is_second_ending);
}

TEST(FaultTest, BlanksDoNotMatter) {
  const Fault fault = Parse("  drop-connect   w1  after 1ms ");
  EXPECT_EQ(fault.worker, 1);
  EXPECT_EQ(fault.after_ns, kMs);
}

// A line, and what its error must name.
struct Malformed {
  const char* line;
  const char* named;
};

class MalformedFaultTest : public testing::TestWithParam<Malformed> {};

TEST_P(MalformedFaultTest, IsRefusedByName) {
  const absl::Status status = ParseFault(GetParam().line, 3).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument)
      << GetParam().line;
  const std::string message(status.message());
  // The line, the word that is wrong, and what should be there.
  EXPECT_THAT(message, HasSubstr(std::string("'") + GetParam().line + "'"));
  EXPECT_THAT(message, HasSubstr(std::string(": ") + GetParam().named +
                                 " where there should be "));
}

constexpr Malformed kMalformed[] = {
    {"", "it ends"},
    {"explode w1 after 1s", "explode"},
    {"crash", "it ends"},
    {"crash w3 after 1s", "w3"},
    {"crash w-1 after 1s", "w-1"},
    {"crash w after 1s", "w"},
    {"crash w1x after 1s", "w1x"},
    {"crash w01 after 1s", "w01"},
    {"crash 1 after 1s", "1"},
    {"crash all after 1s", "all"},
    {"crash w99999999999 after 1s", "w99999999999"},
    {"crash w1", "it ends"},
    {"crash w1 sometimes", "sometimes"},
    {"crash w1 after", "it ends"},
    {"crash w1 after soon", "soon"},
    {"crash w1 after 5", "5"},
    {"crash w1 after -1s", "-1s"},
    {"crash w1 after inf", "inf"},
    {"crash w1 when", "it ends"},
    {"crash w1 when w7 request", "w7"},
    {"crash w1 when w0", "it ends"},
    {"crash w1 when w0 nothing#3", "nothing#3"},
    {"crash w1 when w0 ?#3", "?#3"},
    {"crash w1 when w0 request#", "request#"},
    {"crash w1 when w0 request#0", "request#0"},
    {"crash w1 when w0 request#-2", "request#-2"},
    {"crash w1 when w0 request#2x", "request#2x"},
    {"crash w1 after 1s restart", "it ends"},
    {"crash w1 after 1s restart never", "never"},
    {"crash w1 after 1s for 2s", "for"},
    {"crash w1 after 1s restart 1s again", "again"},
    {"pause w1 after 1s", "it ends"},
    {"pause w1 after 1s during 2s", "during"},
    {"pause w1 after 1s for", "it ends"},
    {"pause w1 after 1s for long", "long"},
    {"cut w0 after 1s reset", "w0"},
    {"cut w0+w1 after 1s reset", "w0+w1"},
    {"cut w0-w9 after 1s reset", "w9"},
    {"cut x-w1 after 1s reset", "x"},
    {"cut w0-w1 after 1s", "it ends"},
    {"cut w0-w1 after 1s break", "break"},
    {"cut w0>w1 byte reset", "reset"},
    {"cut w0-w1 byte 4096 reset", "byte"},
    {"cut w0>w1 byte -1 reset", "-1"},
    {"cut w0>w1 byte 12x reset", "12x"},
    {"cut w0>w1 byte 99999999999999999999 reset", "99999999999999999999"},
    {"refuse w1 after 1s", "it ends"},
    {"refuse w0-w1 after 1s for 1s", "w0-w1"},
    {"hold w0,w9-w1 after 1s for 1s", "w9"},
    {"hold w0,-w1 after 1s for 1s", "it ends"},
    {"hold w0 after 1s for 1s", "w0"},
    {"cut w0,w1-w2 after 1s reset", "w0,w1"},
    {"swizzle w0-w1 after 1s for 1s", "w0-w1"},
    {"swizzle w0 after 1s for ever", "ever"},
    {"kill all after 1s", "all"},
    {"power w0-w1 after 1s", "w0-w1"},
    {"hold w0-w1 after 1s", "it ends"},
    {"hold w0-w1 after 1s for ever", "ever"},
    {"partition w0-w1 after 1s for 2s", "2s"},
    {"partition w0 after 1s for ever", "w0"},
    {"knock w1 after 1s for 2s", "for"},
    {"store-outage some after 1s for 2s", "some"},
    {"store-delay all after 1s for 2s", "all"},
    {"store-delay 1ms for 2s", "for"},
    {"store-lost-reply w1 after 1s for 2s", "it ends"},
    {"store-late-effect w1 after 1s for 2s", "after"},
    {"store-restart after 1s for 2s", "after"},
    {"clock-drift w1 1s after 0s for ever slow", "1s"},
    {"clock-drift w1 2s after 1s for ever slow", "2s"},
    {"clock-drift w1 1001s after 0s for ever fast", "16m41s"},
};

INSTANTIATE_TEST_SUITE_P(All, MalformedFaultTest,
                         testing::ValuesIn(kMalformed));

TEST(FaultTest, FaultsInOrderOrTheFirstError) {
  const auto faults =
      ParseFaults({"drop-connect w1 after 1s", "crash w0 after 2s"}, 3);
  ASSERT_TRUE(faults.ok()) << faults.status();
  ASSERT_EQ(faults->size(), 2u);
  EXPECT_EQ((*faults)[0].kind, FaultKind::kDropConnect);
  EXPECT_EQ((*faults)[1].kind, FaultKind::kCrash);
  EXPECT_TRUE(ParseFaults({}, 3)->empty());
  const absl::Status status =
      ParseFaults({"knock w1 after 1s", "crash w0 then", "what"}, 3).status();
  EXPECT_THAT(std::string(status.message()), HasSubstr("then"));
}

TEST(FaultTest, EveryRowOfTheTableIsTrue) {
  for (const FaultKindInfo& kind : FaultKinds()) {
    const std::string example(kind.example);
    SCOPED_TRACE(example);
    EXPECT_TRUE(example.starts_with(std::string(kind.word) + " "));
    EXPECT_EQ(ToString(kind.kind), kind.word);
    EXPECT_EQ(FaultKindsNamed(kind.word), std::vector<FaultKind>{kind.kind});
    const Fault fault = Parse(example);
    EXPECT_EQ(fault.kind, kind.kind);
    EXPECT_EQ(fault.for_ns != 0, kind.lasts());
    EXPECT_EQ(fault.delay_ns != 0, kind.has_delay);
    EXPECT_NE(DescribeFaultKinds().find(example), std::string::npos);
    EXPECT_NE(DescribeFaultKinds().find(kind.effect), std::string::npos);
    if (kind.older_word.empty()) continue;
    const std::string older =
        std::string(kind.older_word) + example.substr(kind.word.size());
    EXPECT_EQ(Parse(older).kind, kind.kind);
    EXPECT_EQ(Parse(older).text, older);
  }
}

TEST(FaultTest, AnOlderWordMayMeanSeveralKinds) {
  EXPECT_EQ(FaultKindsNamed("silence"),
            (std::vector<FaultKind>{FaultKind::kHold, FaultKind::kPartition}));
  EXPECT_EQ(Parse("silence w0-w1 after 1s for 2s").kind, FaultKind::kHold);
  EXPECT_EQ(Parse("silence w0-w1 after 1s for ever").kind,
            FaultKind::kPartition);
  EXPECT_TRUE(FaultKindsNamed("").empty());
  EXPECT_TRUE(FaultKindsNamed("explode").empty());
}

TEST(FaultTest, FormattedDurationsCanBeRead) {
  EXPECT_EQ(FormatNanoseconds(200 * kMs), "200ms");
  EXPECT_EQ(FormatNanoseconds(2 * kSecond), "2s");
  for (int64_t ns : {int64_t{0}, int64_t{1}, 1500 * kMs / 1000, 90 * kSecond,
                     3601 * kSecond + 1}) {
    EXPECT_EQ(Parse("crash w1 after " + FormatNanoseconds(ns)).after_ns, ns);
  }
}

}  // namespace
}  // namespace reprise
