// How a worker reads its environment; tests give it another one.

#ifndef REPRISE_TOOLS_PROCESSES_ENVIRON_H_
#define REPRISE_TOOLS_PROCESSES_ENVIRON_H_

#include <functional>

namespace reprise {

// Returns the value of an environment variable; null if it is not set.
using Environ = std::function<const char*(const char* name)>;

}  // namespace reprise

#endif  // REPRISE_TOOLS_PROCESSES_ENVIRON_H_
