#include "agent/transport/shm/ring_frames.h"

#include <endian.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string_view>

namespace reprise::shm {
namespace {

constexpr uint32_t kLong = 0xffffffff;

// Takes a header, if it has come whole. It is copied before it is looked at, so
// that the peer cannot change it in between.
std::optional<uint64_t> TakeLength(RingReader& ring, bool is_peer_ours) {
  uint32_t length = 0;
  if (ring.readable() < sizeof(length)) return std::nullopt;
  ring.Peek(&length, sizeof(length));
  length = le32toh(length);
  if (length != kLong || !is_peer_ours) {
    ring.Consume(sizeof(length));
    return length;
  }
  std::array<char, sizeof(uint32_t) + sizeof(uint64_t)> header;
  if (ring.readable() < header.size()) return std::nullopt;
  ring.Peek(header.data(), header.size());
  ring.Consume(header.size());
  uint64_t long_length = 0;
  std::memcpy(&long_length, header.data() + sizeof(length),
              sizeof(long_length));
  return le64toh(long_length);
}

template <typename T>
std::string BytesOf(T value) {
  return std::string(reinterpret_cast<const char*>(&value), sizeof(value));
}

}  // namespace

std::string FrameHeader(uint64_t length, bool is_peer_ours) {
  if (length < kLong || (length == kLong && !is_peer_ours)) {
    return BytesOf(htole32(static_cast<uint32_t>(length)));
  }
  return is_peer_ours ? BytesOf(htole32(kLong)) + BytesOf(htole64(length)) : "";
}

bool TakeFrames(RingReader& ring, FrameReader& reader, bool is_peer_ours) {
  size_t size = 0;
  while (reader.is_waiting() && size < kPieceBytes) {
    if (!reader.is_in_body()) {
      const std::optional<uint64_t> length = TakeLength(ring, is_peer_ours);
      if (!length.has_value()) break;
      const std::string header = BytesOf(htole64(*length));
      std::string_view bytes = header;
      if (!reader.TakeWanted(bytes)) return false;
      continue;
    }
    // This takes no more than the body, as a header follows it.
    std::string_view bytes =
        ring.Contiguous().substr(0, std::min(reader.body_left(), kPieceBytes));
    if (bytes.empty()) break;
    const size_t taken = bytes.size();
    size += taken;
    if (!reader.TakeWanted(bytes)) return false;
    ring.Consume(taken);
  }
  return true;
}

}  // namespace reprise::shm
