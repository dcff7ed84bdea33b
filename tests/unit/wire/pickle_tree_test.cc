#include "agent/wire/pickle_tree.h"

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "gtest/gtest.h"

namespace reprise {
namespace {

using namespace std::string_literals;
using Kind = PickleTree::Kind;

PickleTree MustParse(const std::string& pickle) {
  auto tree = PickleTree::Parse(pickle);
  EXPECT_TRUE(tree.ok()) << tree.status();
  return tree.ok() ? *std::move(tree) : PickleTree();
}

// The value of a pickle of one integer opcode.
int64_t Int(const std::string& body) {
  const std::string pickle = "\x80\x02" + body + ".";
  const PickleTree tree = MustParse(pickle);
  return tree.AsInt(tree.root()).value_or(-77777);
}

TEST(PickleTreeTest, ReadsIntegersOfAllWidths) {
  EXPECT_EQ(Int("K\xff"), 255);
  EXPECT_EQ(Int("M\x01\xff"s), 0xff01);
  EXPECT_EQ(Int("J\xff\xff\xff\xff"), -1);
  EXPECT_EQ(Int("J\x00\x00\x00\x80"s), -2147483648);
  EXPECT_EQ(Int("\x8a\x00"s), 0);
  EXPECT_EQ(Int("\x8a\x01\xfe"), -2);
  EXPECT_EQ(Int("\x8a\x05\x00\xf2\x05\x2a\x01"s), 5000000000);
  EXPECT_EQ(Int("\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f"),
            9223372036854775807);
}

TEST(PickleTreeTest, ReadsAtoms) {
  const std::string pickle =
      "\x80\x02(N\x88\x89G\x3f\xf0\x00\x00\x00\x00\x00\x00"
      "X\x02\x00\x00\x00hicmod\nname\nt."s;
  const PickleTree tree = MustParse(pickle);
  const auto items = tree.children(tree.root());
  ASSERT_EQ(items.size(), 6u);
  EXPECT_EQ(tree.kind(items[0]), Kind::kNone);
  EXPECT_EQ(tree.AsBool(items[1]), true);
  EXPECT_EQ(tree.AsBool(items[2]), false);
  EXPECT_EQ(tree.AsFloat(items[3]), 1.0);
  EXPECT_EQ(tree.AsString(items[4]), "hi");
  EXPECT_EQ(tree.AsGlobal(items[5]), "mod\nname");
  // Nothing passes for another kind.
  EXPECT_EQ(tree.AsInt(items[1]), std::nullopt);
  EXPECT_EQ(tree.AsString(items[5]), std::nullopt);
  EXPECT_EQ(tree.AsGlobal(items[4]), std::nullopt);
  EXPECT_TRUE(tree.children(items[4]).empty());
}

TEST(PickleTreeTest, ReadsCollectionsAndCalls) {
  // [f(1), {2: 3}, (4,), (5, 6), (7, 8, 9), persistent(10), C.__new__(), ()]
  const std::string pickle =
      "\x80\x02](cm\nf\nK\x01\x85R}(K\x02K\x03uK\x04\x85K\x05K\x06\x86"
      "K\x07K\x08K\x09\x87K\x0aQcm\nC\n)\x81)e."s;
  const PickleTree tree = MustParse(pickle);
  const auto items = tree.children(tree.root());
  ASSERT_EQ(tree.kind(tree.root()), Kind::kList);
  ASSERT_EQ(items.size(), 8u);
  EXPECT_EQ(tree.kind(items[0]), Kind::kReduce);
  EXPECT_EQ(tree.AsGlobal(tree.children(items[0])[0]), "m\nf");
  EXPECT_EQ(tree.kind(items[1]), Kind::kDict);
  EXPECT_EQ(tree.AsInt(tree.children(items[1])[1]), 3);
  EXPECT_EQ(tree.children(items[2]).size(), 1u);
  EXPECT_EQ(tree.AsInt(tree.children(items[3])[0]), 5);
  EXPECT_EQ(tree.AsInt(tree.children(items[4])[2]), 9);
  EXPECT_EQ(tree.kind(items[5]), Kind::kPersistent);
  EXPECT_EQ(tree.AsInt(tree.children(items[5])[0]), 10);
  EXPECT_EQ(tree.kind(items[6]), Kind::kNewObject);
  EXPECT_EQ(tree.kind(items[7]), Kind::kTuple);
  EXPECT_TRUE(tree.children(items[7]).empty());
}

TEST(PickleTreeTest, FollowsTheMemo) {
  const std::string pickle =
      "\x80\x02(K\x2aq\x00r\x01\x00\x00\x00h\x00j\x01\x00\x00\x00t."s;
  const PickleTree tree = MustParse(pickle);
  const auto items = tree.children(tree.root());
  ASSERT_EQ(items.size(), 3u);
  EXPECT_EQ(tree.AsInt(items[1]), 42);
  EXPECT_EQ(items[0], items[2]);
}

TEST(PickleTreeTest, AListMayContainItself) {
  const std::string pickle =
      "\x80\x02]q\x00(h\x00h\x00"
      "e."s;
  const PickleTree tree = MustParse(pickle);
  ASSERT_EQ(tree.children(tree.root()).size(), 2u);
  EXPECT_EQ(tree.children(tree.root())[0], tree.root());
}

TEST(PickleTreeTest, DeepNestingNeedsNoStack) {
  std::string pickle = "\x80\x02N";
  pickle.append(1000000, '\x85');
  pickle += ".";
  const PickleTree tree = MustParse(pickle);
  EXPECT_EQ(tree.kind(tree.root()), Kind::kTuple);
}

TEST(PickleTreeTest, RefusesTheMalformed) {
  const std::string malformed[] = {
      ""s,
      "\x80"s,
      "\x80\x02"s,                      // nothing
      "\x80\x03N."s,                    // another protocol
      "N."s,                            // none
      "\x80\x02."s,                     // no value
      "\x80\x02NN."s,                   // two values
      "\x80\x02(N."s,                   // an open mark
      "\x80\x02N.N"s,                   // more after the end
      "\x80\x02N"s,                     // no end
      "\x80\x02K"s,                     // cut
      "\x80\x02J\x01\x02\x03"s,         // cut
      "\x80\x02X\x05\x00\x00\x00hi."s,  // cut
      "\x80\x02X\xff\xff\xff\xff."s,    // cut
      "\x80\x02\x8a\x09zzzzzzzzz."s,    // 72 bits
      "\x80\x02"
      "cmodule."s,  // no newline
      "\x80\x02"
      "cmodule\nname."s,                // one newline
      "\x80\x02t."s,                    // no mark
      "\x80\x02N\x86."s,                // too few
      "\x80\x02N(\x85."s,               // beyond a mark
      "\x80\x02R."s,                    // nothing to call
      "\x80\x02Q."s,                    // nothing persistent
      "\x80\x02(Ne."s,                  // nothing to append to
      "\x80\x02N(Ne."s,                 // appending to None
      "\x80\x02](K\x01K\x02u."s,        // items into a list
      "\x80\x02}(K\x01u."s,             // a key without a value
      "\x80\x02q\x00N."s,               // nothing to remember
      "\x80\x02h\x00."s,                // an unknown memo
      "\x80\x02Nq\x01h\x00\x86."s,      // a gap in the memo
      "\x80\x02Nr\xff\xff\xff\xff."s,   // an absurd memo id
      "\x80\x02i"s + "os\nsystem\n."s,  // INST
      "\x80\x02\x8cN."s,                // protocol 4
      "\x80\x02\x00."s,                 // no opcode
  };
  for (const std::string& pickle : malformed) {
    auto tree = PickleTree::Parse(pickle);
    EXPECT_EQ(tree.status().code(), absl::StatusCode::kInvalidArgument)
        << testing::PrintToString(pickle);
  }
}

TEST(PickleTreeTest, SaysWhere) {
  auto tree = PickleTree::Parse("\x80\x02NNR\x01");
  EXPECT_EQ(tree.status().message(),
            "bad pickle at byte 5: unsupported opcode");
}

TEST(PickleTreeTest, EveryPrefixIsRefused) {
  const std::string pickle =
      "\x80\x02](cm\nf\nK\x01\x85R}(K\x02K\x03uX\x02\x00\x00\x00hie."s;
  ASSERT_TRUE(PickleTree::Parse(pickle).ok());
  for (size_t size = 0; size < pickle.size(); ++size) {
    EXPECT_FALSE(PickleTree::Parse(pickle.substr(0, size)).ok()) << size;
  }
}

TEST(PickleTreeTest, IsBounded) {
  const auto code = [](std::string_view pickle, PickleLimits limits) {
    return PickleTree::Parse(pickle, limits).status().code();
  };
  constexpr auto kExhausted = absl::StatusCode::kResourceExhausted;
  const std::string nodes = "\x80\x02(" + std::string(100, 'N') + "t.";
  EXPECT_EQ(code(nodes, {.max_nodes = 101}), absl::StatusCode::kOk);
  EXPECT_EQ(code(nodes, {.max_nodes = 100}), kExhausted);
  EXPECT_EQ(code(nodes, {.max_bytes = nodes.size()}), absl::StatusCode::kOk);
  EXPECT_EQ(code(nodes, {.max_bytes = nodes.size() - 1}), kExhausted);
  const std::string marks =
      "\x80\x02" + std::string(10, '(') + std::string(10, 't') + ".";
  EXPECT_EQ(code(marks, {.max_depth = 10}), absl::StatusCode::kOk);
  EXPECT_EQ(code(marks, {.max_depth = 9}), kExhausted);
}

// [b"\0", "\u00e4", m.f, {1: 2}, [3], the same list]
constexpr char kOfPython[] =
    "](C\x01\0\x8c\x02\xc3\xa4\x8c\x01m\x8c\x01"
    "f\x93}K\x01K\x02s"
    "](K\x03\x65\x94h\x00"
    "e.";

std::string OfPython(char protocol) {
  return "\x80"s + protocol + "\x95" + std::string(8, '\0') +
         std::string(kOfPython, sizeof(kOfPython) - 1);
}

TEST(PickleTreeTest, ReadsWhatPythonWritesOnRequest) {
  for (const char protocol : {'\3', '\4', '\5'}) {
    const std::string pickle = OfPython(protocol);
    const auto tree = PickleTree::Parse(pickle, {.max_protocol = 5});
    ASSERT_TRUE(tree.ok()) << tree.status();
    const auto items = tree->children(tree->root());
    ASSERT_EQ(items.size(), 6u);
    EXPECT_EQ(tree->AsBytes(items[0]), "\0"s);
    EXPECT_EQ(tree->AsString(items[0]), std::nullopt);
    EXPECT_EQ(tree->AsString(items[1]), "\u00e4");
    EXPECT_EQ(tree->AsGlobalName(items[2]), (PickleTree::GlobalName{"m", "f"}));
    EXPECT_EQ(tree->AsGlobal(items[2]), std::nullopt);
    ASSERT_EQ(tree->kind(items[3]), Kind::kDict);
    EXPECT_EQ(tree->AsInt(tree->children(items[3])[1]), 2);
    EXPECT_EQ(tree->AsInt(tree->children(items[4])[0]), 3);
    EXPECT_EQ(items[4], items[5]);
  }
}

// Both forms of a global have one name.
TEST(PickleTreeTest, AGlobalOfProtocol2HasANameToo) {
  const std::string pickle =
      "\x80\x02"
      "ctorch.x\nf\n."s;
  const PickleTree tree = MustParse(pickle);
  EXPECT_EQ(tree.AsGlobalName(tree.root()),
            (PickleTree::GlobalName{"torch.x", "f"}));
}

TEST(PickleTreeTest, RefusesWhatPythonWritesOtherwise) {
  const auto status = [](const std::string& pickle, int max_protocol) {
    return PickleTree::Parse(pickle, {.max_protocol = max_protocol}).status();
  };
  EXPECT_TRUE(absl::IsInvalidArgument(status(OfPython('\4'), 2)));
  EXPECT_TRUE(absl::IsInvalidArgument(status(OfPython('\2'), 2)));
  EXPECT_TRUE(absl::IsInvalidArgument(status(OfPython('\6'), 5)));
  EXPECT_TRUE(absl::IsInvalidArgument(status(OfPython('\1'), 5)));
  const std::string good = OfPython('\4');
  for (size_t length = 0; length < good.size(); ++length) {
    EXPECT_FALSE(status(good.substr(0, length), 5).ok()) << length;
  }
  // A global needs two texts, an append a list, a value a key.
  for (const std::string& body :
       {"\x93"s, "\x8c\x01m\x93"s, "\x8c\x01mK\1\x93"s, "K\1\x8c\x01m\x93"s,
        "K\1a"s, "K\1K\2a"s, "]a"s, "}K\1s"s, "]K\1K\2s"s, "\x94"s,
        "\x8c\x05"
        "abc"s,
        "C\x05"
        "abc"s,
        "B\xff\xff\xff\xff"
        "a"s,
        "\x95\0\0"s}) {
    EXPECT_TRUE(absl::IsInvalidArgument(status("\x80\4" + body + ".", 5)))
        << body;
  }
}

}  // namespace
}  // namespace reprise
