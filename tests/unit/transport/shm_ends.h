// Two contexts of the transport shm, ours or TensorPipe's, and a connection
// between them.

#ifndef REPRISE_TESTS_UNIT_TRANSPORT_SHM_ENDS_H_
#define REPRISE_TESTS_UNIT_TRANSPORT_SHM_ENDS_H_

#include <array>  // nop needs it
#include <chrono>
#include <filesystem>
#include <functional>
#include <iterator>
#include <memory>
#include <string>
#include <thread>

#include "agent/transport/shm/context.h"
#include "gtest/gtest.h"
#include "tensorpipe/core/nop_types.h"
#include "tensorpipe/tensorpipe.h"
#include "tests/unit/transport/connections.h"

namespace reprise::testing {

using Object = tensorpipe::NopHolder<tensorpipe::Descriptor>;

// Bytes that differ from place to place.
inline std::string Pattern(size_t size) {
  std::string bytes(size, '\0');
  for (size_t i = 0; i < size; ++i) {
    bytes[i] = static_cast<char>(i * 2654435761u >> 13);
  }
  return bytes;
}

inline int CountDescriptors() {
  const auto files = std::filesystem::directory_iterator("/proc/self/fd");
  return static_cast<int>(std::distance(begin(files), end(files)));
}

// Waits until `condition` holds. Returns whether it does.
inline bool Await(const std::function<bool()>& condition) {
  for (int i = 0; i < 60'000 && !condition(); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return condition();
}

inline std::shared_ptr<tensorpipe::transport::Context> Make(bool is_ours) {
  return is_ours ? MakeShmContext() : tensorpipe::transport::shm::create();
}

class ShmTest : public ::testing::Test {
 protected:
  void Start(bool is_server_ours, bool is_client_ours) {
    server_ = Make(is_server_ours);
    client_ = Make(is_client_ours);
    listener_ = server_->listen("");
    EXPECT_NE(listener_->addr(), "");  // it listens by now
  }
  void TearDown() override {
    near_ = far_ = nullptr;
    listener_ = nullptr;
    if (client_ != nullptr) client_->join();
    if (server_ != nullptr) server_->join();
  }
  // A connection's two ends.
  void Connect() {
    near_ = client_->connect(listener_->addr());
    Accept();
  }
  void Accept() {
    const Accepted accepted = testing::Accept(*listener_).get();
    EXPECT_EQ(accepted.error, "");
    far_ = accepted.connection;
  }

  std::shared_ptr<tensorpipe::transport::Context> server_;
  std::shared_ptr<tensorpipe::transport::Context> client_;
  std::shared_ptr<Listener> listener_;
  std::shared_ptr<Connection> near_;  // the client's
  std::shared_ptr<Connection> far_;
};

}  // namespace reprise::testing

#endif  // REPRISE_TESTS_UNIT_TRANSPORT_SHM_ENDS_H_
