// Shared memory that a GPU copies to and from at full speed. Of the channel
// cuda_host.

#ifndef REPRISE_AGENT_TRANSPORT_CUDA_REGISTERED_SEGMENT_H_
#define REPRISE_AGENT_TRANSPORT_CUDA_REGISTERED_SEGMENT_H_

#include <cstddef>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/transport/cuda/environment.h"

namespace reprise {

// Must not be destroyed while a copy to or from it is under way.
class RegisteredSegment {
 public:
  // Our own, under `name()`.
  static absl::StatusOr<std::unique_ptr<RegisteredSegment>> Create(
      const GpuChannelEnvironment& environment, size_t num_bytes) {
    return Register(environment, environment.shared_memory->Create(num_bytes));
  }
  // A peer's.
  static absl::StatusOr<std::unique_ptr<RegisteredSegment>> Open(
      const GpuChannelEnvironment& environment, const std::string& name,
      size_t num_bytes) {
    return Register(environment,
                    environment.shared_memory->Open(name, num_bytes));
  }

  RegisteredSegment(GpuDriver& driver, std::unique_ptr<SharedSegment> segment)
      : driver_(driver), segment_(std::move(segment)) {}
  RegisteredSegment(const RegisteredSegment&) = delete;
  RegisteredSegment& operator=(const RegisteredSegment&) = delete;
  ~RegisteredSegment() { driver_.UnregisterHost(segment_->data()); }

  char* data() const { return segment_->data(); }
  const std::string& name() const { return segment_->name(); }

 private:
  static absl::StatusOr<std::unique_ptr<RegisteredSegment>> Register(
      const GpuChannelEnvironment& environment,
      absl::StatusOr<std::unique_ptr<SharedSegment>> segment) {
    if (!segment.ok()) return segment.status();
    absl::Status status = environment.driver->RegisterHost(
        (*segment)->data(), (*segment)->num_bytes());
    if (!status.ok()) return status;
    return std::make_unique<RegisteredSegment>(*environment.driver,
                                               *std::move(segment));
  }

  GpuDriver& driver_;
  const std::unique_ptr<SharedSegment> segment_;
};

}  // namespace reprise

#endif  // REPRISE_AGENT_TRANSPORT_CUDA_REGISTERED_SEGMENT_H_
