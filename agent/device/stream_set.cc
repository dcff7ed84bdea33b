#include "agent/device/stream_set.h"

#include <algorithm>

namespace reprise {
namespace {

bool IsBelow(const GpuStream& stream, int device) {
  return stream.device < device;
}

}  // namespace

void StreamSet::Set(GpuStream stream) {
  const auto place = std::lower_bound(streams_.begin(), streams_.end(),
                                      stream.device, IsBelow);
  if (place != streams_.end() && place->device == stream.device) {
    *place = stream;
  } else {
    streams_.insert(place, stream);
  }
}

GpuStream StreamSet::On(int device) const {
  const auto place =
      std::lower_bound(streams_.begin(), streams_.end(), device, IsBelow);
  if (place != streams_.end() && place->device == device) return *place;
  return GpuStream{device, GpuStream::kDefault};
}

bool StreamSet::Has(int device) const {
  const auto place =
      std::lower_bound(streams_.begin(), streams_.end(), device, IsBelow);
  return place != streams_.end() && place->device == device;
}

}  // namespace reprise
