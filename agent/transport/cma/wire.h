// What the channel cma puts into the frames of its two connections.
//
//   [0], descriptors: one frame a tensor, from the sender.
//     stock: libnop's {pid: u32, ptr: u64}, as TensorPipe encodes it
//     own:   `OwnDescriptor`
//   [1], completions: an empty frame a tensor, from the receiver, once it has
//     been copied. Before those, own: one `OwnHello` from either end.
//
// A tensor of no bytes has no frames. Numbers are in the order of this machine,
// which both ends are on.

#ifndef REPRISE_AGENT_TRANSPORT_CMA_WIRE_H_
#define REPRISE_AGENT_TRANSPORT_CMA_WIRE_H_

#include <cstdint>

#include "nop/structure.h"

namespace reprise {

struct StockDescriptor {
  uint32_t pid = 0;
  uint64_t ptr = 0;
  NOP_STRUCTURE(StockDescriptor, pid, ptr);
};

struct OwnHello {
  static constexpr uint64_t kVersion = 0x31'616d'6372'7072;  // "rprcma1"

  uint64_t version = kVersion;
  // Random. What this end receives is valid while the word that belongs to it
  // holds this plus the number of the tensor, counted from 1.
  uint64_t secret = 0;
};

struct OwnDescriptor {
  uint64_t pid = 0;
  uint64_t address = 0;
  uint64_t word = 0;  // the address of its `ValidityWord`
};

}  // namespace reprise

#endif  // REPRISE_AGENT_TRANSPORT_CMA_WIRE_H_
