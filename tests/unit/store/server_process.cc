#include "tests/unit/store/server_process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <random>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "agent/runtime/runtime.h"
#include "gtest/gtest.h"

namespace reprise {
namespace {

// The package redis-tools has this program and starts no service. The program
// is the server if argv[0] says so.
constexpr char kRedisProgram[] = "/usr/bin/redis-check-rdb";
// The ports are below those that the system gives to clients.
constexpr int kFirstPort = 20000;
constexpr int kPorts = 10000;
constexpr int kPortTries = 100;

}  // namespace

ServerProcess::ServerProcess(const std::string& program,
                             std::vector<std::string> arguments) {
  std::array<int, 2> input;
  std::array<int, 2> output;
  if (pipe2(input.data(), O_CLOEXEC) != 0 ||
      pipe2(output.data(), O_CLOEXEC) != 0) {
    ADD_FAILURE() << "no pipes";
    return;
  }
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  pid_ = fork();
  if (pid_ == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dup2(input[0], STDIN_FILENO);
    dup2(output[1], STDOUT_FILENO);
    execv(program.c_str(), argv.data());
    _exit(127);
  }
  close(input[0]);
  close(output[1]);
  input_ = input[1];
  output_ = output[0];
}

void ServerProcess::Kill() {
  if (pid_ <= 0) return;
  kill(pid_, SIGKILL);
  Wait();
}

int ServerProcess::Wait() {
  int status = -1;
  if (pid_ > 0) {
    close(input_);
    waitpid(pid_, &status, 0);
    close(output_);
  }
  pid_ = -1;
  return status;
}

bool ServerProcess::IsAlive() {
  siginfo_t info = {};
  return pid_ > 0 &&
         waitid(P_PID, static_cast<id_t>(pid_), &info,
                WEXITED | WNOHANG | WNOWAIT) == 0 &&
         info.si_pid == 0;
}

void ServerProcess::Signal(int signal) { kill(pid_, signal); }

void ServerProcess::WriteLine(const std::string& line) {
  const std::string bytes = line + "\n";
  EXPECT_EQ(write(input_, bytes.data(), bytes.size()),
            static_cast<ssize_t>(bytes.size()));
}

std::string ServerProcess::ReadLine() {
  std::string line;
  char c;
  while (read(output_, &c, 1) == 1) {
    if (c == '\n') return line;
    line.push_back(c);
  }
  return "";
}

RedisServer::RedisServer(std::vector<std::string> options)
    : options_(std::move(options)) {
  // In a sandbox all tests have the same process id.
  static unsigned next = std::random_device()();
  for (int i = 0; i < kPortTries; ++i) {
    port_ = absl::StrCat(kFirstPort + next++ % kPorts);
    Launch();
    if (Serves()) return;
  }
  ADD_FAILURE() << "cannot start Redis (" << kRedisProgram
                << "); tools/setup.sh installs it";
}

void RedisServer::Restart() {
  // The system may need a moment to give the port back.
  for (int i = 0; i < kPortTries; ++i) {
    Launch();
    if (Serves()) return;
    RealRuntime().SleepUntil(RealRuntime().Now() + absl::Milliseconds(50));
  }
  ADD_FAILURE() << "cannot start Redis again on port " << port_;
}

std::string RedisServer::Url(const std::string& userinfo,
                             const std::string& rest) const {
  return absl::StrCat("redis://", userinfo, "127.0.0.1:", port_, rest);
}

void RedisServer::Launch() {
  std::vector<std::string> arguments = {
      "redis-server", "--bind", "127.0.0.1", "--port", port_, "--dir",
      directory_.path(), "--save", "", "--appendonly", "yes",
      // The file is written before each answer; by default it may be up to 2 s
      // later.
      "--appendfsync", "no"};
  arguments.insert(arguments.end(), options_.begin(), options_.end());
  process_ = std::make_unique<ServerProcess>(kRedisProgram, arguments);
}

bool RedisServer::Serves() {
  // Another test's server may answer on the port, so this waits for what ours
  // prints.
  while (true) {
    const std::string line = process_->ReadLine();
    if (line.empty() && !process_->IsAlive()) return false;
    if (absl::StrContains(line, "Ready to accept connections")) return true;
  }
}

}  // namespace reprise
