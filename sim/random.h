// The pseudo-random function from which everything in a simulated run is drawn.
//
// A draw is a pure function of (seed, stream, count), so the draws of a stream
// do not shift those of another. The arithmetic is of integers only, so every
// compiler and standard library draws the same numbers. Safe on any thread.

#ifndef REPRISE_SIM_RANDOM_H_
#define REPRISE_SIM_RANDOM_H_

#include <cstdint>
#include <string_view>

namespace reprise {

// A bijection of 64-bit integers with good avalanche (the finaliser of
// SplitMix64).
inline constexpr uint64_t Mix(uint64_t x) {
  x ^= x >> 30;
  x *= 0xbf58476d1ce4e5b9u;
  x ^= x >> 27;
  x *= 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

inline constexpr uint64_t HashCombine(uint64_t hash, uint64_t value) {
  return Mix(hash * 0x9e3779b97f4a7c15u + value);
}

inline constexpr uint64_t HashBytes(std::string_view bytes) {
  uint64_t hash = 0x2545f4914f6cdd1du ^ bytes.size();
  size_t i = 0;
  for (; i + 8 <= bytes.size(); i += 8) {
    uint64_t word = 0;
    for (int k = 0; k < 8; ++k) {
      word |= uint64_t{static_cast<unsigned char>(bytes[i + k])} << (8 * k);
    }
    hash = HashCombine(hash, word);
  }
  uint64_t word = 0;
  for (int k = 0; i < bytes.size(); ++i, ++k) {
    word |= uint64_t{static_cast<unsigned char>(bytes[i])} << (8 * k);
  }
  return HashCombine(hash, word);
}

// The `count`-th 64 random bits of `stream` under `seed`.
inline constexpr uint64_t Draw(uint64_t seed, uint64_t stream, uint64_t count) {
  return Mix(HashCombine(seed ^ 0x6a09e667f3bcc909u, stream) +
             (count + 1) * 0x9e3779b97f4a7c15u);
}

// Maps 64 random bits onto [0, bound); 0 for bound 0.
inline constexpr uint64_t Below(uint64_t bits, uint64_t bound) {
  return static_cast<uint64_t>((static_cast<unsigned __int128>(bits) * bound) >>
                               64);
}

// A sequence of draws of one stream.
class RandomStream {
 public:
  constexpr RandomStream(uint64_t seed, std::string_view name)
      : seed_(seed), stream_(HashBytes(name)) {}

  constexpr uint64_t Bits() { return Draw(seed_, stream_, count_++); }
  // Uniform in [0, bound).
  constexpr uint64_t Below(uint64_t bound) {
    return reprise::Below(Bits(), bound);
  }
  // Uniform in [low, high].
  constexpr int64_t Between(int64_t low, int64_t high) {
    return low +
           static_cast<int64_t>(Below(static_cast<uint64_t>(high - low) + 1));
  }
  constexpr bool OneIn(uint64_t n) { return Below(n) == 0; }

 private:
  uint64_t seed_;
  uint64_t stream_;
  uint64_t count_ = 0;
};

}  // namespace reprise

#endif  // REPRISE_SIM_RANDOM_H_
