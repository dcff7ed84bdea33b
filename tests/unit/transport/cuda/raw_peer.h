// The other end of a channel, played by a test: bare connections.

#ifndef REPRISE_TESTS_UNIT_TRANSPORT_CUDA_RAW_PEER_H_
#define REPRISE_TESTS_UNIT_TRANSPORT_CUDA_RAW_PEER_H_

#include <array>  // nop needs it
#include <cstddef>
#include <cstring>
#include <future>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/escaping.h"
#include "agent/transport/cuda/frames.h"
#include "gtest/gtest.h"
#include "tests/unit/transport/connections.h"
#include "tests/unit/transport/cuda/cuda_testing.h"

namespace reprise {

// The near end is a channel.
class RawPeer {
 public:
  explicit RawPeer(Ends& ends) {
    auto [near_ends, far_ends] =
        ends.wires.Connect(ends.near->numConnectionsNeeded());
    channel = ends.near->createChannel(std::move(near_ends),
                                       tensorpipe::channel::Endpoint::kConnect);
    connections = std::move(far_ends);
  }
  ~RawPeer() {
    channel->close();
    for (const auto& connection : connections) connection->close();
  }

  // The next frame on a connection, or "error: ...".
  std::string Read(size_t connection) {
    auto promise = std::make_shared<std::promise<std::string>>();
    connections[connection]->read([promise](const tensorpipe::Error& error,
                                            const void* bytes, size_t size) {
      promise->set_value(
          error ? "error: " + error.what()
                : std::string(static_cast<const char*>(bytes), size));
    });
    return promise->get_future().get();
  }
  std::string ReadHex(size_t connection) {
    return absl::BytesToHexString(Read(connection));
  }
  template <typename T>
  T ReadStructAt(size_t connection) {
    const std::string bytes = Read(connection);
    T object;
    EXPECT_EQ(bytes.size(), sizeof(T)) << bytes;
    std::memcpy(&object, bytes.data(), std::min(bytes.size(), sizeof(T)));
    return object;
  }
  void Write(size_t connection, const std::string& bytes) {
    testing::Write(*connections[connection], bytes).wait();
  }
  void WriteEmpty(size_t connection) { Write(connection, ""); }
  template <typename T>
  void WriteStructAt(size_t connection, const T& object) {
    Write(connection,
          std::string(reinterpret_cast<const char*>(&object), sizeof(T)));
  }

  std::shared_ptr<tensorpipe::channel::Channel> channel;
  Connections connections;
};

}  // namespace reprise

#endif  // REPRISE_TESTS_UNIT_TRANSPORT_CUDA_RAW_PEER_H_
