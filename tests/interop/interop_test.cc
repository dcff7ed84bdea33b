// Groups of our agents and PyTorch's own, each in a process of its own, over
// real transports and real stores: they send each other tensors of every kind,
// errors, calls that time out and thousands at once, and leave together.
//
// `interop_test --all` runs every combination, instead of those that a change
// is tested with.

#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/time.h"
#include "agent/runtime/runtime.h"
#include "agent/store/open_store.h"
#include "agent/store/tcp_store_server.h"
#include "gtest/gtest.h"
#include "tests/unit/store/server_process.h"
#include "tests/unit/store/temporary_directory.h"

namespace reprise {
namespace {

bool runs_all = false;

constexpr char kOurs[] = "tests/interop/our_member";
constexpr char kStock[] = "tests/interop/stock_member";

absl::Time Later() { return RealRuntime().Now() + absl::Minutes(2); }

enum class StoreKind {
  kStockServer,  // PyTorch's TCPStore
  kOurServer,    // ours
  kFile,         // PyTorch's FileStore, which is a file
};

// Where a group meets, for as long as this lives.
class MeetingPlace {
 public:
  explicit MeetingPlace(StoreKind kind) {
    switch (kind) {
      case StoreKind::kStockServer:
        stock_server_ = std::make_unique<ServerProcess>(
            kStock, std::vector<std::string>{"stock_member", "--serve"});
        SetPort(stock_server_->ReadLine());
        break;
      case StoreKind::kOurServer: {
        auto server = TcpStoreServer::Start(RealRuntime(), {});
        EXPECT_TRUE(server.ok()) << server.status();
        our_server_ = *std::move(server);
        SetPort(absl::StrCat(our_server_->port()));
        break;
      }
      case StoreKind::kFile:
        flag_ = absl::StrCat("file:", directory_.path(), "/store");
        url_ = absl::StrCat("c10d-file://", directory_.path(), "/store");
    }
  }

  const std::string& flag() const { return flag_; }

  // Returns when the member is there and, unless it is the last one, waits for
  // the others.
  void AwaitMember(int id) {
    const auto store = OpenStore(RealRuntime(), url_);
    ASSERT_TRUE(store.ok()) << store.status();
    const auto name = (*store)->Get(absl::StrCat("names/", id), Later());
    EXPECT_TRUE(name.ok()) << name.status();
  }

 private:
  void SetPort(const std::string& port) {
    flag_ = absl::StrCat("tcp:", port);
    url_ = absl::StrCat("tcp://127.0.0.1:", port);
  }

  std::unique_ptr<ServerProcess> stock_server_;
  std::unique_ptr<TcpStoreServer> our_server_;
  TemporaryDirectory directory_;
  std::string flag_;
  std::string url_;
};

struct Group {
  StoreKind store = StoreKind::kOurServer;
  std::string transport;
  std::string channel;
  std::string kinds;  // of each id: 's' for stock, 'o' for ours
  std::string order;  // in which they start: their ids
  int calls = 500;
  size_t largest_bytes = size_t{2} << 20;
};

std::string NameOf(const Group& group) {
  constexpr const char* kStores[] = {"StockTcp", "OurTcp", "File"};
  return absl::StrCat(kStores[static_cast<int>(group.store)], "_",
                      group.transport, "_", group.channel, "_", group.kinds,
                      "_", group.order);
}

constexpr size_t k64MiB = size_t{64} << 20;

// Each store, transport, channel and kind of group, and both orders.
std::vector<Group> SomeGroups() {
  using enum StoreKind;
  return {
      {kStockServer, "uv", "basic", "so", "10", 5000, k64MiB},
      {kStockServer, "uv", "cma", "os", "10"},
      {kStockServer, "shm", "mpt_uv", "so", "01"},
      {kOurServer, "shm", "cma", "os", "01", 5000, k64MiB},
      {kOurServer, "uv", "mpt_uv", "so", "10"},
      {kOurServer, "shm", "basic", "sos", "210"},
      {kFile, "uv", "cma", "oso", "102"},
      {kFile, "shm", "basic", "os", "10"},
  };
}

std::vector<Group> AllGroups() {
  std::vector<Group> groups;
  for (const StoreKind store :
       {StoreKind::kStockServer, StoreKind::kOurServer, StoreKind::kFile}) {
    for (const char* transport : {"uv", "shm"}) {
      for (const char* channel : {"basic", "cma", "mpt_uv"}) {
        for (const char* kinds : {"so", "os", "sso", "oss", "soo", "oos"}) {
          std::string order = "012";
          order.resize(std::strlen(kinds));
          do {
            groups.push_back(
                {store, transport, channel, kinds, order, 5000, k64MiB});
          } while (std::next_permutation(order.begin(), order.end()));
        }
      }
    }
  }
  return groups;
}

class InteropTest : public testing::TestWithParam<Group> {};

TEST_P(InteropTest, AllThatIsSentArrives) {
  const Group& group = GetParam();
  MeetingPlace place(group.store);
  std::vector<std::string> names;
  for (size_t id = 0; id < group.kinds.size(); ++id) {
    names.push_back(
        absl::StrCat(group.kinds[id] == 's' ? "stock" : "ours", id));
  }
  std::vector<std::unique_ptr<ServerProcess>> members(names.size());
  for (const char digit : group.order) {
    const int id = digit - '0';
    const std::string program = group.kinds[id] == 's' ? kStock : kOurs;
    members[id] = std::make_unique<ServerProcess>(
        program,
        std::vector<std::string>{
            names[id], "--store=" + place.flag(),
            "--transport=" + group.transport, "--channel=" + group.channel,
            "--names=" + absl::StrJoin(names, ","), absl::StrCat("--id=", id),
            absl::StrCat("--calls=", group.calls),
            absl::StrCat("--largest=", group.largest_bytes)});
    ASSERT_EQ(members[id]->ReadLine(), "meets") << names[id];
    place.AwaitMember(id);
  }
  for (size_t id = 0; id < names.size(); ++id) {
    unsigned long long calls = 0;
    unsigned long long bytes = 0;
    unsigned long long different = 0;
    unsigned long long failures = 0;
    const std::string line = members[id]->ReadLine();
    EXPECT_EQ(std::sscanf(line.c_str(),
                          "calls %llu bytes %llu different %llu failures %llu",
                          &calls, &bytes, &different, &failures),
              4)
        << names[id] << " said: " << line;
    EXPECT_EQ(different, 0u) << names[id];
    EXPECT_EQ(failures, 0u) << names[id];
    // Each peer was called as often, and all of it was compared.
    const size_t peers = names.size() - 1;
    EXPECT_GT(calls, peers * group.calls) << names[id];
    EXPECT_GT(bytes, peers * group.largest_bytes) << names[id];
    EXPECT_EQ(members[id]->Wait(), 0) << names[id];
    std::printf("%s: %s\n", names[id].c_str(), line.c_str());
  }
}

INSTANTIATE_TEST_SUITE_P(Groups, InteropTest,
                         testing::ValuesIn(runs_all ? AllGroups()
                                                    : SomeGroups()),
                         [](const testing::TestParamInfo<Group>& info) {
                           return NameOf(info.param);
                         });

}  // namespace

void RunAllGroups() { runs_all = true; }

}  // namespace reprise

int main(int argc, char** argv) {
  // Its interface has an address on any machine.
  setenv("TP_SOCKET_IFNAME", "lo", 1);
  if (argc > 1 && argv[1] == std::string("--all")) reprise::RunAllGroups();
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
