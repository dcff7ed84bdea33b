// Objects of all types that libnop can encode, whole, cut off and damaged.

#include "agent/transport/whole_object.h"

#include <array>  // nop needs it
#include <cstddef>
#include <cstdint>
#include <map>
#include <random>
#include <string>
#include <string_view>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

#include "agent/transport/uv/decode.h"
#include "gtest/gtest.h"
#include "nop/serializer.h"
#include "nop/structure.h"
#include "nop/types/optional.h"
#include "nop/types/result.h"
#include "nop/types/variant.h"
#include "tensorpipe/common/nop.h"
#include "tests/unit/transport/private_object.h"

namespace reprise::testing {
namespace {

enum class Shade : uint16_t { kLight = 3, kDark = 40'000 };
enum class Cause : int8_t { None, kLost };  // nop requires a `None`

struct Numbers {
  bool flag = true;
  char letter = 'r';
  uint8_t u8 = 200;
  int8_t i8 = -100;
  uint16_t u16 = 300;
  int16_t i16 = -300;
  uint32_t u32 = 70'000;
  int32_t i32 = -70'000;
  uint64_t u64 = uint64_t{1} << 60;
  int64_t i64 = -(int64_t{1} << 60);
  float f32 = 1.5;
  double f64 = 2.5;
  Shade shade = Shade::kDark;
  NOP_STRUCTURE(Numbers, flag, letter, u8, i8, u16, i16, u32, i32, u64, i64,
                f32, f64, shade);
};

struct Buffer {
  std::array<std::string, 4> names;
  size_t num_names = 0;
  std::array<uint32_t, 8> values = {};
  size_t num_values = 0;
  NOP_STRUCTURE(Buffer, (names, num_names), (values, num_values));
};

struct Everything {
  Numbers numbers;
  std::string text;
  std::u16string wide;
  std::vector<uint16_t> shorts;
  std::vector<std::string> texts;
  std::vector<std::vector<Shade>> shades;
  std::array<uint32_t, 3> three = {};
  std::array<std::string, 2> two;
  std::map<std::string, uint32_t> sorted;
  std::unordered_map<int32_t, std::string> hashed;
  std::pair<uint8_t, std::string> pair;
  std::tuple<float, int16_t, std::string> tuple;
  nop::Optional<std::string> some;
  tensorpipe::optional<int64_t> other;
  nop::Variant<std::string, int32_t, std::vector<std::string>> variant;
  nop::Result<Cause, std::string> result;
  Buffer buffer;
  NOP_STRUCTURE(Everything, numbers, text, wide, shorts, texts, shades, three,
                two, sorted, hashed, pair, tuple, some, other, variant, result,
                buffer);
};

Everything Filled() {
  Everything all;
  all.text = "text";
  all.wide = u"wide";
  all.shorts = {1, 2, 60'000};
  all.texts = {"one", "", "three"};
  all.shades = {{}, {Shade::kLight, Shade::kDark}};
  all.three = {1, 2, 3};
  all.two = {"first", "second"};
  all.sorted = {{"a", 1}, {"b", 100'000}};
  all.hashed = {{-1, "minus"}, {1000, "plus"}};
  all.pair = {7, "seven"};
  all.tuple = {0.5F, -5, "tuple"};
  all.some = std::string("some");
  all.other = -77;
  all.variant = std::vector<std::string>{"in", "variant"};
  all.result = std::string("result");
  all.buffer.names = {"x", "y"};
  all.buffer.num_names = 2;
  all.buffer.values = {5, 6, 7};
  all.buffer.num_values = 3;
  return all;
}

Everything Emptied() {
  Everything all;
  // TensorPipe's writer would copy from a null pointer, which UBSan minds.
  all.shorts = {1};
  all.result = Cause::kLost;
  return all;
}

// Reads within bounds what is said to be a `T`, and compares what that reader
// finds with what the walk says. Returns both.
template <typename T>
std::pair<bool, bool> Compare(const std::string& bytes) {
  T object;
  BoundedReader reader(bytes.data(), bytes.size());
  const nop::Status<void> status = nop::Encoding<T>::Read(&object, &reader);
  const bool is_whole = IsWholeObject(bytes);
  if (is_whole && status) {
    EXPECT_TRUE(reader.empty());
  } else if (is_whole) {
    EXPECT_NE(status.error(), nop::ErrorStatus::ReadLimitReached);
  } else {
    EXPECT_FALSE(status && reader.empty());
  }
  return {is_whole, static_cast<bool>(status)};
}

// Bytes with some changes. Half of the new bytes are prefixes.
std::string Damaged(std::string bytes, std::mt19937& random) {
  const auto new_byte = [&random] {
    constexpr std::string_view kPrefixes(
        "\x00\x01\x02\x80\x81\x82\x83\x84\x85\x86\x87\x88\x89\xb5\xb6\xb7\xb8"
        "\xb9\xba\xbb\xbc\xbd\xbe\xbf\xff",
        25);
    return random() % 2 == 0 ? static_cast<char>(random())
                             : kPrefixes[random() % kPrefixes.size()];
  };
  for (size_t changes = 1 + random() % 3; changes > 0; --changes) {
    const size_t place = random() % bytes.size();
    switch (random() % 8) {
      case 0:
        bytes.insert(place, 1, new_byte());
        break;
      case 1:
        if (bytes.size() > 1) bytes.erase(place, 1 + random() % 4);
        if (bytes.empty()) bytes = "?";
        break;
      default:
        bytes[place] = new_byte();
    }
  }
  return bytes;
}

template <typename T>
void CheckDamaged(const std::string& bytes, int rounds) {
  std::mt19937 random(23);
  int both = 0;
  int walk_only = 0;
  for (int i = 0; i < rounds; ++i) {
    const std::string damaged = Damaged(bytes, random);
    const auto [is_whole, is_read] = Compare<T>(damaged);
    both += is_whole && is_read;
    walk_only += is_whole && !is_read;
    if (::testing::Test::HasFailure()) FAIL() << "round " << i;
  }
  // Many are still objects, of the type or of another one.
  EXPECT_GT(both, rounds / 200);
  EXPECT_GT(walk_only, rounds / 200);
}

TEST(WholeObjectTest, AnObjectOfAnyTypeIsWholeOrCutOff) {
  for (const std::string& bytes :
       {Encoded(Filled()), Encoded(Emptied()), Encoded(FilledPrivateObject()),
        Encoded(PrivateObject())}) {
    EXPECT_TRUE(IsWholeObject(bytes));
    EXPECT_FALSE(IsWholeObject(bytes + '\0'));
    for (size_t size = 0; size < bytes.size(); ++size) {
      EXPECT_FALSE(IsWholeObject(bytes.substr(0, size))) << size;
    }
  }
  EXPECT_EQ(Compare<Everything>(Encoded(Filled())), std::pair(true, true));
  EXPECT_EQ(Compare<Everything>(Encoded(Emptied())), std::pair(true, true));
}

TEST(WholeObjectTest, NoReaderAsksForMoreThanTheWalkHasSeen) {
  CheckDamaged<Everything>(Encoded(Filled()), 50'000);
  CheckDamaged<Everything>(Encoded(Emptied()), 50'000);
  CheckDamaged<PrivateObject>(Encoded(FilledPrivateObject()), 50'000);
}

TEST(WholeObjectTest, DamagedObjectsAreReadWithinTheirBytes) {
  const std::string whole = Encoded(FilledPrivateObject());
  tensorpipe::NopHolder<PrivateObject> object;
  EXPECT_TRUE(ReadWholeObject(whole, object));
  EXPECT_EQ(object.getObject().slot, 300u);
  EXPECT_EQ(object.getObject().memory->events.size(), 4u);
  std::mt19937 random(29);
  for (int i = 0; i < 50'000; ++i) {
    const std::string damaged = Damaged(whole, random);
    // AddressSanitizer finds a read beyond the end.
    const std::vector<char> exact(damaged.begin(), damaged.end());
    tensorpipe::NopHolder<PrivateObject> holder;
    ReadWholeObject({exact.data(), exact.size()}, holder);
  }
}

TEST(WholeObjectTest, AStringThatIsNotThereIsRefused) {
  tensorpipe::NopHolder<PrivateObject> object;
  EXPECT_FALSE(ReadWholeObject(kOverrun, object));
}

TEST(WholeObjectTest, OtherTypesAreNotRead) {
  tensorpipe::NopHolder<Numbers> numbers;
  EXPECT_FALSE(ReadWholeObject(Encoded(FilledPrivateObject()), numbers));
  EXPECT_FALSE(ReadWholeObject({}, numbers));
}

TEST(WholeObjectTest, CountsThatCannotBeAreRefused) {
  for (const char prefix : {'\xb9', '\xba', '\xbb', '\xbc', '\xbd'}) {
    const std::string huge = std::string(1, '\x83') + std::string(8, '\xff');
    EXPECT_FALSE(IsWholeObject(prefix + huge));
    EXPECT_FALSE(IsWholeObject(prefix + huge + std::string(100, '\0')));
    EXPECT_FALSE(IsWholeObject({&prefix, 1}));
    // Signed numbers.
    EXPECT_FALSE(IsWholeObject(std::string{prefix, '\xff'}));
    EXPECT_FALSE(IsWholeObject(std::string{prefix, '\x84', '\0'}));
    EXPECT_TRUE(IsWholeObject(std::string{prefix, '\0'}));
  }
  // Twice as many objects as are counted: the sum has 65 bits.
  EXPECT_FALSE(IsWholeObject("\xbb\x83" + std::string(7, '\0') + '\x80'));
}

TEST(WholeObjectTest, WhatCannotBeWalkedIsRefused) {
  for (int byte = 0; byte < 256; ++byte) {
    const std::string object =
        static_cast<char>(byte) + std::string(9, '\0');  // of any length
    bool is_whole = false;
    for (size_t size = 1; size <= object.size(); ++size) {
      is_whole = is_whole || IsWholeObject(object.substr(0, size));
    }
    const bool is_reserved = byte >= 0x8a && byte <= 0xb4;
    const bool is_opaque = byte == 0xb5 || byte == 0xb7 || byte == 0xbf;
    EXPECT_EQ(is_whole, !is_reserved && !is_opaque) << byte;
  }
}

TEST(WholeObjectTest, DepthIsBounded) {
  const auto nested = [](int depth) {
    std::string bytes;
    for (int i = 1; i < depth; ++i) bytes += "\xba\x01";
    return bytes + '\0';
  };
  EXPECT_TRUE(IsWholeObject(nested(16)));
  EXPECT_FALSE(IsWholeObject(nested(17)));
  EXPECT_FALSE(IsWholeObject(nested(1'000'000)));
}

}  // namespace
}  // namespace reprise::testing
