// Queries that come in any pieces, and the limits of what they say.

#include "agent/store/tcp_store_request.h"

#include <string>
#include <string_view>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/store/raw_client.h"

namespace reprise {
namespace {

using Outcome = TcpStoreRequestReader::Outcome;
using testing::ElementsAre;
using testing::HasSubstr;

// What a reader makes of `bytes` when they come in pieces of this size.
std::vector<TcpStoreRequest> ReadInPieces(std::string_view bytes, size_t size,
                                          TcpStoreRequestReader& reader) {
  std::vector<TcpStoreRequest> requests;
  for (size_t at = 0; at < bytes.size(); at += size) {
    std::string_view piece = bytes.substr(at, size);
    while (reader.Read(piece) == Outcome::kRequest) {
      requests.push_back(reader.Take());
    }
    EXPECT_TRUE(piece.empty());
  }
  return requests;
}

std::string ErrorOf(std::string_view bytes) {
  TcpStoreRequestReader reader;
  Outcome outcome = reader.Read(bytes);
  while (outcome == Outcome::kRequest) {
    reader.Take();
    outcome = reader.Read(bytes);
  }
  EXPECT_EQ(outcome, Outcome::kNonsense);
  return reader.error();
}

TEST(TcpStoreRequestTest, ItDoesNotMatterHowTheBytesAreCut) {
  const std::string one =
      Query(1, String("key"), String(""), String("new")) +
      Query(3, String(""), Number(7)) +
      Query(5, Number(3), String("a"), String(""), String("ccc")) + Query(6) +
      Query(5, Number(0));
  const std::string two =
      Handshake() +
      Query(11, Number(2), String("a"), String("1"), String("b"), String("")) +
      Query(13, Number(5, 4)) + Query(17) + Query(18, String("b"), Number(2));
  for (size_t size = 1; size <= one.size(); ++size) {
    TcpStoreRequestReader reader;
    const auto requests = ReadInPieces(one, size, reader);
    ASSERT_EQ(requests.size(), 5) << size;
    EXPECT_EQ(reader.protocol(), TcpStoreProtocol::k1);
    EXPECT_FALSE(reader.is_within_request());
    EXPECT_EQ(requests[0].query, TcpStoreQuery::kCompareSet);
    EXPECT_THAT(requests[0].keys, ElementsAre("key"));
    EXPECT_THAT(requests[0].values, ElementsAre("", "new"));
    EXPECT_EQ(requests[1].query, TcpStoreQuery::kAdd);
    EXPECT_THAT(requests[1].keys, ElementsAre(""));
    EXPECT_EQ(requests[1].number, 7);
    EXPECT_EQ(requests[2].query, TcpStoreQuery::kWait);
    EXPECT_THAT(requests[2].keys, ElementsAre("a", "", "ccc"));
    EXPECT_EQ(requests[3].query, TcpStoreQuery::kNumKeys);
    EXPECT_TRUE(requests[4].keys.empty());
  }
  for (size_t size = 1; size <= two.size(); ++size) {
    TcpStoreRequestReader reader;
    const auto requests = ReadInPieces(two, size, reader);
    ASSERT_EQ(requests.size(), 4) << size;
    EXPECT_EQ(reader.protocol(), TcpStoreProtocol::k2);
    EXPECT_EQ(requests[0].query, TcpStoreQuery::kMultiSet);
    EXPECT_THAT(requests[0].keys, ElementsAre("a", "b"));
    EXPECT_THAT(requests[0].values, ElementsAre("1", ""));
    EXPECT_EQ(requests[1].query, TcpStoreQuery::kPing);
    EXPECT_EQ(requests[1].number, 5);
    EXPECT_EQ(requests[2].query, TcpStoreQuery::kListKeys);
    EXPECT_EQ(requests[3].query, TcpStoreQuery::kBarrier);
    EXPECT_EQ(requests[3].number, 2);
  }
}

TEST(TcpStoreRequestTest, KnowsWhenAQueryHasBegun) {
  TcpStoreRequestReader reader;
  EXPECT_FALSE(reader.is_within_request());
  ReadInPieces(Handshake().substr(0, 2), 1, reader);
  EXPECT_TRUE(reader.is_within_request());
  EXPECT_EQ(reader.protocol(), TcpStoreProtocol::kUnknown);
  ReadInPieces(Handshake().substr(2), 1, reader);
  EXPECT_FALSE(reader.is_within_request());
  ReadInPieces(Query(1), 1, reader);
  EXPECT_TRUE(reader.is_within_request());
}

// Memory is taken for what has come, not for what is announced.
TEST(TcpStoreRequestTest, HoldsWhatHasComeAndNoMore) {
  TcpStoreRequestReader reader;
  ReadInPieces(Query(0, String("key"), Number(kMaxTcpStoreValueBytes)) +
                   std::string(1000, 'v'),
               100, reader);
  EXPECT_GE(reader.held_bytes(), 1000);
  EXPECT_LT(reader.held_bytes(), 4000);
  TcpStoreRequestReader keys;
  ReadInPieces(Query(5, Number(kMaxTcpStoreKeys)), 100, keys);
  EXPECT_LT(keys.held_bytes(), 1000);
}

TEST(TcpStoreRequestTest, Limits) {
  EXPECT_THAT(ErrorOf(Query(0, Number(kMaxTcpStoreKeyBytes + 1))),
              HasSubstr("a key of 1048577 bytes, and 1048576 is the limit"));
  EXPECT_THAT(
      ErrorOf(Query(0, String("k"), Number(kMaxTcpStoreValueBytes + 1))),
      HasSubstr("a value of 67108865 bytes"));
  EXPECT_THAT(ErrorOf(Query(4, Number(kMaxTcpStoreKeys + 1))),
              HasSubstr("of 131073 keys"));
  EXPECT_THAT(ErrorOf(Query(13)),
              HasSubstr("its byte 13 is not a query of TCPStore's protocol 1"));
  EXPECT_THAT(ErrorOf(Handshake() + Query(0)),
              HasSubstr("its byte 0 is not a query of TCPStore's protocol 2"));
  // Each value is within its limit, and all together are not.
  const std::string value = String(std::string(kMaxTcpStoreValueBytes, 'v'));
  std::string query = Handshake() + Query(11, Number(3));
  for (const char* key : {"a", "b", "c"}) query += String(key) + value;
  EXPECT_THAT(ErrorOf(query), HasSubstr("its query has more than"));
  // The longest that is.
  TcpStoreRequestReader reader;
  const std::string key(kMaxTcpStoreKeyBytes, 'k');
  EXPECT_EQ(
      ReadInPieces(Query(1, String(key), value, value), 1 << 20, reader).size(),
      1);
}

}  // namespace
}  // namespace reprise
