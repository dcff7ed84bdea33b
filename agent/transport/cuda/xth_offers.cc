#include "agent/transport/cuda/xth_offers.h"

#include <mutex>

namespace reprise {

std::shared_ptr<XthOffers> XthOffers::Of(GpuDriver& driver, Runtime& runtime) {
  // Only looked up, so the order of pointers is not seen.
  static auto* const mutex = new std::mutex();
  static auto* const all =
      new std::map<const GpuDriver*, std::weak_ptr<XthOffers>>();
  const std::lock_guard lock(*mutex);
  std::weak_ptr<XthOffers>& known = (*all)[&driver];
  std::shared_ptr<XthOffers> offers = known.lock();
  if (offers == nullptr) {
    // Those of drivers that are gone are forgotten.
    std::erase_if(*all, [&](const auto& entry) {
      return entry.first != &driver && entry.second.expired();
    });
    offers = std::make_shared<XthOffers>(runtime);
    (*all)[&driver] = offers;
  }
  return offers;
}

void XthOffers::Add(const Offer& offer, size_t length) {
  const MutexLock lock(mutex_);
  lengths_[KeyOf(offer)] = length;
}

void XthOffers::Withdraw(const Offer& offer) {
  const MutexLock lock(mutex_);
  lengths_.erase(KeyOf(offer));
}

absl::Status XthOffers::Use(const Offer& offer, size_t length,
                            absl::FunctionRef<absl::Status()> copy) {
  const MutexLock lock(mutex_);
  const auto it = lengths_.find(KeyOf(offer));
  if (it == lengths_.end() || it->second != length) {
    return absl::InvalidArgumentError(
        "the peer offers memory that no sender of this process holds ready");
  }
  return copy();
}

}  // namespace reprise
