// Pickles that PyTorch wrote (dump.py), for the tests of agent/python.

#ifndef REPRISE_TESTS_UNIT_PYTHON_PYTHON_TESTING_H_
#define REPRISE_TESTS_UNIT_PYTHON_PYTHON_TESTING_H_

#include <fstream>
#include <iterator>
#include <string>
#include <utility>

#include "agent/message.h"
#include "gtest/gtest.h"

namespace reprise {

// `name` with its ending.
inline std::string Golden(const std::string& name) {
  const std::string path = "tests/unit/python/golden/" + name;
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file.is_open()) << path;
  return {std::istreambuf_iterator<char>(file), {}};
}

inline Message MessageOf(int type, std::string payload) {
  Message message;
  message.type = static_cast<MessageType>(type);
  message.payload = std::move(payload);
  return message;
}

// As a worker sends a pickled call of a function that is not asynchronous.
inline Message PythonCallOf(const std::string& pickle) {
  return MessageOf(0x102, std::string(1, '\0') + pickle);
}

}  // namespace reprise

#endif  // REPRISE_TESTS_UNIT_PYTHON_PYTHON_TESTING_H_
