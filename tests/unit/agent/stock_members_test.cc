// What an agent owes to PyTorch's workers in its dynamic group. They are played
// by agents of ours in stores of their own, which the group does not know.
// tests/python has real ones.

#include <atomic>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "agent/agent.h"
#include "agent/group/member_list.h"
#include "agent/python/membership_calls.h"
#include "agent/store/memory_store.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/agent/cluster.h"

namespace reprise::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr char kToken[] = "RpcGroupManagementToken";

using Kind = MembershipCall::Kind;

absl::StatusOr<std::unique_ptr<Agent>> Start(std::shared_ptr<Store> store,
                                             AgentOptions options,
                                             RequestHandler handler = Echo()) {
  return Agent::Start({&RealRuntime(), std::move(store), &RealTransports()},
                      std::move(options), std::move(handler), Soon());
}

void Pause() {
  RealRuntime().SleepUntil(RealRuntime().Now() + absl::Milliseconds(10));
}

class StockMembersTest : public ::testing::Test {
 protected:
  void Set(std::string_view key, std::string_view value) {
    EXPECT_TRUE(store_->Set(key, value, Soon()).ok());
  }
  std::string Value(std::string_view key) {
    return store_->TryGet(key, Soon()).value_or("(none)");
  }
  void Await(std::string_view key, std::string_view value) {
    while (Value(key) != value) Pause();
  }

  // Starts "stock", a member of the group by PyTorch's list alone.
  void StartStock(RequestHandler handler) {
    const auto own_store = MakeMemoryStore(RealRuntime());
    AgentOptions options = OptionsFor(0, 1);
    options.name = "stock";
    auto agent = Start(own_store, options, std::move(handler));
    ASSERT_TRUE(agent.ok()) << agent.status();
    stock_ = *std::move(agent);
    ListStock(*own_store->TryGet("addrs/stock", Soon()));
  }
  void ListStock(const std::string& address) {
    Set("addrs/stock", address);
    Set(kStockMembersKey, "stock-5,");
  }

  // One that does as it is told, and notes what.
  RequestHandler Notes() {
    return Blocking(
        [this](Message request, const RequestInfo&) -> absl::StatusOr<Message> {
          const auto call = ParseMembershipCall(request);
          if (!call.ok() || !call->has_value()) {
            return absl::InvalidArgumentError("no call of a member");
          }
          const MutexLock lock(mutex_);
          notes_.push_back(
              absl::StrCat((*call)->worker.name, "-", (*call)->worker.id,
                           (*call)->kind == Kind::kJoin ? " joins" : " leaves",
                           " under '", Value(kToken), "'"));
          return MembershipReply();
        });
  }
  std::vector<std::string> notes() {
    const MutexLock lock(mutex_);
    return notes_;
  }

  const std::shared_ptr<Store> store_ = MakeMemoryStore(RealRuntime());
  Mutex mutex_{RealRuntime(), "notes"};
  std::vector<std::string> notes_;
  std::unique_ptr<Agent> stock_;
};

TEST_F(StockMembersTest, AreToldWhoComesAndGoesUnderTheToken) {
  StartStock(Notes());
  auto a = Start(store_, Dynamic("a", kAnyId));
  ASSERT_TRUE(a.ok()) << a.status();
  EXPECT_THAT(notes(), ElementsAre("a-0 joins under 'Token_for_a_join'"));
  ASSERT_TRUE((*a)->Leave(Soon()).ok());
  EXPECT_THAT(notes(), ElementsAre("a-0 joins under 'Token_for_a_join'",
                                   "a-0 leaves under 'Token_for_a_leave'"));
}

// The dead one is said to leave before the one in its place joins.
TEST_F(StockMembersTest, AreToldOfWhomAJoinReplaces) {
  StartStock(Notes());
  {
    auto a = Start(store_, Dynamic("a", 7));
    ASSERT_TRUE(a.ok()) << a.status();
  }  // without leaving
  auto b = Start(store_, Dynamic("b", 7));
  ASSERT_TRUE(b.ok()) << b.status();
  EXPECT_THAT(notes(), ElementsAre("a-7 joins under 'Token_for_a_join'",
                                   "a-7 leaves under 'Token_for_b_join'",
                                   "b-7 joins under 'Token_for_b_join'"));
}

