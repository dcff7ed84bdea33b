// A worker process, as its coordinator sees it.

#ifndef REPRISE_TOOLS_PROCESSES_WORKER_CHILD_H_
#define REPRISE_TOOLS_PROCESSES_WORKER_CHILD_H_

#include <poll.h>
#include <sys/types.h>

#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "tools/processes/worker_arguments.h"

namespace reprise {

// The reading end of a pipe, taken apart into lines.
class LineReader {
 public:
  using LineFn = std::function<void(std::string_view line)>;

  // Takes `fd` over, which must not block.
  explicit LineReader(int fd) : fd_(fd) {}
  LineReader(const LineReader&) = delete;
  LineReader& operator=(const LineReader&) = delete;
  ~LineReader() { Close(); }

  int fd() const { return fd_; }  // -1 at the end

  // Hands over the lines that are there, without their ends. A longer line
  // than kMaxLine comes in pieces.
  void Read(const LineFn& line);
  // After the end: what came after the last whole line.
  const std::string& rest() const { return buffer_; }
  void Close();

 private:
  static constexpr size_t kMaxLine = size_t{1} << 20;
  int fd_;
  std::string buffer_;
};

// Not thread-safe. Dies with the thread that started it.
class WorkerChild {
 public:
  enum class State {
    kRuns,
    kStopped,
    kDied,  // and was reaped
  };

  // Starts this very program as a worker. `arguments.trace_fd` is filled in.
  // UNAVAILABLE or RESOURCE_EXHAUSTED when there is no process to be had.
  static absl::StatusOr<std::unique_ptr<WorkerChild>> Start(
      WorkerArguments arguments);

  // Kills the process if it still runs.
  ~WorkerChild();

  // What to poll for: the pipes that are still open.
  void AddPollFds(std::vector<pollfd>& fds) const;
  // Hands over the lines of the trace, and keeps what it printed.
  void Read(const LineReader::LineFn& trace_line);

  // Sends a signal, if the process still runs.
  void Signal(int signal);
  // Looks, without waiting, how the process is.
  State Look();
  // Waits for the end of a process that has been killed, and reads what it
  // left behind.
  void WaitForEnd(const LineReader::LineFn& trace_line);

  // Whether it has closed its trace: it is about to end.
  bool trace_ended() const { return trace_.fd() < 0; }
  // After the end: whether it stopped in the middle of a line.
  bool trace_is_torn() const { return !trace_.rest().empty(); }
  bool died_of(int signal) const;
  bool exited_well() const;
  // "exited with code 3", "died of SIGABRT (Aborted)", and its last words.
  std::string DescribeEnd() const;

 private:
  WorkerChild(pid_t pid, int trace_fd, int output_fd)
      : pid_(pid), trace_(trace_fd), output_(output_fd) {}

  const pid_t pid_;
  State state_ = State::kRuns;
  int wait_status_ = 0;  // once it died
  LineReader trace_;
  LineReader output_;
  std::deque<std::string> last_output_;
};

}  // namespace reprise

#endif  // REPRISE_TOOLS_PROCESSES_WORKER_CHILD_H_
