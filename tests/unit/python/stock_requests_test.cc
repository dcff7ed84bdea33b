#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "agent/python/membership_calls.h"
#include "agent/python/pytorch_only.h"
#include "agent/wire/pickle_tree.h"
#include "gtest/gtest.h"
#include "tests/unit/python/python_testing.h"

namespace reprise {
namespace {

using namespace std::string_literals;

const PickleLimits kOfPython{.max_protocol = 5};

// What is read of a pickle, or nothing.
std::optional<MembershipCall> Read(const Message& request) {
  const auto call = ParseMembershipCall(request);
  EXPECT_TRUE(call.ok()) << call.status();
  return call.ok() ? *call : std::nullopt;
}
std::optional<MembershipCall> Read(const std::string& golden) {
  return Read(PythonCallOf(Golden(golden + ".pickle")));
}

TEST(MembershipCallsTest, ThoseOfStockWorkersAreRead) {
  const auto infos = Read("device_infos");
  ASSERT_TRUE(infos.has_value());
  EXPECT_EQ(infos->kind, MembershipCall::Kind::kGetDeviceInfos);

  const auto join = Read("join");
  ASSERT_TRUE(join.has_value());
  EXPECT_EQ(join->kind, MembershipCall::Kind::kJoin);
  EXPECT_EQ(join->worker, (WorkerInfo{"w1", 1}));

  const auto with_devices = Read("join_devices");
  ASSERT_TRUE(with_devices.has_value());
  EXPECT_EQ(with_devices->kind, MembershipCall::Kind::kJoin);
  EXPECT_EQ(with_devices->worker, (WorkerInfo{"a:b_c", 32767}));

  const auto leave = Read("leave");
  ASSERT_TRUE(leave.has_value());
  EXPECT_EQ(leave->kind, MembershipCall::Kind::kLeave);
  EXPECT_EQ(leave->worker, (WorkerInfo{"w1", 1}));
}

TEST(MembershipCallsTest, OtherMessagesAreNone) {
  EXPECT_EQ(Read("plain"), std::nullopt);
  EXPECT_EQ(Read("tensors"), std::nullopt);
  // The name alone does not make one.
  EXPECT_EQ(Read(PythonCallOf("_update_group_membership")), std::nullopt);
  EXPECT_EQ(Read(PythonCallOf("")), std::nullopt);
  EXPECT_EQ(Read(MessageOf(0x102, "")), std::nullopt);
  EXPECT_EQ(
      Read(PythonCallOf("\x80\x04\x8c\x11_get_device_infos."s)),  // a text
      std::nullopt);
  EXPECT_EQ(Read(MessageOf(0x100, "\0"s + Golden("join.pickle"))),
            std::nullopt);
}

// A cut off call is no call; one with a spoiled byte is either none, or says
// something that a worker could say.
TEST(MembershipCallsTest, SpoiledOnesDoNoHarm) {
  const std::string good = Golden("join_devices.pickle");
  for (size_t length = 0; length < good.size(); ++length) {
    EXPECT_EQ(Read(PythonCallOf(good.substr(0, length))), std::nullopt);
  }
  for (size_t at = 0; at < good.size(); ++at) {
    for (const char byte : {'\0', '\x94', '.', '(', 'R', '\xff'}) {
      std::string spoiled = good;
      spoiled[at] = byte;
      const auto call = ParseMembershipCall(PythonCallOf(spoiled));
      if (!call.ok()) {
        EXPECT_TRUE(absl::IsInvalidArgument(call.status())) << call.status();
      } else if (call->has_value()) {
        EXPECT_TRUE(IsWorkerName((*call)->worker.name) ||
                    (*call)->kind == MembershipCall::Kind::kGetDeviceInfos);
      }
    }
  }
}

// The call of a good pickle with another worker in it.
absl::Status StatusOfName(const std::string& name) {
  std::string pickle = Golden("join.pickle");
  const size_t at = pickle.find("\x8c\x02w1");
  pickle.replace(
      at, 4, "\x8c" + std::string(1, static_cast<char>(name.size())) + name);
  return ParseMembershipCall(PythonCallOf(pickle)).status();
}

TEST(MembershipCallsTest, WhoIsNoWorkerIsRefused) {
  EXPECT_TRUE(StatusOfName("w9").ok());
  EXPECT_TRUE(absl::IsInvalidArgument(StatusOfName("")));
  EXPECT_TRUE(absl::IsInvalidArgument(StatusOfName("w 1")));
  EXPECT_TRUE(absl::IsInvalidArgument(StatusOfName(std::string(200, 'w'))));
}

// A stock worker reads what we write; see tests/python.
TEST(MembershipCallsTest, OursAreRead) {
  const Message call = MakeMembershipCall(
      {"ours", 300}, {{"cuda", 1}}, {{"peer", {{{"cuda", 1}, {"cuda", 0}}}}},
      /*is_join=*/false);
  EXPECT_EQ(call.type, MessageType::kPythonCall);
  const auto read = Read(call);
  ASSERT_TRUE(read.has_value());
  EXPECT_EQ(read->kind, MembershipCall::Kind::kLeave);
  EXPECT_EQ(read->worker, (WorkerInfo{"ours", 300}));
}

// The device that `ref` makes: "cuda:1", or "cpu".
std::string DeviceAt(const PickleTree& tree, PickleTree::Ref ref) {
  const auto made = tree.children(ref);
  EXPECT_EQ(tree.AsGlobalName(made[0]),
            (PickleTree::GlobalName{"torch", "device"}));
  const auto arguments = tree.children(made[1]);
  std::string text(*tree.AsString(arguments[0]));
  if (arguments.size() > 1) {
    text += ":" + std::to_string(*tree.AsInt(arguments[1]));
  }
  return text;
}

// Both our answer and that of a stock worker, which says the same.
TEST(MembershipCallsTest, DevicesAreAnsweredAsByStockWorkers) {
  const std::vector<std::string> pickles = {
      DeviceInfosReply({.maps = {{"w0", {{{"cuda", 0}, {"cuda", 1}}}}},
                        .devices = {{"cuda", 0}, {"cpu", 0}},
                        .count = 2})
          .payload,
      Golden("infos_devices.pickle")};
  for (const std::string& pickle : pickles) {
    const auto tree = PickleTree::Parse(pickle, kOfPython);
    ASSERT_TRUE(tree.ok()) << tree.status();
    const auto parts = tree->children(tree->root());
    ASSERT_EQ(parts.size(), 3u);
    EXPECT_EQ(tree->AsInt(parts[0]), 2);
    const auto maps = tree->children(parts[1]);
    ASSERT_EQ(maps.size(), 2u);
    EXPECT_EQ(tree->AsString(maps[0]), "w0");
    const auto map = tree->children(maps[1]);
    ASSERT_EQ(map.size(), 2u);
    EXPECT_EQ(DeviceAt(*tree, map[0]), "cuda:0");
    EXPECT_EQ(DeviceAt(*tree, map[1]), "cuda:1");
    const auto devices = tree->children(parts[2]);
    ASSERT_EQ(devices.size(), 2u);
    EXPECT_EQ(DeviceAt(*tree, devices[0]), "cuda:0");
    EXPECT_EQ(DeviceAt(*tree, devices[1]), "cpu");
  }
  // A count that nobody knows is enough for what is named.
  const std::string unknown =
      DeviceInfosReply({.maps = {{"w0", {{{"cuda", 3}, {"cuda", 9}}}}},
                        .devices = {},
                        .count = -1})
          .payload;
  const auto tree = PickleTree::Parse(unknown, kOfPython);
  ASSERT_TRUE(tree.ok()) << tree.status();
  EXPECT_EQ(tree->AsInt(tree->children(tree->root())[0]), 4);
}

absl::StatusOr<Message> Answer(int type, const std::string& payload = "") {
  const auto answer = AnswerPyTorchOnly(MessageOf(type, payload), "ours");
  EXPECT_TRUE(answer.has_value()) << type;
  return answer.value_or(absl::InternalError("no answer"));
}

TEST(PyTorchOnlyTest, WhatWantsSomethingIsRefusedByName) {
  for (const int type : {0x107, 0x108, 0x10f, 0x111, 0x115, 0x117}) {
    const absl::Status status = Answer(type, "anything").status();
    EXPECT_TRUE(absl::IsUnimplemented(status)) << type << ": " << status;
    EXPECT_TRUE(absl::StrContains(status.message(), "worker ours")) << status;
  }
  EXPECT_TRUE(absl::StrContains(Answer(0x10f).status().message(), "autograd"));
  EXPECT_TRUE(absl::StrContains(Answer(0x108).status().message(), "RRef"));
}

TEST(PyTorchOnlyTest, WhatKeepsBooksIsAcknowledged) {
  for (const int type : {0x10b, 0x10c, 0x10d}) {
    const auto answer = Answer(type, "anything");
    ASSERT_TRUE(answer.ok()) << answer.status();
    EXPECT_EQ(static_cast<int>(answer->type), 0x20e);
    EXPECT_EQ(answer->payload, "");
  }
  EXPECT_EQ(static_cast<int>(Answer(0x113)->type), 0x214);
}

TEST(PyTorchOnlyTest, ARemoteCallIsConfirmedWithItsIds) {
  const auto python = Answer(0x105, Golden("remote_python.jit"));
  ASSERT_TRUE(python.ok()) << python.status();
  EXPECT_EQ(static_cast<int>(python->type), 0x206);
  EXPECT_EQ(python->payload, "\x80\x02((K\1K\0t(K\1K\1tt."s);
  const auto script = Answer(0x104, Golden("remote_add.jit"));
  ASSERT_TRUE(script.ok()) << script.status();
  EXPECT_EQ(script->payload, "\x80\x02((K\1K\2t(K\1K\3tt."s);
}

TEST(PyTorchOnlyTest, ARemoteCallThatCannotBeReadIsRefused) {
  const std::string good = Golden("remote_python.jit");
  for (size_t length = 0; length < good.size(); ++length) {
    EXPECT_FALSE(Answer(0x105, good.substr(0, length)).ok());
  }
  EXPECT_TRUE(absl::IsInvalidArgument(Answer(0x104, "\x80\x02)."s).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(Answer(0x104, "\x80\x02K\1."s).status()));
}

TEST(PyTorchOnlyTest, AllElseIsPassedOn) {
  for (const int type : {0x100, 0x102, 0x106, 0x10a, 0x10e, 0x110, 0x118, 0x1ff,
                         0x103, 0x72500101}) {
    EXPECT_FALSE(AnswerPyTorchOnly(MessageOf(type, ""), "ours").has_value())
        << type;
  }
}

}  // namespace
}  // namespace reprise
