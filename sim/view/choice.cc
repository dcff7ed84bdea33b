#include "sim/view/choice.h"

#include <algorithm>
#include <cctype>
#include <functional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "sim/view/waits.h"

namespace reprise {
namespace {

constexpr int64_t kMillisecond = 1'000'000;

class Choice {
 public:
  Choice(const RunResult& result, const Subject& subject)
      : result_(result), subject_(subject) {
    for (const OpenCall& open : OpenCalls(result, subject.end)) {
      open_.insert(open.started);
      if (open.got) open_.insert(*open.got);
      if (open.answered) open_.insert(*open.answered);
    }
    if (!subject.nodes.empty()) {
      const auto waits =
          EndedWaits(result, subject.nodes.front(), 0, subject.end);
      for (size_t i = 0; i < std::min<size_t>(2, waits.size()); ++i) {
        if (waits[i].ns < 100 * kMillisecond) break;
        long_.insert(waits[i].begin);
        long_.insert(waits[i].end);
      }
    }
    LearnTheLast();
    LearnKeys();
    LearnMembers();
  }

  std::map<size_t, size_t> Run(size_t room) {
    std::vector<std::pair<int, size_t>> ranked;  // score, index
    std::map<std::string, std::vector<size_t>> alike;
    for (size_t i = 0; i < subject_.end; ++i) {
      const Event& event = result_.events[i];
      if (IsTooSmallToTell(event.kind)) continue;
      const int score = Score(i, event);
      if (score == 0) continue;
      ranked.emplace_back(score, i);
      if (!IsSingle(score)) alike[Shape(event)].push_back(i);
    }
    std::map<size_t, size_t> stands_for;
    std::set<size_t> left_out;
    for (const auto& [shape, indices] : alike) {
      // Of what happens again and again, the first and the last two are told.
      if (indices.size() < 5) continue;
      stands_for[indices[indices.size() - 2]] = indices.size() - 3;
      left_out.insert(indices.begin() + 1, indices.end() - 2);
    }
    std::sort(ranked.begin(), ranked.end(), std::greater<>());
    std::map<size_t, size_t> chosen;
    for (const auto& [score, index] : ranked) {
      if (chosen.size() == room) break;
      if (!left_out.contains(index)) chosen[index] = stands_for[index];
    }
    return chosen;
  }

 private:
  static constexpr int kFirst = 100;
  static bool IsSingle(int score) { return score >= 85; }

  bool IsNode(int32_t rank) const {
    return std::find(subject_.nodes.begin(), subject_.nodes.end(), rank) !=
           subject_.nodes.end();
  }
  bool IsPeer(int32_t rank) const { return subject_.peers.contains(rank); }
  bool IsNear(int32_t rank) const { return IsNode(rank) || IsPeer(rank); }

  static std::string_view KeyOf(const Event& event) {
    const size_t blank = event.text.find(' ');
    return blank == std::string::npos
               ? std::string_view()
               : std::string_view(event.text).substr(blank + 1);
  }

  // What the workers that violated the rule did last.
  void LearnTheLast() {
    const size_t each = subject_.nodes.size() > 1 ? 5 : 12;
    for (const int32_t node : subject_.nodes) {
      size_t left = each;
      for (size_t i = subject_.end; i-- > 0 && left > 0;) {
        const Event& event = result_.events[i];
        if (event.node != node || IsTooSmallToTell(event.kind) ||
            event.kind == EventKind::kStall ||
            event.kind == EventKind::kGpuPut ||
            event.kind == EventKind::kGpuDone) {
          continue;
        }
        last_.insert(i);
        --left;
      }
    }
  }

  // What each worker learned last of the members that the rule names.
  void LearnMembers() {
    std::map<std::pair<int32_t, std::string_view>, size_t> last;
    for (size_t i = 0; i < subject_.end; ++i) {
      const Event& event = result_.events[i];
      if (event.kind != EventKind::kMemberJoined &&
          event.kind != EventKind::kMemberLeft) {
        continue;
      }
      if (IsNear(event.node) &&
          result_.detail.find(event.text) != std::string::npos) {
        last[{event.node, event.text}] = i;
      }
    }
    for (const auto& [key, index] : last) members_.insert(index);
  }

  // The keys of the store that the workers of the subject used last, and who
  // else wrote to them last.
  void LearnKeys() {
    std::set<std::string_view> keys;
    for (const int32_t node : subject_.nodes) {
      constexpr int kLast = 6;
      int left = kLast;
      for (size_t i = subject_.end; i-- > 0 && left > 0;) {
        const Event& event = result_.events[i];
        if (event.node != node || event.kind != EventKind::kStore) continue;
        keys.insert(KeyOf(event));
        --left;
      }
    }
    std::map<std::string_view, int> writes;
    for (size_t i = subject_.end; i-- > 0;) {
      const Event& event = result_.events[i];
      if (event.kind != EventKind::kStore || IsNode(event.node) ||
          !IsWrite(event) || !keys.contains(KeyOf(event))) {
        continue;
      }
      constexpr int kFew = 3;
      if (++writes[KeyOf(event)] <= kFew) writes_.insert(i);
    }
  }

  static bool IsWrite(const Event& event) {
    return !event.text.starts_with("get") &&
           !event.text.starts_with("try-get") &&
           !event.text.starts_with("wait");
  }

  // 0: not worth a line. Among those of the same score the later one is told.
  int Score(size_t index, const Event& event) const {
    if (long_.contains(index)) return 86;
    if (members_.contains(index)) return 85;
    if (last_.contains(index)) return std::max(84, PlainScore(index, event));
    return PlainScore(index, event);
  }

