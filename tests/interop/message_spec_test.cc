// That the comparison of messages sees what is wrong with them.

#include "tests/interop/message_spec.h"

#include <stdexcept>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/interop/our_tensors.h"

namespace reprise::interop {
namespace {

using testing::HasSubstr;

// Spoils what was received with `spoil`, and says what is seen of it.
template <typename Spoil>
Comparison CompareSpoiled(const std::string& name, const Spoil& spoil) {
  const MessageSpec message = MakeMessage(name);
  const std::vector<Tensor> tensors = MakeOurTensors(message);
  std::vector<ReceivedTensor> received = ViewOurTensors(tensors);
  spoil(received);
  return Compare(message, received);
}

TEST(MessageSpecTest, WhatWasNotChangedIsTheSame) {
  for (const std::string name :
       {"dtypes", "views", "shared", "empties", "none", "bytes 0", "bytes 1000",
        "many 20", "random 1", "random 2", "random 3"}) {
    const Comparison same = CompareSpoiled(name, [](const auto&) {});
    EXPECT_EQ(same.problem, "") << name;
    EXPECT_EQ(same.different, 0u) << name;
  }
  EXPECT_EQ(CompareSpoiled("bytes 1000", [](const auto&) {}).bytes, 1000u);
  EXPECT_THROW(MakeMessage("nonsense"), std::invalid_argument);
}

TEST(MessageSpecTest, EachNameHasBytesOfItsOwn) {
  EXPECT_NE(StorageOf(MakeMessage("bytes 64/a"), 0),
            StorageOf(MakeMessage("bytes 64/b"), 0));
  EXPECT_NE(StorageOf(MakeMessage("many 2"), 0),
            StorageOf(MakeMessage("many 2"), 1));
  EXPECT_EQ(BytesOf("a", 5), BytesOf("a", 9).substr(0, 5));
}

TEST(MessageSpecTest, EachByteCounts) {
  for (size_t i = 0; i < 100; ++i) {
    const Comparison spoiled =
        CompareSpoiled("bytes 100", [&](std::vector<ReceivedTensor>& tensors) {
          const_cast<char&>(tensors[0].storage[i]) ^= 4;
        });
    EXPECT_EQ(spoiled.different, 1u) << i;
    EXPECT_THAT(spoiled.problem, HasSubstr("1 bytes differ"));
  }
}

TEST(MessageSpecTest, OfAViewTheElementsCount) {
  // The fifth tensor views every other element, from the second one.
  const MessageSpec message = MakeMessage("views");
  for (const size_t spoiled : {2, 3}) {
    std::vector<char> copy = StorageOf(message, 0);
    copy[4 * spoiled] ^= 1;
    const Comparison comparison =
        CompareSpoiled("views", [&](std::vector<ReceivedTensor>& tensors) {
          tensors[4].storage = copy.data();
        });
    EXPECT_EQ(comparison.different, spoiled == 3 ? 1u : 0u);
  }
}

TEST(MessageSpecTest, ShapesCount) {
  const auto problem = [](auto spoil) {
    return CompareSpoiled(
               "shared",
               [&](std::vector<ReceivedTensor>& tensors) { spoil(tensors); })
        .problem;
  };
  using Tensors = std::vector<ReceivedTensor>;
  EXPECT_THAT(problem([](Tensors& t) { t.pop_back(); }),
              HasSubstr("4 tensors instead of 5"));
  EXPECT_THAT(problem([](Tensors& t) { t[0].type = 3; }), HasSubstr("type"));
  EXPECT_THAT(problem([](Tensors& t) { t[0].sizes[0] = 63; }),
              HasSubstr("sizes"));
  EXPECT_THAT(problem([](Tensors& t) { t[3].strides[0] = 63; }),
              HasSubstr("strides"));
  EXPECT_THAT(problem([](Tensors& t) { t[3].offset = 1023; }),
              HasSubstr("offset"));
  EXPECT_THAT(problem([](Tensors& t) { t[3].offset = 1025; }),
              HasSubstr("beyond"));
  EXPECT_THAT(problem([](Tensors& t) { t[1].requires_grad = true; }),
              HasSubstr("requires_grad"));
  const std::vector<char> copy = StorageOf(MakeMessage("shared"), 0);
  EXPECT_THAT(problem([&](Tensors& t) { t[2].storage = copy.data(); }),
              HasSubstr("shares no storage"));
  EXPECT_THAT(problem([](Tensors& t) { t[4].storage = t[3].storage; }),
              HasSubstr("shares a storage"));
}

}  // namespace
}  // namespace reprise::interop
