#include "sim/view/subject.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <optional>
#include <string>
#include <string_view>

namespace reprise {
namespace {

constexpr int64_t kMillisecond = 1'000'000;

// The numbers that follow `word` in `text`: "call " of "w1 call 7: ...".
std::set<uint64_t> NumbersAfter(std::string_view text, std::string_view word) {
  std::set<uint64_t> numbers;
  for (size_t at = text.find(word); at != std::string_view::npos;
       at = text.find(word, at + 1)) {
    uint64_t number = 0;
    const char* const begin = text.data() + at + word.size();
    if (std::from_chars(begin, text.data() + text.size(), number).ec ==
        std::errc()) {
      numbers.insert(number);
    }
  }
  return numbers;
}

// The ranks of the workers that `text` names, in their order.
std::vector<int32_t> NamedIn(std::string_view text) {
  std::vector<int32_t> ranks;
  for (size_t at = 0; at < text.size(); ++at) {
    if (text[at] != 'w') continue;
    if (at > 0 && std::isalnum(static_cast<unsigned char>(text[at - 1])) != 0) {
      continue;
    }
    size_t end = at + 1;
    while (end < text.size() &&
           std::isdigit(static_cast<unsigned char>(text[end])) != 0) {
      ++end;
    }
    const int32_t rank = RankOfName(text.substr(at, end - at));
    if (rank >= 0 &&
        std::find(ranks.begin(), ranks.end(), rank) == ranks.end()) {
      ranks.push_back(rank);
    }
  }
  return ranks;
}

// The event at which the rule was violated, if there is one, or the last.
size_t FindEnd(const RunResult& result) {
  const std::vector<Event>& events = result.events;
  for (size_t i = 0; i < events.size(); ++i) {
    if (events[i].kind == EventKind::kCheckFailed &&
        events[i].text.find(result.rule) != std::string::npos) {
      return i + 1;
    }
  }
  return events.size();
}

// The call that the worker `node` had to do with last, within a millisecond.
std::optional<CallKey> LastCall(const RunResult& result, int32_t node,
                                size_t end) {
  for (size_t i = end; i-- > 0;) {
    const Event& event = result.events[i];
    if (event.time_ns < result.events[end - 1].time_ns - kMillisecond) break;
    if (event.node == node && IsOfCall(event.kind) &&
        event.kind != EventKind::kCallStarted) {
      return CallOf(event);
    }
  }
  return std::nullopt;
}

// Whether there was this call. A scenario may number its calls otherwise.
bool HasCall(const RunResult& result, const CallKey& call, size_t end) {
  const auto last = result.events.begin() + static_cast<std::ptrdiff_t>(end);
  return std::any_of(result.events.begin(), last, [&](const Event& event) {
    return IsOfCall(event.kind) && CallOf(event) == call;
  });
}

// All attempts of a call of the subject belong to it.
void AddAttempts(const RunResult& result, Subject& subject) {
  for (int pass = 0; pass < 2; ++pass) {
    for (size_t i = 0; i < subject.end; ++i) {
      const Event& event = result.events[i];
      if (event.kind != EventKind::kCallRetried) continue;
      const CallKey first{event.node, event.earlier()};
      if (subject.calls.contains(first) ||
          subject.calls.contains(CallOf(event))) {
        subject.calls.insert({first, CallOf(event)});
      }
    }
  }
}

}  // namespace

bool IsOfCall(EventKind kind) {
  return kind == EventKind::kCallStarted || kind == EventKind::kCallCompleted ||
         kind == EventKind::kCallLateReply || kind == EventKind::kRequest ||
         kind == EventKind::kReply || kind == EventKind::kCallRetried;
}

bool IsOfCaller(EventKind kind) {
  return IsOfCall(kind) && kind != EventKind::kRequest &&
         kind != EventKind::kReply;
}

CallKey CallOf(const Event& event) {
  return {IsOfCaller(event.kind) ? event.node : RankOfName(event.text),
          event.id};
}

Subject SubjectOf(const RunResult& result) {
  Subject subject;
  subject.end = result.events.size();
  if (result.held() || result.events.empty()) return subject;
  subject.end = FindEnd(result);
  std::vector<int32_t> named = NamedIn(result.detail);
  if (result.rule == "settle") {
    // It is about the worker that ended last.
    for (size_t i = subject.end; i-- > 0;) {
      if (result.events[i].kind != EventKind::kWorkerEnded) continue;
      named.insert(named.begin(), result.events[i].node);
      break;
    }
  }
  if (!result.waiting.empty() &&
      (result.rule == "deadlock" || result.rule == "time-limit")) {
    named.clear();
    for (const std::string& line : result.waiting) {
      const int32_t rank = RankOfName(line);
      if (std::find(named.begin(), named.end(), rank) == named.end()) {
        named.push_back(rank);
      }
    }
    subject.nodes = named;
  } else if (!named.empty()) {
    subject.nodes = {named.front()};
  }
  subject.peers.insert(named.begin(), named.end());
  subject.barriers = NumbersAfter(result.detail, "barrier ");
  const std::set<uint64_t> ids = NumbersAfter(result.detail, " call ");
  for (const int32_t node : subject.nodes) {
    for (const uint64_t id : ids) {
      if (HasCall(result, {node, id}, subject.end)) {
        subject.calls.insert({node, id});
      }
    }
    if (!subject.calls.empty() || subject.nodes.size() > 1) continue;
    if (const auto last = LastCall(result, node, subject.end)) {
      subject.calls.insert(*last);
    }
  }
  AddAttempts(result, subject);
  // Both ends of these calls, as far as they are seen.
  for (size_t i = 0; i < subject.end; ++i) {
    const Event& event = result.events[i];
    if (!IsOfCall(event.kind)) continue;
    const CallKey call = CallOf(event);
    // A request or reply with this id may be another caller's.
    if (!IsOfCaller(event.kind) &&
        std::find(subject.nodes.begin(), subject.nodes.end(), event.node) !=
            subject.nodes.end() &&
        ids.contains(event.id) && i + 1 == subject.end) {
      subject.calls.insert(call);
    }
    if (!subject.calls.contains(call)) continue;
    subject.peers.insert({event.node, call.first});
  }
  return subject;
}

}  // namespace reprise
