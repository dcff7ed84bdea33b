#include "tests/unit/transport/cma_testing.h"

#include <algorithm>
#include <cstring>

#include "agent/runtime/runtime.h"
#include "agent/transport/uv/context.h"
#include "gtest/gtest.h"
#include "tensorpipe/common/cpu_buffer.h"
#include "tensorpipe/core/nop_types.h"
#include "tests/unit/transport/connections.h"

namespace reprise {
namespace {

using tensorpipe::Error;
using tensorpipe::transport::Connection;

Error TimedOut() {
  return {std::make_shared<tensorpipe::SystemError>("nothing came", ETIMEDOUT),
          __FILE__, __LINE__};
}

}  // namespace

Wires::Wires()
    : near_(MakeUvContext(Callers::kPipes)),
      far_(MakeUvContext(Callers::kPipes)),
      listener_(far_->listen("127.0.0.1")) {}

Wires::~Wires() {
  near_->join();
  far_->join();
}

std::pair<Connections, Connections> Wires::Connect(size_t count) {
  std::pair<Connections, Connections> result;
  for (size_t i = 0; i < count; ++i) {
    // The listener admits only connections that say hello.
    auto hello = std::make_shared<tensorpipe::NopHolder<tensorpipe::Packet>>();
    hello->getObject().Become(
        hello->getObject().index_of<tensorpipe::RequestedConnection>());
    auto near = near_->connect(listener_->addr());
    near->write(*hello, [hello](const Error& error) {
      EXPECT_FALSE(error) << error.what();
    });
    const testing::Accepted accepted = testing::Accept(*listener_).get();
    EXPECT_EQ(accepted.error, "");
    auto far = accepted.connection;
    std::promise<void> greeted;
    far->read([&](const Error& error, const void*, size_t) {
      EXPECT_FALSE(error) << error.what();
      greeted.set_value();
    });
    greeted.get_future().wait();
    result.first.push_back(std::move(near));
    result.second.push_back(std::move(far));
  }
  return result;
}

Link::Link(Wires& wires, tensorpipe::channel::Context& near_context,
           tensorpipe::channel::Context& far_context) {
  auto [near_ends, far_ends] =
      wires.Connect(near_context.numConnectionsNeeded());
  near = near_context.createChannel(std::move(near_ends),
                                    tensorpipe::channel::Endpoint::kConnect);
  far = far_context.createChannel(std::move(far_ends),
                                  tensorpipe::channel::Endpoint::kListen);
}

Result Send(tensorpipe::channel::Channel& channel, void* bytes, size_t length) {
  auto sent = std::make_shared<std::promise<Error>>();
  channel.send(tensorpipe::CpuBuffer{bytes}, length,
               [sent](const Error& error) { sent->set_value(error); });
  return sent->get_future();
}

Result Receive(tensorpipe::channel::Channel& channel, void* into,
               size_t length) {
  auto received = std::make_shared<std::promise<Error>>();
  channel.recv(tensorpipe::CpuBuffer{into}, length,
               [received](const Error& error) { received->set_value(error); });
  return received->get_future();
}

Error Await(Result& result) {
  if (result.wait_for(std::chrono::minutes(1)) != std::future_status::ready) {
    return TimedOut();
  }
  return result.get();
}

Tally CutInMidFlight(Wires& wires, tensorpipe::channel::Context& from,
                     tensorpipe::channel::Context& to, std::mt19937& random) {
  constexpr int kTensors = 4;
  constexpr size_t kBytes = size_t{1} << 20;
  std::vector<std::vector<char>> sources(kTensors,
                                         std::vector<char>(kBytes, 'A'));
  std::vector<std::vector<char>> targets(kTensors, std::vector<char>(kBytes));
  Link link(wires, from, to);
  std::vector<Result> sent;
  std::vector<Result> received;
  for (int i = 0; i < kTensors; ++i) {
    char* const bytes = sources[i].data();
    auto done = std::make_shared<std::promise<Error>>();
    link.near->send(tensorpipe::CpuBuffer{bytes}, kBytes,
                    [=](const Error& error) {
                      if (error) std::memset(bytes, 'B', kBytes);
                      done->set_value(error);
                    });
    sent.push_back(done->get_future());
    received.push_back(Receive(*link.far, targets[i].data(), kBytes));
  }
  const absl::Time start = RealRuntime().Now();
  const absl::Duration pause = absl::Microseconds(random() % 1500);
  while (RealRuntime().Now() - start < pause) {
  }
  (random() % 4 == 0 ? link.far : link.near)->close();
  Tally tally;
  for (int i = 0; i < kTensors; ++i) {
    const Error sending = Await(sent[i]);
    const Error receiving = Await(received[i]);
    EXPECT_FALSE(sending.isOfType<tensorpipe::SystemError>()) << sending.what();
    const std::vector<char>& target = targets[i];
    if (receiving) {
      ++tally.refused;
    } else if (std::count(target.begin(), target.end(), 'A') == kBytes) {
      ++tally.right;
    } else {
      ++tally.wrong;
    }
  }
  return tally;
}

}  // namespace reprise
