// Which tensors the channels cuda_xth of this process have offered to each
// other.
//
// What a descriptor of cuda_xth holds are pointers of this process. They are
// followed only if a sender of this process has said that they are good, and
// has not taken that back: otherwise whoever can write to the connection could
// make us read any memory, and a receiver that comes late would read memory
// that its sender has let go of.

#ifndef REPRISE_AGENT_TRANSPORT_CUDA_XTH_OFFERS_H_
#define REPRISE_AGENT_TRANSPORT_CUDA_XTH_OFFERS_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <tuple>

#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "agent/device/driver.h"
#include "agent/runtime/mutex.h"
#include "agent/runtime/runtime.h"

namespace reprise {

// Thread-safe.
class XthOffers {
 public:
  struct Offer {
    GpuEvent start;
    const void* source = nullptr;
    GpuStream stream;
  };

  explicit XthOffers(Runtime& runtime) : mutex_(runtime, "xth_offers") {}

  // All contexts that use the same driver share the result.
  static std::shared_ptr<XthOffers> Of(GpuDriver& driver, Runtime& runtime);

  void Add(const Offer& offer, size_t length);
  // From now on nobody follows it, and nobody is about to.
  void Withdraw(const Offer& offer);

  // Calls `copy`, during which the offer stays, and returns its result.
  // INVALID_ARGUMENT, and `copy` is not called, if there is no such offer of
  // that length.
  absl::Status Use(const Offer& offer, size_t length,
                   absl::FunctionRef<absl::Status()> copy);

 private:
  using Key = std::tuple<int, uintptr_t, const void*, uintptr_t>;
  static Key KeyOf(const Offer& offer) {
    return {offer.stream.device, offer.start.handle, offer.source,
            offer.stream.handle};
  }

  Mutex mutex_;
  std::map<Key, size_t> lengths_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace reprise

#endif  // REPRISE_AGENT_TRANSPORT_CUDA_XTH_OFFERS_H_
