// A peer of the transport shm that can do what no transport does, because the
// test can write to its shared memory.

#ifndef REPRISE_TESTS_UNIT_TRANSPORT_SHM_PEER_H_
#define REPRISE_TESTS_UNIT_TRANSPORT_SHM_PEER_H_

#include <array>
#include <cstdint>
#include <string>

#include "agent/transport/shm/file_descriptor.h"
#include "agent/transport/shm/hello.h"
#include "agent/transport/shm/ring.h"
#include "agent/transport/shm/token_queue.h"

namespace reprise::testing {

// A file of memory with `size` bytes.
shm::FileDescriptor MemoryFile(size_t size, unsigned seals);

class ShmPeer {
 public:
  // Connects a socket, and says nothing.
  explicit ShmPeer(const std::string& address);

  // `MakeRings` makes rings, and `SayHello` sends them. A test may change them
  // in between.
  void MakeRings(size_t inbox_bytes = size_t{64} << 10,
                 size_t queue_bytes = size_t{64} << 10);
  void SayHello();
  // Receives the other end's hello and maps its memory. False if none comes.
  bool HearHello();
  // Does all three. False if the other end has not answered.
  bool Meet();

  // Sends bytes, with or without descriptors. False if the connection is
  // closed.
  bool Say(const std::string& bytes);
  bool SayWith(const std::string& bytes, const int* fds, size_t count);
  // Waits for the end of the connection. False if something else has come.
  bool IsClosed();

  // Writes a frame as a transport would, after `Meet`.
  void WriteFrame(const std::string& body);
  // Publishes and posts a token.
  void Publish(uint64_t head);
  void Post(uint32_t token);
  // Waits for a frame. Empty if the other end closes before.
  std::string ReadFrame();

  int socket() const { return socket_.get(); }
  shm::Ring& inbox() { return inbox_; }    // the other one writes to it
  shm::Ring& queue() { return queue_; }    // and posts to it
  shm::Ring& outbox() { return outbox_; }  // of the other one
  shm::Ring& peer_queue() { return peer_queue_; }
  const shm::PeerHello& hello() const { return hello_; }
  shm::Ring::Files& inbox_files() { return inbox_files_; }
  shm::Ring::Files& queue_files() { return queue_files_; }

 private:
  shm::FileDescriptor socket_;
  shm::Ring inbox_;
  shm::Ring queue_;
  shm::Ring::Files inbox_files_;
  shm::Ring::Files queue_files_;
  shm::PeerHello hello_;
  shm::Ring outbox_;
  shm::Ring peer_queue_;
  uint64_t head_ = 0;
  uint64_t tail_ = 0;
};

}  // namespace reprise::testing

#endif  // REPRISE_TESTS_UNIT_TRANSPORT_SHM_PEER_H_
