// Memory of the channel's own that another process may read at any time, and
// that can be taken away from it.

#ifndef REPRISE_AGENT_TRANSPORT_CMA_STAGING_H_
#define REPRISE_AGENT_TRANSPORT_CMA_STAGING_H_

#include <cstddef>
#include <utility>

namespace reprise {

// Holds some pages, or none. Not thread-safe; another one may be used on
// another thread.
class Staging {
 public:
  // How many may be lost to processes that might still read them. Each costs
  // the kernel a record of a range of addresses, of which a process has 65,530.
  static constexpr int kMaxRetired = 8192;

  Staging() = default;
  Staging(Staging&& other) noexcept
      : address_(std::exchange(other.address_, nullptr)),
        length_(std::exchange(other.length_, 0)) {}
  Staging& operator=(Staging&& other) noexcept {
    if (this != &other) {
      Retire();
      address_ = std::exchange(other.address_, nullptr);
      length_ = std::exchange(other.length_, 0);
    }
    return *this;
  }
  ~Staging() { Retire(); }

  // `length` bytes, more than 0. Holds none when there is no memory, or after
  // `kMaxRetired`.
  static Staging Make(size_t length);

  char* data() const { return address_; }

  // The other process has read it: gives it back.
  void Release();
  // The other process may still read it: from now on it cannot (EFAULT). The
  // memory is given back, and its addresses are never used again. A copy that
  // runs keeps the bytes of the pages that it is at.
  void Retire();

 private:
  Staging(char* address, size_t length) : address_(address), length_(length) {}

  char* address_ = nullptr;
  size_t length_ = 0;
};

}  // namespace reprise

#endif  // REPRISE_AGENT_TRANSPORT_CMA_STAGING_H_
