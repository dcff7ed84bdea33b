#include "sim/device/access_log.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace reprise {

std::optional<AccessLog::Conflict> AccessLog::Find(
    uintptr_t begin, size_t num_bytes, bool writes,
    const VectorClock& clock) const {
  const uintptr_t end = begin + num_bytes;
  auto it = ranges_.upper_bound(begin);
  if (it != ranges_.begin()) --it;
  for (; it != ranges_.end() && it->first < end; ++it) {
    const auto& [range_begin, range] = *it;
    if (range.end <= begin) continue;
    const uintptr_t address = std::max(begin, range_begin);
    if (range.write &&
        !clock.Includes(range.write->timeline, range.write->epoch)) {
      return Conflict{*range.write, true, address};
    }
    if (!writes) continue;
    for (const SimGpuAccess& read : range.reads) {
      if (!clock.Includes(read.timeline, read.epoch)) {
        return Conflict{read, false, address};
      }
    }
  }
  return std::nullopt;
}

void AccessLog::Add(uintptr_t begin, size_t num_bytes, bool writes,
                    const SimGpuAccess& access, const VectorClock& clock) {
  if (num_bytes == 0) return;
  if (writes) {
    // Whatever comes later is ordered after the earlier accesses if it is
    // ordered after this one.
    Forget(begin, num_bytes);
    ranges_[begin] = {begin + num_bytes, access, {}};
    return;
  }
  const uintptr_t end = begin + num_bytes;
  SplitAt(begin);
  SplitAt(end);
  uintptr_t at = begin;
  for (auto it = ranges_.lower_bound(begin); at < end;) {
    if (it == ranges_.end() || it->first > at) {
      const uintptr_t gap_end =
          it == ranges_.end() ? end : std::min(end, it->first);
      ranges_[at] = {gap_end, std::nullopt, {access}};
      at = gap_end;
      continue;
    }
    Range& range = it->second;
    std::erase_if(range.reads, [&clock](const SimGpuAccess& read) {
      return clock.Includes(read.timeline, read.epoch);
    });
    range.reads.push_back(access);
    at = range.end;
    ++it;
  }
}

void AccessLog::Forget(uintptr_t begin, size_t num_bytes) {
  if (num_bytes == 0) return;
  SplitAt(begin);
  SplitAt(begin + num_bytes);
  ranges_.erase(ranges_.lower_bound(begin),
                ranges_.lower_bound(begin + num_bytes));
}

void AccessLog::SplitAt(uintptr_t address) {
  auto it = ranges_.lower_bound(address);
  if (it == ranges_.begin()) return;
  --it;
  Range& left = it->second;
  if (left.end <= address) return;
  Range right = left;
  left.end = address;
  ranges_.emplace(address, std::move(right));
}

}  // namespace reprise
