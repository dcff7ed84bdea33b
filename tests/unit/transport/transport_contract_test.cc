// What TensorPipe's users may expect of every transport: that ours are as
// TensorPipe's own are.

#include <array>  // nop needs it
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "agent/transport/shm/context.h"
#include "agent/transport/uv/context.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tensorpipe/core/nop_types.h"
#include "tensorpipe/tensorpipe.h"
#include "tensorpipe/transport/context.h"
#include "tests/unit/transport/connections.h"
#include "tests/unit/transport/private_object.h"

namespace reprise::testing {
namespace {

using tensorpipe::transport::Context;
using ::testing::HasSubstr;

struct Kind {
  const char* name;
  std::function<std::shared_ptr<Context>()> make;
  std::string any;  // an address at which it can always listen
  // What is asked for, and as a listener has it that does not listen yet.
  std::map<std::string, std::string> addresses;
};

std::shared_ptr<Context> MakeUv() { return MakeUvContext(Callers::kPipes); }

const std::map<std::string, std::string> kUvAddresses = {
    {"127.0.0.1", "127.0.0.1:0"}, {"[::1]:5000", "[::1]:5000"}};
const std::map<std::string, std::string> kShmAddresses = {
    {"", ""}, {"reprise", "reprise"}};

const Kind kOurUv = {"OurUv", MakeUv, "127.0.0.1", kUvAddresses};
const Kind kOurShm = {"OurShm", MakeShmContext, "", kShmAddresses};
const Kind kStockUv = {"StockUv", tensorpipe::transport::uv::create,
                       "127.0.0.1", kUvAddresses};
const Kind kStockShm = {"StockShm", tensorpipe::transport::shm::create, "",
                        kShmAddresses};

class TransportContractTest : public ::testing::TestWithParam<Kind> {
 protected:
  void TearDown() override { context_->join(); }

  // The two ends of a connection of one context, after a hello.
  std::pair<std::shared_ptr<Connection>, std::shared_ptr<Connection>>
  Connect() {
    const auto listener = context_->listen(GetParam().any);
    std::future<Accepted> accepted = Accept(*listener);
    auto near = context_->connect(listener->addr());
    tensorpipe::NopHolder<tensorpipe::Packet> hello;
    hello.getObject() = tensorpipe::RequestedConnection{7};
    std::future<std::string> said = Write(*near, hello);
    auto far = accepted.get().connection;
    tensorpipe::NopHolder<tensorpipe::Packet> heard;
    EXPECT_EQ(Read(*far, heard).get(), "");
    EXPECT_EQ(said.get(), "");
    return {std::move(near), std::move(far)};
  }

  const std::shared_ptr<Context> context_ = GetParam().make();
};

std::string NameOf(const ::testing::TestParamInfo<Kind>& info) {
  return info.param.name;
}

INSTANTIATE_TEST_SUITE_P(All, TransportContractTest,
                         ::testing::Values(kOurUv, kOurShm, kStockUv,
                                           kStockShm),
                         NameOf);

TEST_P(TransportContractTest, AClosedContextMakesWhatIsClosed) {
  const auto check = [this](const std::string& wanted,
                            const std::string& address) {
    const auto listener = context_->listen(wanted);
    EXPECT_EQ(listener->addr(), address);
    EXPECT_THAT(Accept(*listener).get().error, HasSubstr("listener closed"));
    const auto connection = context_->connect(listener->addr());
    std::string place(1, '?');
    EXPECT_THAT(Read(*connection, place).get().error,
                HasSubstr("connection closed"));
    EXPECT_THAT(Write(*connection, "x").get(), HasSubstr("connection closed"));
  };
  context_->close();
  for (const auto& [wanted, full] : GetParam().addresses) check(wanted, full);
  context_->join();
  for (const auto& [wanted, full] : GetParam().addresses) check(wanted, full);
}

TEST_P(TransportContractTest, EmptyFramesMayHaveNoMemory) {
  const auto [near, far] = Connect();
  PassNothing(*near, *far);
  PassNothing(*far, *near);
}

// Where TensorPipe's own would end the process.
class OurTransportTest : public TransportContractTest {};

INSTANTIATE_TEST_SUITE_P(Ours, OurTransportTest,
                         ::testing::Values(kOurUv, kOurShm), NameOf);

TEST_P(OurTransportTest, AnObjectThatIsNoneFailsTheConnection) {
  const auto [near, far] = Connect();
  std::future<std::string> written = Write(*near, kOverrun);
  tensorpipe::NopHolder<PrivateObject> object;
  EXPECT_THAT(Read(*far, object).get(), HasSubstr("EPROTO"));
  std::string place(1, '?');
  EXPECT_NE(Read(*far, place).get().error, "");
  EXPECT_THAT(Read(*near, place).get().error, HasSubstr("EOF"));
  written.wait();
}

}  // namespace
}  // namespace reprise::testing
