// The streams on which the tensors of a message are ready: at most one of each
// GPU. A value, which travels with the message.
//
// A set does not own its streams. Those of `GpuStreams` live as long as it
// does; a caller's own must live until the call or the reply that names them is
// over, and all storages that were used on them are gone.

#ifndef REPRISE_AGENT_DEVICE_STREAM_SET_H_
#define REPRISE_AGENT_DEVICE_STREAM_SET_H_

#include <vector>

#include "agent/device/driver.h"

namespace reprise {

class StreamSet {
 public:
  // Names no stream, so that of each device is its default stream.
  StreamSet() = default;

  // Adds `stream`, in place of that of its device.
  void Set(GpuStream stream);

  // The stream of `device`: its default stream when none was set.
  GpuStream On(int device) const;
  bool Has(int device) const;

  bool empty() const { return streams_.empty(); }
  // By ascending device.
  const std::vector<GpuStream>& streams() const { return streams_; }

  friend bool operator==(const StreamSet&, const StreamSet&) = default;

 private:
  std::vector<GpuStream> streams_;
};

}  // namespace reprise

#endif  // REPRISE_AGENT_DEVICE_STREAM_SET_H_
