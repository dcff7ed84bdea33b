// Store servers that tests start on 127.0.0.1.

#ifndef REPRISE_TESTS_UNIT_STORE_SERVER_PROCESS_H_
#define REPRISE_TESTS_UNIT_STORE_SERVER_PROCESS_H_

#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

#include "tests/unit/store/temporary_directory.h"

namespace reprise {

// A program with pipes to its standard input and from its standard output. The
// destructor kills it and waits for it. It is killed too if the test is killed.
class ServerProcess {
 public:
  // The first of `arguments` is the name that the program gets as argv[0].
  ServerProcess(const std::string& program, std::vector<std::string> arguments);
  ServerProcess(const ServerProcess&) = delete;
  ServerProcess& operator=(const ServerProcess&) = delete;
  ~ServerProcess() { Kill(); }

  // Sends SIGKILL and returns when the program has ended.
  void Kill();
  bool IsAlive();
  void Signal(int signal);
  // Closes its standard input and returns when it has ended: the status with
  // which it did, 0 if all went well, or -1 if it had not been started.
  int Wait();

  void WriteLine(const std::string& line);
  // Reads a line without its newline; "" at the end of the output.
  std::string ReadLine();

 private:
  pid_t pid_ = -1;
  int input_ = -1;
  int output_ = -1;
};

// Redis on a free port. Its data survive a kill.
class RedisServer {
 public:
  // Fails the test if it cannot be started. `options` are those of Redis's
  // command line.
  explicit RedisServer(std::vector<std::string> options = {});

  void Kill() { process_->Kill(); }
  void Signal(int signal) { process_->Signal(signal); }
  // To be called after a kill: starts it with the same port and data.
  void Restart();

  // `userinfo` is "" or ends in '@'.
  std::string Url(const std::string& userinfo = "",
                  const std::string& rest = "") const;
  const std::string& port() const { return port_; }

 private:
  void Launch();
  // Waits until it answers; false if it ended.
  bool Serves();

  const std::vector<std::string> options_;
  const TemporaryDirectory directory_;
  std::string port_;
  std::unique_ptr<ServerProcess> process_;
};

}  // namespace reprise

#endif  // REPRISE_TESTS_UNIT_STORE_SERVER_PROCESS_H_