TEST_F(StockMembersTest, ThatRefuseKeepNobody) {
  StartStock(Blocking([](Message, const RequestInfo&) {
    return absl::StatusOr<Message>(absl::InternalError("no Python here"));
  }));
  auto a = Start(store_, Dynamic("a", kAnyId));
  ASSERT_TRUE(a.ok()) << a.status();
  EXPECT_TRUE((*a)->Leave(Soon()).ok());
}

TEST_F(StockMembersTest, ThatHangKeepNobody) {
  Gate gate;
  StartStock(EchoAfter(gate));
  AgentOptions options = Dynamic("a", kAnyId);
  options.token_lease = absl::Seconds(10);
  auto a = Start(store_, options);
  ASSERT_TRUE(a.ok()) << a.status();
  EXPECT_TRUE((*a)->Leave(Soon()).ok());
  gate.Open();
}

TEST_F(StockMembersTest, ThatAreDeadKeepNobody) {
  StartStock(Notes());
  stock_ = nullptr;
  auto a = Start(store_, Dynamic("a", kAnyId));
  ASSERT_TRUE(a.ok()) << a.status();
  EXPECT_TRUE((*a)->Leave(Soon()).ok());
}

// Another one of theirs that dies would keep all others from joining.
TEST_F(StockMembersTest, ThatAreDeadAreTakenOffTheirList) {
  StartStock(Notes());
  stock_ = nullptr;
  auto a = Start(store_, Dynamic("a", kAnyId));
  ASSERT_TRUE(a.ok()) << a.status();
  Await(kStockMembersKey, "a-0,");
  while ((*a)->GetWorkerInfo("stock").ok()) Pause();
}

// One that is silent at first, and dead a few looks later.
TEST_F(StockMembersTest, ThatHangAndThenDieAreTakenOffTheirList) {
  Gate gate;
  StartStock(EchoAfter(gate));
  auto a = Start(store_, Dynamic("a", kAnyId));
  ASSERT_TRUE(a.ok()) << a.status();
  RealRuntime().SleepUntil(RealRuntime().Now() + absl::Seconds(3));
  EXPECT_EQ(Value(kStockMembersKey), "stock-5,a-0,");
  gate.Open();
  stock_ = nullptr;
  Await(kStockMembersKey, "a-0,");
}

TEST_F(StockMembersTest, WithoutAnAddressKeepNobody) {
  Set(kStockMembersKey, "stock-5,");
  auto a = Start(store_, Dynamic("a", kAnyId));
  ASSERT_TRUE(a.ok()) << a.status();
  EXPECT_TRUE((*a)->Leave(Soon()).ok());
}

TEST_F(StockMembersTest, FindNoDeadMemberOfOursInTheirList) {
  StartStock(Notes());
  auto a = Start(store_, Dynamic("a", kAnyId));
  ASSERT_TRUE(a.ok()) << a.status();
  auto b = Start(store_, Dynamic("b", kAnyId));
  ASSERT_TRUE(b.ok()) << b.status();
  EXPECT_EQ(Value(kStockMembersKey), "stock-5,a-0,b-1,");
  *b = nullptr;  // without leaving
  Await(kStockMembersKey, "stock-5,a-0,");
  Await(kToken, "");
  EXPECT_EQ(notes().back(), "b-1 leaves under 'Token_for_a_evict'");
  // For ours, it is a member that does not answer.
  EXPECT_THAT(Value(kMembersKey), HasSubstr("1 b "));
  EXPECT_TRUE((*a)->GetWorkerInfo("b").ok());
  // It comes back to both.
  auto again = Start(store_, Dynamic("b", 1));
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(Value(kStockMembersKey), "stock-5,a-0,b-1,");
}

// A stock worker of 1.13.1 crashes if a leave does not name a map that it has.
TEST_F(StockMembersTest, KeepTheirMapsWhenOneLeaves) {
  std::string payload;
  StartStock(Blocking([&](Message request, const RequestInfo&) {
    payload = request.payload;
    return absl::StatusOr<Message>(MembershipReply());
  }));
  auto stays = Start(store_, Dynamic("stays", kAnyId));
  ASSERT_TRUE(stays.ok()) << stays.status();
  AgentOptions options = Dynamic("leaver", kAnyId);
  options.device_maps = {{"stock", {{{"cuda", 0}, {"cuda", 1}}}}};
  auto leaver = Start(store_, options);
  ASSERT_TRUE(leaver.ok()) << leaver.status();
  // It gets no map of ours that it would have to keep.
  EXPECT_EQ(payload,
            MakeMembershipCall((*leaver)->self(), {}, {}, true).payload);
  ASSERT_TRUE((*leaver)->Leave(Soon()).ok());
  for (const char* kept :
       {"\x8c\x05stock}", "\x8c\x05stays}", "\x8c\x06leaver}",
        "\x8c\x04"
        "cudaK\x3f"}) {
    EXPECT_THAT(payload, HasSubstr(kept));
  }
}

