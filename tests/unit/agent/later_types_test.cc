// Tensors of types that PyTorch 1.13 does not have: among ourselves, and with
// workers of which nothing is known, which could be of 1.13 and end.

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "agent/agent.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/agent/cluster.h"
#include "tests/unit/agent/hooked_store.h"

namespace reprise::testing {
namespace {

using ::testing::HasSubstr;

// One of each type.
std::vector<Tensor> AllTypes() {
  std::vector<Tensor> tensors;
  for (size_t i = 0; i < kNumDTypes; ++i) {
    tensors.push_back(*MakeTensor(static_cast<DType>(i), {3, 5}));
  }
  return tensors;
}

Message RequestWith(std::string payload, std::vector<Tensor> tensors) {
  Message request = Request(std::move(payload));
  request.tensors = std::move(tensors);
  return request;
}

// "float8" is answered with such a tensor, all else with what was sent.
RequestHandler EchoOrFloat8() {
  return Blocking(
      [](Message request, const RequestInfo&) -> absl::StatusOr<Message> {
        request.type = MessageType::kScriptRet;
        if (request.payload == "float8") {
          request.tensors = {*MakeTensor(DType::kFloat8E4M3FN, {2})};
        }
        return request;
      });
}

void ExpectAllCameBack(const Future& reply) {
  ASSERT_TRUE(reply.status().ok()) << reply.status();
  const std::vector<Tensor>& tensors = reply.result()->tensors;
  ASSERT_EQ(tensors.size(), kNumDTypes);
  for (size_t i = 0; i < tensors.size(); ++i) {
    EXPECT_EQ(tensors[i].dtype, static_cast<DType>(i));
    EXPECT_EQ(tensors[i].storage->num_bytes(), 15 * SizeOf(tensors[i].dtype));
  }
}

void ExpectRefused(const absl::Status& status) {
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("stock_workers_know_later_types"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("float8"));
}

TEST(LaterTypesTest, GoBothWaysAmongOurselves) {
  Cluster cluster;
  cluster.Start(2, EchoOrFloat8());
  ExpectAllCameBack(cluster[0].Send("w1", RequestWith("x", AllTypes())));
  EXPECT_TRUE(cluster[0].Send("w1", Request("float8")).status().ok());
}

// The first request of a connection shows whose it is, whatever its options,
// where no ping has come before it.
TEST(LaterTypesTest, AreAnsweredToACallWithoutADeadline) {
  Cluster cluster;
  cluster.Start(2, EchoOrFloat8(), [](AgentOptions& options) {
    options.keepalive_interval = absl::ZeroDuration();
  });
  CallOptions options;
  options.timeout = absl::ZeroDuration();
  const Future reply = cluster[0].Send("w1", Request("float8"), options);
  ASSERT_TRUE(reply.status().ok()) << reply.status();
  EXPECT_EQ(reply.result()->tensors.size(), 1u);
}

TEST(LaterTypesTest, AreNotSentToStockWorkers) {
  Cluster cluster(StockStore());
  cluster.Start(2, EchoOrFloat8());
  ExpectRefused(cluster[0].Send("w1", RequestWith("x", AllTypes())).status());
  // Nor as a reply: the caller gets an error instead.
  ExpectRefused(cluster[0].Send("w1", Request("float8")).status());
  // Nothing else is refused, and the connection lives.
  std::vector<Tensor> earlier = AllTypes();
  std::erase_if(earlier, [](const Tensor& t) { return IsLaterType(t.dtype); });
  EXPECT_EQ(earlier.size(), 13u);
  const Future reply = cluster[0].Send("w1", RequestWith("x", earlier));
  EXPECT_TRUE(reply.status().ok()) << reply.status();
}

TEST(LaterTypesTest, AreSentToStockWorkersThatKnowThem) {
  Cluster cluster(StockStore());
  cluster.Start(2, EchoOrFloat8(), [](AgentOptions& options) {
    options.stock_workers_know_later_types = true;
  });
  ExpectAllCameBack(cluster[0].Send("w1", RequestWith("x", AllTypes())));
  EXPECT_TRUE(cluster[0].Send("w1", Request("float8")).status().ok());
}

// Who has sent one knows them.
TEST(LaterTypesTest, AreAnsweredToStockWorkersThatSendThem) {
  Cluster cluster(StockStore());
  cluster.Start(2, EchoOrFloat8(), [](AgentOptions& options) {
    options.stock_workers_know_later_types = options.id == 0;
  });
  ExpectRefused(cluster[0].Send("w1", Request("float8")).status());
  ExpectAllCameBack(cluster[0].Send("w1", RequestWith("x", AllTypes())));
  EXPECT_TRUE(cluster[0].Send("w1", Request("float8")).status().ok());
}

}  // namespace
}  // namespace reprise::testing
