// What the groups of std_threads.h check with.

#ifndef REPRISE_TESTS_SCENARIOS_STD_THREADS_CHECKS_H_
#define REPRISE_TESTS_SCENARIOS_STD_THREADS_CHECKS_H_

#include <chrono>
#include <string>

namespace std_threads {

using namespace std::chrono_literals;  // NOLINT(google-build-using-namespace)
using Clock = std::chrono::steady_clock;

// Ends the group with the condition as its error, unless it holds.
#define REQUIRE(...)                         \
  do {                                       \
    if (!(__VA_ARGS__)) {                    \
      return "does not hold: " #__VA_ARGS__; \
    }                                        \
  } while (false)

}  // namespace std_threads

#endif  // REPRISE_TESTS_SCENARIOS_STD_THREADS_CHECKS_H_
