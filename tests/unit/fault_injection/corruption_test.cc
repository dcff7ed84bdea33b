// Frames that do not arrive as they were sent, and what notices it.

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "sim/network/links.h"
#include "tests/unit/fault_injection/injector_testing.h"

namespace reprise {
namespace {

TEST(CorruptionTest, ABitOrTheLastBytes) {
  const std::vector<uint8_t> sent = {1, 2, 3, 4, 5};
  for (uint64_t i = 0; i < 100; ++i) {
    const uint64_t bits = i * 0x9e3779b97f4a7c15u;
    std::vector<uint8_t> flipped = sent;
    Corruption{.is_short = false, .bits = bits}.Spoil(flipped);
    ASSERT_EQ(flipped.size(), sent.size());
    int differing = 0;
    for (size_t byte = 0; byte < sent.size(); ++byte) {
      differing += std::popcount(static_cast<unsigned>(flipped[byte]) ^
                                 static_cast<unsigned>(sent[byte]));
    }
    EXPECT_EQ(differing, 1);
    std::vector<uint8_t> cut = sent;
    Corruption{.is_short = true, .bits = bits}.Spoil(cut);
    EXPECT_LT(cut.size(), sent.size());
    EXPECT_TRUE(std::equal(cut.begin(), cut.end(), sent.begin()));
  }
}

// The texts with which calls ended that the fault has failed.
std::vector<std::string> FailuresOf(const RunResult& result) {
  std::vector<std::string> texts;
  for (const Event& event : result.events) {
    if (event.kind == EventKind::kCallCompleted && !event.is_ok()) {
      EXPECT_EQ(event.code(), absl::StatusCode::kUnavailable) << event.text;
      texts.push_back(event.text);
    }
  }
  return texts;
}

// A frame of a request, or of its reply. It fails its connection, with the call
// that is on it, and the next call opens another one.
TEST(CorruptionTest, AFrameThatIsCutShortFailsItsConnection) {
  for (const char* fault : {"corrupt w1>w0 when w1 send.payload#10 short",
                            "corrupt w0>w1 when w0 send.payload#10 short",
                            "corrupt w1>w0 when w1 send.descriptor#5 short",
                            "corrupt w0>w1 when w0 send.descriptor#5 short"}) {
    SCOPED_TRACE(fault);
    const RunResult result = RunWith({fault});
    EXPECT_EQ(Injections(result, "corrupt"), 1);
    EXPECT_EQ(FailuresOf(result).size(), 1u);
    EXPECT_EQ(FailedCalls(result, absl::StatusCode::kOk), 29);
  }
}

TEST(CorruptionTest, AFlippedBitOfADescriptorIsRefusedOrDoesNoHarm) {
  int refused = 0;
  for (int number = 1; number < 40; ++number) {
    const RunResult result = RunWith({"corrupt w1>w0 when w1 send.descriptor#" +
                                      std::to_string(number) + " flip"});
    if (Injections(result, "corrupt") == 0) break;
    const std::vector<std::string> failures = FailuresOf(result);
    EXPECT_LE(failures.size(), 1u);
    refused += static_cast<int>(failures.size());
  }
  EXPECT_GT(refused, 10);
}

// Nothing on the wire tells. Of a request's four payloads the third is the
// user's.
TEST(CorruptionTest, AFlippedBitOfAPayloadIsDelivered) {
  const RunResult result =
      RunPlan({"corrupt w1>w0 when w1 send.payload#11 flip"});
  EXPECT_EQ(Injections(result, "corrupt"), 1);
  EXPECT_EQ(result.rule, "byte-for-byte");
}

TEST(CorruptionTest, ItMayBeBothWaysAndWaitForAFrame) {
  const RunResult result = RunPlan({"corrupt w0-w1 after 1s short"});
  EXPECT_EQ(Injections(result, "corrupt"), 2);
}

}  // namespace
}  // namespace reprise
