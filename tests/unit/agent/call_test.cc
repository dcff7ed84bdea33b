// Calls between agents: replies, errors, timeouts, bounds, cancellation.

#include <algorithm>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "agent/agent.h"
#include "agent/device/tensor.h"
#include "gtest/gtest.h"
#include "tests/unit/agent/cluster.h"

namespace reprise::testing {
namespace {

TEST(CallTest, EchoesPayloadAndTensors) {
  Cluster cluster;
  cluster.Start(2, Echo());
  Message request = Request("hello");
  absl::StatusOr<Tensor> tensor = MakeTensor(DType::kInt32, {2, 3});
  ASSERT_TRUE(tensor.ok());
  const int32_t values[] = {1, 2, 3, 4, 5, 6};
  std::memcpy(tensor->storage->data(), values, sizeof(values));
  request.tensors.push_back(*tensor);

  const Future reply = cluster[0].Send("w1", std::move(request));
  ASSERT_TRUE(reply.Wait(Soon()));
  ASSERT_TRUE(reply.result().ok()) << reply.status();
  const Message& message = *reply.result();
  EXPECT_EQ(message.type, MessageType::kScriptRet);
  EXPECT_EQ(message.payload, "hello");
  ASSERT_EQ(message.tensors.size(), 1u);
  EXPECT_EQ(message.tensors[0].sizes, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(std::memcmp(message.tensors[0].storage->data(), values,
                        sizeof(values)),
            0);
}

}  // namespace
}  // namespace reprise::testing
