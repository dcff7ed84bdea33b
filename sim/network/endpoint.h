// One end of a simulated connection, as a transport and the kernel have it:
// the frames that are to be sent, those that have arrived, the reads and writes
// that wait, and the error with which it broke.
//
// Frames become bytes: a write is done when its last byte fits the send buffer,
// and bytes are sent, a piece at a time, while the receiver has room for them
// and the wire is free. A piece arrives as a whole, a frame with its last
// piece. The end of the stream and a reset come behind everything that was
// sent.

#ifndef REPRISE_SIM_NETWORK_ENDPOINT_H_
#define REPRISE_SIM_NETWORK_ENDPOINT_H_

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "sim/network/links.h"
#include "sim/network/network.h"
#include "sim/world/world.h"
#include "tensorpipe/common/error.h"
#include "tensorpipe/transport/connection.h"

namespace reprise {

// Owned by its SimConnection, by the events that bring pieces to it, and by the
// network while it is closed and has something left to send, and after its node
// has died. Not thread-safe: it is used by whoever runs
// in the world.
class Endpoint : public std::enable_shared_from_this<Endpoint> {
 public:
  using Frame = std::vector<uint8_t>;
  using Connection = tensorpipe::transport::Connection;

  Endpoint(Network& network, Node& node, uint64_t connection, bool is_server,
           int32_t remote_rank);
  ~Endpoint();

  // Reads the next frame, of at most 16 MiB. `done` gets a pointer to it.
  void Read(Connection::read_callback_fn done);
  // Reads the next frame, of `length` bytes, to `into`, which may be null if
  // there are none.
  void Read(void* into, size_t length, Connection::read_callback_fn done);
  // Writes the `length` bytes at `source`. What is sent is what they are when
  // they fit the send buffer, as with a real socket, so the caller must leave
  // them alone until `done` is called.
  void Write(const void* source, size_t length,
             Connection::write_callback_fn done);
  // Writes a serialised object of TensorPipe's own.
  void WriteObject(Frame frame, Connection::write_callback_fn done);
  void Close();
  // From now on callbacks are called at once, on the caller's thread: the
  // transport's own thread has ended.
  void CallBackInline() { calls_inline_ = true; }

  // The connection has been made: sends what was written before. What is sent
  // arrives at `first_arrival_ns` at the earliest.
  void Establish(const std::shared_ptr<Endpoint>& peer,
                 int64_t first_arrival_ns = 0);
  // Fails all reads and writes, those that wait and those to come, and closes
  // the socket.
  void Fail(const tensorpipe::Error& error);
  // Breaks both ends now.
  void Break(BreakKind kind);
  // The node has died; what of this end is left is what its kernel does.
  void Die();
  // It is this end's turn on the wire.
  void TakeTurn();
  // Answers what comes to a socket that is closed there, or is not known.
  void AnswerWithReset();
  // The peer's machine, which had lost its power, is up again: it answers the
  // next retransmission with a reset.
  void PeerIsUp();

  // How long ago a byte last arrived here, of a frame that has arrived or of
  // one that is just arriving. Infinite when none has.
  absl::Duration SinceArrival() const;

  Node& node() const { return node_; }
  int32_t remote_rank() const { return remote_rank_; }
  uint64_t connection() const { return connection_; }
  bool is_server() const { return is_server_; }
  bool is_closed() const { return closed_; }
  // Whether it was closed or has failed.
  bool is_over() const { return static_cast<bool>(error_); }

  // Where something about what it sends now is drawn, as a new visit: at the
  // running fiber's site, or on no fiber at one of this end's own.
  Site& Visit(const Place& place);

 private:
  // Of a stream of bytes that is on its way; they arrive one after another
  // from `begin_ns` on.
  struct FlyingPiece {
    int64_t bytes;
    std::optional<Frame> frame;  // whose last piece it is
    int64_t begin_ns;
    bool is_lost = false;  // in a reset
  };
  // What is written: an object, or bytes that are still the writer's.
  struct Content {
    Frame frame;
    const void* source = nullptr;  // of the bytes of `frame`; null: it has them
    void Take() {
      if (source == nullptr) return;
      std::memcpy(frame.data(), source, frame.size());
      source = nullptr;
    }
  };
  // A frame, with its header, that has not been sent as a whole.
  struct UnsentFrame {
    Content content;
    int64_t bytes_left;
    int64_t end;      // its end, in the stream of all that was written
    bool is_cut_off;  // its last bytes are never sent
    int64_t latency_ns;
    Connection::write_callback_fn done;  // null when it was called
  };
  struct PendingRead {
    bool is_sized;  // of exactly `length` bytes, to `into`
    void* into;
    size_t length;
    Connection::read_callback_fn done;
    // It came after the error. TensorPipe's template then tells `into` and
    // `length`, and not null and 0.
    bool is_late = false;
  };
  struct PendingWrite {
    Content content;
    bool is_object;
    Connection::write_callback_fn done;
  };
  enum class Ending : uint8_t { kNone, kEndOfStream, kReset };
  static std::pair<uint64_t, bool> KeyOf(const Endpoint& endpoint) {
    return {endpoint.connection_, endpoint.is_server_};
  }

