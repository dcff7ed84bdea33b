#include "agent/python/python_call.h"

#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "agent/call_error.h"
#include "agent/python/python_functions.h"
#include "agent/python/python_pickle.h"
#include "agent/python/python_text.h"
#include "gtest/gtest.h"
#include "tests/unit/python/python_testing.h"

namespace reprise {
namespace {

using namespace std::string_literals;
using Kind = PythonValue::Kind;

// A value as Python's `repr` shows it, nearly.
std::string Show(const PythonValue& value) {
  const auto list = [&](const char* open, const char* close) {
    std::string text = open;
    for (const PythonValue& item : value.items()) text += Show(item) + ",";
    return text + close;
  };
  switch (value.kind()) {
    case Kind::kNone:
      return "None";
    case Kind::kBool:
      return *value.AsBool() ? "True" : "False";
    case Kind::kInt:
      return std::to_string(*value.AsInt());
    case Kind::kFloat:
      return std::to_string(*value.AsFloat());
    case Kind::kString:
      return "'" + *value.AsString() + "'";
    case Kind::kBytes:
      return "b'" + *value.AsBytes() + "'";
    case Kind::kList:
      return list("[", "]");
    case Kind::kTuple:
      return list("(", ")");
    case Kind::kDict:
      return list("{", "}");
    case Kind::kTensor:
      return "tensor" + std::to_string(value.AsTensor()->num_elements());
  }
  return "?";
}

std::string Show(const PythonCall& call) {
  std::string text = call.module + "." + call.name + "(";
  for (const PythonValue& value : call.args) text += Show(value) + ",";
  for (const auto& [key, value] : call.kwargs) {
    text += key + "=" + Show(value) + ",";
  }
  return text + ")";
}

absl::StatusOr<PythonCall> Decode(const Message& request) {
  const auto call = ReceivedPythonCall::Parse(request);
  if (!call.ok()) return call.status();
  return call->Read();
}

std::vector<Tensor> Tensors(int64_t count) {
  std::vector<Tensor> tensors;
  for (int64_t i = 0; i < count; ++i) {
    tensors.push_back(*MakeTensor(DType::kFloat32, {i + 1}));
  }
  return tensors;
}

// A golden call of Python's, or of the JIT's, with tensors of 1, 2, 3, ...
// elements.
absl::StatusOr<PythonCall> DecodeGolden(const std::string& file,
                                        int64_t num_tensors = 0) {
  Message request = absl::EndsWith(file, ".jit")
                        ? MessageOf(0x100, Golden(file))
                        : PythonCallOf(Golden(file));
  request.tensors = Tensors(num_tensors);
  return Decode(request);
}
std::string ShowGolden(const std::string& file, int64_t num_tensors = 0) {
  const auto call = DecodeGolden(file, num_tensors);
  return call.ok() ? Show(*call) : call.status().ToString();
}

TEST(PythonCallTest, CallsOfPythonAreRead) {
  EXPECT_EQ(ShowGolden("plain.pickle"),
            "__main__.double(None,True,False,0,-1,1000000000000,"
            "-9223372036854775808,1.500000,'text \u00e4\U0001f600','" +
                std::string(300, 'x') + "',b'\0\xff',b'"s +
                std::string(300, 'y') +
                "',[],[1,],[1,[2,(3,4,),],],(),(1,),{},{'a',1,},"
                "{1,'one',(2,3,),None,},)");
  EXPECT_EQ(ShowGolden("tensors.pickle", 3),
            "__main__.double(tensor1,[tensor2,{'t',tensor3,},],scale=2,)");
  // One object of Python's becomes two values.
  EXPECT_EQ(ShowGolden("shared.pickle"),
            "__main__.double(['same',],['same',],)");
  EXPECT_EQ(ShowGolden("method.pickle"),
            "torch._C._VariableFunctionsClass.add(1,)");
}

TEST(PythonCallTest, CallsOfBuiltinsAreRead) {
  EXPECT_EQ(ShowGolden("add.jit", 1), "torch.ops.aten.add(tensor1,1,1,)");
  EXPECT_EQ(ShowGolden("add_alpha.jit", 2),
            "torch.ops.aten.add(tensor1,tensor2,2.500000,)");
  EXPECT_EQ(ShowGolden("ones.jit"),
            "torch.ops.aten.ones([2,3,],None,None,None,None,)");
  EXPECT_EQ(ShowGolden("split.jit", 1), "torch.ops.aten.split(tensor1,2,0,)");
}

TEST(PythonCallTest, WhatIsNoPlainValueIsRefusedByName) {
  const auto expect = [](const std::string& file, absl::StatusCode code,
                         const std::string& text) {
    const absl::Status status = DecodeGolden(file).status();
    EXPECT_EQ(status.code(), code) << file << ": " << status;
    EXPECT_TRUE(absl::StrContains(status.message(), text)) << status;
  };
  expect("device.pickle", absl::StatusCode::kUnimplemented,
         "objects of torch.device are not supported");
  expect("object.pickle", absl::StatusCode::kUnimplemented,
         "objects of torch._C._distributed_rpc.WorkerInfo");
  expect("too_long.pickle", absl::StatusCode::kInvalidArgument, "64 bits");
  expect("loop.pickle", absl::StatusCode::kResourceExhausted, "64 deep");
  expect("nested.pickle", absl::StatusCode::kResourceExhausted, "64 deep");
  expect("set.pickle", absl::StatusCode::kInvalidArgument, "opcode");
  // A tensor that was not sent.
  expect("add.jit", absl::StatusCode::kInvalidArgument, "does not have");
  expect("tensors.pickle", absl::StatusCode::kInvalidArgument, "does not have");
  expect("none.pickle", absl::StatusCode::kInvalidArgument, "not a call");
}

TEST(PythonCallTest, SpoiledCallsAreErrorsOrCalls) {
  for (const std::string& file :
       {"plain.pickle"s, "tensors.pickle"s, "add_alpha.jit"s, "ones.jit"s}) {
    const std::string good = Golden(file);
    for (size_t at = 0; at < good.size(); ++at) {
      std::string spoiled = good;
      for (const char byte : {'\0', '\x01', '\x94', '.', '(', 'R', 'h'}) {
        spoiled[at] = byte;
        Message request = absl::EndsWith(file, ".jit")
                              ? MessageOf(0x100, spoiled)
                              : PythonCallOf(spoiled);
        request.tensors = Tensors(3);
        Decode(request).status().IgnoreError();
      }
      Message cut = absl::EndsWith(file, ".jit")
                        ? MessageOf(0x100, good.substr(0, at))
                        : PythonCallOf(good.substr(0, at));
      cut.tensors = Tensors(3);
      EXPECT_FALSE(Decode(cut).ok()) << file << " of " << at << " bytes";
    }
  }
  EXPECT_FALSE(Decode(MessageOf(0x102, "")).ok());
  EXPECT_FALSE(Decode(MessageOf(0x105, "")).ok());
}

// A list that holds the list before twice, and so on: 2^40 values.
TEST(PythonCallTest, ASmallPickleDoesNotBecomeMuch) {
  std::string pickle =
      "\x80\x02"
      "ctorch.distributed.rpc.internal\nPythonUDF\n"
      "cm\nf\n"
      "("
      "]q\1K\1a"s;
  for (char i = 1; i <= 40; ++i) {
    pickle += "]q"s + static_cast<char>(i + 1) + "(h" + i + "h" + i + "e";
  }
  pickle += "t}\x87\x81."s;
  EXPECT_TRUE(absl::IsResourceExhausted(Decode(PythonCallOf(pickle)).status()));
  // A text of 1 MiB, a hundred times.
  std::string texts =
      "\x80\x02"
      "ctorch.distributed.rpc.internal\nPythonUDF\n"
      "cm\nf\n"
      "(X\0\0\x10\0"s +
      std::string(1 << 20, 'x') + "q\1";
  for (int i = 0; i < 100; ++i) texts += "h\1";
  texts += "t}\x87\x81."s;
  EXPECT_TRUE(absl::IsResourceExhausted(Decode(PythonCallOf(texts)).status()));
}

PythonValue Everything() {
  return PythonValue::Tuple(
      {PythonValue(),
       true,
       false,
       0,
       255,
       256,
       -1,
       std::numeric_limits<int64_t>::min(),
       std::numeric_limits<int64_t>::max(),
       0.5,
       "\u00e4",
       std::string(300, 'x'),
       PythonValue::Bytes("\0\xff"s),
       PythonValue::List({}),
       PythonValue::Tuple({}),
       PythonValue::Dict({}),
       PythonValue::List({1, PythonValue::List({2})}),
       PythonValue::Dict({{"a", 1}, {PythonValue::Tuple({1, 2}), "b"}}),
       *MakeTensor(DType::kFloat32, {3}),
       *MakeTensor(DType::kFloat32, {4})});
}

TEST(PythonCallTest, WhatWeCallIsReadAgain) {
  PythonCall call;
  call.module = "a.b";
  call.name = "C.f";
  call.args = {Everything(), 7};
  call.kwargs = {{"scale", 2}, {"t", *MakeTensor(DType::kFloat32, {5})}};
  const auto request = EncodePythonCall(call);
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_EQ(request->type, MessageType::kPythonCall);
  EXPECT_EQ(request->tensors.size(), 3u);
  const auto read = Decode(*request);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(Show(*read), Show(call));
}

TEST(PythonCallTest, WhatPythonCannotReadIsNotSent) {
  const auto status = [](PythonValue argument) {
    PythonCall call;
    call.module = "m";
    call.name = "f";
    call.args = {std::move(argument)};
    return EncodePythonCall(call).status();
  };
  EXPECT_TRUE(status("ok").ok());
  EXPECT_TRUE(absl::IsInvalidArgument(status("\xff")));
  EXPECT_TRUE(absl::IsInvalidArgument(
      status(PythonValue::Dict({{PythonValue::List({}), 1}}))));
  EXPECT_TRUE(absl::IsInvalidArgument(status(
      PythonValue::Dict({{PythonValue::Tuple({PythonValue::Dict({})}), 1}}))));
  PythonValue deep;
  for (int i = 0; i < 100; ++i) deep = PythonValue::List({std::move(deep)});
  EXPECT_TRUE(absl::IsResourceExhausted(status(std::move(deep))));
  EXPECT_TRUE(absl::IsInvalidArgument(EncodePythonCall({}).status()));
}

TEST(PythonReplyTest, ValuesComeBack) {
  const auto reply = EncodePythonReply(Everything(), /*is_script=*/false);
  ASSERT_TRUE(reply.ok()) << reply.status();
  EXPECT_EQ(reply->type, MessageType::kPythonRet);
  const auto value = DecodePythonReply(*reply);
  ASSERT_TRUE(value.ok()) << value.status();
  EXPECT_EQ(Show(*value), Show(Everything()));
  const auto none = DecodePythonReply(MessageOf(0x203, Golden("none.pickle")));
  ASSERT_TRUE(none.ok()) << none.status();
  EXPECT_TRUE(none->is_none());
  const auto infos =
      DecodePythonReply(MessageOf(0x203, Golden("infos.pickle")));
  ASSERT_TRUE(infos.ok()) << infos.status();
  EXPECT_EQ(Show(*infos), "(0,{},[],)");
  EXPECT_FALSE(DecodePythonReply(MessageOf(0x201, "")).ok());
  EXPECT_FALSE(DecodePythonReply(MessageOf(0x203, "")).ok());
}

TEST(PythonReplyTest, ExceptionsAreErrorsOfTheHandler) {
  const absl::Status status =
      DecodePythonReply(MessageOf(0x203, Golden("value_error.pickle")))
          .status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(absl::StartsWith(status.message(), "builtins.ValueError: On "))
      << status;
  const auto error = CallErrorOf(status);
  ASSERT_TRUE(error.has_value());
  EXPECT_EQ(error->source, CallErrorSource::kRemoteHandler);
  EXPECT_EQ(DecodePythonReply(MessageOf(0x203, Golden("own_error.pickle")))
                .status()
                .code(),
            absl::StatusCode::kNotFound);
}

TEST(PythonReplyTest, ErrorsBecomeExceptionsOfAFittingClass) {
  for (int i = 1; i <= 16; ++i) {
    const auto code = static_cast<absl::StatusCode>(i);
    const absl::Status error(code, "a \\ and \u00e4");
    const auto reply = EncodePythonReply(error, /*is_script=*/false);
    ASSERT_TRUE(reply.ok()) << reply.status();
    const absl::Status back = DecodePythonReply(*reply).status();
    // What has no class of its own is a RuntimeError.
    if (absl::StrContains(back.message(), "RuntimeError")) {
      EXPECT_EQ(back.code(), absl::StatusCode::kUnknown);
    } else {
      EXPECT_EQ(back.code(), code) << back;
    }
    EXPECT_TRUE(absl::EndsWith(back.message(), ": a \\\\ and \\u00e4")) << back;
    EXPECT_EQ(EncodePythonReply(error, /*is_script=*/true).status(), error);
  }
}

TEST(PythonReplyTest, BuiltinsAnswerInTheJitsDialect) {
  const auto one = EncodePythonReply(*MakeTensor(DType::kFloat32, {3}),
                                     /*is_script=*/true);
  ASSERT_TRUE(one.ok()) << one.status();
  EXPECT_EQ(one->type, MessageType::kScriptRet);
  EXPECT_EQ(one->payload,
            "\x80\x02"
            "ctorch.jit._pickle\nbuild_tensor_from_id\n(K\0tR."s);
  EXPECT_EQ(one->tensors.size(), 1u);
  EXPECT_EQ(EncodePythonReply("hi", true)->payload, "\x80\x02X\x02\0\0\0hi."s);
  EXPECT_TRUE(absl::IsInvalidArgument(
      EncodePythonReply(PythonValue::Bytes("x"), true).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(
      EncodePythonReply(PythonValue::Dict({}), true).status()));
}

TEST(PythonTextTest, IsWhatPythonDecodes) {
  EXPECT_TRUE(IsUtf8(""));
  EXPECT_TRUE(IsUtf8("a\u00e4\u20ac\U0001f600"));
  for (const std::string& bad :
       {"\x80"s, "\xc3"s, "\xc3("s, "\xc0\x80"s, "\xe0\x80\x80"s,
        "\xed\xa0\x80"s, "\xf4\x90\x80\x80"s, "\xf8\x88\x80\x80\x80"s,
        "\xff"s}) {
    EXPECT_FALSE(IsUtf8(bad)) << bad.size();
    EXPECT_TRUE(absl::StartsWith(EscapeForPython(bad), "\\ufffd"));
  }
  EXPECT_EQ(EscapeForPython("a\n\\n\u00e4\U0001f600"),
            "a\n\\\\n\\u00e4\\U0001f600");
}

// What a handler answers.
absl::StatusOr<Message> Ask(const RequestHandler& handler, Message request) {
  absl::StatusOr<Message> answer = absl::InternalError("no answer");
  handler(std::move(request), RequestInfo(),
          Reply([&](absl::StatusOr<Message> result) {
            answer = std::move(result);
          }));
  return answer;
}

Message CallOf(const std::string& name, std::vector<PythonValue> args) {
  PythonCall call;
  call.module = "m";
  call.name = name;
  call.args = std::move(args);
  return *EncodePythonCall(call);
}

TEST(PythonFunctionsTest, AreCalledByName) {
  PythonFunctions functions;
  functions.Add("m", "twice",
                [](const PythonCall& call,
                   const RequestInfo&) -> absl::StatusOr<PythonValue> {
                  const auto value = call.args.at(0).AsInt();
                  if (!value) return absl::InvalidArgumentError("no int");
                  return PythonValue(2 * *value);
                });
  const RequestHandler alone = functions.Handler();
  const auto four = Ask(alone, CallOf("twice", {2}));
  ASSERT_TRUE(four.ok()) << four.status();
  EXPECT_EQ(DecodePythonReply(*four)->AsInt(), 4);

  const auto wrong = Ask(alone, CallOf("twice", {"two"}));
  ASSERT_TRUE(wrong.ok()) << wrong.status();
  EXPECT_EQ(DecodePythonReply(*wrong).status().message(),
            "builtins.ValueError: no int");

  // Arguments that cannot be read are the caller's fault too.
  Message device = PythonCallOf(Golden("device.pickle"));
  functions.Add("__main__", "double",
                [](const PythonCall&, const RequestInfo&) {
                  return absl::StatusOr<PythonValue>(1);
                });
  const auto refused = Ask(functions.Handler(), std::move(device));
  ASSERT_TRUE(refused.ok()) << refused.status();
  EXPECT_TRUE(absl::StartsWith(DecodePythonReply(*refused).status().message(),
                               "builtins.NotImplementedError: the arguments of "
                               "__main__.double"));

  const absl::Status unknown = Ask(alone, CallOf("thrice", {2})).status();
  EXPECT_TRUE(absl::IsNotFound(unknown)) << unknown;
  EXPECT_TRUE(absl::StrContains(unknown.message(), "m.thrice"));
  EXPECT_TRUE(
      absl::IsUnimplemented(Ask(alone, MessageOf(0x110, "x")).status()));
  EXPECT_TRUE(
      absl::IsInvalidArgument(Ask(alone, MessageOf(0x100, "x")).status()));
}

TEST(PythonFunctionsTest, LeaveTheRestToAnother) {
  PythonFunctions functions;
  const RequestHandler handler = functions.Handler(Blocking(
      [](Message request, const RequestInfo&) -> absl::StatusOr<Message> {
        request.type = MessageType::kScriptRet;
        return request;
      }));
  const std::string payload = CallOf("twice", {2}).payload;
  EXPECT_EQ(Ask(handler, CallOf("twice", {2}))->payload, payload);
  EXPECT_EQ(Ask(handler, MessageOf(0x110, "x"))->payload, "x");
  EXPECT_EQ(Ask(handler, MessageOf(0x100, "x"))->payload, "x");
}

}  // namespace
}  // namespace reprise
