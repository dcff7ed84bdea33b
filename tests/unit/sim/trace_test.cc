#include "sim/trace/trace.h"

#include <set>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace reprise {
namespace {

void ExpectEqual(const Event& x, const Event& y) {
  EXPECT_EQ(x.time_ns, y.time_ns);
  EXPECT_EQ(x.node, y.node);
  EXPECT_EQ(x.kind, y.kind);
  EXPECT_EQ(x.id, y.id);
  EXPECT_EQ(x.a, y.a);
  EXPECT_EQ(x.b, y.b);
  EXPECT_EQ(x.c, y.c);
  EXPECT_EQ(x.text, y.text);
}

TEST(TraceTextTest, EveryKindComesBack) {
  std::set<std::string> names;
  for (int i = 0; i < static_cast<int>(EventKind::kCount); ++i) {
    const Event event{123, 1, static_cast<EventKind>(i), 7, -8, 9, 10, ""};
    names.insert(std::string(ToString(event.kind)));
    EXPECT_EQ(EventKindFromString(ToString(event.kind)), event.kind);
    Event back;
    ASSERT_TRUE(ParseEvent(ToString(event), back)) << ToString(event);
    ExpectEqual(event, back);
  }
  EXPECT_EQ(names.size(), static_cast<size_t>(EventKind::kCount));
  EXPECT_EQ(EventKindFromString("no.such"), EventKind::kCount);
  EXPECT_EQ(EventKindFromString(""), EventKind::kCount);
}

TEST(TraceTextTest, ExtremeNumbersComeBack) {
  const Event event{INT64_MAX,  INT32_MIN, EventKind::kCallStarted,
                    UINT64_MAX, INT64_MIN, INT64_MAX,
                    UINT64_MAX, "x"};
  Event back;
  ASSERT_TRUE(ParseEvent(ToString(event), back));
  ExpectEqual(event, back);
}

TEST(TraceTextTest, AnyTextComesBackInOneLine) {
  std::string all_bytes;
  for (int c = 0; c < 256; ++c) all_bytes.push_back(static_cast<char>(c));
  for (const std::string& text :
       {std::string("a b  c"), std::string("\n"), std::string(" "),
        std::string("a\n1.0 w1"), std::string("\\n"), std::string("x\0y", 3),
        std::string("\x01"
                    "1"),
        all_bytes, std::string(100'000, '\n')}) {
    const Event event{1, 0, EventKind::kNote, 0, 0, 0, 0, text};
    const std::string line = ToString(event);
    EXPECT_EQ(line.find('\n'), std::string::npos);
    Event back;
    ASSERT_TRUE(ParseEvent(line, back));
    ExpectEqual(event, back);
  }
}

TEST(TraceTextTest, AnEarlierTextDoesNotStay) {
  Event event;
  event.text = "old";
  ASSERT_TRUE(ParseEvent(
      ToString(Event{1, 0, EventKind::kNote, 0, 0, 0, 0, ""}), event));
  EXPECT_EQ(event.text, "");
}

TEST(TraceTextTest, GarbledLinesAreRefused) {
  const std::string line =
      ToString(Event{5, 1, EventKind::kReply, 2, 3, 4, 5, "text"});
  Event event;
  ASSERT_TRUE(ParseEvent(line, event));
  // The line is cut off anywhere before the text.
  for (size_t length = 0; length < line.size() - std::string(" text").size();
       ++length) {
    // A number that lost digits is still one, but then it ends the line.
    if (line.find(" c=") < length) continue;
    EXPECT_FALSE(ParseEvent(line.substr(0, length), event))
        << line.substr(0, length);
  }
  for (const char* bad :
       {"hello", "t=1", "t=x n=1 note id=0 a=0 b=0 c=0",
        "t=1 n=1 what id=0 a=0 b=0 c=0", "t=1 n=1 note id=-1 a=0 b=0 c=0",
        "t=1 n=1 note id=0 a=0 b=0 c=g", "n=1 t=1 note id=0 a=0 b=0 c=0",
        "t=1 n=1 note id=0 a=0 b=99999999999999999999 c=0",
        "t=1 n=1 note id=0 a=0 b=0 c=0 \\xzz"}) {
    EXPECT_FALSE(ParseEvent(bad, event)) << bad;
  }
}

struct Difference {
  const char* what;
  Event event;
};

TEST(TraceTest, TheHashTellsEveryFieldAndTheOrder) {
  const Event base{10, 1, EventKind::kNote, 1, 2, 3, 4, "text"};
  std::vector<Difference> differences(9, {"", base});
  differences[1] = {"time", {11, 1, EventKind::kNote, 1, 2, 3, 4, "text"}};
  differences[2] = {"node", {10, 2, EventKind::kNote, 1, 2, 3, 4, "text"}};
  differences[3] = {"kind", {10, 1, EventKind::kProbe, 1, 2, 3, 4, "text"}};
  differences[4] = {"id", {10, 1, EventKind::kNote, 9, 2, 3, 4, "text"}};
  differences[5] = {"a", {10, 1, EventKind::kNote, 1, 9, 3, 4, "text"}};
  differences[6] = {"b", {10, 1, EventKind::kNote, 1, 2, 9, 4, "text"}};
  differences[7] = {"c", {10, 1, EventKind::kNote, 1, 2, 3, 9, "text"}};
  differences[8] = {"text", {10, 1, EventKind::kNote, 1, 2, 3, 4, "texu"}};
  std::set<uint64_t> hashes;
  for (const Difference& d : differences) {
    Trace trace(/*keep_events=*/false);
    const Event& e = d.event;
    trace.Record(e.time_ns, e.node,
                 {.kind = e.kind,
                  .id = e.id,
                  .rank = e.a,
                  .num_bytes = e.b,
                  .digest = e.c,
                  .text = e.text});
    EXPECT_TRUE(hashes.insert(trace.hash()).second) << d.what;
  }
  Trace forwards(false);
  Trace backwards(false);
  forwards.Record(1, 0, {.kind = EventKind::kNote, .id = 1});
  forwards.Record(1, 0, {.kind = EventKind::kNote, .id = 2});
  backwards.Record(1, 0, {.kind = EventKind::kNote, .id = 2});
  backwards.Record(1, 0, {.kind = EventKind::kNote, .id = 1});
  EXPECT_NE(forwards.hash(), backwards.hash());
  EXPECT_EQ(forwards.num_events(), 2);
}

// It says again what the events of its calls say, and replay files from before
// it was there have hashes without it.
TEST(TraceTest, ARetryIsKeptAndNotHashed) {
  const EventDetails started{.kind = EventKind::kCallStarted, .id = 4};
  Trace with(/*keep_events=*/true);
  with.Record(1, 0, {.kind = EventKind::kCallRetried, .id = 4, .earlier = 3});
  with.Record(1, 0, started);
  Trace without(/*keep_events=*/true);
  without.Record(1, 0, started);
  EXPECT_EQ(with.hash(), without.hash());
  ASSERT_EQ(with.events().size(), 2u);
  EXPECT_EQ(with.events()[0].earlier(), 3u);
}

TEST(TraceTest, EveryDetailIsOneOfTheThreeNumbers) {
  const EventKind kind = EventKind::kNote;
  for (const EventDetails& details :
       {EventDetails{.kind = kind, .rank = -3},
        EventDetails{.kind = kind, .incarnation = -3},
        EventDetails{.kind = kind, .frame = -3},
        EventDetails{.kind = kind, .break_kind = -3},
        EventDetails{.kind = kind, .stall_ns = -3}}) {
    const Event event = MakeEvent(0, 0, details);
    EXPECT_EQ(event.a, -3);
    EXPECT_EQ(event.b, 0);
  }
  const Event started = MakeEvent(9, 1,
                                  {.kind = EventKind::kCallStarted,
                                   .id = 5,
                                   .rank = 2,
                                   .deadline_ns = INT64_MAX,
                                   .digest = 7,
                                   .text = "x"});
  ExpectEqual(started,
              Event{9, 1, EventKind::kCallStarted, 5, 2, INT64_MAX, 7, "x"});
  EXPECT_EQ(started.rank(), 2);
  EXPECT_EQ(started.deadline_ns(), INT64_MAX);
  EXPECT_EQ(started.digest(), 7u);
  const Event failed = MakeEvent(0, 0,
                                 {.kind = EventKind::kCallCompleted,
                                  .code = absl::StatusCode::kUnavailable});
  EXPECT_EQ(failed.code(), absl::StatusCode::kUnavailable);
  EXPECT_FALSE(failed.is_ok());
  EXPECT_EQ(MakeEvent(0, 0, {.num_bytes = 11}).b, 11);
  EXPECT_EQ(MakeEvent(0, 0, {.incarnation = 4}).incarnation(), 4);
}

TEST(TraceTest, KeepingAndListeningDoNotChangeTheHash) {
  Trace bare(false);
  Trace kept(true);
  std::vector<Event> heard;
  kept.AddListener([&](const Event& event) { heard.push_back(event); });
  for (Trace* trace : {&bare, &kept}) {
    trace->Record(1, 0, {.kind = EventKind::kNote, .text = "x"});
    trace->Record(2, 0, {.kind = EventKind::kSwitch, .id = 3});
  }
  EXPECT_EQ(bare.hash(), kept.hash());
  EXPECT_TRUE(bare.events().empty());
  EXPECT_EQ(kept.events().size(), 2u);
  // Listeners are spared the scheduler's events.
  ASSERT_EQ(heard.size(), 1u);
  EXPECT_EQ(heard[0].text, "x");
}

}  // namespace
}  // namespace reprise
