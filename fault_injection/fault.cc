#include "fault_injection/fault.h"

#include <charconv>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"

namespace reprise {
namespace {

// The words of a line, taken one by one.
class Words {
 public:
  Words(std::string_view line, int num_workers)
      : line_(line), num_workers_(num_workers) {
    for (auto word : absl::StrSplit(absl::string_view(line.data(), line.size()),
                                    ' ', absl::SkipEmpty())) {
      words_.emplace_back(word.data(), word.size());
    }
  }

  bool empty() const { return next_ == words_.size(); }
  std::string Take() { return empty() ? "" : words_[next_++]; }
  bool TakeIf(std::string_view word) {
    if (empty() || words_[next_] != word) return false;
    ++next_;
    return true;
  }

  absl::Status Bad(std::string_view word, std::string_view wanted) const {
    return absl::InvalidArgumentError(
        absl::StrCat("fault '", std::string(line_),
                     "': ", word.empty() ? "it ends" : std::string(word),
                     " where there should be ", std::string(wanted)));
  }

  absl::StatusOr<int32_t> Worker(std::string_view word) const {
    int32_t rank = -1;
    // There is no worker w01.
    const bool has_zeros = word.size() > 2 && word[1] == '0';
    if (word.size() >= 2 && word[0] == 'w' && !has_zeros) {
      auto [end, error] =
          std::from_chars(word.data() + 1, word.data() + word.size(), rank);
      if (error == std::errc() && end == word.data() + word.size() &&
          rank >= 0 && rank < num_workers_) {
        return rank;
      }
    }
    return Bad(word, absl::StrCat("a worker, w0 to w", num_workers_ - 1));
  }

  absl::StatusOr<int64_t> Duration() {
    const std::string word = Take();
    absl::Duration duration;
    if (word.empty() || !absl::ParseDuration(word, &duration) ||
        duration < absl::ZeroDuration() || duration > absl::Hours(10000)) {
      return Bad(word, "a duration such as 200ms or 1.5s, at most 10000h");
    }
    return absl::ToInt64Nanoseconds(duration);
  }

