// Dynamic groups of PyTorch's Python workers and ours, as real processes.
//
// The Python processes live through all tests of a suite, since it takes them
// seconds to start; each joins one group after another, with a prefix of its
// own in the store. Ours are started anew for each test.

#include <signal.h>
#include <stdlib.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "agent/runtime/runtime.h"
#include "agent/store/tcp_store_server.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/store/server_process.h"

namespace reprise {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

// Another interpreter that has PyTorch may be given, by hand.
std::string Interpreter() {
  const char* const given = getenv("REPRISE_TEST_PYTHON");
  return given == nullptr ? "/usr/bin/python3" : given;
}
constexpr char kScript[] = "tests/python/member.py";
constexpr char kMember[] = "tests/python/member";
// After this time a Python worker gives up: no test waits for it.
constexpr int kTimeout = 60;

// A worker that does what it is told.
class Worker {
 public:
  Worker(std::string name, int id, const std::string& program,
         std::vector<std::string> arguments)
      : name_(std::move(name)),
        id_(id),
        is_ours_(program == kMember),
        process_(program, std::move(arguments)) {}

  std::string Do(const std::string& command) {
    process_.WriteLine(command);
    return process_.ReadLine();
  }
  void Expect(const std::string& command, const std::string& answer) {
    EXPECT_EQ(Do(command), answer) << name_ << " does: " << command;
  }
  // `group` is the number of the group for a Python worker, and the prefix of
  // its keys for one of ours.
  void Join(const std::string& group, const std::string& port) {
    Expect(absl::StrCat("join ", name_, " ", id_, " ", group, " ", port, " ",
                        kTimeout),
           "ok");
  }
  // What it says of who is a member: "ok a-1,b-2".
  std::string Names() { return Do("names"); }
  // Until it knows of exactly these, by name.
  void AwaitNames(const std::string& names) {
    const std::string wanted = absl::StrCat("ok ", names);
    std::string answer;
    while ((answer = Names()) != wanted) {
      ASSERT_THAT(answer, StartsWith("ok")) << name_;
      RealRuntime().SleepUntil(RealRuntime().Now() + absl::Milliseconds(20));
    }
  }
  const std::string& name() const { return name_; }
  bool is_ours() const { return is_ours_; }
  ServerProcess& process() { return process_; }

 private:
  const std::string name_;
  const int id_;
  const bool is_ours_;
  ServerProcess process_;
};

std::unique_ptr<Worker> Python(const std::string& name, int id) {
  // By its path, the interpreter knows which environment is its own.
  const std::string python = Interpreter();
  return std::make_unique<Worker>(name, id, python,
                                  std::vector<std::string>{python, kScript});
}
std::unique_ptr<Worker> Ours(const std::string& name, int id) {
  return std::make_unique<Worker>(name, id, kMember,
                                  std::vector<std::string>{"member"});
}

class PythonGroupTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    p_ = Python("p", 10);
    q_ = Python("q", 11);
    skipped_ = p_->process().ReadLine();
    if (skipped_ == "ready") skipped_ = q_->process().ReadLine();
    if (skipped_ == "ready") {
      skipped_ = "";
      prefix_ = p_->Do("prefix").substr(3);  // after "ok "
    }
    server_ = *TcpStoreServer::Start(RealRuntime(), {});
  }
  static void TearDownTestSuite() {
    p_ = nullptr;
    q_ = nullptr;
    server_ = nullptr;
  }

  void SetUp() override {
    if (!skipped_.empty()) {
      GTEST_SKIP() << "no PyTorch (tools/setup.sh --with-interop): "
                   << skipped_;
    }
    ++group_;
  }

  static void Join(Worker& worker) {
    const std::string number = absl::StrCat(group_);
    worker.Join(worker.is_ours() ? absl::StrCat(prefix_, number) : number,
                port_);
  }

  static inline std::unique_ptr<TcpStoreServer> server_;
  static inline std::unique_ptr<Worker> p_;
  static inline std::unique_ptr<Worker> q_;
  static inline std::string skipped_;
  static inline int group_ = 0;
  static inline std::string port_;
  static inline std::string prefix_;  // before the number of a group

  const std::unique_ptr<Worker> x_ = Ours("x", 2);
  const std::unique_ptr<Worker> y_ = Ours("y", 3);
};

// By whom the store is served.
class PythonOrderTest : public PythonGroupTest,
                        public ::testing::WithParamInterface<bool> {
 protected:
  void SetUp() override {
    PythonGroupTest::SetUp();
    if (IsSkipped()) return;
    port_ =
        GetParam() ? p_->Do("serve").substr(3) : absl::StrCat(server_->port());
  }
};

