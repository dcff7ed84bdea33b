// One end of a simulated connection: the frames that have arrived, the reads
// and writes that wait, and the error with which it broke.

#ifndef REPRISE_SIM_NETWORK_ENDPOINT_H_
#define REPRISE_SIM_NETWORK_ENDPOINT_H_

#include <cstdint>
#include <list>
#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "sim/network/network.h"
#include "sim/world/world.h"
#include "tensorpipe/common/error.h"
#include "tensorpipe/transport/connection.h"

namespace reprise {

// Owned by its SimConnection, and by the events that bring frames to it. Not
// thread-safe: it is used by whoever runs in the world.
class Endpoint : public std::enable_shared_from_this<Endpoint> {
 public:
  using Frame = std::vector<uint8_t>;
  using Connection = tensorpipe::transport::Connection;

  Endpoint(Network& network, Node& node, uint64_t connection, bool is_server,
           int32_t remote_rank);
  ~Endpoint();

  // Reads the next frame, of any length. `done` gets a pointer to it.
  void Read(Connection::read_callback_fn done);
  // Reads the next frame, of `length` bytes, to `into`, which may be null if
  // there are none.
  void Read(void* into, size_t length, Connection::read_callback_fn done);
  // `is_object`: the frame is a serialised object of TensorPipe's own and not
  // the user's bytes.
  void Write(Frame frame, bool is_object, Connection::write_callback_fn done);
  void Close();

  // The connection has been made: sends what was written before.
  void Establish(const std::shared_ptr<Endpoint>& peer);
  // Fails all reads and writes, those that wait and those to come.
  void Fail(const tensorpipe::Error& error);
  // Breaks both ends now.
  void Break(BreakKind kind);
  // The next frame that is on its way to this end arrives.
  void Deliver();

  // How long ago a byte last arrived here, of a frame that has arrived or of
  // one that is just arriving. Infinite when none has.
  absl::Duration SinceArrival() const;

  Node& node() { return node_; }
  int32_t remote_rank() const { return remote_rank_; }
  uint64_t connection() const { return connection_; }
  bool is_server() const { return is_server_; }

  // Where the latency of what it sends now is drawn, as a new visit: at the
  // running fiber's site, or on no fiber at one of this end's own.
  Site& VisitSend();

 private:
  // A frame on its way; its bytes arrive one after another from `begin_ns` on.
  struct FlyingFrame {
    Frame frame;
    int64_t begin_ns;
  };
  struct PendingRead {
    bool is_sized;  // of exactly `length` bytes, to `into`
    void* into;
    size_t length;
    Connection::read_callback_fn done;
  };
  struct PendingWrite {
    Frame frame;
    bool is_object;
    Connection::write_callback_fn done;
  };

  void AddRead(PendingRead read);
  void Send(Frame frame, bool is_object);
  EventKind PhaseOf(bool is_object);
  // Tells the other end that this end is gone, after all frames on their way.
  void SendEndOfStream();
  void PostProgress();
  // What the transport thread does from now on is due to the frame that it
  // reads.
  void BeginSection(bool is_payload);
  // On the transport thread: calls the callbacks that are due.
  void Progress();

  Network& network_;
  Node& node_;
  const uint64_t connection_;
  const bool is_server_;
  const int32_t remote_rank_;
  const std::string name_;  // "w1:3.client"
  std::weak_ptr<Endpoint> peer_;
  bool established_ = false;
  bool closed_ = false;
  bool progress_posted_ = false;
  uint64_t objects_read_ = 0;
  uint64_t frames_of_object_ = 0;  // read so far, with those of its payload
  tensorpipe::Error error_;

  // Lists, since most of them are empty most of the time, and worlds may have
  // a hundred thousand ends: an empty deque takes 600 bytes.
  std::list<FlyingFrame> flying_;  // on their way to this end
  std::list<Frame> arrived_;       // and not read yet
  bool end_of_stream_ = false;
  std::list<PendingRead> reads_;
  std::list<PendingWrite> writes_;  // before the connection is there
  std::list<std::pair<tensorpipe::Error, Connection::write_callback_fn>>
      written_;

  int64_t last_arrival_ns_ = 0;  // of what this end sent
  int64_t last_received_ns_ = -1;
  uint64_t events_sent_ = 0;
  uint64_t frames_sent_ = 0;
  int objects_sent_ = 0;
};

}  // namespace reprise

#endif  // REPRISE_SIM_NETWORK_ENDPOINT_H_
