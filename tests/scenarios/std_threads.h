// Ordinary threading code, in groups: each uses one part of std::, absl:: or
// POSIX as a service would, and none of the project. A group returns an empty
// text, or what went wrong.

#ifndef REPRISE_TESTS_SCENARIOS_STD_THREADS_H_
#define REPRISE_TESTS_SCENARIOS_STD_THREADS_H_

#include <functional>
#include <string>

namespace std_threads {

// Makes a call to another worker with this text, and returns the reply's.
using Call = std::function<std::string(const std::string& text)>;

std::string Mutexes();
std::string SharedMutexes();
std::string ConditionVariables();
std::string Onces();
std::string Threads();
std::string Locals();
std::string Futures();
std::string Atomics();
std::string Semaphores();
std::string AbslLocks();
std::string Polls();
std::string Pool(const Call& call);

// Clocks, random numbers and ids as a text, which depends on the seed alone.
std::string Sources();

// Locks two mutexes in both orders.
void Inversion();
// Reads a balance and writes it under two locks. False: a payment was lost.
bool LostUpdate();

}  // namespace std_threads

#endif  // REPRISE_TESTS_SCENARIOS_STD_THREADS_H_
