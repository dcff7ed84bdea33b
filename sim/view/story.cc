#include "sim/view/story.h"

#include <map>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "fault_injection/fault_kind.h"

namespace reprise {
namespace {

std::string CodeName(const Event& event) {
  return absl::StatusCodeToString(event.code());
}

std::string Deadline(const Event& event) {
  if (event.deadline_ns() == INT64_MAX) return "no deadline";
  return absl::StrFormat("deadline %.6f s",
                         static_cast<double>(event.deadline_ns()) * 1e-9);
}

// The trace of a fault that was renamed has its older word, which may stand for
// several kinds. Returns the words of those that struck in this run.
std::string PresentWord(const RunResult& result, const std::string& text) {
  std::string words;
  for (const FaultKind kind : FaultKindsNamed(text)) {
    const std::string word(ToString(kind));
    if (!result.injections.contains(word)) continue;
    absl::StrAppend(&words, words.empty() ? "" : " or ", word);
  }
  return words.empty() ? text : words;
}

std::string WorkerName(int32_t rank) { return absl::StrCat("w", rank); }

// The labels of the calls that were made so far.
class CallLabels {
 public:
  void Note(const Event& event) {
    if (event.kind != EventKind::kCallStarted) return;
    // A worker that was restarted counts its calls from the beginning.
    labels_[{WorkerName(event.node), event.id}] = event.text;
  }
  // "call 53 (push)", or "call 53" where there is no label.
  std::string Name(const std::string& caller, uint64_t id) const {
    const auto found = labels_.find({caller, id});
    const bool has_label = found != labels_.end() && !found->second.empty();
    return has_label ? absl::StrCat("call ", id, " (", found->second, ")")
                     : absl::StrCat("call ", id);
  }

 private:
  std::map<std::pair<std::string, uint64_t>, std::string> labels_;
};

// What happened, as the end of "12.345 w1 "; nothing for what is too small.
std::optional<std::string> Tell(const RunResult& result,
                                const CallLabels& labels, const Event& event) {
  const auto own_call = [&] {
    return labels.Name(WorkerName(event.node), event.id);
  };
  switch (event.kind) {
    case EventKind::kWorkerStarted:
      return event.incarnation() == 0
                 ? "starts"
                 : absl::StrCat("starts again (", event.incarnation(), ")");
    case EventKind::kWorkerEnded:
      return "ends";
    case EventKind::kNote:
      return absl::StrCat("notes: ", event.text);
    case EventKind::kCheckFailed:
      return absl::StrCat("FAILS: ", event.text);
    case EventKind::kProbe:
      return absl::StrCat("reaches '", event.text, "'");
    case EventKind::kCallStarted:
      return absl::StrCat("calls w", event.rank(), " (", own_call(), ", ",
                          Deadline(event), ")");
    case EventKind::kCallCompleted:
      return absl::StrCat(own_call(), " to w", event.rank(),
                          " is done: ", CodeName(event),
                          event.text.empty() ? "" : " ", event.text);
    case EventKind::kCallLateReply:
      return absl::StrCat("drops a late reply to ", own_call());
    case EventKind::kRequest:
      return absl::StrCat("gets ", labels.Name(event.text, event.id), " of ",
                          event.text);
    case EventKind::kReply:
      return absl::StrCat("answers ", labels.Name(event.text, event.id), " of ",
                          event.text, ": ", CodeName(event));
    case EventKind::kPipeConnecting:
      return absl::StrCat("connects to ", event.text);
    case EventKind::kPipeFailed:
      return absl::StrCat("loses its connection: ", event.text);
    case EventKind::kListening:
      return absl::StrCat("listens at ", event.text);
    case EventKind::kListenerFailed:
      return absl::StrCat("loses its listener: ", event.text);
    case EventKind::kBarrierEntered:
      return absl::StrCat("enters barrier ", event.id);
    case EventKind::kBarrierLeft:
      return absl::StrCat("leaves barrier ", event.id, ": ", CodeName(event),
                          event.text.empty() ? "" : " ", event.text);
    case EventKind::kShutdown:
      return "has shut down";
    case EventKind::kRefused:
      return "is refused a connection";
    case EventKind::kBreak:
      return "has a connection broken";
    case EventKind::kStall:
      return std::nullopt;
    case EventKind::kFault:
      return absl::StrCat("FAULT ", PresentWord(result, event.text));
    case EventKind::kCrash:
      return "CRASHES";
    case EventKind::kRestart:
      return "is restarted";
    default:
      return std::nullopt;
  }
}

// Without the lines of those that wait, which the story has above.
std::string OwnDetail(const RunResult& result) {
  absl::string_view detail = result.detail;
  if (!result.waiting.empty()) {
    absl::ConsumeSuffix(&detail, absl::StrJoin(result.waiting, "; "));
    absl::ConsumeSuffix(&detail, "; ");
  }
  return std::string(detail);
}

std::string LineOf(const Event& event, const std::string& what) {
  return absl::StrFormat(
      "%14.6f  %-6s %s", static_cast<double>(event.time_ns) * 1e-9,
      event.node < 0 ? "world" : WorkerName(event.node), what);
}

}  // namespace

std::vector<std::string> TellStory(const RunResult& result, size_t max_lines) {
  std::vector<std::string> told;
  CallLabels labels;
  for (const Event& event : result.events) {
    labels.Note(event);
    if (std::optional<std::string> what = Tell(result, labels, event)) {
      std::string line = LineOf(event, *what);
      if (line.size() > 160) line = line.substr(0, 157) + "...";
      told.push_back(std::move(line));
    }
  }
  std::vector<std::string> end;
  if (!result.held()) {
    for (const std::string& waiting : result.waiting) {
      end.push_back("                " + waiting);
      if (end.size() + 12 > max_lines) {
        end.push_back("                ...");
        break;
      }
    }
    const std::string detail = OwnDetail(result);
    end.push_back(absl::StrCat("violated: ", result.rule,
                               detail.empty() ? "" : ": ", detail));
  }
  const size_t room = max_lines > end.size() ? max_lines - end.size() : 0;
  std::vector<std::string> story;
  if (told.size() > room) {
    story.push_back(absl::StrFormat("%14s  %d earlier lines are left out",
                                    "...", told.size() - (room - 1)));
    told.erase(told.begin(),
               told.end() - static_cast<std::ptrdiff_t>(room - 1));
  }
  story.insert(story.end(), told.begin(), told.end());
  story.insert(story.end(), end.begin(), end.end());
  return story;
}

}  // namespace reprise
