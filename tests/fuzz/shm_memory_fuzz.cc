// A peer of the transport shm may write any bytes to the memory that it shares
// with us, and say any bytes in its hello. They must not crash us, and no end
// may leave its rings.

#include <sys/eventfd.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "agent/transport/shm/file_descriptor.h"
#include "agent/transport/shm/hello.h"
#include "agent/transport/shm/ring.h"
#include "agent/transport/shm/ring_frames.h"
#include "agent/transport/shm/token_queue.h"
#include "agent/transport/uv/frame_reader.h"

namespace {

using reprise::FrameReader;
using reprise::shm::FileDescriptor;
using reprise::shm::PeerHello;
using reprise::shm::Ring;
using reprise::shm::RingHeader;

void Require(bool condition) {
  if (!condition) std::abort();
}

// Takes values from the front of the input; zeros when it is empty.
class Input {
 public:
  Input(const uint8_t* data, size_t size)
      : rest_(reinterpret_cast<const char*>(data), size) {}

  bool is_empty() const { return rest_.empty(); }
  template <typename T>
  T Take() {
    T value = 0;
    const std::string_view bytes = TakeBytes(sizeof(T));
    std::memcpy(&value, bytes.data(), bytes.size());
    return value;
  }
  std::string_view TakeBytes(size_t size) {
    const std::string_view bytes = rest_.substr(0, size);
    rest_.remove_prefix(bytes.size());
    return bytes;
  }

 private:
  std::string_view rest_;
};

// One end of ours: an inbox, an outbox and a queue, all of which the peer can
// write to.
class End {
 public:
  End() {
    Require(inbox_.Make(kSize, inbox_files_) == 0);
    Require(outbox_.Make(kSize, outbox_files_) == 0);
  }

  // Returns false when the connection would have failed.
  bool Do(Input& input) {
    RingHeader& inbox = inbox_.header();
    RingHeader& outbox = outbox_.header();
    switch (input.Take<uint8_t>() % 10) {
      case 0:
        return Read(true, input.Take<uint16_t>());
      case 1:
        return Read(false, input.Take<uint16_t>());
      case 2:
        inbox.head = input.Take<uint64_t>();
        return true;
      case 3:
        inbox.head += input.Take<uint16_t>();
        return true;
      case 4:
        outbox.tail = input.Take<uint64_t>();
        return true;
      case 5:
        outbox.tail += input.Take<uint16_t>();
        return true;
      case 6: {
        const size_t place = input.Take<uint16_t>() % kSize;
        const std::string_view bytes = input.TakeBytes(input.Take<uint8_t>());
        std::memcpy(inbox_.data() + place, bytes.data(),
                    std::min(bytes.size(), kSize - place));
        return true;
      }
      case 7: {
        // Any field of either header, as a word.
        Ring& ring = input.Take<uint8_t>() % 2 == 0 ? inbox_ : outbox_;
        auto* const words =
            reinterpret_cast<std::atomic<uint64_t>*>(&ring.header());
        const uint8_t word = input.Take<uint8_t>() % 5;
        words[word] = input.Take<uint64_t>();
        return true;
      }
      case 8:
        return TakeFrames();
      default:
        return WriteBytes(input.Take<uint16_t>());
    }
  }

 private:
  static constexpr size_t kSize = reprise::shm::kMinRingBytes;

  bool Read(bool is_sized, size_t length) {
    const auto done = [this](const tensorpipe::Error&, const void* bytes,
                             size_t size) {
      // Under ASan this checks that each byte is there.
      const std::string copy(static_cast<const char*>(bytes), size);
      taken_ += copy.size();
    };
    if (is_sized) {
      std::string& place = places_.emplace_back(length, '?');
      reader_.Read(place.data(), length, done);
    } else {
      reader_.ReadUpTo(length, done);
    }
    return true;
  }
  bool TakeFrames() {
    if (!in_.Refresh()) return false;
    Require(in_.readable() <= kSize);
    const bool is_good =
        reprise::shm::TakeFrames(in_, reader_, /*is_peer_ours=*/true);
    Require(in_.readable() <= kSize);
    in_.Publish();
    return is_good;
  }
  bool WriteBytes(size_t size) {
    if (!out_.Refresh()) return false;
    Require(out_.writable() <= kSize);
    const std::string bytes(std::min<uint64_t>(size, out_.writable()), 'w');
    out_.Append(bytes.data(), bytes.size());
    out_.Publish();
    return true;
  }

