// PyTorch's FileStore and ours on one file.

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <torch/csrc/distributed/c10d/FileStore.hpp>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "agent/runtime/runtime.h"
#include "agent/store/c10d_file_store.h"
#include "gtest/gtest.h"
#include "tests/unit/store/child_process.h"
#include "tests/unit/store/temporary_directory.h"

namespace reprise {
namespace {

absl::Time Later() { return RealRuntime().Now() + absl::Minutes(2); }

std::vector<uint8_t> Bytes(std::string_view text) {
  return {text.begin(), text.end()};
}

std::string Text(const std::vector<uint8_t>& bytes) {
  return {bytes.begin(), bytes.end()};
}

class FileStoreTest : public testing::Test {
 protected:
  c10::intrusive_ptr<c10d::FileStore> OpenTheirs() const {
    auto store = c10::make_intrusive<c10d::FileStore>(path(), 0);
    store->setTimeout(std::chrono::seconds(120));
    return store;
  }
  std::shared_ptr<Store> OpenOurs() const {
    return OpenC10dFileStore(RealRuntime(), path()).value();
  }

 private:
  std::string path() const { return root_.path() + "/file"; }

  const TemporaryDirectory root_;
};

TEST_F(FileStoreTest, EachSeesWhatTheOtherWrote) {
  const auto theirs = OpenTheirs();
  const auto ours = OpenOurs();
  const std::string value("\0\xff\n", 3);
  theirs->set("theirs", Bytes(value));
  EXPECT_EQ(ours->Get("theirs", Later()).value_or(""), value);
  ASSERT_TRUE(ours->Set("ours", value, Later()).ok());
  EXPECT_EQ(Text(theirs->get("ours")), value);

  EXPECT_EQ(ours->CompareSet("token", "", "mine", Later()).value_or(""),
            "mine");
  EXPECT_EQ(Text(theirs->compareSet("token", Bytes(""), Bytes("x"))), "mine");
  EXPECT_EQ(Text(theirs->compareSet("token", Bytes("mine"), Bytes("x"))), "x");
  EXPECT_EQ(ours->CompareSet("token", "mine", "y", Later()).value_or(""), "x");

  EXPECT_EQ(theirs->add("n", 40), 40);
  EXPECT_EQ(ours->Add("n", 2, Later()).value_or(0), 42);
  EXPECT_EQ(theirs->add("n", -1), 41);

  EXPECT_TRUE(ours->Delete("n", Later()).value_or(false));
  EXPECT_FALSE(theirs->check({"n"}));
  theirs->deleteKey("ours");
  EXPECT_TRUE(absl::IsNotFound(ours->TryGet("ours", Later()).status()));
}

TEST_F(FileStoreTest, EachWaitsForTheOther) {
  const auto theirs = OpenTheirs();
  const auto ours = OpenOurs();
  std::thread stock([&] {
    EXPECT_EQ(Text(theirs->get("ours")), "1");
    theirs->set("theirs", Bytes("2"));
  });
  ASSERT_TRUE(ours->Set("ours", "1", Later()).ok());
  EXPECT_EQ(ours->Get("theirs", Later()).value_or(""), "2");
  stock.join();
}

TEST_F(FileStoreTest, BothCountInOneCounter) {
  constexpr int kCounts = 300;
  ChildProcess theirs([&] {
    const auto store = OpenTheirs();
    for (int i = 0; i < kCounts; ++i) store->add("n", 1);
  });
  ChildProcess ours([&] {
    const auto store = OpenOurs();
    for (int i = 0; i < kCounts; ++i) {
      ExpectInChild(store->Add("n", 1, Later()).ok());
    }
  });
  EXPECT_EQ(theirs.Wait(), 0);
  EXPECT_EQ(ours.Wait(), 0);
  EXPECT_EQ(OpenOurs()->Add("n", 0, Later()).value_or(0), 2 * kCounts);
}

}  // namespace
}  // namespace reprise
