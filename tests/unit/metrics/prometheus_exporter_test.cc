// The endpoint that Prometheus scrapes.

#include "agent/metrics/prometheus_exporter.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "agent/agent.h"
#include "agent/runtime/runtime.h"
#include "agent/store/memory_store.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace reprise {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;

absl::Time Soon() { return RealRuntime().Now() + absl::Seconds(60); }

std::unique_ptr<Agent> StartAgent() {
  AgentOptions options;
  options.name = "w0";
  options.transport.transports = {"uv"};
  options.transport.bind_address = "127.0.0.1";
  auto agent = Agent::Start(
      {&RealRuntime(), MakeMemoryStore(RealRuntime()), &RealTransports()},
      options,
      Blocking(
          [](Message request, const RequestInfo&) -> absl::StatusOr<Message> {
            request.type = MessageType::kScriptRet;
            return request;
          }),
      Soon());
  EXPECT_TRUE(agent.ok()) << agent.status();
  return *std::move(agent);
}

// Returns the answer with its headers; empty if there is none.
std::string Scrape(int port) {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  std::string answer;
  if (connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) ==
      0) {
    const std::string request =
        "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    if (write(fd, request.data(), request.size()) ==
        static_cast<ssize_t>(request.size())) {
      char buffer[4096];
      for (ssize_t n; (n = read(fd, buffer, sizeof(buffer))) > 0;) {
        answer.append(buffer, static_cast<size_t>(n));
      }
    }
  }
  close(fd);
  return answer;
}

TEST(PrometheusExporterTest, ServesWhatTheAgentCounts) {
  const std::unique_ptr<Agent> agent = StartAgent();
  Message request;
  request.type = MessageType::kScriptCall;
  ASSERT_TRUE(agent->Send("w0", request).status().ok());
  auto exporter = PrometheusExporter::Start(
      "127.0.0.1:0", [&] { return (*agent).GetMetricFamilies(); });
  ASSERT_TRUE(exporter.ok()) << exporter.status();
  const std::string answer = Scrape((*exporter)->port());
  EXPECT_THAT(answer, HasSubstr("HTTP/1.1 200"));
  EXPECT_THAT(answer, HasSubstr("reprise_client_calls_total{worker=\"w0\","
                                "peer=\"w0\"} 1"));
  EXPECT_THAT(answer, HasSubstr("reprise_client_call_seconds_bucket{worker="
                                "\"w0\",peer=\"w0\",type=\"script_call\",le="
                                "\"+Inf\"} 1"));
  EXPECT_THAT(answer, ContainsRegex("reprise_client_call_seconds_bucket.worker="
                                    "\"w0\",peer=\"w0\",type=\"script_call\","
                                    "le=\"[0-9.e]*\". 1"));
  EXPECT_THAT(answer,
              HasSubstr("# TYPE reprise_agent_reconnects_total counter"));
}

TEST(PrometheusExporterTest, TheAgentMayShutDownAndGo) {
  std::unique_ptr<Agent> agent = StartAgent();
  auto exporter = PrometheusExporter::Start(
      "127.0.0.1:0", [&] { return (*agent).GetMetricFamilies(); });
  ASSERT_TRUE(exporter.ok()) << exporter.status();
  const int port = (*exporter)->port();
  std::vector<std::unique_ptr<Thread>> threads;
  for (int t = 0; t < 2; ++t) {
    threads.push_back(RealRuntime().StartThread("scrape", [port] {
      for (int i = 0; i < 50; ++i) Scrape(port);
    }));
  }
  EXPECT_TRUE(agent->Shutdown(Soon()).ok());
  EXPECT_THAT(Scrape(port), HasSubstr("reprise_agent_pending_calls"));
  (*exporter)->Detach();
  agent = nullptr;
  for (const std::unique_ptr<Thread>& thread : threads) thread->Join();
  EXPECT_THAT(Scrape(port), Not(HasSubstr("reprise_agent_pending_calls")));
}

TEST(PrometheusExporterTest, AnAddressThatIsTakenIsAnError) {
  const std::unique_ptr<Agent> agent = StartAgent();
  auto first = PrometheusExporter::Start(
      "127.0.0.1:0", [&] { return (*agent).GetMetricFamilies(); });
  ASSERT_TRUE(first.ok()) << first.status();
  for (const std::string& address :
       {absl::StrCat("127.0.0.1:", (*first)->port()), std::string("nowhere"),
        std::string()}) {
    const auto second = PrometheusExporter::Start(
        address, [&] { return (*agent).GetMetricFamilies(); });
    EXPECT_TRUE(absl::IsUnavailable(second.status())) << address;
  }
}

}  // namespace
}  // namespace reprise