  Ring inbox_;
  Ring outbox_;
  Ring::Files inbox_files_;
  Ring::Files outbox_files_;
  reprise::shm::RingReader in_{inbox_};
  reprise::shm::RingWriter out_{outbox_};
  FrameReader reader_;
  std::deque<std::string> places_;
  size_t taken_ = 0;
};

void FuzzQueue(Input& input) {
  reprise::shm::TokenQueue queue;
  Ring::Files files;
  Ring peer;
  Require(queue.Make(reprise::shm::kMinRingBytes, files) == 0);
  Require(peer.MapPeer(files.header.get(), files.data.get(), false) == 0);
  while (!input.is_empty()) {
    peer.header().head = input.Take<uint64_t>() >> (input.Take<uint8_t>() % 64);
    const size_t most = input.Take<uint8_t>();
    size_t count = 0;
    const bool is_good = queue.Take(most, [&](uint32_t) { ++count; });
    Require(count <= most);
    if (!is_good) return;
  }
}

void FuzzHello(Input& input) {
  std::array<int, 2> sockets;
  Require(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets.data()) ==
          0);
  const FileDescriptor near(sockets[0]);
  FileDescriptor far(sockets[1]);
  Ring ring;
  Ring::Files files;
  Require(ring.Make(reprise::shm::kMinRingBytes, files) == 0);
  const FileDescriptor event(eventfd(0, EFD_CLOEXEC));
  const std::array<int, 4> kinds = {files.header.get(), files.data.get(),
                                    event.get(), far.get()};
  std::vector<int> fds(input.Take<uint8_t>() % 8);
  for (int& fd : fds) fd = kinds[input.Take<uint8_t>() % kinds.size()];
  ring.header().size = input.Take<uint8_t>() % 2 == 0
                           ? reprise::shm::kMinRingBytes
                           : input.Take<uint64_t>();
  const std::string bytes(input.TakeBytes(20));
  iovec part = {const_cast<char*>(bytes.data()), bytes.size()};
  std::array<char, 256> control = {};
  msghdr message = {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (!fds.empty()) {
    message.msg_control = control.data();
    message.msg_controllen = CMSG_SPACE(fds.size() * sizeof(int));
    cmsghdr* const header = CMSG_FIRSTHDR(&message);
    header->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    std::memcpy(CMSG_DATA(header), fds.data(), fds.size() * sizeof(int));
  }
  sendmsg(far.get(), &message, MSG_NOSIGNAL);
  far.Close();
  PeerHello hello;
  if (reprise::shm::ReceiveHello(near.get(), hello) != 0) return;
  Require(fds.size() == 4 && bytes.size() >= sizeof(hello.tokens));
  reprise::shm::PeerQueue queue;
  if (queue.Map(hello, false) == 0) queue.Post(1, near.get());
  Ring inbox;
  const bool is_mapped = inbox.MapPeer(hello.inbox.header.get(),
                                       hello.inbox.data.get(), false) == 0;
  Require(!is_mapped || (fds[2] == kinds[0] && fds[3] == kinds[1]));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input input(data, size);
  switch (input.Take<uint8_t>() % 4) {
    case 0:
      FuzzQueue(input);
      break;
    case 1:
      FuzzHello(input);
      break;
    default: {
      End end;
      while (!input.is_empty() && end.Do(input)) {
      }
    }
  }
  return 0;
}
