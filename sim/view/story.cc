#include "sim/view/story.h"

#include <algorithm>
#include <map>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "sim/view/choice.h"
#include "sim/view/subject.h"
#include "sim/view/waits.h"
#include "sim/view/words.h"

namespace reprise {
namespace {

constexpr size_t kMaxLine = 160;
// What the end of the story may take of its lines.
constexpr size_t kWaitLines = 8;
constexpr size_t kThreadLines = 12;
constexpr size_t kDecisionLines = 6;
// And its beginning.
constexpr size_t kTopologyLines = 8;
constexpr char kIndent[] = "                ";

std::string Cut(std::string line) {
  if (line.size() > kMaxLine) line = line.substr(0, kMaxLine - 3) + "...";
  return line;
}

std::string LineOf(const Event& event, const std::string& what) {
  return Cut(absl::StrFormat(
      "%14.6f  %-6s %s", static_cast<double>(event.time_ns) * 1e-9,
      event.node < 0 ? "world" : WorkerName(event.node), what));
}

// Without the lines of the threads, which the story has above.
std::string OwnDetail(const RunResult& result) {
  absl::string_view detail = result.detail;
  if (!result.waiting.empty()) {
    absl::ConsumeSuffix(&detail, absl::StrJoin(result.waiting, "; "));
    absl::ConsumeSuffix(&detail, "; ");
  }
  return std::string(detail);
}

// What each thread waits for. Where they are not what the rule is about, only
// the threads of its workers, and not those that wait for work.
std::vector<std::string> TellThreads(const RunResult& result,
                                     const Subject& subject) {
  const bool is_about_them =
      result.rule == "deadlock" || result.rule == "time-limit";
  std::vector<std::string> lines;
  for (const std::string& line : result.waiting) {
    const bool is_near = std::find(subject.nodes.begin(), subject.nodes.end(),
                                   RankOfName(line)) != subject.nodes.end();
    const bool is_idle = line.find("ThreadPool.changed") != std::string::npos ||
                         line.find("Timer.changed") != std::string::npos;
    if (is_about_them || (is_near && !is_idle)) {
      lines.push_back(absl::StrCat(kIndent, line));
    }
  }
  const size_t most = is_about_them ? kThreadLines : kThreadLines / 2;
  if (lines.size() > most) {
    const size_t more = lines.size() - most + 1;
    lines.resize(most - 1);
    lines.push_back(absl::StrCat(kIndent, "and ", more, " more threads"));
  }
  return lines;
}

// The end of the story of a failure.
std::vector<std::string> TellEnd(const RunResult& result,
                                 const Subject& subject) {
  std::vector<std::string> end;
  if (result.held()) return end;
  if (!result.decisions.empty() && result.decisions.size() <= kDecisionLines) {
    for (const Decision& decision : result.decisions) {
      end.push_back(absl::StrCat(kIndent, "decided: ", decision.ToString()));
    }
  }
  for (const std::string& line :
       TellWaits(result, subject.nodes, subject.end, kWaitLines)) {
    end.push_back(Cut(absl::StrCat(kIndent, line)));
  }
  for (std::string& line : TellThreads(result, subject)) {
    end.push_back(Cut(std::move(line)));
  }
  const std::string detail = OwnDetail(result);
  end.push_back(absl::StrCat("violated: ", result.rule,
                             detail.empty() ? "" : ": ", detail));
  end.push_back(absl::StrCat("the rule: ", MeaningOf(result.rule)));
  return end;
}

// What the network of this run is like, if it is not as the scenario's always
// is.
std::vector<std::string> TellTopology(const RunResult& result) {
  std::vector<std::string> lines;
  for (size_t i = 0; i < result.topology.size(); ++i) {
    if (i + 1 == kTopologyLines && result.topology.size() > kTopologyLines) {
      lines.push_back(absl::StrCat(kIndent, "topology: and ",
                                   result.topology.size() - i, " more lines"));
      break;
    }
    lines.push_back(
        Cut(absl::StrCat(kIndent, "topology: ", result.topology[i])));
  }
  return lines;
}

std::vector<std::string> Tell(const RunResult& result, size_t max_lines) {
  const Subject subject = SubjectOf(result);
  const std::vector<std::string> end = TellEnd(result, subject);
  const std::vector<std::string> topology = TellTopology(result);
  // One line says what is left out.
  const size_t rest = end.size() + topology.size() + 1;
  const size_t room = max_lines > rest ? max_lines - rest : 0;
  const std::map<size_t, size_t> chosen = ChooseEvents(result, subject, room);
  Narrator narrator(result);
  std::vector<std::string> story;
  size_t told = 0;
  size_t tellable = 0;
  for (size_t i = 0; i < subject.end; ++i) {
    std::optional<std::string> what = narrator.Tell(result.events[i]);
    if (!what) continue;
    ++tellable;
    const auto found = chosen.find(i);
    if (found == chosen.end()) continue;
    ++told;
    if (found->second > 0) {
      absl::StrAppend(&*what, " (and ", found->second, " times before)");
    }
    story.push_back(LineOf(result.events[i], *what));
  }
  if (told < tellable) {
    story.insert(story.begin(),
                 absl::StrFormat("%14s  %d of %d lines are left out", "...",
                                 tellable - told, tellable));
  }
  story.insert(story.begin(), topology.begin(), topology.end());
  story.insert(story.end(), end.begin(), end.end());
  return story;
}

}  // namespace

std::vector<std::string> TellStory(const RunResult& result, size_t max_lines) {
  return Tell(result, max_lines);
}

std::vector<std::string> TellEverything(const RunResult& result) {
  std::vector<std::string> story = TellTopology(result);
  Narrator narrator(result);
  for (const Event& event : result.events) {
    if (const std::optional<std::string> what = narrator.Tell(event)) {
      story.push_back(LineOf(event, *what));
    }
  }
  const std::vector<std::string> end = TellEnd(result, SubjectOf(result));
  story.insert(story.end(), end.begin(), end.end());
  return story;
}

}  // namespace reprise
