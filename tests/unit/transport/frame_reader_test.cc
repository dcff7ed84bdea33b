#include "agent/transport/uv/frame_reader.h"

#include <algorithm>
#include <cstring>
#include <deque>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "gtest/gtest.h"
#include "tensorpipe/common/error.h"
#include "tests/unit/transport/greetings.h"

namespace reprise {
namespace {

using testing::Frame;

// Reads into memory of its own, and notes what came.
class FrameReaderTest : public ::testing::Test {
 protected:
  void Read(size_t length) {
    places_.emplace_back(length, '?');
    reader_.Read(length == 0 ? nullptr : places_.back().data(), length,
                 [this](const tensorpipe::Error& error, const void* bytes,
                        size_t size) { Note(error, bytes, size); });
  }
  void ReadUpTo(size_t longest) {
    reader_.ReadUpTo(longest,
                     [this](const tensorpipe::Error& error, const void* bytes,
                            size_t size) { Note(error, bytes, size); });
  }

  FrameReader reader_;
  std::vector<std::string> came_;

 private:
  void Note(const tensorpipe::Error& error, const void* bytes, size_t size) {
    came_.push_back(error ? "failed"
                          : std::string(static_cast<const char*>(bytes), size));
  }

  std::deque<std::string> places_;
};

TEST_F(FrameReaderTest, FramesComeInTheOrderOfTheReads) {
  Read(3);
  ReadUpTo(10);
  Read(0);
  ReadUpTo(0);
  EXPECT_TRUE(reader_.is_waiting());
  EXPECT_TRUE(reader_.Take(Frame("one") + Frame("second") + Frame("") +
                           Frame("") + Frame("kept")));
  EXPECT_EQ(came_, (std::vector<std::string>{"one", "second", "", ""}));
  EXPECT_FALSE(reader_.is_waiting());
  Read(4);
  EXPECT_TRUE(reader_.Take({}));
  EXPECT_EQ(came_.back(), "kept");
}

TEST_F(FrameReaderTest, HoweverTheBytesAreCut) {
  std::mt19937 random(5);
  for (int round = 0; round < 200; ++round) {
    std::vector<std::string> sent;
    std::string bytes;
    for (int i = 0; i < 20; ++i) {
      sent.emplace_back(random() % 50 == 0 ? 40'000 : random() % 30,
                        static_cast<char>('a' + i));
      bytes += Frame(sent.back());
    }
    came_.clear();
    size_t asked = 0;
    for (size_t at = 0; at < bytes.size();) {
      // Some reads come before their bytes, and some after.
      while (asked < sent.size() && random() % 3 != 0) {
        const size_t length = sent[asked++].size();
        random() % 2 == 0 ? Read(length) : ReadUpTo(length + random() % 2);
        ASSERT_TRUE(reader_.Take({}));
      }
      const absl::Span<char> room = reader_.Room();
      size_t size = 1 + random() % (round % 2 == 0 ? 20 : 30'000);
      size = std::min(size, bytes.size() - at);
      if (room.empty()) {
        ASSERT_TRUE(reader_.Take(std::string_view(bytes).substr(at, size)));
      } else {
        size = std::min(size, room.size());
        std::memcpy(room.data(), &bytes[at], size);
        ASSERT_TRUE(reader_.Filled(size));
      }
      at += size;
    }
    for (; asked < sent.size(); ++asked) Read(sent[asked].size());
    ASSERT_TRUE(reader_.Take({}));
    ASSERT_EQ(came_, sent);
  }
}

TEST_F(FrameReaderTest, MuchGoesStraightIntoPlace) {
  Read(100'000);
  EXPECT_TRUE(reader_.Room().empty());
  EXPECT_TRUE(reader_.Take(Frame(std::string(100'000, 'x')).substr(0, 108)));
  EXPECT_EQ(reader_.Room().size(), 99'900u);
}

TEST_F(FrameReaderTest, AFrameOfAnotherLengthMakesNoSense) {
  for (const size_t length : {size_t{0}, size_t{4}, size_t{6}, ~size_t{0}}) {
    FrameReader reader;
    std::string place(5, '?');
    reader.Read(place.data(), 5,
                [](const tensorpipe::Error&, const void*, size_t) { FAIL(); });
    std::string header(reinterpret_cast<const char*>(&length), sizeof(length));
    EXPECT_FALSE(reader.Take(header + "bytes...")) << length;
    EXPECT_EQ(place, "?????");
  }
  ReadUpTo(5);
  EXPECT_FALSE(reader_.Take(Frame("longer").substr(0, 8)));
  EXPECT_TRUE(came_.empty());
}

TEST_F(FrameReaderTest, AnEmptyReadGetsItsOwnPointer) {
  const void* got = this;
  reader_.Read(nullptr, 0,
               [&](const tensorpipe::Error&, const void* bytes, size_t) {
                 got = bytes;
               });
  EXPECT_TRUE(reader_.Take(Frame("")));
  EXPECT_EQ(got, nullptr);
}

// Headers of four bytes, from a caller that keeps what nobody wants yet.
TEST(FrameReaderOfShortHeadersTest, TakesWhatIsWanted) {
  FrameReader reader(4);
  std::vector<std::string> came;
  const auto note = [&](const tensorpipe::Error&, const void* bytes,
                        size_t size) {
    came.emplace_back(static_cast<const char*>(bytes), size);
  };
  const std::string stream("\x03\0\0\0abc\x02\0\0\0de", 13);
  std::string_view rest = stream;
  EXPECT_TRUE(reader.TakeWanted(rest));
  EXPECT_EQ(rest, stream);
  char place[3];
  reader.Read(place, sizeof(place), note);
  std::string_view part = rest.substr(0, 5);
  EXPECT_TRUE(reader.TakeWanted(part));
  EXPECT_TRUE(part.empty());
  EXPECT_TRUE(reader.is_in_body());
  EXPECT_EQ(reader.body_left(), 2u);
  rest.remove_prefix(5);
  EXPECT_TRUE(reader.TakeWanted(rest));
  EXPECT_EQ(rest.size(), 6u);
  reader.ReadUpTo(1, note);
  EXPECT_FALSE(reader.TakeWanted(rest));
  EXPECT_EQ(came, (std::vector<std::string>{"abc"}));
}

TEST_F(FrameReaderTest, ToFailEndsAllReads) {
  Read(20'000);
  ReadUpTo(7);
  EXPECT_TRUE(reader_.Take(Frame(std::string(20'000, 'x')).substr(0, 5000)));
  reader_.Fail({std::make_shared<tensorpipe::EOFError>(), __FILE__, __LINE__});
  EXPECT_EQ(came_, (std::vector<std::string>{"failed", "failed"}));
  EXPECT_FALSE(reader_.is_waiting());
}

}  // namespace
}  // namespace reprise
