#include "sim/network/topology.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"

namespace reprise {
namespace {

absl::Status Bad(const std::string& line, const std::string& word,
                 std::string_view wanted) {
  return absl::InvalidArgumentError(
      absl::StrCat("topology '", line, "': ", word.empty() ? "it ends" : word,
                   " where there should be ", std::string(wanted)));
}

bool ParseWorkers(const std::string& words, int num_workers,
                  std::vector<int32_t>& workers) {
  const std::vector<std::string> parts = absl::StrSplit(words, ',');
  for (const std::string& part : parts) {
    int32_t rank = -1;
    if (part.size() < 2 || part[0] != 'w' ||
        !absl::SimpleAtoi(part.substr(1), &rank) || rank < 0 ||
        rank >= num_workers) {
      return false;
    }
    workers.push_back(rank);
  }
  return true;
}

bool ParseNanoseconds(const std::string& word, int64_t& ns) {
  absl::Duration duration;
  if (!absl::ParseDuration(word, &duration) ||
      duration < absl::ZeroDuration() || duration > absl::Hours(1)) {
    return false;
  }
  ns = absl::ToInt64Nanoseconds(duration);
  return true;
}

bool ParseCount(const std::string& word, int64_t& count) {
  return absl::SimpleAtoi(word, &count) && count > 0 &&
         count <= int64_t{1'000'000'000'000};
}

absl::StatusOr<LinkRule> ParseLink(const std::string& line,
                                   const std::vector<std::string>& words,
                                   int num_workers) {
  const std::string ends = words.size() > 1 ? words[1] : "";
  const size_t at = ends.find_first_of("->");
  LinkRule rule;
  if (at == std::string::npos ||
      !ParseWorkers(ends.substr(0, at), num_workers, rule.from) ||
      !ParseWorkers(ends.substr(at + 1), num_workers, rule.to)) {
    return Bad(line, ends,
               absl::StrCat("two workers or groups of w0 to w", num_workers - 1,
                            ", as in w0,w1-w2 or w0>w1"));
  }
  rule.one_way = ends[at] == '>';
  if (words.size() < 3) return Bad(line, "", "what the link is like");
  for (size_t i = 2; i < words.size(); i += 2) {
    const std::string& name = words[i];
    const std::string value = i + 1 < words.size() ? words[i + 1] : "";
    if (name == "latency" || name == "jitter") {
      int64_t& ns = name == "latency" ? rule.latency_ns : rule.jitter_ns;
      if (!ParseNanoseconds(value, ns)) {
        return Bad(line, value, "a duration such as 20ms");
      }
    } else if (name == "bandwidth") {
      if (!ParseCount(value, rule.bytes_per_second)) {
        return Bad(line, value, "bytes per second");
      }
    } else if (name == "loss") {
      if (!ParseCount(value, rule.loss_one_in) || rule.loss_one_in < 2) {
        return Bad(line, value, "a number of 2 or more, of which one is lost");
      }
    } else {
      return Bad(line, name, "'latency', 'jitter', 'bandwidth' or 'loss'");
    }
  }
  return rule;
}

}  // namespace

absl::Status ApplyTopology(const std::vector<std::string>& lines,
                           int num_workers, NetworkOptions& options) {
  for (const std::string& line : lines) {
    const std::vector<std::string> words =
        absl::StrSplit(line, ' ', absl::SkipEmpty());
    const std::string word = words.empty() ? "" : words[0];
    if (word == "link") {
      auto rule = ParseLink(line, words, num_workers);
      if (!rule.ok()) return rule.status();
      options.rules.push_back(*std::move(rule));
    } else if (word == "host") {
      std::vector<int32_t> workers;
      if (words.size() != 2 || !ParseWorkers(words[1], num_workers, workers)) {
        return Bad(line, words.size() > 1 ? words[1] : "",
                   absl::StrCat("workers of w0 to w", num_workers - 1,
                                ", as in w0,w1"));
      }
      // All others keep a host of their own.
      int next = 0;
      for (const int host : options.hosts) next = std::max(next, host + 1);
      while (options.hosts.size() < static_cast<size_t>(num_workers)) {
        options.hosts.push_back(next++);
      }
      for (const int32_t worker : workers) {
        options.hosts[static_cast<size_t>(worker)] = next;
      }
    } else {
      return Bad(line, word, "'link' or 'host'");
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> ParseTopology(std::string_view text,
                                                       int num_workers) {
  std::vector<std::string> lines;
  int number = 0;
  for (const absl::string_view line :
       absl::StrSplit(absl::string_view(text.data(), text.size()), '\n')) {
    ++number;
    const std::vector<std::string> words =
        absl::StrSplit(line, absl::ByAnyChar(" \t\r"), absl::SkipEmpty());
    if (words.empty() || words[0][0] == '#') continue;
    lines.push_back(absl::StrJoin(words, " "));
    NetworkOptions ignored;
    const absl::Status status =
        ApplyTopology({lines.back()}, num_workers, ignored);
    if (status.ok()) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("line ", number, ": ", status.message()));
  }
  return lines;
}

}  // namespace reprise
