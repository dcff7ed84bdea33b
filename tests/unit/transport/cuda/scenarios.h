// What happens to tensors when one end is slow: the same for the channels as
// they are and for those with planted defects.

#ifndef REPRISE_TESTS_UNIT_TRANSPORT_CUDA_SCENARIOS_H_
#define REPRISE_TESTS_UNIT_TRANSPORT_CUDA_SCENARIOS_H_

#include "gtest/gtest.h"
#include "tests/unit/transport/cuda/cuda_testing.h"

namespace reprise {

// The work that makes the tensor comes last. Returns whether the receiver got
// the tensor. Of channels that receive on their streams' word: cuda_xth,
// cuda_ipc and cuda_direct.
inline bool SlowSender(Kind kind) {
  Ends ends(kind);
  ends.Connect();
  Tensor source(ends.near_driver, 4096, kind);
  Tensor target(ends.far_driver, 4096, kind);
  ends.near_driver.Hold(source.stream());
  source.Fill(1);
  Result sent = SendTensor(*ends.link->near, source);
  Result received = ReceiveTensor(*ends.link->far, target);
  if (Await(received)) return false;
  // Wait for a copy that does not wait; if it does, this is no wait.
  Tensor other(ends.far_driver, 1, kind);
  other.Fill(0);
  EXPECT_TRUE(other.Has(0));
  ends.near_driver.Release(source.stream());
  return !Await(sent) && target.Has(1);
}

// The receiver's stream stands still while more tensors come than there is
// staging memory. `gets_ahead`: the channel has a defect by which the second is
// received before the stream moves. Returns whether the receiver got both.
inline bool SlowReceiver(Kind kind, bool gets_ahead) {
  Ends ends(kind);
  ends.Connect();
  const size_t num_bytes = size_t{kind == Kind::kBasic ? 16U : 32U} << 20;
  Tensor first(ends.near_driver, num_bytes, kind);
  Tensor second(ends.near_driver, num_bytes, kind);
  Tensor target(ends.far_driver, num_bytes, kind);
  Tensor other(ends.far_driver, num_bytes, kind);
  first.Fill(1);
  second.Fill(2);
  ends.far_driver.Hold(target.stream());
  Result sent =
      SendTensor(*ends.link->near, first, [&](const tensorpipe::Error& error) {
        if (error) return;
        if (IsFreeForAll(kind)) first.Spoil();
        first.Fill(99);
      });
  Result received = ReceiveTensor(*ends.link->far, target);
  Result sent_later = SendTensor(*ends.link->near, second);
  Result received_later = ReceiveTensor(*ends.link->far, other);
  if (Await(received)) return false;
  if (gets_ahead) {
    EXPECT_FALSE(Await(sent));
    EXPECT_FALSE(Await(received_later));
    EXPECT_TRUE(first.Has(99));
    other.Has(2);  // waits for it
  }
  ends.far_driver.Release(target.stream());
  if (!gets_ahead) {
    EXPECT_FALSE(Await(sent));
    EXPECT_FALSE(Await(received_later));
  }
  EXPECT_FALSE(Await(sent_later));
  return target.Has(1) && other.Has(2);
}

}  // namespace reprise

#endif  // REPRISE_TESTS_UNIT_TRANSPORT_CUDA_SCENARIOS_H_
