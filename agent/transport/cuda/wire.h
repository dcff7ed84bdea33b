// What the channels for GPUs put into their frames and device descriptors.
//
// The structures with NOP_STRUCTURE are TensorPipe's, in libnop's encoding; the
// others are ours, byte for byte as they lie in memory, between processes of
// hosts that have the order of this one's bytes.

#ifndef REPRISE_AGENT_TRANSPORT_CUDA_WIRE_H_
#define REPRISE_AGENT_TRANSPORT_CUDA_WIRE_H_

#include <array>  // nop needs it
#include <cstdint>
#include <string>
#include <vector>

#include "nop/structure.h"
#include "tensorpipe/common/nop.h"
#include "tensorpipe/common/optional.h"

namespace reprise {

// Of a memory handle and of an event handle of the driver's.
inline constexpr size_t kGpuHandleBytes = 64;

// --- cuda_xth: connection 0; an empty frame on 1 is the completion ---
struct XthDescriptor {
  uint64_t start_event = 0;
  uint64_t source = 0;
  int32_t device = 0;
  uint64_t stream = 0;
  NOP_STRUCTURE(XthDescriptor, start_event, source, device, stream);
};

// --- cuda_ipc: connection 0; an empty frame on 1 is the reply ---
struct IpcDeviceDescriptor {
  std::string boot_id;
  int64_t pid = 0;
  std::string device_uuid;
  NOP_STRUCTURE(IpcDeviceDescriptor, boot_id, pid, device_uuid);
};

struct IpcOutboxInfo {
  std::string process;
  std::string memory_handle;
  std::vector<std::string> event_handles;
  NOP_STRUCTURE(IpcOutboxInfo, process, memory_handle, event_handles);
};

struct IpcDescriptor {
  int32_t device = 0;
  uint64_t slot = 0;
  tensorpipe::optional<IpcOutboxInfo> outbox;
  NOP_STRUCTURE(IpcDescriptor, device, slot, outbox);
};

// --- cuda_basic ---
struct BasicDeviceDescriptor {
  std::string device_type;  // "cpu" or "cuda"
  std::string descriptor;   // of the CPU channel
  NOP_STRUCTURE(BasicDeviceDescriptor, device_type, descriptor);
};

// --- cuda_direct and cuda_host ---
struct DirectDeviceDescriptor {
  std::string boot_id;
  std::string pid_namespace;
  std::string ipc_namespace;
  int64_t pid = 0;
  std::string device_uuid;
  NOP_STRUCTURE(DirectDeviceDescriptor, boot_id, pid_namespace, ipc_namespace,
                pid, device_uuid);
};

// Both have an "offers" connection, on which data is announced in order, and a
// "replies" connection, which begins with one `GpuHello` from either end.
struct GpuHello {
  static constexpr uint64_t kDirect = 0x31'6463'7270'72;  // "rprcd1"
  static constexpr uint64_t kHost = 0x32'6863'7270'72;    // "rprch2"

  uint64_t version = 0;
  // Of cuda_host: what both ends cut tensors into, and how many they share.
  uint64_t slot_bytes = 0;
  uint64_t num_slots = 0;
  char boot_id[40] = {};  // ended by a zero byte, as all names here
  char process[80] = {};  // `SharedMemory::ProcessName`
};

struct DirectOffer {
  uint64_t allocation = 0;  // its id; never that of another one
  uint32_t allocation_index = 0;
  uint32_t ticket = 0;  // of the event and of the claim; and of the reply
  uint64_t offset = 0;  // from the allocation's base
  uint64_t length = 0;
  char memory_handle[kGpuHandleBytes] = {};
  char event_handle[kGpuHandleBytes] = {};
  char claims[80] = {};  // the name of the shared memory of `DirectClaims`
};

// The tensor's part has been copied, and the peer does not read it any more.
struct DirectReply {
  uint32_t ticket = 0;
};

struct HostOffer {
  enum Kind : uint32_t {
    kSegment = 1,  // the sender's shared memory is there, under `name`
    kShared = 2,   // a chunk lies in slot `slot` of it
    kStreamed = 3  // a chunk comes over the CPU channel
  };
  uint32_t kind = 0;
  uint32_t slot = 0;
  uint64_t length = 0;
  char name[80] = {};
};

struct HostReply {
  enum Kind : uint32_t {
    kAttached = 1,  // the shared memory is of use
    kRefused = 2,   // it is not: chunks must come over the CPU channel
    kRead = 3       // slot `slot` has been read
  };
  uint32_t kind = 0;
  uint32_t slot = 0;
};

// There are no gaps, which would carry bytes of our memory.
static_assert(sizeof(GpuHello) == 144 && sizeof(DirectOffer) == 240 &&
              sizeof(DirectReply) == 4 && sizeof(HostOffer) == 96 &&
              sizeof(HostReply) == 8);

}  // namespace reprise

#endif  // REPRISE_AGENT_TRANSPORT_CUDA_WIRE_H_
