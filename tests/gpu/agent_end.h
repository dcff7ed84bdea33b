// An agent with a GPU, and the handler that it serves with.

#ifndef REPRISE_TESTS_GPU_AGENT_END_H_
#define REPRISE_TESTS_GPU_AGENT_END_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "agent/agent.h"
#include "tests/gpu/gpu.h"

namespace reprise::gpu {

// Which channel for GPUs a group of two uses, and where it meets.
struct GroupSpec {
  std::string channel;
  std::string transport = "shm";
  std::string store = {};  // a URL
};

inline constexpr char kServer[] = "server";
inline constexpr char kClient[] = "client";

// What the handler does with a request, by its text:
//   echo         returns the tensors, on the streams that they came on
//   check SEED   compares the tensors with SEED, SEED + 1, ...
//   late SEED    returns tensors of the same sizes with the bytes of SEED,
//                SEED + 1, ..., which are made by work that runs still
//   devices      says on which devices the tensors are, and returns them
//   trim         gives back memory that nobody uses
RequestHandler MakeHandler(Gpu& gpu);

// `name`: kServer, with id 1, or kClient, with id 0. The handler runs even
// while calls wait. `customize` may be null.
absl::StatusOr<std::unique_ptr<Agent>> StartAgent(
    Gpu& gpu, const GroupSpec& spec, const std::string& name,
    const std::shared_ptr<Store>& store, RequestHandler handler,
    const std::function<void(AgentOptions&)>& customize = nullptr);

// A new directory that is removed with this object; as the URL of a store.
class StoreDirectory {
 public:
  StoreDirectory();
  ~StoreDirectory();
  StoreDirectory(const StoreDirectory&) = delete;
  StoreDirectory& operator=(const StoreDirectory&) = delete;
  std::string url() const { return "file://" + path_; }

 private:
  std::string path_;
};

// A tensor of bytes with the whole of a storage.
Tensor BytesOf(std::shared_ptr<Storage> storage);

// "check 7" -> 7.
absl::StatusOr<uint64_t> SeedIn(const std::string& text);

}  // namespace reprise::gpu

#endif  // REPRISE_TESTS_GPU_AGENT_END_H_
