#include "tests/gpu/child.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/runtime/runtime.h"

namespace reprise::gpu {
namespace {

constexpr char kThisProgram[] = "/proc/self/exe";

// Of the kernel's own answer, which /proc/self/exe would not be once this has
// become another program.
std::string PathOfThisProgram() {
  std::string path(4096, '\0');
  const ssize_t length = readlink(kThisProgram, path.data(), path.size());
  path.resize(length > 0 ? static_cast<size_t>(length) : 0);
  return path;
}

absl::Status ErrnoError(const char* what, int error) {
  return absl::UnavailableError(
      absl::StrCat(what, " failed: ", std::strerror(error)));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Child>> Child::Start(
    std::vector<std::string> arguments) {
  int to_child[2];
  int from_child[2];
  if (pipe2(to_child, O_CLOEXEC) != 0) return ErrnoError("pipe2", errno);
  if (pipe2(from_child, O_CLOEXEC) != 0) {
    const int error = errno;
    close(to_child[0]);
    close(to_child[1]);
    return ErrnoError("pipe2", error);
  }
  std::string program = PathOfThisProgram();
  std::vector<char*> argv = {program.data()};
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, to_child[0], STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, from_child[1], STDOUT_FILENO);
  pid_t pid = 0;
  const int error = posix_spawn(&pid, program.c_str(), &actions, nullptr,
                                argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  close(to_child[0]);
  close(from_child[1]);
  if (error != 0) {
    close(to_child[1]);
    close(from_child[0]);
    return ErrnoError("posix_spawn", error);
  }
  return std::unique_ptr<Child>(new Child(pid, to_child[1], from_child[0]));
}

Child::~Child() {
  Kill();
  close(output_);
}

absl::StatusOr<std::string> Child::ReadLine(absl::Duration timeout) {
  const absl::Time deadline = RealRuntime().Now() + timeout;
  while (true) {
    const size_t end = read_.find('\n');
    if (end != std::string::npos) {
      std::string line = read_.substr(0, end);
      read_.erase(0, end + 1);
      return line;
    }
    const auto left = absl::ToInt64Milliseconds(deadline - RealRuntime().Now());
    if (left <= 0) {
      return absl::DeadlineExceededError(
          absl::StrCat("the other process said nothing for ",
                       absl::FormatDuration(timeout)));
    }
    pollfd polled = {output_, POLLIN, 0};
    if (poll(&polled, 1, static_cast<int>(left)) <= 0) continue;
    char buffer[512];
    const ssize_t length = read(output_, buffer, sizeof(buffer));
    if (length <= 0) {
      return absl::UnavailableError("the other process has ended");
    }
    read_.append(buffer, static_cast<size_t>(length));
  }
}

void Child::Kill() {
  if (input_ >= 0) close(std::exchange(input_, -1));
  if (pid_ == 0) return;
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
  pid_ = 0;
}

absl::Status Child::End(absl::Duration timeout) {
  if (input_ >= 0) close(std::exchange(input_, -1));
  if (pid_ == 0) return absl::OkStatus();
  const absl::Time deadline = RealRuntime().Now() + timeout;
  int status = 0;
  while (waitpid(pid_, &status, WNOHANG) == 0) {
    if (RealRuntime().Now() > deadline) {
      Kill();
      return absl::DeadlineExceededError("the other process does not end");
    }
    RealRuntime().SleepUntil(RealRuntime().Now() + absl::Milliseconds(2));
  }
  pid_ = 0;
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return absl::OkStatus();
  return absl::InternalError(
      WIFEXITED(status)
          ? absl::StrCat("the other process ended with exit code ",
                         WEXITSTATUS(status))
          : absl::StrCat("the other process died of signal ",
                         WTERMSIG(status)));
}

void DieWithParent() { prctl(PR_SET_PDEATHSIG, SIGKILL); }

void WaitForEndOfInput() {
  char ignored[64];
  while (read(STDIN_FILENO, ignored, sizeof(ignored)) > 0) {
  }
}

}  // namespace reprise::gpu
