#include "sim/explore/child_process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <new>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "sim/explore/obituary.h"
#include "sim/world/interposition.h"

namespace reprise {
namespace {

constexpr int64_t kSecond = 1'000'000'000;
constexpr int64_t kReactionNs = 3 * kSecond;  // to the signal for a hang
constexpr int64_t kMaxOutput = 64 << 10;      // of a run that is looked at

int64_t Nanoseconds(const timespec& time) {
  return int64_t{time.tv_sec} * kSecond + time.tv_nsec;
}

int64_t Now() {
  timespec now = {};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return Nanoseconds(now);
}

int64_t CpuOf(pid_t pid) {
  clockid_t clock = 0;
  timespec used = {};
  if (clock_getcpuclockid(pid, &clock) != 0) return 0;
  return clock_gettime(clock, &used) == 0 ? Nanoseconds(used) : 0;
}

// 'R' runs or wants to, 'S' and 'D' sleep, 'T' and 't' are stopped.
char StateOf(pid_t pid) {
  std::ifstream file(absl::StrCat("/proc/", pid, "/stat"));
  std::string line;
  std::getline(file, line);
  const size_t name_end = line.rfind(')');
  return name_end == std::string::npos || name_end + 2 >= line.size()
             ? '?'
             : line[name_end + 2];
}

absl::Status SystemError(std::string_view what) {
  return absl::UnavailableError(
      absl::StrCat(std::string(what), ": ", std::strerror(errno)));
}

}  // namespace

void ChildProcess::Unmap::operator()(DeathRecord* record) const {
  munmap(record, sizeof(DeathRecord));
}

absl::StatusOr<std::unique_ptr<ChildProcess>> ChildProcess::Start(
    const ChildOptions& options, const Work& work) {
  auto child = std::unique_ptr<ChildProcess>(new ChildProcess(options));
  absl::StatusOr<std::unique_ptr<SharedLog>> log =
      SharedLog::Make(options.log_bytes);
  if (!log.ok()) return log.status();
  child->log_ = *std::move(log);
  void* const memory =
      mmap(nullptr, sizeof(DeathRecord), PROT_READ | PROT_WRITE,
           MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return SystemError("no memory to share");
  child->record_.reset(static_cast<DeathRecord*>(memory));
  child->output_ = memfd_create("standard error", MFD_CLOEXEC);
  if (child->output_ < 0) return SystemError("no file in memory");
  if (absl::Status status = child->Fork(work); !status.ok()) return status;
  return child;
}

absl::Status ChildProcess::Fork(const Work& work) {
  if (interposition != nullptr) interposition->prepare_child();
  // Else the child would write what the parent has not written yet.
  std::fflush(nullptr);
  const pid_t parent = getpid();
  pid_ = fork();
  if (pid_ < 0) return SystemError("cannot fork");
  if (pid_ == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(kDeathExitCode);
    fcntl(output_, F_SETFL, O_APPEND);
    dup2(output_, STDERR_FILENO);
    LeaveRecordAtDeath(record_.get());
    // An exception must not find a handler of the parent's.
    [&]() noexcept { work(*log_); }();
    std::fflush(nullptr);
    _exit(0);
  }
  pidfd_ = static_cast<int>(syscall(SYS_pidfd_open, pid_, 0));
  awake_ns_ = wrote_ns_ = looked_ns_ = Now();
  return absl::OkStatus();
}

ChildProcess::~ChildProcess() {
  if (pid_ > 0 && !ended_) {
    kill(pid_, SIGKILL);
    while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
    }
  }
  if (output_ >= 0) {
    PassOnOutput();
    close(output_);
  }
  if (pidfd_ >= 0) close(pidfd_);
}

bool ChildProcess::HasEnded() {
  if (ended_) return true;
  PassOnOutput();
  const pid_t got = waitpid(pid_, &wait_status_, WNOHANG);
  if (got == pid_) {
    ended_ = true;
    PassOnOutput();
    return true;
  }
  Watch();
  return false;
}

void ChildProcess::PassOnOutput() {
  struct stat file = {};
  if (fstat(output_, &file) != 0) return;
  char bytes[4096];
  while (passed_on_ < file.st_size) {
    const ssize_t count = pread(output_, bytes, sizeof(bytes), passed_on_);
    if (count <= 0) return;
    std::fwrite(bytes, 1, static_cast<size_t>(count), stderr);
    passed_on_ += count;
  }
}

void ChildProcess::Watch() {
  const int64_t now = Now();
  const int64_t cpu = CpuOf(pid_);
  if (!hang_.empty()) {
    if (now - hang_ns_ > kReactionNs) kill(pid_, SIGKILL);
    return;
  }
  const uint64_t run = record_->runs;
  const char state = StateOf(pid_);
  const bool sleeps = (state == 'S' || state == 'D') && cpu == cpu_ns_;
  // Nobody looked for a while, so nothing is known about that time.
  const bool is_gap = now - looked_ns_ > kSecond;
  looked_ns_ = now;
  cpu_ns_ = cpu;
  if (run != watched_run_ || !record_->in_run || !sleeps || is_gap) {
    awake_ns_ = now;
  }
  if (run != watched_run_ || log_->num_bytes() != log_bytes_) {
    idle_cpu_ns_ = cpu;
    wrote_ns_ = now;
  }
  watched_run_ = run;
  log_bytes_ = log_->num_bytes();
  if (!record_->in_run) return;
  const auto over = [](int64_t ns, double seconds) {
    return seconds > 0 &&
           static_cast<double>(ns) > seconds * static_cast<double>(kSecond);
  };
  const double idle = options_.max_idle_seconds;
  if (over(cpu - record_->begin_cpu_ns, options_.max_seconds)) {
    EndHang(
        absl::StrFormat("the run used %g s of CPU time", options_.max_seconds));
  } else if (over(now - awake_ns_, options_.max_seconds)) {
    EndHang(absl::StrFormat("the process slept for %g s of real time",
                            options_.max_seconds));
  } else if (over(cpu - idle_cpu_ns_, idle)) {
    EndHang(absl::StrFormat("nothing happened in %g s of CPU time", idle));
  } else if (over(now - std::max(awake_ns_, wrote_ns_), idle)) {
    EndHang(absl::StrFormat("the process slept for %g s of real time", idle));
  }
}

void ChildProcess::EndHang(std::string how) {
  hang_ = std::move(how);
  hang_ns_ = Now();
  kill(pid_, HangSignal());
}

bool ChildProcess::ended_well() const {
  return WIFEXITED(wait_status_) && WEXITSTATUS(wait_status_) == 0 &&
         !record_->in_run;
}

bool ChildProcess::was_interrupted() const {
  return WIFEXITED(wait_status_) &&
         WEXITSTATUS(wait_status_) == kDeathExitCode &&
         record_->kind == DeathKind::kNone;
}

void ChildProcess::DescribeTo(RunResult& result) {
  Death death;
  death.record = record_.get();
  death.wait_status = wait_status_;
  death.was_hanging = !hang_.empty();
  death.hang = hang_;
  struct stat file = {};
  if (fstat(output_, &file) == 0) {
    const int64_t begin =
        std::max<int64_t>(record_->begin_output, file.st_size - kMaxOutput);
    death.output.resize(
        static_cast<size_t>(std::max<int64_t>(0, file.st_size - begin)));
    const ssize_t count =
        pread(output_, death.output.data(), death.output.size(), begin);
    death.output.resize(count < 0 ? 0 : static_cast<size_t>(count));
  }
  DescribeDeath(death, result);
}

bool IsDebugged() {
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("TracerPid:", 0) == 0) {
      return line.find_first_of("123456789") != std::string::npos;
    }
  }
  return false;
}

}  // namespace reprise