 private:
  const std::string_view line_;
  const int num_workers_;
  std::vector<std::string> words_;
  size_t next_ = 0;
};

// "w0-w1" or "w0>w1".
absl::Status ParsePair(const Words& words, std::string_view word,
                       char separator, Fault& fault) {
  const size_t at = word.find(separator);
  if (at == std::string_view::npos) {
    return words.Bad(word, absl::StrCat("two workers, as in w0",
                                        std::string(1, separator), "w1"));
  }
  auto worker = words.Worker(word.substr(0, at));
  if (!worker.ok()) return worker.status();
  auto other = words.Worker(word.substr(at + 1));
  if (!other.ok()) return other.status();
  fault.worker = *worker;
  fault.other = *other;
  fault.is_one_way = separator == '>';
  return absl::OkStatus();
}

// "w0,w2".
absl::StatusOr<std::vector<int32_t>> ParseGroup(const Words& words,
                                                std::string_view word) {
  std::vector<int32_t> group;
  for (const auto part :
       absl::StrSplit(absl::string_view(word.data(), word.size()), ',')) {
    const auto worker = words.Worker({part.data(), part.size()});
    if (!worker.ok()) return worker.status();
    group.push_back(*worker);
  }
  return group;
}

// "w0-w1", "w0,w1>w2".
absl::Status ParseGroups(const Words& words, std::string_view word,
                         Fault& fault) {
  const size_t at = word.find_first_of("->");
  if (at == std::string_view::npos) {
    return words.Bad(word, "two workers or groups, as in w0-w1 or w0,w1>w2");
  }
  auto group = ParseGroup(words, word.substr(0, at));
  if (!group.ok()) return group.status();
  auto other_group = ParseGroup(words, word.substr(at + 1));
  if (!other_group.ok()) return other_group.status();
  fault.group = *std::move(group);
  fault.other_group = *std::move(other_group);
  fault.worker = fault.group.front();
  fault.other = fault.other_group.front();
  fault.is_one_way = word[at] == '>';
  return absl::OkStatus();
}

absl::Status ParseTarget(const FaultKindInfo& kind, Words& words,
                         Fault& fault) {
  if (kind.target == FaultTarget::kStore) return absl::OkStatus();
  const std::string word = words.Take();
  if (kind.target == FaultTarget::kWorkerOrAll && word == "all") {
    fault.worker = kAllWorkers;
    return absl::OkStatus();
  }
  if (kind.target == FaultTarget::kLinks) {
    return ParseGroups(words, word, fault);
  }
  if (kind.target == FaultTarget::kLink) {
    return ParsePair(words, word,
                     word.find('>') == std::string::npos ? '-' : '>', fault);
  }
  auto worker = words.Worker(word);
  if (!worker.ok()) return worker.status();
  fault.worker = *worker;
  return absl::OkStatus();
}

absl::Status ParseByte(Words& words, Fault& fault) {
  if (!fault.is_one_way) {
    return words.Bad("byte",
                     "'after DURATION' or 'when wN EVENT#N'; bytes are counted "
                     "in one direction, as in cut w0>w1 byte 4096");
  }
  const std::string word = words.Take();
  auto [end, error] =
      std::from_chars(word.data(), word.data() + word.size(), fault.byte);
  if (error != std::errc() || end != word.data() + word.size() ||
      fault.byte < 0) {
    return words.Bad(word, "a number of bytes");
  }
  return absl::OkStatus();
}

absl::Status ParseWhen(Words& words, Fault& fault) {
  if (words.TakeIf("after")) {
    auto after_ns = words.Duration();
    if (!after_ns.ok()) return after_ns.status();
    fault.after_ns = *after_ns;
    return absl::OkStatus();
  }
  if (!words.TakeIf("when")) {
    return words.Bad(words.Take(), "'after DURATION' or 'when wN EVENT#N'");
  }
  fault.at_event = true;
  auto worker = words.Worker(words.Take());
  if (!worker.ok()) return worker.status();
  fault.event_worker = *worker;
  const std::string word = words.Take();
  const size_t hash = word.find('#');
  fault.event = EventKindFromString(std::string_view(word).substr(0, hash));
  if (fault.event == EventKind::kCount) {
    return words.Bad(word, "an event such as call.started#3");
  }
  fault.event_number = 1;
  if (hash == std::string::npos) return absl::OkStatus();
  auto [end, error] = std::from_chars(
      word.data() + hash + 1, word.data() + word.size(), fault.event_number);
  if (error != std::errc() || end != word.data() + word.size() ||
      fault.event_number < 1) {
    return words.Bad(word, "an event's number, from 1");
  }
  return absl::OkStatus();
}

bool MayBe(FaultDuration duration, bool for_ever) {
  return duration == FaultDuration::kSpanOrForEver ||
         duration ==
             (for_ever ? FaultDuration::kForEver : FaultDuration::kSpan);
}

// Chooses among the kinds that the line's first word means.
absl::Status ParseDuration(const std::vector<FaultKind>& kinds, Words& words,
                           Fault& fault) {
  if (!words.TakeIf("for")) return words.Bad(words.Take(), "'for DURATION'");
  const bool for_ever = words.TakeIf("ever");
  for (const FaultKind kind : kinds) {
    if (!MayBe(InfoOf(kind).duration, for_ever)) continue;
    fault.kind = kind;
    fault.for_ns = kForEver;
    if (for_ever) return absl::OkStatus();
    auto for_ns = words.Duration();
    if (!for_ns.ok()) return for_ns.status();
    fault.for_ns = *for_ns;
    return absl::OkStatus();
  }
  const std::string wrong = for_ever ? "ever" : words.Take();
  std::string wanted = for_ever ? "a duration such as 200ms or 1.5s" : "'ever'";
  for (const FaultKind other :
       FaultKindsNamed(InfoOf(kinds.front()).older_word)) {
    if (MayBe(InfoOf(other).duration, for_ever)) {
      absl::StrAppend(&wanted, "; the fault that ",
                      for_ever ? "lasts for ever" : "ends", " is '",
                      std::string(ToString(other)), "'");
    }
  }
  return words.Bad(wrong, wanted);
}

absl::Status ParseEnding(const FaultKindInfo& kind, Words& words,
                         Fault& fault) {
  const std::string word = words.Take();
  if (word != kind.endings[0] && word != kind.endings[1]) {
    return words.Bad(word,
                     absl::StrCat("'", std::string(kind.endings[0]), "' or '",
                                  std::string(kind.endings[1]), "'"));
  }
  fault.is_second_ending = word == kind.endings[1];
  return absl::OkStatus();
}

// A clock that lost a second in each would stand still or run backwards, and
// one that is much too fast would leave its range within a run.
absl::Status CheckDrift(const Words& words, const Fault& fault) {
  constexpr int64_t kSecondNs = 1'000'000'000;
  if (fault.is_second_ending && fault.delay_ns >= kSecondNs) {
    return words.Bad(FormatNanoseconds(fault.delay_ns), "less than 1s");
  }
  if (fault.delay_ns > 1000 * kSecondNs) {
    return words.Bad(FormatNanoseconds(fault.delay_ns), "at most 1000s");
  }
  return absl::OkStatus();
}

// What the line says after its first word.
absl::Status ParseRest(const std::vector<FaultKind>& kinds, Words& words,
                       Fault& fault) {
  const FaultKindInfo& kind = InfoOf(kinds.front());
  fault.kind = kind.kind;
  absl::Status status = ParseTarget(kind, words, fault);
  if (!status.ok()) return status;
  if (kind.has_delay) {
    auto delay_ns = words.Duration();
    if (!delay_ns.ok()) return delay_ns.status();
    fault.delay_ns = *delay_ns;
  }
  status = kind.may_be_at_a_byte && words.TakeIf("byte")
               ? ParseByte(words, fault)
               : ParseWhen(words, fault);
  if (status.ok() && kind.lasts()) status = ParseDuration(kinds, words, fault);
  if (status.ok() && !kind.endings[0].empty()) {
    status = ParseEnding(kind, words, fault);
  }
  if (status.ok() && kind.kind == FaultKind::kClockDrift) {
    status = CheckDrift(words, fault);
  }
  if (!status.ok()) return status;
  // At a time, connections break as a whole, whatever the separator is.
  if (fault.kind == FaultKind::kCut && fault.byte < 0) fault.is_one_way = false;
  if (kind.may_restart && words.TakeIf("restart")) {
    auto restart_ns = words.Duration();
    if (!restart_ns.ok()) return restart_ns.status();
    fault.restart_ns = *restart_ns;
  }
  if (!words.empty()) return words.Bad(words.Take(), "the end of the line");
  return absl::OkStatus();
}

std::string AllWords() {
  return absl::StrJoin(FaultKinds(), ", ",
                       [](std::string* out, const FaultKindInfo& kind) {
                         out->append(kind.word);
                       });
}

}  // namespace

absl::StatusOr<Fault> ParseFault(std::string_view line, int num_workers) {
  Words words(line, num_workers);
  Fault fault;
  fault.text = std::string(line);
  const std::string name = words.Take();
  const std::vector<FaultKind> kinds = FaultKindsNamed(name);
  if (kinds.empty()) {
    return words.Bad(name, absl::StrCat("one of ", AllWords()));
  }
  if (absl::Status status = ParseRest(kinds, words, fault); !status.ok()) {
    return status;
  }
  return fault;
}

absl::StatusOr<std::vector<Fault>> ParseFaults(
    const std::vector<std::string>& lines, int num_workers) {
  std::vector<Fault> faults;
  for (const std::string& line : lines) {
    auto fault = ParseFault(line, num_workers);
    if (!fault.ok()) return fault.status();
    faults.push_back(*std::move(fault));
  }
  return faults;
}

std::string FormatNanoseconds(int64_t ns) {
  return absl::FormatDuration(absl::Nanoseconds(ns));
}

}  // namespace reprise