TEST_P(PythonOrderTest, TheyComeAndGoInTurns) {
  Join(*p_);
  Join(*x_);
  // A member that is there is told at once.
  p_->Expect("names", "ok p-10,x-2");
  Join(*q_);
  x_->Expect("names", "ok x-2,p-10,q-11");
  Join(*y_);
  p_->Expect("names", "ok p-10,q-11,x-2,y-3");
  q_->Expect("names", "ok p-10,q-11,x-2,y-3");
  // Ours, theirs, ours, theirs.
  x_->Expect("leave", "ok");
  p_->Expect("names", "ok p-10,q-11,y-3");
  p_->Expect("leave", "ok");
  y_->Expect("gone p", "ok");
  q_->Expect("names", "ok q-11,y-3");
  y_->Expect("leave", "ok");
  q_->Expect("names", "ok q-11");
  q_->Expect("leave", "ok");
}

TEST_P(PythonOrderTest, OursComeFirstAndGoLast) {
  Join(*x_);
  Join(*y_);
  Join(*p_);
  Join(*q_);
  x_->Expect("names", "ok x-2,y-3,p-10,q-11");
  p_->Expect("names", "ok p-10,q-11,x-2,y-3");
  q_->Expect("leave", "ok");
  // It was dropped when it told that it leaves.
  x_->Expect("names", "ok x-2,y-3,p-10");
  p_->Expect("leave", "ok");
  x_->Expect("names", "ok x-2,y-3");
  x_->Expect("leave", "ok");
  y_->Expect("leave", "ok");
}

TEST_P(PythonOrderTest, TheirsComeFirstAndGoLast) {
  Join(*q_);
  Join(*p_);
  Join(*y_);
  Join(*x_);
  q_->Expect("names", "ok p-10,q-11,x-2,y-3");
  y_->Expect("leave", "ok");
  x_->Expect("leave", "ok");
  p_->Expect("names", "ok p-10,q-11");
  p_->Expect("leave", "ok");
  q_->Expect("leave", "ok");
}

INSTANTIATE_TEST_SUITE_P(Stores, PythonOrderTest, ::testing::Bool(),
                         [](const ::testing::TestParamInfo<bool>& info) {
                           return std::string(info.param ? "Theirs" : "Ours");
                         });

class PythonFaultTest : public PythonGroupTest {
 protected:
  void SetUp() override {
    PythonGroupTest::SetUp();
    if (IsSkipped()) return;
    port_ = absl::StrCat(server_->port());
  }
};

// One who has used what we have not still leaves.
TEST_F(PythonFaultTest, RRefsAndAutogradAreRefusedAndKeepNobody) {
  Join(*x_);
  Join(*p_);
  Join(*q_);
  EXPECT_THAT(
      p_->Do("eval rpc.remote('x', double, args=(1,)).to_here()"),
      StartsWith("raised RuntimeError: Refused by Node 2: UNIMPLEMENTED: "
                 "worker x is no PyTorch process: it has no RRefs"));
  EXPECT_THAT(p_->Do("eval rpc.remote('x', torch.add, args=(torch.ones(1), 1))"
                     ".to_here()"),
              HasSubstr("it has no RRefs"));
  // A fork of such an RRef goes to another worker, which asks the owner for it.
  EXPECT_THAT(p_->Do("eval rpc.rpc_sync('q', describe, "
                     "args=(rpc.remote('x', double, args=(1,)),))"),
              StartsWith("ok (UserRRef"));
  EXPECT_THAT(p_->Do("eval backward_through('x')"),
              HasSubstr("it has no distributed autograd"));
  EXPECT_THAT(p_->Do("eval profiled('x')"), HasSubstr("it has no profiler"));
  p_->Expect("leave", "ok");
  q_->Expect("leave", "ok");
  x_->Expect("leave", "ok");
}

// A worker that joins asks all members, so a dead one would keep it from that;
// and one that leaves tells them all.
TEST_F(PythonFaultTest, ADeadMemberOfOursKeepsNobodyFromComingAndGoing) {
  Join(*p_);
  Join(*x_);
  Join(*y_);
  p_->Expect("names", "ok p-10,x-2,y-3");
  x_->process().Kill();
  p_->AwaitNames("p-10,y-3");
  Join(*q_);
  q_->Expect("names", "ok p-10,q-11,y-3");
  // For ours it is a member that has died, as without stock workers.
  y_->Expect("names", "ok x-2,y-3,p-10,q-11");
  p_->Expect("leave", "ok");
  q_->Expect("leave", "ok");
  y_->Expect("leave", "ok");
}

TEST_F(PythonFaultTest, AHungMemberOfTheirsKeepsNoneOfOurs) {
  Join(*p_);
  p_->process().Signal(SIGSTOP);
  Join(*x_);
  x_->Expect("names", "ok x-2,p-10");
  x_->Expect("leave", "ok");
  p_->process().Signal(SIGCONT);
  EXPECT_THAT(p_->Names(), HasSubstr("p-10"));
  p_->Do("leave");
}

