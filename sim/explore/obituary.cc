#include "sim/explore/obituary.h"

#include <signal.h>
#include <string.h>
#include <sys/wait.h>

#include <algorithm>
#include <iterator>
#include <map>
#include <vector>

#include "absl/debugging/symbolize.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace reprise {
namespace {

constexpr size_t kFramesInDetail = 3;
constexpr size_t kHangFrames = 2;
// Where null pointers and their members lie.
constexpr uint64_t kFirstPages = uint64_t{1} << 20;

// Frames of the runtime between a cause and the end of the process. A name that
// ends with '*' stands for all that begin so.
constexpr absl::string_view kRuntime[] = {
    "abort",
    "raise",
    "gsignal",
    "kill",
    "pthread_kill*",
    "__pthread_kill*",
    "__restore_rt",
    "__GI_*",
    "__cxa_*",
    "__gxx_personality*",
    "_Unwind_*",
    "__gnu_cxx::*",
    "__cxxabiv1::*",
    "std::terminate",
    "std::rethrow*",
    "exit",
    "quick_exit",
    "__run_exit*",
    "google::*",
    "absl::raw_log*",
    "absl::debian3::raw_log*",
    "__libc_message",
    "malloc_print*",
    "__assert_fail*",
    "reprise::(anonymous namespace)::OnTerminate",
    "reprise::(anonymous namespace)::OnExit",
    "reprise::(anonymous namespace)::OnQuickExit",
    "reprise::(anonymous namespace)::Die",
    "reprise::(anonymous namespace)::AddRunning",
    "reprise::(anonymous namespace)::ReportBadFree",
    "reprise::(anonymous namespace)::Arena::Free",
    "reprise::(anonymous namespace)::Delete",
    "reprise::(anonymous namespace)::NewOrThrow",
    "operator delete*",
    "operator new*",
};

// Frames beneath the body of every thread, and those of a report.
constexpr absl::string_view kEntry[] = {
    "reprise::Scheduler::Enter",
    "reprise::ContextEntry::Run",
    "reprise::interpose::(anonymous namespace)::RunThread",
    "make_fcontext",
    "absl::debian3::internal_any_invocable::*",
    "std::_Function_handler<*",
    "std::__invoke*",
    "reprise::(anonymous namespace)::Take",
    "ontop_fcontext",
};

bool IsAmong(absl::string_view name, const absl::string_view* begin,
             const absl::string_view* end) {
  return std::any_of(begin, end, [name](absl::string_view pattern) {
    if (absl::ConsumeSuffix(&pattern, "*")) {
      return absl::StartsWith(name, pattern);
    }
    return absl::StartsWith(name, pattern) &&
           (name.size() == pattern.size() || name[pattern.size()] == '(');
  });
}

std::string SymbolOf(const void* address) {
  static auto* const known = [] {
    absl::InitializeSymbolizer("/proc/self/exe");
    return new std::map<const void*, std::string>();
  }();
  auto it = known->find(address);
  if (it != known->end()) return it->second;
  char name[1024];
  std::string symbol;
  // A return address may already be the next function's, except in the frame
  // that was interrupted, where one byte less does no harm but at its entry.
  if (absl::Symbolize(static_cast<const char*>(address) - 1, name,
                      sizeof(name)) ||
      absl::Symbolize(address, name, sizeof(name))) {
    symbol = name;
  }
  return known->emplace(address, std::move(symbol)).first->second;
}

// The names that count, innermost first.
std::vector<std::string> NamesOf(const DeathRecord::Stack& stack) {
  std::vector<std::string> names;
  for (int i = 0; i < stack.num_frames; ++i) {
    std::string name = SymbolOf(stack.frames[i]);
    if (names.empty() && (name.empty() || IsAmong(name, std::begin(kRuntime),
                                                  std::end(kRuntime)))) {
      continue;
    }
    if (IsAmong(name, std::begin(kEntry), std::end(kEntry))) continue;
    names.push_back(name.empty() ? "?" : std::move(name));
  }
  while (!names.empty() && names.back() == "?") names.pop_back();
  return names;
}

// "F1127 06:54:14.123456 4711 file.cc:12] Check failed", without the time.
std::string WithoutTime(absl::string_view line) {
  std::vector<absl::string_view> words =
      absl::StrSplit(line, absl::MaxSplits(' ', 3), absl::SkipEmpty());
  const bool is_log = line.size() > 1 && line[0] == 'F' &&
                      absl::ascii_isdigit(static_cast<unsigned char>(line[1]));
  return std::string(is_log && words.size() == 4 ? words[3] : line);
}

// How glibc's malloc begins the line before it aborts. Which of these it says
// depends on the state of its heap, so on earlier runs.
constexpr absl::string_view kHeapIsCorrupt[] = {
    "double free or corruption",
    "free(): ",
    "malloc(): ",
    "malloc_consolidate(): ",
    "realloc(): ",
    "munmap_chunk(): ",
    "corrupted ",
    "mremap_chunk(): ",
    "malloc_check_get_size: ",
};

// The line that says what failed: of a CHECK or a sanitizer, else the last. The
// summary of a sanitizer names the function.
std::string LastWords(absl::string_view output) {
  constexpr absl::string_view kSummary = "SUMMARY: ";
  const size_t summary = output.rfind(kSummary);
  if (summary != absl::string_view::npos) {
    absl::string_view line = output.substr(summary + kSummary.size());
    line = line.substr(0, line.find('\n'));
    if (absl::StrContains(line, "Sanitizer: ")) return std::string(line);
  }
  std::string last;
  for (absl::string_view line : absl::StrSplit(output, '\n')) {
    line = absl::StripAsciiWhitespace(line);
    if (line.empty()) continue;
    if (absl::StrContains(line, "Check failed") ||
        absl::StrContains(line, "Sanitizer: ") ||
        absl::StrContains(line, "Assertion `")) {
      return WithoutTime(line);
    }
    if (!absl::StartsWith(line, "*** Check failure stack trace")) {
      last = std::string(line);
    }
  }
  for (absl::string_view start : kHeapIsCorrupt) {
    if (absl::StartsWith(last, start)) {
      return "the heap of libc is corrupt, or memory was freed twice";
    }
  }
  return last;
}

std::string NameOfSignal(int signal) {
  const char* const name = sigabbrev_np(signal);
  return name == nullptr ? absl::StrCat("signal ", signal)
                         : absl::StrCat("SIG", name);
}

// What happened, without where.
std::string CauseOf(const Death& death, std::string& rule) {
  const DeathRecord& record = *death.record;
  rule = "crash";
  switch (record.kind.load()) {
    case DeathKind::kSignal:
      // Other addresses differ between processes.
      if (record.signal == SIGSEGV && record.address < kFirstPages) {
        return absl::StrFormat("SIGSEGV at address 0x%x", record.address);
      }
      return NameOfSignal(record.signal);
    case DeathKind::kOverflow:
      rule = "stack-overflow";
      return "the stack overflowed (see --stack-kib)";
    case DeathKind::kException:
      rule = "exception";
      return record.message;
    case DeathKind::kTerminate:
      return "std::terminate was called";
    case DeathKind::kExit:
      rule = "exit";
      return record.exit_code < 0
                 ? "quick_exit was called"
                 : absl::StrCat("exit(", record.exit_code, ") was called");
    case DeathKind::kHang:
      rule = "hang";
      return death.hang;
    case DeathKind::kSanitizer:
      return "the sanitizer reports an error";
    case DeathKind::kNone:
      break;
  }
  if (death.was_hanging) {
    rule = "hang";
    return absl::StrCat(death.hang, " and did not react to a signal");
  }
  if (WIFEXITED(death.wait_status)) {
    rule = "exit";
    return absl::StrCat("the process ended with exit code ",
                        WEXITSTATUS(death.wait_status),
                        ", without its destructors (_exit)");
  }
  const int signal = WTERMSIG(death.wait_status);
  return absl::StrCat("the process was killed by ", NameOfSignal(signal),
                      signal == SIGKILL ? " (was there enough memory?)" : "");
}

// The innermost functions. Of a hang the outermost ones of the body: a loop may
// be anywhere within it when it is found.
std::string WhereOf(const DeathRecord::Stack& stack, absl::string_view rule) {
  std::vector<std::string> names = NamesOf(stack);
  if (rule == "hang") {
    while (!names.empty() && absl::StrContains(names.back(), "SimRun::")) {
      names.pop_back();
    }
    const size_t left_out = names.size() - std::min(names.size(), kHangFrames);
    names.erase(names.begin(),
                names.begin() + static_cast<std::ptrdiff_t>(left_out));
  }
  names.resize(std::min(names.size(), kFramesInDetail));
  return absl::StrJoin(names, " < ");
}

}  // namespace

