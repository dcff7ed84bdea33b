// The contract of every kind of `Store`, as a parameterised test suite. To run
// it for a kind, depend on :store_contract and write
//
//   INSTANTIATE_TEST_SUITE_P(
//       Mine, StoreContractTest,
//       testing::Values(StoreKind{"mine", [] {
//         return std::make_unique<MyStoreFixture>();
//       }}),
//       StoreKindName);

#ifndef REPRISE_TESTS_UNIT_STORE_STORE_CONTRACT_H_
#define REPRISE_TESTS_UNIT_STORE_STORE_CONTRACT_H_

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "absl/functional/any_invocable.h"
#include "absl/time/time.h"
#include "agent/runtime/runtime.h"
#include "agent/store/store.h"
#include "gtest/gtest.h"

namespace reprise {

// An empty store of a kind, and the runtime on which it runs. Each test gets a
// new one.
class StoreFixture {
 public:
  virtual ~StoreFixture() = default;

  // Why the kind cannot be tested on this machine; "" if it can. Called first.
  virtual std::string WhyNot() { return ""; }
  // Whether `Add` refuses values that are not counters, and sums that overflow.
  virtual bool ChecksCounters() { return true; }
  // The longest key that the kind takes; longer ones are not tried.
  virtual size_t MaxKeyBytes() { return size_t{1} << 20; }

  virtual Runtime& runtime() = 0;

  // A handle of the store of this fixture. It is a new one each time if the
  // kind has handles, such as connections or open directories. Called within
  // `Run` only.
  virtual std::shared_ptr<Store> Open() = 0;

  // Runs a test's body, to its end, on a thread of `runtime()`.
  virtual void Run(absl::AnyInvocable<void()> body) { body(); }
};

struct StoreKind {
  std::string name;  // Letters and digits.
  std::function<std::unique_ptr<StoreFixture>()> make;
};

class StoreContractTest : public testing::TestWithParam<StoreKind> {
 protected:
  void SetUp() override {
    fixture_ = GetParam().make();
    const std::string why_not = fixture_->WhyNot();
    if (!why_not.empty()) GTEST_SKIP() << why_not;
  }

  void Run(absl::AnyInvocable<void()> body) { fixture_->Run(std::move(body)); }
  std::shared_ptr<Store> Open() { return fixture_->Open(); }
  Runtime& runtime() { return fixture_->runtime(); }
  bool ChecksCounters() { return fixture_->ChecksCounters(); }
  size_t MaxKeyBytes() { return fixture_->MaxKeyBytes(); }

  // The deadline of calls that should succeed, far beyond what a slow machine
  // needs.
  absl::Time Later() { return runtime().Now() + absl::Minutes(5); }
  // The deadline of calls that should wait in vain.
  absl::Time Soon() { return runtime().Now() + absl::Milliseconds(20); }

 private:
  std::unique_ptr<StoreFixture> fixture_;
};

std::string StoreKindName(const testing::TestParamInfo<StoreKind>& info);

}  // namespace reprise

#endif  // REPRISE_TESTS_UNIT_STORE_STORE_CONTRACT_H_