class PythonCallsTest : public PythonFaultTest {
 protected:
  void SetUp() override {
    PythonFaultTest::SetUp();
    if (IsSkipped()) return;
    Join(*p_);
    Join(*x_);
  }
  void TearDown() override {
    if (IsSkipped()) return;
    x_->Expect("leave", "ok");
    p_->Expect("leave", "ok");
  }
};

TEST_F(PythonCallsTest, PythonCallsFunctionsOfOurs) {
  p_->Expect(
      R"(eval (lambda v: rpc.rpc_sync('x', same, args=(v,)) == v)([None, True, )"
      R"(0, -1, 1 << 40, -(1 << 63), 1.5, '\u00e4', 'x' * 1000, b'\x00\xff', )"
      R"(b'y' * 1000, (), (1,), [], [[2]], {}, {'a': 1, (2, 3): None}]))",
      "ok True");
  p_->Expect(
      "eval torch.equal(rpc.rpc_sync('x', scale, args=(torch.arange(4.), 3)), "
      "3 * torch.arange(4.))",
      "ok True");
  p_->Expect(
      "eval (lambda d: torch.equal(d['t'][0], torch.ones(2, 3)) and "
      "d['t'][1].dtype == torch.int64)(rpc.rpc_sync('x', same, args=({'t': "
      "[torch.ones(2, 3), torch.arange(5)]},)))",
      "ok True");
  p_->Expect("eval rpc.rpc_async('x', same, args=('later',)).wait()",
             "ok later");
}

TEST_F(PythonCallsTest, PythonCallsBuiltinsOfOurs) {
  p_->Expect(
      "eval torch.equal(rpc.rpc_sync('x', torch.add, args=(torch.ones(2), 1)), "
      "torch.full((2,), 2.))",
      "ok True");
  p_->Expect("eval rpc.rpc_sync('x', torch.numel, args=(torch.ones(7),))",
             "ok 7");
  p_->Expect(
      "eval [t.tolist() for t in rpc.rpc_sync('x', torch.split, "
      "args=(torch.ones(2), 1))]",
      "ok [[1.0, 1.0], [1.0, 1.0]]");
}

TEST_F(PythonCallsTest, OurErrorsAreRaised) {
  EXPECT_THAT(
      p_->Do(R"(eval rpc.rpc_sync('x', failing, args=('a \\ \u00e4 %n',)))"),
      StartsWith("raised ValueError: ValueError: a \\ \u00e4 %n At: "));
  EXPECT_THAT(p_->Do("eval rpc.rpc_sync('x', double, args=(1,))"),
              HasSubstr("NOT_FOUND: this worker has no function "
                        "__main__.double"));
  EXPECT_THAT(
      p_->Do("eval rpc.rpc_sync('x', same, args=(torch.device('cpu'),))"),
      // PyTorch raises a few classes as they are, and for others this.
      StartsWith("raised RuntimeError: NotImplementedError: the arguments of "
                 "__main__.same: objects of torch.device are not supported"));
  EXPECT_THAT(p_->Do("eval rpc.rpc_sync('x', torch.mul, args=(torch.ones(1), "
                     "2))"),
              HasSubstr("no function torch.ops.aten.mul"));
  // A builtin's error comes as that of any handler.
  EXPECT_THAT(p_->Do("eval rpc.rpc_sync('x', torch.add, args=(torch.ones(1, "
                     "dtype=torch.int64), 2))"),
              StartsWith("raised RuntimeError: Error on Node 2: "
                         "INVALID_ARGUMENT: a tensor of floats"));
}

TEST_F(PythonCallsTest, OursCallFunctionsOfPython) {
  x_->Expect("call p __main__ describe 1 text ones:2 key=5",
             "ok (1, 'text', tensor([1., 1.])) {'key': 5}");
  x_->Expect("call p torch add ones:3 5", "ok Tensor(6 6 6)");
  x_->Expect("call p __main__ add_all ones:2 ones:2 scale=3",
             "ok dict(sum Tensor(6 6) count 2)");
  EXPECT_THAT(x_->Do("call p __main__ fail sorry"),
              StartsWith("error INVALID_ARGUMENT: builtins.ValueError: On "
                         "WorkerInfo(id=10, name=p): ValueError('sorry')"));
  EXPECT_THAT(x_->Do("call p __main__ missing"),
              StartsWith("error UNKNOWN: builtins.AttributeError: On "
                         "WorkerInfo(id=10, name=p)"));
  EXPECT_THAT(x_->Do("call p __main__ make_object"),
              StartsWith("error UNIMPLEMENTED: objects of __main__.OnlyHere "
                         "are not supported"));
}

}  // namespace
}  // namespace reprise
