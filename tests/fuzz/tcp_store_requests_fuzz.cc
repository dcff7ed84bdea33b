// Any bytes may come to a TCPStore server, from several clients and in any
// pieces. What they ask must keep within the limits, and the books must balance
// when all have gone.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "agent/store/tcp_store_request.h"
#include "agent/store/tcp_store_table.h"

namespace {

using reprise::TcpStoreRequestReader;
using reprise::TcpStoreTable;

constexpr size_t kMaxBytes = 4096;

void Require(bool condition) {
  if (!condition) std::abort();
}

}  // namespace

// The input is pieces: a byte for the client, one for the length, and so many
// bytes that this client sends.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view input(reinterpret_cast<const char*>(data), size);
  std::map<uint64_t, TcpStoreRequestReader> readers;
  TcpStoreTable table(kMaxBytes, [&](uint64_t client, std::string bytes) {
    // Who has gone is not told anything any more.
    Require(readers.count(client) != 0);
    Require(!bytes.empty());
  });
  const auto drop = [&](uint64_t client) {
    table.Forget(client);
    readers.erase(client);
  };
  while (input.size() >= 2) {
    const auto client = static_cast<uint64_t>(input[0] & 3);
    std::string_view piece =
        input.substr(2, static_cast<unsigned char>(input[1]));
    input.remove_prefix(2 + piece.size());
    TcpStoreRequestReader& reader = readers[client];
    while (true) {
      const size_t before = piece.size();
      const auto outcome = reader.Read(piece);
      if (outcome == TcpStoreRequestReader::Outcome::kMore) {
        Require(piece.empty());
        Require(reader.error().empty());
        break;
      }
      if (outcome == TcpStoreRequestReader::Outcome::kNonsense) {
        Require(!reader.error().empty());
        drop(client);
        break;
      }
      Require(piece.size() < before);
      if (!table.Handle(client, reader.Take()).ok()) {
        drop(client);
        break;
      }
      Require(table.bytes() <= kMaxBytes);
    }
  }
  while (!readers.empty()) drop(readers.begin()->first);
  Require(table.num_waiting() == 0);
  return 0;
}
