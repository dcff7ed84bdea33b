// PyTorch's own client against our server.

#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "agent/runtime/runtime.h"
#include "agent/store/tcp_store.h"
#include "agent/store/tcp_store_server.h"
#include "gtest/gtest.h"
#include "tests/unit/store/server_process.h"

namespace reprise {
namespace {

constexpr char kPython[] = "/usr/bin/python3";
constexpr char kScript[] = "tests/unit/store/tcp_store_client.py";

absl::Time Later() { return RealRuntime().Now() + absl::Minutes(5); }

TEST(TcpStoreStockTest, AStockClientIsServed) {
  const auto server = TcpStoreServer::Start(RealRuntime(), {});
  ASSERT_TRUE(server.ok()) << server.status();
  const std::string port = absl::StrCat((*server)->port());
  const auto store =
      *OpenTcpStore(RealRuntime(), absl::StrCat("tcp://127.0.0.1:", port));
  ServerProcess client(kPython, {"python3", kScript, port});
  std::string line = client.ReadLine();
  if (absl::StartsWith(line, "skip")) {
    GTEST_SKIP() << "no PyTorch (tools/setup.sh --with-interop): " << line;
  }
  // It sees what we have set, and we see what it has set.
  ASSERT_EQ(line, "waits");
  ASSERT_TRUE(store->Set("ours", std::string("\0\xff", 2), Later()).ok());
  EXPECT_EQ(client.ReadLine(), "got 00ff");
  EXPECT_EQ(store->Get("theirs", Later()).value_or(""), "from stock");
  EXPECT_EQ(store->CompareSet("token", "", "mine", Later()).value_or(""),
            "mine");
  // The key of COMPARE_SET ends a stock client's wait, which a stock server of
  // this version does not do.
  EXPECT_EQ(client.ReadLine(), "got 6d696e65");
  EXPECT_EQ(client.ReadLine(), "all as expected");
  EXPECT_EQ(store->Add("n", 0, Later()).value_or(0), 42);
}

}  // namespace
}  // namespace reprise
