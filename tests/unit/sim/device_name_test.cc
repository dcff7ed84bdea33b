#include <dlfcn.h>

#include <limits>
#include <sstream>
#include <string>

#include "gtest/gtest.h"
#include "tensorpipe/common/device.h"

namespace reprise {
namespace {

// As libtensorpipe finds it.
using ToString = std::string (*)(const tensorpipe::Device&);
ToString Found() {
  return reinterpret_cast<ToString>(
      dlsym(RTLD_DEFAULT, "_ZNK10tensorpipe6Device8toStringB5cxx11Ev"));
}

TEST(DeviceNameTest, IsTheTextOfTensorPipesHeader) {
  const ToString to_string = Found();
  ASSERT_NE(to_string, nullptr);
  for (const char* type : {"cpu", "cuda", "a type of a longer name", ""}) {
    for (const int index : {0, 7, 12, -1, std::numeric_limits<int>::min()}) {
      std::stringstream expected;
      expected << type << ":" << index;
      EXPECT_EQ(to_string(tensorpipe::Device(type, index)), expected.str());
    }
  }
}

}  // namespace
}  // namespace reprise
