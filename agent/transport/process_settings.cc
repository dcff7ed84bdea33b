// What the transports need of the process as a whole.

#include <signal.h>
#include <sys/resource.h>

#include "agent/transport/transports.h"
#include "glog/logging.h"

namespace reprise {

void IgnoreSigpipe() {
  struct sigaction action = {};
  if (sigaction(SIGPIPE, nullptr, &action) != 0 ||
      (action.sa_flags & SA_SIGINFO) != 0 || action.sa_handler != SIG_DFL) {
    return;
  }
  action.sa_handler = SIG_IGN;
  PLOG_IF(ERROR, sigaction(SIGPIPE, &action, nullptr) != 0)
      << "cannot ignore SIGPIPE";
}

void RaiseDescriptorLimit() {
  rlimit limit = {};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 ||
      limit.rlim_cur == limit.rlim_max) {
    return;
  }
  const rlim_t before = limit.rlim_cur;
  limit.rlim_cur = limit.rlim_max;
  if (setrlimit(RLIMIT_NOFILE, &limit) == 0) {
    VLOG(1) << "the limit of open files is " << limit.rlim_max
            << " now, and was " << before;
  } else {
    PLOG(WARNING) << "the limit of open files stays " << before;
  }
}

}  // namespace reprise
