// The pseudo-random function from which everything in a simulated run is drawn,
// and `Draws`, the random numbers of scenarios.
//
// A draw is a pure function of (seed, stream, name of the draw, number of
// earlier draws of that name). So the order of evaluation, which C++ leaves
// open in `f(x.OneIn("a", 2), x.OneIn("b", 2))`, does not matter, and a new
// draw shifts no other. The arithmetic is of integers only, so every compiler
// and standard library draws the same numbers.

#ifndef REPRISE_SIM_RANDOM_H_
#define REPRISE_SIM_RANDOM_H_

#include <cstddef>
#include <cstdint>
#include <source_location>
#include <string_view>
#include <vector>

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
  // GCC 12 does not see that fewer than 8 are left, unless it is told.
  for (int k = 0; k < 8 && i < bytes.size(); ++i, ++k) {
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

#if __has_builtin(__builtin_COLUMN)
#define REPRISE_COLUMN __builtin_COLUMN()
#else
#define REPRISE_COLUMN \
  static_cast<int>(std::source_location::current().column())
#endif

// The name of a draw: a string literal, and the place where it is written. A
// function that draws for its caller takes a `DrawName` and passes it on.
class DrawName {
 public:
  template <size_t N>
  // NOLINTNEXTLINE(google-explicit-constructor): a literal is a name
  constexpr DrawName(const char (&text)[N], const char* file = __builtin_FILE(),
                     int line = __builtin_LINE(), int column = REPRISE_COLUMN)
      : text_(text, N - 1),
        hash_(HashBytes(text_)),
        file_(file),
        line_(line),
        column_(column) {}

  constexpr std::string_view text() const { return text_; }
  constexpr uint64_t hash() const { return hash_; }
  constexpr const char* file() const { return file_; }
  constexpr int line() const { return line_; }
  constexpr int column() const { return column_; }

 private:
  std::string_view text_;
  uint64_t hash_;
  const char* file_;
  int line_;
  int column_;
};

#undef REPRISE_COLUMN

// The random numbers of one stream. The process ends with a message if one name
// is used at two places in the source: two draws of one name in an expression
// would again depend on the order of evaluation. A loop may draw one name any
// number of times.
//
// A function that draws several numbers takes a `Draws` by value, and its
// caller makes one for it: `DrawCrash(random.Part("crash"))`. Names in there
// are apart from those of the caller. tools/check_draws.py finds what this
// leaves: one function that draws, called twice in an expression.
//
// It can be moved but not copied, since a copy would draw the same numbers
// again. Not thread-safe: each thread of a worker has its own.
class Draws {
 public:
  Draws(uint64_t seed, std::string_view stream)
      : Draws(seed, HashBytes(stream)) {}
  Draws(Draws&&) = default;
  Draws& operator=(Draws&&) = default;

  uint64_t Bits(DrawName name) {
    return Draw(seed_, HashCombine(stream_, name.hash()), Count(name));
  }
  // Uniform in [0, bound); 0 for bound 0.
  uint64_t Below(DrawName name, uint64_t bound) {
    return reprise::Below(Bits(name), bound);
  }
  // Uniform in [low, high].
  int64_t Between(DrawName name, int64_t low, int64_t high) {
    return low + static_cast<int64_t>(
                     Below(name, static_cast<uint64_t>(high - low) + 1));
  }
  bool OneIn(DrawName name, uint64_t n) { return Below(name, n) == 0; }
  // Another stream, for a function that draws.
  Draws Part(DrawName name) { return Draws(seed_, Bits(name)); }

 private:
  struct Used {
    DrawName name;
    uint64_t count;
  };

  Draws(uint64_t seed, uint64_t stream) : seed_(seed), stream_(stream) {}

  // How often the name was drawn before.
  uint64_t Count(const DrawName& name);

  uint64_t seed_;
  uint64_t stream_;
  std::vector<Used> used_;
};

}  // namespace reprise

#endif  // REPRISE_SIM_RANDOM_H_
