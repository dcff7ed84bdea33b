// A worker process on this machine, as its coordinator sees it.

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

// The reading end of a pipe, which it cuts into lines.
class LineReader {
 public:
  using LineFn = std::function<void(std::string_view line)>;

  // Takes over `fd`, which must be non-blocking.
  explicit LineReader(int fd) : fd_(fd) {}
  LineReader(const LineReader&) = delete;
  LineReader& operator=(const LineReader&) = delete;
  ~LineReader() { Close(); }

  int fd() const { return fd_; }  // -1 after the end

  // Calls `line` for each line that has arrived, without its newline. A line of
  // more than kMaxLine bytes comes in pieces.
  void Read(const LineFn& line);
  // After the end: the bytes after the last whole line.
  const std::string& rest() const { return buffer_; }
  void Close();

 private:
  static constexpr size_t kMaxLine = size_t{1} << 20;
  int fd_;
  std::string buffer_;
};

// Not thread-safe. The process is killed when the thread that started it ends.
class WorkerChild {
 public:
  enum class State {
    kRuns,
    kStopped,
    kDied,  // and has been waited for
  };

  // Starts this program as a worker and fills in `arguments.trace_fd`.
  // UNAVAILABLE or RESOURCE_EXHAUSTED if the process cannot be started.
  static absl::StatusOr<std::unique_ptr<WorkerChild>> Start(
      WorkerArguments arguments);

  // Kills the process if it still runs.
  ~WorkerChild();

  // Adds what to poll for: the pipes that are still open.
  void AddPollFds(std::vector<pollfd>& fds) const;
  // Calls `trace_line` for the lines of the trace, and keeps the last lines
  // that the worker printed.
  void Read(const LineReader::LineFn& trace_line);

  // Sends a signal if the process still runs.
  void Signal(int signal);
  // Returns the state of the process, without waiting.
  State Look();
  // Waits for the end of a process that was killed, and reads the rest of its
  // trace and output.
  void WaitForEnd(const LineReader::LineFn& trace_line);

  // Whether the worker has closed its trace, which means that it is about to
  // end.
  bool trace_ended() const { return trace_.fd() < 0; }
  // After the end: whether the trace stopped in the middle of a line.
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