  // endpoint.cc: what the transport does.
  void AddRead(PendingRead read);
  void Write(Content content, bool is_object,
             Connection::write_callback_fn done);
  void Send(Content content, bool is_object,
            Connection::write_callback_fn done);
  EventKind PhaseOf(bool is_object);
  void FailWrites();
  void PostProgress();
  // What the transport thread does from now on is due to the frame that it
  // reads.
  void BeginSection(bool is_payload);
  // On the transport thread: calls the callbacks that are due.
  void Progress();
  bool CompleteRead();
  bool CompleteWrite();

  // stream.cc: what the kernel does.
  void Pump(bool is_my_turn);
  void TransmitPiece();
  void NoteWritten();
  void Arrive();
  // Takes bytes that have arrived out of the receive window.
  void TakeBytes(int64_t bytes);
  bool HasUnreadBytes() const;
  // How the kernel ends the stream of a socket that is closed now: by a reset
  // if something was not read.
  Ending EndingNow() const {
    return HasUnreadBytes() ? Ending::kReset : Ending::kEndOfStream;
  }
  // Closes the socket. Before the end of the stream what is in the send buffer
  // is sent, and before a reset nothing is.
  void CloseSocket(Ending ending);
  // Closes it without a word. What is on its way to it is lost.
  void DropSocket();
  // Sends nothing more, not even the end of the stream.
  void DropUnsent();
  bool IsWithoutPower() const {
    return !node_.alive && node_.death == NodeDeath::kPowerCut;
  }
  void SendEnding(Ending ending);
  void EndArrives(Ending ending);
  // What is sent from now on is lost, or only not acknowledged, so that TCP
  // gives up after its time.
  void BecomeStuck();
  void BecomeUnacknowledged();
  EventOrder NextOrder() {
    return {connection_ * 2 + (is_server_ ? 1 : 0), events_sent_++};
  }

  Network& network_;
  Node& node_;
  const uint64_t connection_;
  const bool is_server_;
  const int32_t remote_rank_;
  const std::string name_;  // "w1:3.client"
  std::weak_ptr<Endpoint> peer_;
  bool established_ = false;
  bool closed_ = false;
  bool calls_inline_ = false;
  bool progress_posted_ = false;
  uint64_t objects_read_ = 0;
  uint64_t frames_of_object_ = 0;  // read so far, with those of its payload
  tensorpipe::Error error_;

  // Lists, since most of them are empty most of the time, and worlds may have
  // a hundred thousand ends: an empty deque takes 600 bytes.
  std::list<PendingRead> reads_;
  std::list<PendingWrite> writes_;  // before the connection is there
  std::list<Connection::write_callback_fn> written_;
  std::list<Connection::write_callback_fn> failed_;

  // What is received.
  std::list<FlyingPiece> flying_;  // on their way to this end
  std::list<Frame> arrived_;       // and not read yet
  int64_t front_taken_ = 0;        // bytes of the first frame that were taken
  int64_t partial_ = 0;            // bytes of a frame that has not come whole
  int64_t untaken_ = 0;            // bytes that were sent here and not taken
  Ending ending_ = Ending::kNone;  // of what the peer sends, once it has come
  int64_t last_received_ns_ = -1;

  // What is sent.
  std::list<UnsentFrame> unsent_;
  int64_t stream_bytes_ = 0;  // of all frames
  int64_t sent_bytes_ = 0;
  bool waits_for_wire_ = false;
  bool waits_for_room_ = false;
  bool socket_closed_ = false;
  bool is_resetting_ = false;  // a reset is on its way to this end
  Ending ending_to_send_ = Ending::kNone;
  int64_t ending_latency_ns_ = 0;
  bool is_stuck_ = false;
  int64_t unacknowledged_since_ns_ = -1;
  int64_t last_arrival_ns_ = 0;  // of what this end sent
  uint64_t events_sent_ = 0;
  uint64_t frames_sent_ = 0;
  int objects_sent_ = 0;
};

}  // namespace reprise

#endif  // REPRISE_SIM_NETWORK_ENDPOINT_H_
