#include "sim/explore/simpler_fault.h"

#include <charconv>
#include <cstddef>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"
#include "fault_injection/fault.h"

namespace reprise {
namespace {

constexpr int64_t kMillisecond = 1'000'000;

// Cut to its first two digits: 1.234567s is harder to read than 1.2s.
int64_t Rounded(int64_t ns) {
  int64_t unit = 1;
  while (ns / unit >= 100) unit *= 10;
  return ns / unit * unit;
}

class Simplifier {
 public:
  Simplifier(std::string_view line, int64_t end_ns)
      : words_(absl::StrSplit(absl::string_view(line.data(), line.size()), ' ',
                              absl::SkipEmpty())),
        end_ns_(end_ns) {}

  std::vector<std::string> Run() {
    for (size_t i = 0; i + 1 < words_.size(); ++i) {
      if (words_[i] == "restart") Add(i, 2, {});
    }
    for (size_t i = 2; i < words_.size(); ++i) {
      const bool begins = words_[i - 1] == "after";
      int64_t ns = 0;
      if (ReadDuration(words_[i], ns)) {
        begins ? Later(i, ns) : Shorter(i, ns);
      } else if (words_[i].find('#') != std::string::npos) {
        LaterEvent(i);
      }
    }
    return std::move(lines_);
  }

 private:
  static bool ReadDuration(const std::string& word, int64_t& ns) {
    absl::Duration duration;
    if (!absl::ParseDuration(word, &duration)) return false;
    ns = absl::ToInt64Nanoseconds(duration);
    return true;
  }

  // The line with `count` words from `at` on replaced by `word`, if any.
  void Add(size_t at, size_t count, const std::string& word) {
    std::vector<std::string> words(
        words_.begin(), words_.begin() + static_cast<std::ptrdiff_t>(at));
    if (!word.empty()) words.push_back(word);
    words.insert(words.end(),
                 words_.begin() + static_cast<std::ptrdiff_t>(at + count),
                 words_.end());
    lines_.push_back(absl::StrJoin(words, " "));
  }

  void Shorter(size_t at, int64_t ns) {
    const int64_t half = Rounded(ns / 2);
    if (half >= kMillisecond) Add(at, 1, FormatNanoseconds(half));
    AddRounded(at, ns);
  }

  void Later(size_t at, int64_t ns) {
    // A tenth of what is left is not worth another step.
    const int64_t middle = Rounded(ns + (end_ns_ - ns) / 2);
    if (middle - ns > end_ns_ / 10) Add(at, 1, FormatNanoseconds(middle));
    AddRounded(at, ns);
  }

  void AddRounded(size_t at, int64_t ns) {
    if (Rounded(ns) != ns) Add(at, 1, FormatNanoseconds(Rounded(ns)));
  }

  void LaterEvent(size_t at) {
    const std::string& word = words_[at];
    const size_t hash = word.find('#');
    int64_t number = 0;
    const auto [end, error] = std::from_chars(
        word.data() + hash + 1, word.data() + word.size(), number);
    constexpr int64_t kFarEnough = int64_t{1} << 30;
    if (error != std::errc() || number < 1 || number > kFarEnough) return;
    Add(at, 1, absl::StrCat(word.substr(0, hash + 1), number * 2));
  }

  const std::vector<std::string> words_;
  const int64_t end_ns_;
  std::vector<std::string> lines_;
};

}  // namespace

std::vector<std::string> SimplerFaults(std::string_view line, int64_t end_ns) {
  return Simplifier(line, end_ns).Run();
}

}  // namespace reprise
