#include "agent/transport/address.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace reprise {
namespace {

constexpr char kInterfaceVariable[] = "TP_SOCKET_IFNAME";
// The address is of a block that is reserved for documentation, so no machine
// has it.
constexpr char kNotOurs[] = "203.0.113.9";

// Collects the warnings that are logged while it lives.
class Warnings final : public google::LogSink {
 public:
  Warnings() { google::AddLogSink(this); }
  ~Warnings() override { google::RemoveLogSink(this); }
  void send(google::LogSeverity severity, const char*, const char*, int,
            const struct ::tm*, const char* message, size_t length) override {
    if (severity == google::GLOG_WARNING) text_.append(message, length);
  }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

TEST(ParseBindAddressTest, TakesHostsWithAndWithoutPorts) {
  for (const auto& [text, canonical] :
       std::vector<std::pair<std::string, std::string>>{
           {"127.0.0.1", "127.0.0.1:0"},
           {"127.0.0.1:0", "127.0.0.1:0"},
           {"192.0.2.7:5000", "192.0.2.7:5000"},
           {"192.0.2.7:65535", "192.0.2.7:65535"},
           {"::1", "[::1]:0"},
           {"[::1]", "[::1]:0"},
           {"[2001:db8::7]:5000", "[2001:db8::7]:5000"}}) {
    const auto address = ParseBindAddress(text);
    ASSERT_TRUE(address.ok()) << text << ": " << address.status();
    EXPECT_EQ(address->ToString(), canonical);
  }
  EXPECT_EQ(ParseBindAddress("192.0.2.7:5000")->AnyPort().ToString(),
            "192.0.2.7:0");
}

TEST(ParseBindAddressTest, RefusesWhatIsNoAddress) {
  for (const char* text : {"",
                           ":",
                           ":80",
                           "localhost",
                           "host.example:1",
                           "127.0.0.1:",
                           "127.0.0.1:x",
                           "127.0.0.1:-1",
                           "127.0.0.1:65536",
                           "127.0.0.1:99999999999",
                           "127.0.0",
                           "1.2.3.4.5",
                           "[",
                           "[]",
                           "[::1",
                           "[::1]x",
                           "[::1]:",
                           "[::1]:70000",
                           "::1::2",
                           "uv://127.0.0.1",
                           "0.0.0.0",
                           "0.0.0.0:80",
                           "::",
                           "[::]:0"}) {
    const auto address = ParseBindAddress(text);
    ASSERT_FALSE(address.ok()) << text;
    EXPECT_EQ(address.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_TRUE(absl::StrContains(address.status().message(),
                                  absl::StrCat("\"", text, "\"")))
        << address.status();
  }
}

TEST(ParseBindAddressTest, RefusesLinkLocalIPv6WithAReason) {
  for (const char* text :
       {"fe80::1%lo", "[fe80::1%lo]:0", "fe80::1", "[febf::2%lo]:5000"}) {
    const auto address = ParseBindAddress(text);
    ASSERT_FALSE(address.ok()) << text;
    EXPECT_EQ(address.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_TRUE(absl::StrContains(address.status().message(), "link-local"))
        << address.status();
  }
}

TEST(TryToListenTest, SaysWhyItCannot) {
  EXPECT_TRUE(TryToListen({"127.0.0.1", 0}).ok());
  const absl::Status status = TryToListen({kNotOurs, 0});
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_TRUE(absl::StrContains(status.message(), "203.0.113.9:0: Cannot"))
      << status;
}

TEST(TryToListenTest, FindsABusyPort) {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  ASSERT_EQ(bind(fd, reinterpret_cast<sockaddr*>(&address), size), 0);
  ASSERT_EQ(listen(fd, 1), 0);
  ASSERT_EQ(getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size), 0);
  const BindAddress busy{"127.0.0.1", ntohs(address.sin_port)};
  const absl::Status status = TryToListen(busy);
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_TRUE(absl::StrContains(status.message(), "in use")) << status;
  EXPECT_EQ(ResolveBindAddress(busy.ToString()).status().code(),
            absl::StatusCode::kUnavailable);
  close(fd);
}

TEST(ResolveBindAddressTest, KeepsAnAddressThatWasGiven) {
  const auto address = ResolveBindAddress("127.0.0.2");
  ASSERT_TRUE(address.ok()) << address.status();
  EXPECT_EQ(address->ToString(), "127.0.0.2:0");
  EXPECT_EQ(ResolveBindAddress(kNotOurs).status().code(),
            absl::StatusCode::kUnavailable);
  EXPECT_EQ(ResolveBindAddress("nonsense").status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(ResolveBindAddressTest, GuessesFromTheInterfaceThatIsNamed) {
  setenv(kInterfaceVariable, "lo", 1);
  Warnings warnings;
  const auto address = ResolveBindAddress("");
  unsetenv(kInterfaceVariable);
  ASSERT_TRUE(address.ok()) << address.status();
  EXPECT_EQ(address->ToString(), "127.0.0.1:0");
  EXPECT_EQ(warnings.text(), "");
}

TEST(ResolveBindAddressTest, FallsBackToLoopbackWithAWarning) {
  setenv(kInterfaceVariable, "nosuch", 1);
  Warnings warnings;
  const auto address = ResolveBindAddress("");
  unsetenv(kInterfaceVariable);
  ASSERT_TRUE(address.ok()) << address.status();
  EXPECT_EQ(address->ToString(), "127.0.0.1:0");
  EXPECT_TRUE(absl::StrContains(warnings.text(), "TP_SOCKET_IFNAME=nosuch"))
      << warnings.text();
}

// As `getaddrinfo` finds it; whether others can reach it is another matter.
std::vector<std::string> AddressesOfOurName() {
  std::array<char, 256> name = {};
  gethostname(name.data(), name.size() - 1);
  addrinfo hints = {};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  std::vector<std::string> hosts;
  if (getaddrinfo(name.data(), nullptr, &hints, &found) != 0) return hosts;
  for (const addrinfo* one = found; one != nullptr; one = one->ai_next) {
    std::array<char, NI_MAXHOST> host = {};
    if (getnameinfo(one->ai_addr, one->ai_addrlen, host.data(), host.size(),
                    nullptr, 0, NI_NUMERICHOST) == 0) {
      hosts.emplace_back(host.data());
    }
  }
  freeaddrinfo(found);
  return hosts;
}

// Either it is an address of our name that is not loopback, or there is none,
// and a warning says so.
TEST(ResolveBindAddressTest, GuessesFromTheHostName) {
  unsetenv(kInterfaceVariable);
  Warnings warnings;
  const auto address = ResolveBindAddress("");
  ASSERT_TRUE(address.ok()) << address.status();
  const bool is_loopback =
      absl::StartsWith(address->host, "127.") || address->host == "::1";
  if (is_loopback) {
    EXPECT_TRUE(absl::StrContains(warnings.text(), "by the host name"))
        << warnings.text();
  } else {
    EXPECT_THAT(AddressesOfOurName(), testing::Contains(address->host));
    EXPECT_EQ(warnings.text(), "");
  }
}

// In a process whose machine is called "localhost", as many are in effect.
TEST(ResolveBindAddressTest, WarnsWhenTheHostNameIsLoopback) {
  constexpr int kCannotRename = 3;
  unsetenv(kInterfaceVariable);
  const pid_t child = fork();
  if (child == 0) {
    if ((unshare(CLONE_NEWUTS) != 0 &&
         unshare(CLONE_NEWUSER | CLONE_NEWUTS) != 0) ||
        sethostname("localhost", 9) != 0) {
      _exit(kCannotRename);
    }
    Warnings warnings;
    const auto address = ResolveBindAddress("");
    const bool warned =
        absl::StrContains(warnings.text(), "which other machines cannot reach");
    _exit(address.ok() && warned ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  if (WEXITSTATUS(status) == kCannotRename) GTEST_SKIP() << "no own host name";
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

}  // namespace
}  // namespace reprise