  int PlainScore(size_t index, const Event& event) const {
    if (IsOfCall(event.kind)) return ScoreOfCall(index, event);
    switch (event.kind) {
      case EventKind::kFault:
      case EventKind::kCrash:
      case EventKind::kRestart:
        return kFirst;
      case EventKind::kCheckFailed:
        return index + 1 == subject_.end ? kFirst : 60;
      case EventKind::kStall:
        return IsDecided(event) ? 90 : 0;
      case EventKind::kListenerFailed:
        return 90;
      case EventKind::kNote:
        return IsNear(event.node) ? 70 : 50;
      case EventKind::kPipeFailed:
        return ScoreOfPipe(event, 64);
      case EventKind::kPipeClosed:
        return ScoreOfPipe(event, 24);
      case EventKind::kPipeConnecting:
        return ScoreOfPipe(event, 40);
      case EventKind::kPipeConnected:
      case EventKind::kPipeAccepted:
        return ScoreOfPipe(event, 30);
      case EventKind::kRefused:
      case EventKind::kBreak:
        return IsNear(event.node) ? 42 : 20;
      case EventKind::kBarrierEntered:
      case EventKind::kBarrierLeft:
        if (subject_.barriers.contains(event.id)) return 80;
        return IsNode(event.node) ? 58 : 35;
      case EventKind::kMemberJoined:
      case EventKind::kMemberLeft:
        if (IsNode(event.node)) return IsNear(event.rank()) ? 62 : 50;
        return IsNear(event.node) ? 45 : 25;
      case EventKind::kWorkerStarted:
        return event.incarnation() > 0 ? 66 : 5;
      case EventKind::kWorkerEnded:
      case EventKind::kShutdown:
        return IsNear(event.node) ? 66 : 40;
      case EventKind::kListening:
        return IsNear(event.node) ? 55 : 26;
      case EventKind::kProbe:
        return IsNode(event.node) ? 34 : 15;
      case EventKind::kStore:
        return writes_.contains(index) ? 61 : IsNode(event.node) ? 12 : 4;
      case EventKind::kFile:
        return IsNear(event.node) ? 38 : 10;
      case EventKind::kGpuPut:
      case EventKind::kGpuDone:
        return ScoreOfGpu(event);
      case EventKind::kCopied:
        return IsNear(event.node) && IsNear(event.rank()) ? 36 : 10;
      default:
        return 8;
    }
  }

  int ScoreOfCall(size_t index, const Event& event) const {
    if (subject_.calls.contains(CallOf(event))) return 92;
    if (open_.contains(index)) return IsNear(event.node) ? 68 : 48;
    const bool has_code = event.kind == EventKind::kCallCompleted ||
                          event.kind == EventKind::kReply;
    if (has_code && !event.is_ok()) return IsNode(event.node) ? 52 : 28;
    if (event.kind == EventKind::kCallLateReply) {
      return IsNode(event.node) ? 56 : 32;
    }
    return IsNode(event.node) ? 24 : 10;
  }

  int ScoreOfPipe(const Event& event, int most) const {
    const bool both = IsNear(event.node) && IsNear(RankOfName(event.text));
    if (both && (IsNode(event.node) || IsNode(RankOfName(event.text)))) {
      return most;
    }
    return both ? most - 12 : most / 2;
  }

  int ScoreOfGpu(const Event& event) const {
    if (!result_.rule.starts_with("gpu-")) return 3;
    if (result_.detail.find(event.text) != std::string::npos) return 91;
    const size_t stream = event.text.rfind(' ');
    const bool is_named =
        stream != std::string::npos &&
        (result_.detail + " ").find(event.text.substr(stream) + " ") !=
            std::string::npos;
    return is_named ? 63 : IsNear(event.node) ? 14 : 2;
  }

  // Whether the stall is one of the few decisions that the failure needs.
  bool IsDecided(const Event& event) const {
    constexpr size_t kFew = 20;
    return result_.decisions.size() <= kFew &&
           std::any_of(result_.decisions.begin(), result_.decisions.end(),
                       [&event](const Decision& decision) {
                         return decision.kind == DecisionKind::kStall &&
                                static_cast<int64_t>(decision.value) ==
                                    event.stall_ns();
                       });
  }

  // What events that differ only in their time and their number have in common.
  static std::string Shape(const Event& event) {
    std::string text = event.kind == EventKind::kNote ? event.text : "";
    for (const char c : event.text) {
      if (event.kind != EventKind::kNote &&
          std::isdigit(static_cast<unsigned char>(c)) == 0) {
        text += c;
      }
    }
    const bool has_peer = IsOfCaller(event.kind);
    const bool has_code = event.kind == EventKind::kCallCompleted ||
                          event.kind == EventKind::kReply;
    return absl::StrCat(static_cast<int>(event.kind), " ", event.node, " ",
                        has_peer ? event.a : 0, " ", has_code ? event.b : 0,
                        " ", RankOfName(event.text), " ", text);
  }

  const RunResult& result_;
  const Subject& subject_;
  std::set<size_t> open_;  // events of calls that are open at the end
  std::set<size_t> long_;  // where the longest waits begin and end
  std::set<size_t> last_;  // what the workers of the subject did last
  std::set<size_t> members_;
  std::set<size_t> writes_;  // by others, to the keys that those used
};

}  // namespace

std::map<size_t, size_t> ChooseEvents(const RunResult& result,
                                      const Subject& subject, size_t room) {
  return Choice(result, subject).Run(room);
}

}  // namespace reprise
