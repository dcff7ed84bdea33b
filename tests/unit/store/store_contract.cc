#include "tests/unit/store/store_contract.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"

namespace reprise {

std::string StoreKindName(const testing::TestParamInfo<StoreKind>& info) {
  return info.param.name;
}

namespace {

using testing::HasSubstr;

constexpr absl::StatusCode kOk = absl::StatusCode::kOk;
constexpr absl::StatusCode kDeadlineExceeded =
    absl::StatusCode::kDeadlineExceeded;
constexpr absl::StatusCode kInvalidArgument =
    absl::StatusCode::kInvalidArgument;
constexpr absl::StatusCode kNotFound = absl::StatusCode::kNotFound;

template <typename T>
testing::AssertionResult Is(const absl::StatusOr<T>& got, const T& expected) {
  if (!got.ok()) return testing::AssertionFailure() << got.status();
  if (*got == expected) return testing::AssertionSuccess();
  return testing::AssertionFailure()
         << testing::PrintToString(*got) << " and not "
         << testing::PrintToString(expected);
}

testing::AssertionResult Is(const absl::StatusOr<std::string>& got,
                            const char* expected) {
  return Is(got, std::string(expected));
}

testing::AssertionResult IsNumber(const absl::StatusOr<int64_t>& got,
                                  int64_t expected) {
  return Is(got, expected);
}

TEST_P(StoreContractTest, WhatWasSetIsGot) {
  Run([this] {
    const auto store = Open();
    EXPECT_EQ(store->TryGet("key", Later()).status().code(), kNotFound);
    ASSERT_EQ(store->Set("key", "one", Later()).code(), kOk);
    EXPECT_TRUE(Is(store->Get("key", Later()), "one"));
    EXPECT_TRUE(Is(store->TryGet("key", Later()), "one"));
    ASSERT_EQ(store->Set("key", "two", Later()).code(), kOk);
    EXPECT_TRUE(Is(store->Get("key", Later()), "two"));
    EXPECT_EQ(store->TryGet("ke", Later()).status().code(), kNotFound);
    EXPECT_EQ(store->TryGet("key2", Later()).status().code(), kNotFound);
  });
}

TEST_P(StoreContractTest, HandlesShareTheContent) {
  Run([this] {
    const auto a = Open();
    const auto b = Open();
    ASSERT_EQ(a->Set("key", "value", Later()).code(), kOk);
    EXPECT_TRUE(Is(b->Get("key", Later()), "value"));
    EXPECT_TRUE(IsNumber(b->Add("counter", 2, Later()), 2));
    EXPECT_TRUE(IsNumber(a->Add("counter", 3, Later()), 5));
  });
}

TEST_P(StoreContractTest, GetWaitsForASetOfAnotherThread) {
  Run([this] {
    const auto store = Open();
    for (int i = 0; i < 5; ++i) {
      const std::string asked = absl::StrCat("asked", i);
      const std::string question = absl::StrCat("question", i);
      const std::string answer = absl::StrCat("answer", i);
      absl::StatusOr<std::string> got;
      const auto waiter = runtime().StartThread("waiter", [&] {
        const auto own = Open();
        EXPECT_EQ(own->Set(asked, "", Later()).code(), kOk);
        got = own->Get(question, Later());
        EXPECT_EQ(own->Set(answer, "", Later()).code(), kOk);
      });
      EXPECT_TRUE(Is(store->Get(asked, Later()), ""));
      // If `Get` had not waited, the answer could be there before the question.
      EXPECT_EQ(store->Get(answer, Soon()).status().code(), kDeadlineExceeded);
      EXPECT_EQ(store->Set(question, "value", Later()).code(), kOk);
      EXPECT_TRUE(Is(store->Get(answer, Later()), ""));
      waiter->Join();
      EXPECT_TRUE(Is(got, "value"));
    }
  });
}

TEST_P(StoreContractTest, CompareSetAndAddWakeAGetToo) {
  Run([this] {
    const auto store = Open();
    absl::StatusOr<std::string> token;
    absl::StatusOr<std::string> count;
    const auto waiter = runtime().StartThread("waiter", [&] {
      token = store->Get("token", Later());
      count = store->Get("count", Later());
    });
    EXPECT_TRUE(Is(store->CompareSet("token", "", "mine", Later()), "mine"));
    EXPECT_TRUE(IsNumber(store->Add("count", 7, Later()), 7));
    waiter->Join();
    EXPECT_TRUE(Is(token, "mine"));
    EXPECT_TRUE(Is(count, "7"));
  });
}

TEST_P(StoreContractTest, GetGivesUpAtItsDeadlineNotBefore) {
  Run([this] {
    const auto store = Open();
    ASSERT_EQ(store->Set("other", "value", Later()).code(), kOk);
    const absl::Time deadline = Soon();
    const absl::Status status = store->Get("missing", deadline).status();
    EXPECT_EQ(status.code(), kDeadlineExceeded);
    EXPECT_THAT(std::string(status.message()), HasSubstr("missing"));
    EXPECT_GE(runtime().Now(), deadline);
    // It left nothing behind.
    EXPECT_EQ(store->TryGet("missing", Later()).status().code(), kNotFound);
  });
}

TEST_P(StoreContractTest, ACallAfterItsDeadlineDoesNothing) {
  Run([this] {
    const auto store = Open();
    ASSERT_EQ(store->Set("key", "1", Later()).code(), kOk);
    for (const absl::Time past :
         {runtime().Now() - absl::Nanoseconds(1), absl::InfinitePast()}) {
      EXPECT_EQ(store->Set("key", "2", past).code(), kDeadlineExceeded);
      EXPECT_EQ(store->CompareSet("key", "1", "2", past).status().code(),
                kDeadlineExceeded);
      EXPECT_EQ(store->Add("key", 1, past).status().code(), kDeadlineExceeded);
      EXPECT_EQ(store->Delete("key", past).status().code(), kDeadlineExceeded);
      EXPECT_EQ(store->Get("key", past).status().code(), kDeadlineExceeded);
      EXPECT_EQ(store->TryGet("key", past).status().code(), kDeadlineExceeded);
    }
    EXPECT_TRUE(Is(store->Get("key", Later()), "1"));
  });
}

TEST_P(StoreContractTest, AnInfiniteDeadlineIsAllowed) {
  Run([this] {
    const auto store = Open();
    const auto waiter = runtime().StartThread("waiter", [&] {
      EXPECT_TRUE(Is(store->Get("key", absl::InfiniteFuture()), "value"));
    });
    EXPECT_EQ(store->Set("key", "value", absl::InfiniteFuture()).code(), kOk);
    waiter->Join();
  });
}

TEST_P(StoreContractTest, CompareSet) {
  Run([this] {
    const auto store = Open();
    // There is no key, and a value is expected: nothing is written.
    EXPECT_TRUE(Is(store->CompareSet("key", "a", "b", Later()), "a"));
    EXPECT_EQ(store->TryGet("key", Later()).status().code(), kNotFound);
    // There is no key, and none is expected: the value is written.
    EXPECT_TRUE(Is(store->CompareSet("key", "", "b", Later()), "b"));
    EXPECT_TRUE(Is(store->TryGet("key", Later()), "b"));
    // Another value is expected, or none: the present value is returned.
    EXPECT_TRUE(Is(store->CompareSet("key", "a", "c", Later()), "b"));
    EXPECT_TRUE(Is(store->CompareSet("key", "", "c", Later()), "b"));
    EXPECT_TRUE(Is(store->TryGet("key", Later()), "b"));
    // The present value is expected: the new one is written, even if it is
    // empty.
    EXPECT_TRUE(Is(store->CompareSet("key", "b", "", Later()), ""));
    EXPECT_TRUE(Is(store->TryGet("key", Later()), ""));
    // The present value is empty: first it is not what is expected, then it is.
    EXPECT_TRUE(Is(store->CompareSet("key", "b", "c", Later()), ""));
    EXPECT_TRUE(Is(store->TryGet("key", Later()), ""));
    EXPECT_TRUE(Is(store->CompareSet("key", "", "c", Later()), "c"));
    EXPECT_TRUE(Is(store->TryGet("key", Later()), "c"));
  });
}

TEST_P(StoreContractTest, OneOfManyWinsACompareSet) {
  constexpr int kThreads = 8;
  Run([this] {
    std::vector<absl::StatusOr<std::string>> results(kThreads);
    std::vector<std::unique_ptr<Thread>> threads;
    for (int i = 0; i < kThreads; ++i) {
      threads.push_back(runtime().StartThread("racer", [&, i] {
        results[i] = Open()->CompareSet("token", "", absl::StrCat(i), Later());
      }));
    }
    for (const auto& thread : threads) thread->Join();
    const auto winner = Open()->TryGet("token", Later());
    ASSERT_TRUE(winner.ok()) << winner.status();
    for (const auto& result : results) EXPECT_TRUE(Is(result, *winner));
  });
}

TEST_P(StoreContractTest, AddCounts) {
  Run([this] {
    const auto store = Open();
    EXPECT_TRUE(IsNumber(store->Add("n", 0, Later()), 0));
    EXPECT_TRUE(Is(store->Get("n", Later()), "0"));
    EXPECT_TRUE(IsNumber(store->Add("n", 5, Later()), 5));
    EXPECT_TRUE(IsNumber(store->Add("n", -12, Later()), -7));
    EXPECT_TRUE(Is(store->Get("n", Later()), "-7"));
    ASSERT_EQ(store->Set("n", "41", Later()).code(), kOk);
    EXPECT_TRUE(IsNumber(store->Add("n", 1, Later()), 42));
    ASSERT_TRUE(store->Delete("n", Later()).ok());
    EXPECT_TRUE(IsNumber(store->Add("n", 3, Later()), 3));
  });
}

TEST_P(StoreContractTest, AddOfManyThreads) {
  constexpr int kThreads = 8;
  constexpr int64_t kAdds = 50;
  Run([this] {
    std::vector<std::vector<int64_t>> sums(kThreads);
    std::vector<std::unique_ptr<Thread>> threads;
    for (int i = 0; i < kThreads; ++i) {
      threads.push_back(runtime().StartThread("adder", [&, i] {
        const auto store = Open();
        for (int j = 0; j < kAdds; ++j) {
          const auto sum = store->Add("n", 1, Later());
          EXPECT_TRUE(sum.ok()) << sum.status();
          sums[i].push_back(sum.value_or(0));
        }
      }));
    }
    for (const auto& thread : threads) thread->Join();
    // Each sum came back once.
    std::set<int64_t> all;
    for (const auto& some : sums) all.insert(some.begin(), some.end());
    EXPECT_EQ(all.size(), size_t{kThreads * kAdds});
    EXPECT_EQ(*all.begin(), 1);
    EXPECT_EQ(*all.rbegin(), kThreads * kAdds);
    EXPECT_TRUE(IsNumber(Open()->Add("n", 0, Later()), kThreads * kAdds));
  });
}

TEST_P(StoreContractTest, AddToWhatIsNoCounter) {
  if (!ChecksCounters()) GTEST_SKIP() << "its counters are the server's";
  const std::vector<std::string> values = {"",    "abc",
                                           "1x",  " 1",
                                           "1\n", "+1",
                                           "0x1", "1.5",
                                           "--1", "99999999999999999999",
                                           "-",   std::string("1\0", 2)};
  Run([&] {
    const auto store = Open();
    for (const std::string& value : values) {
      ASSERT_EQ(store->Set("word", value, Later()).code(), kOk);
      const absl::Status status = store->Add("word", 1, Later()).status();
      EXPECT_EQ(status.code(), kInvalidArgument) << value;
      EXPECT_THAT(std::string(status.message()), HasSubstr("word"));
      EXPECT_TRUE(Is(store->Get("word", Later()), value));
    }
  });
}

TEST_P(StoreContractTest, AddThatOverflows) {
  if (!ChecksCounters()) GTEST_SKIP() << "its counters are the server's";
  constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
  constexpr int64_t kMin = std::numeric_limits<int64_t>::min();
  Run([this] {
    const auto store = Open();
    EXPECT_TRUE(IsNumber(store->Add("high", kMax, Later()), kMax));
    EXPECT_EQ(store->Add("high", 1, Later()).status().code(), kInvalidArgument);
    EXPECT_TRUE(IsNumber(store->Add("high", -1, Later()), kMax - 1));
    EXPECT_TRUE(IsNumber(store->Add("low", kMin, Later()), kMin));
    EXPECT_EQ(store->Add("low", -1, Later()).status().code(), kInvalidArgument);
    EXPECT_TRUE(IsNumber(store->Add("low", 0, Later()), kMin));
  });
}

TEST_P(StoreContractTest, Delete) {
  Run([this] {
    const auto store = Open();
    EXPECT_TRUE(Is(store->Delete("key", Later()), false));
    ASSERT_EQ(store->Set("key", "", Later()).code(), kOk);
    ASSERT_EQ(store->Set("key2", "kept", Later()).code(), kOk);
    EXPECT_TRUE(Is(store->Delete("key", Later()), true));
    EXPECT_EQ(store->TryGet("key", Later()).status().code(), kNotFound);
    EXPECT_EQ(store->Get("key", Soon()).status().code(), kDeadlineExceeded);
    EXPECT_TRUE(Is(store->Delete("key", Later()), false));
    EXPECT_TRUE(Is(store->Get("key2", Later()), "kept"));
    ASSERT_EQ(store->Set("key", "again", Later()).code(), kOk);
    EXPECT_TRUE(Is(store->Get("key", Later()), "again"));
  });
}

TEST_P(StoreContractTest, KeysAndValuesAreAnyBytes) {
  std::string all_bytes;
  for (int c = 0; c < 256; ++c) all_bytes.push_back(static_cast<char>(c));
  const std::vector<std::string> keys = {"",
                                         std::string(1, '\0'),
                                         std::string("a\0b", 3),
                                         "a",
                                         "A",
                                         ".",
                                         "..",
                                         "/",
                                         "a/b",
                                         "a//b",
                                         "../a",
                                         "lock",
                                         "tmp",
                                         "%2F",
                                         "%00",
                                         "\n",
                                         "\xff\xfe",
                                         all_bytes};
  Run([&] {
    const auto store = Open();
    for (size_t i = 0; i < keys.size(); ++i) {
      ASSERT_EQ(store->TryGet(keys[i], Later()).status().code(), kNotFound)
          << i;
      ASSERT_EQ(store->Set(keys[i], absl::StrCat(i, all_bytes), Later()).code(),
                kOk)
          << i;
    }
    for (size_t i = 0; i < keys.size(); ++i) {
      EXPECT_TRUE(Is(store->Get(keys[i], Later()), absl::StrCat(i, all_bytes)));
      EXPECT_TRUE(Is(store->Delete(keys[i], Later()), true)) << i;
    }
  });
}

TEST_P(StoreContractTest, LongKeysAndValues) {
  Run([this] {
    const auto store = Open();
    // Keys whose lengths differ by one, and keys that differ only in their last
    // byte.
    std::vector<std::string> keys;
    for (size_t length = 100; length < 300; ++length) {
      keys.push_back(std::string(length, 'k'));
    }
    keys.push_back(std::string(5000, '/'));
    for (const char last : {'x', 'y'}) {
      keys.push_back(
          std::string(std::min<size_t>(100000, MaxKeyBytes() - 1), 'k') + last);
    }
    for (size_t i = 0; i < keys.size(); ++i) {
      ASSERT_EQ(store->Set(keys[i], absl::StrCat(i), Later()).code(), kOk);
    }
    for (size_t i = 0; i < keys.size(); ++i) {
      EXPECT_TRUE(Is(store->Get(keys[i], Later()), absl::StrCat(i)));
    }
    EXPECT_TRUE(Is(store->Delete(keys.back(), Later()), true));
    EXPECT_EQ(store->TryGet(keys.back(), Later()).status().code(), kNotFound);

    const std::string value(3 << 20, 'v');
    ASSERT_EQ(store->Set("long", value, Later()).code(), kOk);
    const auto got = store->Get("long", Later());
    ASSERT_TRUE(got.ok()) << got.status();
    EXPECT_TRUE(*got == value);
  });
}

}  // namespace
}  // namespace reprise
