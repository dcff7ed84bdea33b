#include "sim/explore/verify.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"

extern char** environ;

namespace reprise {
namespace {

std::vector<std::string> LinesOf(const RunResult& result) {
  std::vector<std::string> lines;
  lines.reserve(result.events.size());
  for (const Event& event : result.events) lines.push_back(ToString(event));
  return lines;
}

// Runs the same in a process of its own, and returns its trace.
absl::StatusOr<std::vector<std::string>> TraceOfFreshProcess(
    const VerifyOptions& options) {
  const char* const directory = std::getenv("TMPDIR");
  std::string path = absl::StrCat(directory == nullptr ? "/tmp" : directory,
                                  "/reprise-XXXXXX");
  const int fd = mkstemp(path.data());
  if (fd < 0) {
    return absl::UnavailableError(absl::StrCat("cannot make a file like ", path,
                                               ": ", std::strerror(errno)));
  }
  close(fd);
  std::vector<std::string> words = {"reprise"};
  words.insert(words.end(), options.command.begin(), options.command.end());
  words.insert(words.end(), {"--trace", path});
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null",
                                   O_WRONLY, 0);
  pid_t child = 0;
  const int error = posix_spawn(&child, "/proc/self/exe", &actions, nullptr,
                                arguments.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  int status = 0;
  if (error == 0) {
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
  }
  std::vector<std::string> lines;
  std::ifstream stream(path);
  for (std::string line; std::getline(stream, line);) {
    lines.push_back(std::move(line));
  }
  unlink(path.c_str());
  if (error != 0 || !WIFEXITED(status) || WEXITSTATUS(status) > 1) {
    return absl::UnavailableError(absl::StrCat(
        "the run in a fresh process failed: ",
        error != 0 ? std::strerror(error)
                   : absl::StrCat("wait status ", status).c_str()));
  }
  return lines;
}

// Returns whether the two are equal. If not, fills in the first difference.
bool Compare(const std::vector<std::string>& expected,
             const std::vector<std::string>& got, std::string_view how,
             VerifyResult& result) {
  const auto [first, second] =
      std::mismatch(expected.begin(), expected.end(), got.begin(), got.end());
  if (first == expected.end() && second == got.end()) return true;
  result.differs =
      absl::StrCat(std::string(how), ", at event ",
                   first - expected.begin() + 1, " of ", expected.size());
  result.expected = first == expected.end() ? "(the end)" : *first;
  result.got = second == got.end() ? "(the end)" : *second;
  return false;
}

}  // namespace

absl::StatusOr<VerifyResult> Verify(const VerifyOptions& options) {
  SimRunOptions run = options.run;
  run.keep_trace = true;
  absl::StatusOr<RunResult> reference = RunSimulated(run);
  if (!reference.ok()) return reference.status();
  VerifyResult result;
  result.hash = reference->hash;
  const std::vector<std::string> expected = LinesOf(*reference);

  SimRunOptions scattered = run;
  for (uint64_t scatter = 1; scatter <= 2; ++scatter) {
    scattered.scatter = HashCombine(run.seed, scatter) | 1;
    absl::StatusOr<RunResult> other = RunSimulated(scattered);
    if (!other.ok()) return other.status();
    if (!Compare(expected, LinesOf(*other), "with the heap scattered",
                 result)) {
      return result;
    }
  }

  SimRunOptions others = options.run;
  for (uint64_t offset : {2, 1}) {
    others.seed = run.seed + offset;
    absl::StatusOr<RunResult> other = RunSimulated(others);
    if (!other.ok()) return other.status();
  }
  absl::StatusOr<RunResult> after = RunSimulated(run);
  if (!after.ok()) return after.status();
  if (!Compare(expected, LinesOf(*after), "after other seeds", result)) {
    return result;
  }

  if (options.command.empty()) return result;
  absl::StatusOr<std::vector<std::string>> fresh = TraceOfFreshProcess(options);
  if (!fresh.ok()) return fresh.status();
  Compare(expected, *fresh, "in a fresh process", result);
  return result;
}

}  // namespace reprise