bool IsDeathRule(std::string_view rule) {
  return rule == "crash" || rule == "stack-overflow" || rule == "exception" ||
         rule == "exit" || rule == "hang";
}

void DescribeDeath(const Death& death, RunResult& result) {
  const DeathRecord& record = *death.record;
  std::string cause = CauseOf(death, result.rule);
  const std::string words = LastWords(death.output);
  if (result.rule == "crash" && !words.empty()) {
    absl::StrAppend(&cause, ": ", words);
  }
  result.detail = record.thread[0] == '\0'
                      ? cause
                      : absl::StrCat(record.thread, ": ", cause);
  if (record.num_stacks > 0) {
    const std::string where = WhereOf(record.stacks[0], result.rule);
    if (!where.empty()) absl::StrAppend(&result.detail, "; in ", where);
  }
  result.hash = record.hash;
  result.num_events = record.num_events;
  result.num_points = record.num_points;
  result.num_decisions = record.num_decisions;
  result.sim_seconds = static_cast<double>(record.now_ns) * 1e-9;
  for (int i = 0; i < record.num_stacks; ++i) {
    result.stacks.push_back(absl::StrCat(record.stacks[i].title, ":"));
    for (const std::string& name : NamesOf(record.stacks[i])) {
      result.stacks.push_back("    " + name);
    }
  }
}

}  // namespace reprise
