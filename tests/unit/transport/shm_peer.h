// A peer of the transport shm that can do what no transport does: it has the
// shared memory in its hands.

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

  // Makes rings and says hello with them, as one that may be changed before.
  void MakeRings(size_t inbox_bytes = size_t{64} << 10,
                 size_t queue_bytes = size_t{64} << 10);
  void SayHello();
  // Takes the other's hello, and maps its memory. False when there is none.
  bool HearHello();
  // All three. False when the other one has not answered.
  bool Meet();

  // Sends bytes, with descriptors or without. False when it is closed.
  bool Say(const std::string& bytes);
  bool SayWith(const std::string& bytes, const int* fds, size_t count);
  // Waits; false when something has come instead.
  bool IsClosed();

  // By the book, once they have met.
  void WriteFrame(const std::string& body);
  // Publishes and posts a token.
  void Publish(uint64_t head);
  void Post(uint32_t token);
  // Waits for it. Empty when the other one has closed before.
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
