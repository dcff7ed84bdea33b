#include "sim/device/access_log.h"

#include <memory>
#include <string>

#include "gtest/gtest.h"

namespace reprise {
namespace {

// Two or more streams and what they do to a hundred bytes or so.
class AccessLogTest : public testing::Test {
 protected:
  // Does work on a stream that is ordered after the work on `after`.
  VectorClock Do(size_t stream, uintptr_t begin, size_t num_bytes, bool writes,
                 const VectorClock& after = {}) {
    VectorClock& clock = clocks_[stream];
    clock.Join(after);
    const uint64_t epoch = clock.Tick(stream);
    log_.Add(begin, num_bytes, writes,
             {stream, epoch,
              std::make_shared<const std::string>("work of " +
                                                  std::to_string(stream))},
             clock);
    return clock;
  }
  std::string Find(uintptr_t begin, size_t num_bytes, bool writes,
                   const VectorClock& clock = {}) {
    const auto conflict = log_.Find(begin, num_bytes, writes, clock);
    if (!conflict) return "";
    return *conflict->earlier.what +
           (conflict->earlier_writes ? " writes " : " reads ") +
           std::to_string(conflict->address);
  }

  AccessLog log_;
  VectorClock clocks_[4];
};

TEST_F(AccessLogTest, ReadsDoNotConflict) {
  Do(0, 100, 10, /*writes=*/false);
  EXPECT_EQ(Find(100, 10, /*writes=*/false), "");
}

TEST_F(AccessLogTest, AWriteConflictsWithEverythingBeforeIt) {
  const VectorClock read = Do(0, 100, 10, /*writes=*/false);
  EXPECT_EQ(Find(100, 10, /*writes=*/true), "work of 0 reads 100");
  EXPECT_EQ(Find(100, 10, /*writes=*/true, read), "");
  const VectorClock write = Do(1, 100, 10, /*writes=*/true, read);
  EXPECT_EQ(Find(100, 10, /*writes=*/true, read), "work of 1 writes 100");
  EXPECT_EQ(Find(100, 10, /*writes=*/false, read), "work of 1 writes 100");
  EXPECT_EQ(Find(100, 10, /*writes=*/false, write), "");
  EXPECT_EQ(Find(100, 10, /*writes=*/true, write), "");
}

TEST_F(AccessLogTest, OnlyBytesThatBothTouchConflict) {
  Do(0, 100, 10, /*writes=*/true);
  EXPECT_EQ(Find(90, 10, /*writes=*/true), "");
  EXPECT_EQ(Find(110, 10, /*writes=*/true), "");
  EXPECT_EQ(Find(90, 11, /*writes=*/true), "work of 0 writes 100");
  EXPECT_EQ(Find(109, 10, /*writes=*/false), "work of 0 writes 109");
  EXPECT_EQ(Find(0, 1000, /*writes=*/false), "work of 0 writes 100");
}

TEST_F(AccessLogTest, ALaterWriteCoversAPart) {
  const VectorClock first = Do(0, 100, 30, /*writes=*/true);
  const VectorClock second = Do(1, 110, 10, /*writes=*/true, first);
  EXPECT_EQ(Find(100, 10, /*writes=*/false, first), "");
  EXPECT_EQ(Find(100, 30, /*writes=*/false, first), "work of 1 writes 110");
  EXPECT_EQ(Find(120, 10, /*writes=*/false, first), "");
  EXPECT_EQ(Find(120, 10, /*writes=*/false), "work of 0 writes 120");
  EXPECT_EQ(Find(100, 30, /*writes=*/true, second), "");
}

TEST_F(AccessLogTest, AReadOverGapsAndWrites) {
  const VectorClock write = Do(0, 100, 10, /*writes=*/true);
  const VectorClock read = Do(1, 90, 40, /*writes=*/false, write);
  const VectorClock other = Do(2, 95, 10, /*writes=*/false, write);
  EXPECT_EQ(Find(90, 5, /*writes=*/true, other), "work of 1 reads 90");
  EXPECT_EQ(Find(129, 1, /*writes=*/true), "work of 1 reads 129");
  EXPECT_EQ(Find(130, 1, /*writes=*/true), "");
  EXPECT_EQ(Find(95, 10, /*writes=*/true, read), "work of 2 reads 95");
  EXPECT_EQ(Find(95, 10, /*writes=*/true, other), "work of 1 reads 95");
  VectorClock both = read;
  both.Join(other);
  EXPECT_EQ(Find(90, 40, /*writes=*/true, both), "");
}

TEST_F(AccessLogTest, OfReadsInOrderTheLastIsEnough) {
  VectorClock clock = Do(0, 100, 10, /*writes=*/false);
  for (int i = 0; i < 5; ++i) {
    clock = Do(1, 100, 10, /*writes=*/false, clock);
  }
  EXPECT_EQ(Find(100, 10, /*writes=*/true, clock), "");
  EXPECT_EQ(Find(100, 10, /*writes=*/true), "work of 1 reads 100");
  EXPECT_EQ(log_.num_ranges(), 1u);
}

TEST_F(AccessLogTest, ForgottenMemoryIsNew) {
  Do(0, 100, 30, /*writes=*/true);
  log_.Forget(110, 10);
  EXPECT_EQ(Find(110, 10, /*writes=*/true), "");
  EXPECT_EQ(Find(100, 30, /*writes=*/true), "work of 0 writes 100");
  EXPECT_EQ(Find(119, 2, /*writes=*/true), "work of 0 writes 120");
  log_.Forget(0, 1000);
  EXPECT_EQ(log_.num_ranges(), 0u);
}

}  // namespace
}  // namespace reprise
