// What ThreadSanitizer is told of locks that readers share; empty without it.

#ifndef REPRISE_SIM_INTERPOSE_READER_RACES_H_
#define REPRISE_SIM_INTERPOSE_READER_RACES_H_

#include "sim/world/race_annotations.h"

namespace reprise::interpose {

// Stands for what readers of `lock`, an object of libc or libabsl, do with it
// held. None of them comes after another.
inline const void* ReadersOf(const void* lock) {
  return static_cast<const char*>(lock) + 1;
}

inline void AnnounceReaderAcquireOf(const void* lock) { AnnounceAcquire(lock); }
inline void AnnounceReaderReleaseOf(const void* lock) {
  AnnounceRelease(ReadersOf(lock));
}
inline void AnnounceAcquireOf(const void* lock) {
  AnnounceAcquire(lock);
  AnnounceAcquire(ReadersOf(lock));
}
inline void AnnounceReleaseOf(const void* lock) { AnnounceRelease(lock); }

}  // namespace reprise::interpose

#endif  // REPRISE_SIM_INTERPOSE_READER_RACES_H_
