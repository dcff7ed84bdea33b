#include "tools/processes/worker_child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "tools/processes/worker_process.h"

namespace reprise {
namespace {

constexpr size_t kKeptLines = 12;
constexpr size_t kKeptLineBytes = 300;
constexpr int kPipeBytes = 1 << 20;

struct Pipe {
  int read_fd = -1;
  int write_fd = -1;

  ~Pipe() {
    if (read_fd >= 0) close(read_fd);
    if (write_fd >= 0) close(write_fd);
  }
};

absl::Status Open(Pipe& pipe) {
  int fds[2];
  if (pipe2(fds, O_CLOEXEC) != 0) {
    return absl::ErrnoToStatus(errno, "cannot make a pipe");
  }
  pipe.read_fd = fds[0];
  // The number is above the standard ones, which the child replaces.
  pipe.write_fd = fcntl(fds[1], F_DUPFD_CLOEXEC, 3);
  const int error = errno;
  close(fds[1]);
  if (pipe.write_fd < 0 || fcntl(pipe.read_fd, F_SETFL, O_NONBLOCK) != 0) {
    return absl::ErrnoToStatus(error, "cannot make a pipe");
  }
  // If the pipe may not be so large, the worker waits now and then.
  fcntl(pipe.write_fd, F_SETPIPE_SZ, kPipeBytes);
  return absl::OkStatus();
}

// In the child, between fork and exec: only what a signal handler may do.
[[noreturn]] void Become(pid_t parent, int trace_fd, int output_fd,
                         char* const* argv) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(127);  // The parent is dead already.
  const int null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
  if (null_fd >= 0) dup2(null_fd, STDIN_FILENO);
  dup2(output_fd, STDOUT_FILENO);
  dup2(output_fd, STDERR_FILENO);
  fcntl(trace_fd, F_SETFD, 0);
  execv("/proc/self/exe", argv);
  static constexpr char kMessage[] = "cannot execute /proc/self/exe\n";
  [[maybe_unused]] const ssize_t written =
      write(STDERR_FILENO, kMessage, sizeof(kMessage) - 1);
  _exit(127);
}

}  // namespace

void LineReader::Read(const LineFn& line) {
  // This reads more than a full pipe holds, but it does not go on without end.
  for (size_t total = 0; fd_ >= 0 && total < 2 * size_t{kPipeBytes};) {
    char bytes[65536];
    const ssize_t count = read(fd_, bytes, sizeof(bytes));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && errno == EAGAIN) return;
    if (count <= 0) return Close();
    total += static_cast<size_t>(count);
    buffer_.append(bytes, static_cast<size_t>(count));
    size_t begin = 0;
    for (size_t end; (end = buffer_.find('\n', begin)) != std::string::npos;
         begin = end + 1) {
      line(std::string_view(buffer_).substr(begin, end - begin));
    }
    buffer_.erase(0, begin);
    if (buffer_.size() > kMaxLine) line(std::exchange(buffer_, {}));
  }
}

void LineReader::Close() {
  if (fd_ >= 0) close(fd_);
  fd_ = -1;
}

absl::StatusOr<std::unique_ptr<WorkerChild>> WorkerChild::Start(
    WorkerArguments arguments) {
  Pipe trace;
  if (absl::Status status = Open(trace); !status.ok()) return status;
  Pipe output;
  if (absl::Status status = Open(output); !status.ok()) return status;
  arguments.trace_fd = trace.write_fd;
  std::vector<std::string> words = FormatWorkerArguments(arguments);
  words.insert(words.begin(), {"reprise", kWorkerProcessCommand});
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);

  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid < 0) return absl::ErrnoToStatus(errno, "cannot start a process");
  if (pid == 0) Become(parent, trace.write_fd, output.write_fd, argv.data());
  return std::unique_ptr<WorkerChild>(
      new WorkerChild(pid, std::exchange(trace.read_fd, -1),
                      std::exchange(output.read_fd, -1)));
}

WorkerChild::~WorkerChild() {
  Signal(SIGKILL);
  WaitForEnd([](std::string_view) {});
}

void WorkerChild::AddPollFds(std::vector<pollfd>& fds) const {
  if (trace_.fd() >= 0) fds.push_back({trace_.fd(), POLLIN, 0});
  if (output_.fd() >= 0) fds.push_back({output_.fd(), POLLIN, 0});
}

void WorkerChild::Read(const LineReader::LineFn& trace_line) {
  trace_.Read(trace_line);
  output_.Read([this](std::string_view line) {
    last_output_.emplace_back(line.substr(0, kKeptLineBytes));
    if (last_output_.size() > kKeptLines) last_output_.pop_front();
  });
}

void WorkerChild::Signal(int signal) {
  if (state_ != State::kDied) kill(pid_, signal);
}

WorkerChild::State WorkerChild::Look() {
  int status = 0;
  while (state_ != State::kDied) {
    const pid_t pid = waitpid(pid_, &status, WNOHANG | WUNTRACED | WCONTINUED);
    if (pid < 0 && errno == EINTR) continue;
    if (pid < 0) state_ = State::kDied;  // Something else waited for it.
    if (pid <= 0) break;
    if (WIFSTOPPED(status)) {
      state_ = State::kStopped;
    } else if (WIFCONTINUED(status)) {
      state_ = State::kRuns;
    } else {
      state_ = State::kDied;
      wait_status_ = status;
    }
  }
  return state_;
}

void WorkerChild::WaitForEnd(const LineReader::LineFn& trace_line) {
  // This waits for the process and not for the end of its pipes, which a child
  // of its own may hold open.
  while (state_ != State::kDied) {
    if (waitpid(pid_, &wait_status_, 0) == pid_) {
      state_ = State::kDied;
    } else if (errno != EINTR) {
      break;
    }
  }
  state_ = State::kDied;
  Read(trace_line);
  trace_.Close();
  output_.Close();
}

bool WorkerChild::died_of(int signal) const {
  return state_ == State::kDied && WIFSIGNALED(wait_status_) &&
         WTERMSIG(wait_status_) == signal;
}

bool WorkerChild::exited_well() const {
  return state_ == State::kDied && WIFEXITED(wait_status_) &&
         WEXITSTATUS(wait_status_) == 0;
}

std::string WorkerChild::DescribeEnd() const {
  std::string text;
  if (WIFSIGNALED(wait_status_)) {
    const int signal = WTERMSIG(wait_status_);
    const char* const name = sigabbrev_np(signal);
    text = absl::StrCat("died of SIG", name == nullptr ? "?" : name, " (",
                        strsignal(signal), ")");
  } else {
    text = absl::StrCat("exited with code ", WEXITSTATUS(wait_status_));
  }
  if (!last_output_.empty()) {
    absl::StrAppend(&text,
                    "; its last words: ", absl::StrJoin(last_output_, " | "));
  }
  if (!output_.rest().empty()) {
    absl::StrAppend(&text, " | ", output_.rest().substr(0, kKeptLineBytes));
  }
  return text;
}

}  // namespace reprise
