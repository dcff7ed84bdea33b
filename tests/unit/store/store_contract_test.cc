// The contract over the kinds of store that need no server.

#include "tests/unit/store/store_contract.h"

#include <memory>
#include <string>
#include <utility>

#include "agent/store/c10d_file_store.h"
#include "agent/store/file_store.h"
#include "agent/store/memory_store.h"
#include "gtest/gtest.h"
#include "tests/unit/store/temporary_directory.h"

namespace reprise {
namespace {

class MemoryFixture : public StoreFixture {
 public:
  Runtime& runtime() override { return RealRuntime(); }
  std::shared_ptr<Store> Open() override { return store_; }

 private:
  const std::shared_ptr<Store> store_ = MakeMemoryStore(RealRuntime());
};

class FileFixture : public StoreFixture {
 public:
  Runtime& runtime() override { return RealRuntime(); }

  std::shared_ptr<Store> Open() override {
    auto store = OpenFileStore(RealRuntime(), directory_.path());
    EXPECT_TRUE(store.ok()) << store.status();
    return store.ok() ? *std::move(store) : nullptr;
  }

 private:
  const TemporaryDirectory directory_;
};

class C10dFileFixture : public StoreFixture {
 public:
  Runtime& runtime() override { return RealRuntime(); }

  std::shared_ptr<Store> Open() override {
    auto store = OpenC10dFileStore(RealRuntime(), directory_.path() + "/store");
    EXPECT_TRUE(store.ok()) << store.status();
    return store.ok() ? *std::move(store) : nullptr;
  }

 private:
  const TemporaryDirectory directory_;
};

// Neighbours of the prefix must not be seen through it.
class PrefixFixture : public StoreFixture {
 public:
  Runtime& runtime() override { return RealRuntime(); }
  std::shared_ptr<Store> Open() override {
    return MakePrefixStore(store_, "a/b");
  }

 private:
  const std::shared_ptr<Store> store_ = [] {
    auto store = MakeMemoryStore(RealRuntime());
    for (const char* key : {"key", "a/key", "a/bkey", "a/b"}) {
      EXPECT_TRUE(store->Set(key, "neighbour", absl::InfiniteFuture()).ok());
    }
    return store;
  }();
};

template <typename Fixture>
std::unique_ptr<StoreFixture> Make() {
  return std::make_unique<Fixture>();
}

INSTANTIATE_TEST_SUITE_P(
    Real, StoreContractTest,
    testing::Values(StoreKind{"Memory", Make<MemoryFixture>},
                    StoreKind{"File", Make<FileFixture>},
                    StoreKind{"C10dFile", Make<C10dFileFixture>},
                    StoreKind{"Prefix", Make<PrefixFixture>}),
    StoreKindName);

TEST(PrefixStoreTest, PrefixesWithASlash) {
  const absl::Time never = absl::InfiniteFuture();
  const auto store = MakeMemoryStore(RealRuntime());
  const auto names =
      MakePrefixStore(MakePrefixStore(store, "rpc_prefix_0"), "names");
  ASSERT_TRUE(names->Set("0", "worker0", never).ok());
  EXPECT_EQ(store->TryGet("rpc_prefix_0/names/0", never).value_or(""),
            "worker0");
  // A group made in C++ has an empty prefix.
  const auto root = MakePrefixStore(store, "");
  EXPECT_TRUE(root->CompareSet("token", "", "mine", never).ok());
  EXPECT_EQ(store->TryGet("/token", never).value_or(""), "mine");
  EXPECT_EQ(root->Add("n", 2, never).value_or(0), 2);
  EXPECT_EQ(store->TryGet("/n", never).value_or(""), "2");
  EXPECT_TRUE(root->Delete("n", never).value_or(false));
  EXPECT_FALSE(store->TryGet("/n", never).ok());
}

}  // namespace
}  // namespace reprise
