#include "sim/world/decision.h"

#include <set>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace reprise {
namespace {

Decision Make(const std::string& site, uint64_t count, DecisionKind kind,
              uint64_t value, const std::string& text = "") {
  return {site, count, kind, value, text};
}

void ExpectRoundTrip(const Decision& decision) {
  const std::string line = decision.ToString();
  const auto back = Decision::Parse(line);
  ASSERT_TRUE(back.has_value()) << line;
  EXPECT_EQ(back->site, decision.site);
  EXPECT_EQ(back->count, decision.count);
  EXPECT_EQ(back->kind, decision.kind);
  EXPECT_EQ(back->value, decision.value);
  EXPECT_EQ(back->text, decision.text);
  EXPECT_EQ(back->ToString(), line);
}

TEST(DecisionTest, EveryKindComesBack) {
  ExpectRoundTrip(Make("w1 lock:calls", 17, DecisionKind::kSwitch, 1));
  ExpectRoundTrip(Make("w1 lock:calls", 17, DecisionKind::kNext,
                       HashBytes("w1/io"), "w1/io"));
  ExpectRoundTrip(Make("w1+1 wait:queue", 1, DecisionKind::kStall, 49'999));
  ExpectRoundTrip(Make("w1 send:4294967297", UINT64_MAX, DecisionKind::kLatency,
                       UINT64_MAX));
  ExpectRoundTrip(
      Make("w1/main [start] lock:calls", 1, DecisionKind::kSwitch, 1));
  ExpectRoundTrip(Make("w1/worker-0 [request w0 4711~2] lock:calls", 2,
                       DecisionKind::kStall, 5));
  // Labels with blanks and numbers.
  ExpectRoundTrip(Make("w1/a worker [call w2 my push 5] wait:a thing", 3,
                       DecisionKind::kSwitch, 1));
  ExpectRoundTrip(Make("w1 lock:my lock 2", 0, DecisionKind::kNext,
                       HashBytes("w1/a worker~3"), "w1/a worker~3"));
  EXPECT_EQ(
      Make("w1 lock:calls", 17, DecisionKind::kNext, 0, "w1/io").ToString(),
      "w1 lock:calls#17 next w1/io");
}

TEST(DecisionTest, GarbledLinesAreRefused) {
  for (const char* line : {"",
                           "w1 lock:calls",
                           "w1 lock:calls#",
                           "w1 lock:calls#x switch 1",
                           "w1 lock:calls#17",
                           "w1 lock:calls#17 ",
                           "w1 lock:calls#17 switch",
                           "w1 lock:calls#17 switch ",
                           "w1 lock:calls#17 switch x",
                           "w1 lock:calls#17 switch 1x",
                           "w1 lock:calls#17 jump 1",
                           "w1 lock:calls#-1 switch 1",
                           "w1 lock:calls#17switch 1",
                           "w1 lock:calls#99999999999999999999 switch 1",
                           "lock:calls#1 switch 1",
                           "w1/main [call w2] lock:calls#1 switch 1",
                           "w1/main [call w2 x] lock:calls#1 switch 1",
                           "w1/main [call w2 5~] lock:calls#1 switch 1",
                           "w1/main [jump w2 5] lock:calls#1 switch 1",
                           "w1/main [start lock:calls#1 switch 1"}) {
    EXPECT_FALSE(Decision::Parse(line).has_value()) << line;
  }
}

TEST(DecisionsTest, SitesAreStableAndDrawTheirOwn) {
  Decisions decisions(1, nullptr, false);
  Site* const a = decisions.SiteAt("w1", "lock:a");
  Site* const b = decisions.SiteAt("w1", "lock:b");
  EXPECT_NE(a, b);
  EXPECT_EQ(decisions.SiteAt("w1", "lock:a"), a);
  EXPECT_NE(decisions.SiteAt("w2", "lock:a"), a);
  EXPECT_EQ(a->Label(), "w1 lock:a");

  // Visits to one site shift no draw of another, nor one kind another's.
  std::set<uint64_t> all;
  Decisions others(1, nullptr, false);
  Site* const alone = others.SiteAt("w1", "lock:b");
  for (int i = 0; i < 100; ++i) {
    ++a->count;
    all.insert(a->Bits(DecisionKind::kSwitch));
    all.insert(a->Bits(DecisionKind::kStall));
    ++b->count;
    ++alone->count;
    EXPECT_EQ(b->Bits(DecisionKind::kSwitch),
              alone->Bits(DecisionKind::kSwitch));
    all.insert(b->Bits(DecisionKind::kSwitch));
  }
  EXPECT_EQ(all.size(), 300u);
  Decisions other_seed(2, nullptr, false);
  Site* const c = other_seed.SiteAt("w1", "lock:b");
  c->count = b->count;
  EXPECT_NE(c->Bits(DecisionKind::kSwitch), b->Bits(DecisionKind::kSwitch));
}

TEST(DecisionsTest, ARecordingIsFollowedByLabelCountAndKind) {
  const std::vector<Decision> recording = {
      Make("w1 lock:a", 2, DecisionKind::kSwitch, 1),
      Make("w1 lock:a", 2, DecisionKind::kStall, 500),
      Make("w1 lock:b", 7, DecisionKind::kNext, HashBytes("w1/io"), "w1/io"),
  };
  Decisions decisions(1, &recording, false);
  EXPECT_TRUE(decisions.replaying());
  Site& a = *decisions.SiteAt("w1", "lock:a");
  a.count = 1;
  EXPECT_EQ(decisions.Recorded(a, DecisionKind::kSwitch), std::nullopt);
  a.count = 2;
  EXPECT_EQ(decisions.Recorded(a, DecisionKind::kSwitch), 1u);
  EXPECT_EQ(decisions.Recorded(a, DecisionKind::kNext), std::nullopt);
  // The first of the recording that was not followed is named.
  EXPECT_EQ(decisions.FirstMismatch(), "w1 lock:a#2 stall 500");
  EXPECT_EQ(decisions.Recorded(a, DecisionKind::kStall), 500u);
  EXPECT_EQ(decisions.FirstMismatch(), "w1 lock:b#7 next w1/io");
  Site& b = *decisions.SiteAt("w1", "lock:b");
  b.count = 7;
  EXPECT_TRUE(decisions.Recorded(b, DecisionKind::kNext).has_value());
  EXPECT_EQ(decisions.FirstMismatch(), "");
  // Reached, but the fiber cannot run.
  decisions.Mismatch(b, DecisionKind::kNext);
  EXPECT_EQ(decisions.FirstMismatch(), "w1 lock:b#7 next w1/io");
}

TEST(DecisionsTest, AThreadHasASiteForEachPlace) {
  Decisions decisions(1, nullptr, true);
  ThreadSites thread;
  const std::string label = "w1/main";
  thread.Start(1, label, HashBytes(label));
  std::vector<const Place*> places;
  for (int i = 0; i < 100; ++i) {
    places.push_back(&decisions.PlaceAt("lock:" + std::to_string(i)));
  }
  std::vector<Site*> sites;
  // Those that would share a slot come one after another.
  for (const size_t first : {0, 1, 2, 3}) {
    for (size_t i = first; i < places.size(); i += 4) {
      sites.push_back(&thread.At(*places[i]));
      EXPECT_EQ(sites.back()->Label(), "w1/main [start] " + places[i]->label);
    }
  }
  EXPECT_EQ(std::set<Site*>(sites.begin(), sites.end()).size(), places.size());
  for (size_t i = 0; i < places.size(); ++i) {
    EXPECT_EQ(&thread.At(*places[i]), sites[i % 4 * 25 + i / 4]);
  }
}

TEST(DecisionsTest, EachSectionOfAThreadCountsItsOwnVisits) {
  Decisions decisions(1, nullptr, true);
  ThreadSites thread;
  const std::string label = "w1/main";
  thread.Start(1, label, HashBytes(label));
  Site& site = thread.At(decisions.PlaceAt("lock:a"));
  EXPECT_EQ(&thread.At(decisions.PlaceAt("lock:a")), &site);
  std::set<uint64_t> all;
  const auto visit = [&](const std::string& section, uint64_t count) {
    site.Visit();
    EXPECT_EQ(site.Label(), "w1/main [" + section + "] lock:a");
    EXPECT_EQ(site.count, count);
    EXPECT_TRUE(all.insert(site.Bits(DecisionKind::kSwitch)).second);
    // A recording finds it.
    const std::vector<Decision> recording = {
        Make(site.Label(), site.count, DecisionKind::kSwitch, 1)};
    Decisions replay(1, &recording, false);
    EXPECT_EQ(replay.Recorded(site, DecisionKind::kSwitch), 1u);
  };
  visit("start", 1);
  visit("start", 2);
  thread.BeginNext(SectionKind::kCall, "w2");
  visit("call w2 1", 1);
  visit("call w2 1", 2);
  thread.Begin(SectionKind::kRequest, "w0", 7);
  visit("request w0 7", 1);
  // The same once more, as a planted defect may do.
  thread.Begin(SectionKind::kRequest, "w0", 7);
  visit("request w0 7~2", 1);
  thread.BeginNext(SectionKind::kCall, "w2");
  visit("call w2 2", 1);
  thread.BeginNext(SectionKind::kCall, "w2 push");
  visit("call w2 push 1", 1);
  // A name that a peer made up cannot break the file.
  thread.Begin(SectionKind::kReply, "a]#\n b", 1);
  visit("reply a___ b 1", 1);
}

TEST(DecisionsTest, KeepsWhatItIsTold) {
  Decisions kept(1, nullptr, true);
  Decisions forgotten(1, nullptr, false);
  for (Decisions* decisions : {&kept, &forgotten}) {
    Site& site = *decisions->SiteAt("w1", "lock:a");
    site.count = 3;
    decisions->CountMade();
    decisions->Keep(site, DecisionKind::kStall, 12);
    EXPECT_EQ(decisions->num_made(), 1);
    EXPECT_EQ(decisions->FirstMismatch(), "");
  }
  ASSERT_EQ(kept.kept().size(), 1u);
  EXPECT_EQ(kept.kept()[0].ToString(), "w1 lock:a#3 stall 12");
  EXPECT_TRUE(forgotten.kept().empty());
}

}  // namespace
}  // namespace reprise
