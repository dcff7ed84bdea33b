// What both ends of a TCPStore connection know of its bytes.
//
// A query is a byte, then strings (a little-endian u64 of their length, and
// their bytes) and integers (little-endian). PyTorch has no description of it;
// this is what its clients and servers were seen to send, and what its sources
// (torch/csrc/distributed/c10d/TCPStore*) say.

#ifndef REPRISE_AGENT_STORE_TCP_STORE_PROTOCOL_H_
#define REPRISE_AGENT_STORE_TCP_STORE_PROTOCOL_H_

#include <cstdint>
#include <string>
#include <string_view>

namespace reprise {

enum class TcpStoreProtocol {
  kUnknown,
  k1,  // PyTorch 1.13
  k2,  // 2.x: it begins with a handshake, and its queries have other numbers
};

// The handshake is a byte of 0 and this number as a u32. The client sends it
// once, and the server does not answer it.
inline constexpr uint32_t kTcpStoreMagic = 0x3C85F7CE;

// The bytes of answers: to a CHECK, to a WAIT (or a CANCEL_WAIT), to a
// WATCH_KEY.
inline constexpr char kTcpStoreReady = 0;
inline constexpr char kTcpStoreNotReady = 1;
inline constexpr char kTcpStoreStopWaiting = 0;
inline constexpr char kTcpStoreWaitCanceled = 1;
inline constexpr char kTcpStoreWatchRegistered = 3;

// Appends the lower `size` bytes of `number`, the lowest first.
inline void AppendLittleEndian(std::string& bytes, uint64_t number, int size) {
  for (int i = 0; i < size; ++i) {
    bytes.push_back(static_cast<char>(number >> (8 * i) & 0xff));
  }
}

inline void AppendTcpStoreString(std::string& bytes, std::string_view string) {
  AppendLittleEndian(bytes, string.size(), 8);
  bytes.append(string);
}

// The number of which `bytes`, at most 8, are the lowest.
inline uint64_t LittleEndian(std::string_view bytes) {
  uint64_t number = 0;
  for (size_t i = bytes.size(); i > 0; --i) {
    number = number << 8 | static_cast<unsigned char>(bytes[i - 1]);
  }
  return number;
}

}  // namespace reprise

#endif  // REPRISE_AGENT_STORE_TCP_STORE_PROTOCOL_H_