// A stock worker never calls another worker with an id that it has called.
TEST_F(StockMembersTest, MakeUsedIdsBad) {
  StartStock(Notes());
  const auto join = [&](const std::string& name) {
    auto agent = Start(store_, Dynamic(name, kAnyId));
    EXPECT_TRUE(agent.ok()) << agent.status();
    return agent.ok() ? *std::move(agent) : nullptr;
  };
  const auto stays = join("stays");
  auto a = join("a");
  ASSERT_NE(a, nullptr);
  EXPECT_EQ(a->self().id, 1);
  ASSERT_TRUE(a->Leave(Soon()).ok());
  a = join("a");
  ASSERT_NE(a, nullptr);
  EXPECT_EQ(a->self().id, 2);
  a = nullptr;  // without leaving
  a = join("a");
  ASSERT_NE(a, nullptr);
  EXPECT_EQ(a->self().id, 3);
  // Without stock members the lowest one is as good.
  ASSERT_TRUE(a->Leave(Soon()).ok());
  Set(kStockMembersKey, "stays-0,");
  a = join("a");
  ASSERT_NE(a, nullptr);
  EXPECT_EQ(a->self().id, 1);
}

// A stock worker would wait for "Done" until its timeout, and then give up.
TEST_F(StockMembersTest, NeedNotWaitForATokenThatADeadMemberHolds) {
  StartStock(Notes());
  auto a = Start(store_, Dynamic("a", kAnyId));
  ASSERT_TRUE(a.ok()) << a.status();
  Set("reprise/token_lease", "whoever it was");
  Set(kToken, "Token_for_dead_join");
  Await("Token_for_dead_join", "Done");
  Await(kToken, "");
}

// The worker "stock" of the group tells `a` itself: it is a member of another
// group, in which `a` is the stock worker.
class StockTellsTest : public StockMembersTest {
 protected:
  void SetUp() override {
    StartStock(Notes());  // it lives, or it would be taken off the list
    auto a = Start(store_, Dynamic("a", 0));
    ASSERT_TRUE(a.ok()) << a.status();
    a_ = *std::move(a);
    EXPECT_TRUE(others_->Set("addrs/a", Value("addrs/a"), Soon()).ok());
    EXPECT_TRUE(others_->Set(kStockMembersKey, "a-0,", Soon()).ok());
  }
  std::unique_ptr<Agent> JoinOthers(const std::string& name) {
    auto agent = Start(others_, Dynamic(name, 5));
    EXPECT_TRUE(agent.ok()) << agent.status();
    return agent.ok() ? *std::move(agent) : nullptr;
  }

  const std::shared_ptr<Store> others_ = MakeMemoryStore(RealRuntime());
  std::unique_ptr<Agent> a_;
};

TEST_F(StockTellsTest, OneThatTellsThatItLeavesIsGoneAtOnce) {
  ASSERT_TRUE(a_->GetWorkerInfo("stock").ok());
  auto stock = JoinOthers("stock");
  ASSERT_NE(stock, nullptr);
  EXPECT_TRUE(a_->GetWorkerInfo("stock").ok());
  ASSERT_TRUE(stock->Leave(Soon()).ok());
  // The list has it still, as that of a stock worker that just leaves has.
  EXPECT_EQ(Value(kStockMembersKey), "stock-5,a-0,");
  EXPECT_EQ(a_->GetWorkerInfo("stock").status().code(),
            absl::StatusCode::kNotFound);
  // And when it has told that it is back, it is.
  stock = JoinOthers("stock");
  ASSERT_NE(stock, nullptr);
  EXPECT_TRUE(a_->GetWorkerInfo("stock").ok());
}

TEST_F(StockTellsTest, OneThatIsOffTheListMayComeBack) {
  auto stock = JoinOthers("stock");
  ASSERT_NE(stock, nullptr);
  ASSERT_TRUE(stock->Leave(Soon()).ok());
  Set(kStockMembersKey, "a-0,");
  // `a` looks at the list, and learns that.
  auto b = Start(store_, Dynamic("b", 1));
  ASSERT_TRUE(b.ok()) << b.status();
  ASSERT_TRUE(a_->WaitForWorker("b", Soon()).ok());
  Set(kStockMembersKey, "stock-5,a-0,b-1,");
  EXPECT_TRUE(a_->WaitForWorker("stock", Soon()).ok());
}

// The list becomes what it was before: that must not be taken for no change.
TEST_F(StockTellsTest, OneThatComesBackToTheSamePlaceIsSeen) {
  auto stock = JoinOthers("stock");
  ASSERT_NE(stock, nullptr);
  const std::string list = Value(kStockMembersKey);
  ASSERT_TRUE(stock->Leave(Soon()).ok());
  Set(kStockMembersKey, "a-0,");
  // `a` looks several times while it waits.
  const absl::Time a_while = RealRuntime().Now() + absl::Seconds(2);
  EXPECT_FALSE(a_->WaitForWorker("nobody", a_while).ok());
  Set(kStockMembersKey, list);
  EXPECT_TRUE(a_->WaitForWorker("stock", Soon()).ok());
}

TEST_F(StockTellsTest, NobodySpeaksForAnother) {
  const auto stock = JoinOthers("thief");
  ASSERT_NE(stock, nullptr);
  const auto tell = [&](const WorkerInfo& worker) {
    return stock
        ->Send("a", MakeMembershipCall(worker, {}, {}, /*is_join=*/false))
        .status();
  };
  EXPECT_EQ(tell({"stock", 5}).code(), absl::StatusCode::kPermissionDenied);
  EXPECT_TRUE(a_->GetWorkerInfo("stock").ok());
  // Nor does a member of ours leave by it.
  EXPECT_TRUE(tell({"thief", 5}).ok());
  EXPECT_TRUE(a_->GetWorkerInfo("a").ok());
}

TEST_F(StockTellsTest, DevicesAreSaidWithoutTheHandler) {
  const auto stock = JoinOthers("stock");
  ASSERT_NE(stock, nullptr);
  Message request;
  request.type = MessageType::kPythonCall;
  request.payload = std::string(1, '\0') +
                    "\x80\x02"
                    "ctorch.distributed.rpc.internal\nPythonUDF\n"
                    "ctorch.distributed.rpc.backend_registry\n"
                    "_get_device_infos\n)}\x87\x81.";
  const Future reply = stock->Send("a", std::move(request));
  ASSERT_TRUE(reply.status().ok()) << reply.status();
  EXPECT_EQ(reply.result()->type, MessageType::kPythonRet);
  EXPECT_EQ(reply.result()->payload, DeviceInfosReply({}).payload);
}

// It joins and leaves while `a` takes no requests.
TEST_F(StockTellsTest, ADrainedAgentAnswersAllTheSame) {
  ASSERT_TRUE(a_->Drain(Soon()).ok());
  const auto stock = JoinOthers("stock");
  ASSERT_NE(stock, nullptr);
  ASSERT_TRUE(stock->Leave(Soon()).ok());
  EXPECT_EQ(a_->GetWorkerInfo("stock").status().code(),
            absl::StatusCode::kNotFound);
}

// Whether the handler of w1 is asked for a request of this type.
absl::Status StatusOfType(int type, bool raw) {
  Cluster cluster;
  cluster.Start(2, Echo(), [raw](AgentOptions& options) {
    options.raw_pytorch_requests = raw;
  });
  Message request = Request("x");
  request.type = static_cast<MessageType>(type);
  const absl::Status status =
      cluster[0].Send(WorkerId{1}, std::move(request)).status();
  cluster.OnEach([&](int64_t id) {
    EXPECT_TRUE(cluster[id].JoinForShutdown(Soon()).ok());
  });
  return status;
}

TEST(PyTorchOnlyRequestsTest, ReachTheHandlerIfItWantsThem) {
  const absl::Status refused = StatusOfType(0x10f, /*raw=*/false);
  EXPECT_EQ(refused.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(refused.message()),
              HasSubstr("worker w1 is no PyTorch process"));
  const auto error = CallErrorOf(refused);
  ASSERT_TRUE(error.has_value());
  EXPECT_EQ(error->source, CallErrorSource::kRemoteAgent);
  EXPECT_FALSE(error->may_have_run);
  EXPECT_TRUE(StatusOfType(0x10f, /*raw=*/true).ok());
  EXPECT_TRUE(StatusOfType(0x110, /*raw=*/false).ok());
}

}  // namespace
}  // namespace reprise::testing
