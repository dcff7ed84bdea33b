#include "agent/wire/tensor_pickle.h"

#include <fstream>
#include <iterator>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_replace.h"
#include "gtest/gtest.h"
#include "tests/unit/wire/wire_testing.h"

namespace reprise {
namespace {

using namespace std::string_literals;
using Sizes = std::vector<int64_t>;

std::string Golden(const std::string& name) {
  const std::string path = "tests/unit/wire/golden/" + name + ".pickle";
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file.is_open()) << path;
  return {std::istreambuf_iterator<char>(file), {}};
}

std::string Pickle(const std::vector<Tensor>& tensors) {
  for (const Tensor& tensor : tensors) {
    EXPECT_TRUE(CheckPicklable(tensor).ok()) << CheckPicklable(tensor);
  }
  return PickleTensors(tensors).pickle;
}

absl::StatusOr<std::vector<Tensor>> Unpickle(std::string_view pickle,
                                             const std::vector<size_t>& bytes) {
  std::vector<std::shared_ptr<Storage>> storages;
  for (size_t size : bytes) storages.push_back(*AllocateCpu(size));
  return UnpickleTensors(pickle, storages);
}

absl::Status Refusal(std::string_view pickle,
                     const std::vector<size_t>& bytes = {1 << 20}) {
  return Unpickle(pickle, bytes).status();
}

TEST(TensorPickleTest, OfNothingHas47Bytes) {
  EXPECT_EQ(EmptyTensorPickle().size(), 47u);
  EXPECT_EQ(EmptyTensorPickle(), Golden("none"));
  EXPECT_EQ(PickleTensors({}).pickle, Golden("none"));
  auto tensors = Unpickle(Golden("none"), {});
  ASSERT_TRUE(tensors.ok()) << tensors.status();
  EXPECT_TRUE(tensors->empty());
}

// The names of types and devices are written once and then referred to.
TEST(TensorPickleTest, ManyTensorsOfAllTypesComeBack) {
  constexpr int kTypes = static_cast<int>(kNumDTypes);
  std::vector<Tensor> tensors;
  for (int i = 0; i < 10'000; ++i) {
    const auto dtype = static_cast<DType>(i % kTypes);
    // A storage of two types is written once for each.
    if (i % 7 == 6 && SizeOf(dtype) <= 4) {
      tensors.push_back(tensors.back());
      tensors.back().dtype = dtype;
      tensors.back().sizes = tensors.back().strides = {1};
    } else {
      tensors.push_back(*MakeTensor(dtype, {4, 1 + i % 3}));
    }
  }
  const TensorPickle pickle = PickleTensors(tensors);
  const auto read = UnpickleTensors(pickle.pickle, pickle.storages);
  ASSERT_TRUE(read.ok()) << read.status();
  ASSERT_EQ(read->size(), tensors.size());
  for (size_t i = 0; i < tensors.size(); ++i) {
    const Tensor& tensor = (*read)[i];
    EXPECT_EQ(tensor.dtype, tensors[i].dtype) << i;
    EXPECT_EQ(tensor.sizes, tensors[i].sizes) << i;
    EXPECT_EQ(tensor.storage, tensors[i].storage) << i;
  }
}

TEST(TensorPickleTest, WritesWhatLibtorchWrites) {
  const Tensor tensor = Iota({2, 3});
  EXPECT_EQ(Pickle({tensor}), Golden("one"));
  EXPECT_EQ(Pickle({tensor, View(tensor, {3, 2}, {1, 3}, 0)}),
            Golden("shared"));
  EXPECT_EQ(Pickle({Iota({})}), Golden("scalar"));
  EXPECT_EQ(Pickle({Iota({3, 0, 2})}), Golden("empty3"));
  // BININT and BININT2
  EXPECT_EQ(Pickle({View(Iota({100000}), {69700}, {1}, 300)}),
            Golden("offset"));
  Tensor grad = Iota({2});
  grad.requires_grad = true;
  EXPECT_EQ(Pickle({grad, Iota({2})}), Golden("grad"));
  // LONG1
  Tensor byte = *MakeTensor(DType::kUInt8, {1});
  EXPECT_EQ(Pickle({View(byte, {5000000000}, {0}, 0)}), Golden("big"));
}

TEST(TensorPickleTest, WritesEveryType) {
  std::vector<Tensor> tensors;
  for (DType dtype : {DType::kUInt8, DType::kInt8, DType::kInt16, DType::kInt32,
                      DType::kInt64, DType::kFloat16, DType::kFloat32,
                      DType::kFloat64, DType::kComplex64, DType::kComplex128,
                      DType::kBool, DType::kBFloat16}) {
    tensors.push_back(*MakeTensor(dtype, {1}));
  }
  EXPECT_EQ(Pickle(tensors), Golden("dtypes"));
  auto read = ParseTensorPickle(Golden("dtypes"));
  ASSERT_TRUE(read.ok()) << read.status();
  ASSERT_EQ(read->size(), tensors.size());
  for (size_t i = 0; i < tensors.size(); ++i) {
    EXPECT_EQ((*read)[i].dtype, tensors[i].dtype);
    EXPECT_EQ((*read)[i].storage_index, i);
  }
}

// As libtorch 2.15.0 wrote it.
TEST(TensorPickleTest, WritesTheTypesOfLaterVersions) {
  std::vector<Tensor> tensors;
  for (size_t i = 0; i < kNumDTypes; ++i) {
    const auto dtype = static_cast<DType>(i);
    if (IsLaterType(dtype)) tensors.push_back(*MakeTensor(dtype, {1}));
  }
  EXPECT_EQ(Pickle(tensors), Golden("later_dtypes"));
  const auto read = ParseTensorPickle(Golden("later_dtypes"));
  ASSERT_TRUE(read.ok()) << read.status();
  ASSERT_EQ(read->size(), tensors.size());
  for (size_t i = 0; i < read->size(); ++i) {
    EXPECT_EQ((*read)[i].dtype, tensors[i].dtype);
  }
}

// More than 256 memo entries: LONG_BINPUT and LONG_BINGET.
TEST(TensorPickleTest, WritesLongLists) {
  std::vector<Tensor> tensors;
  for (int i = 0; i < 100; ++i) tensors.push_back(Iota({1}));
  tensors.push_back(View(tensors[0], {1, 1}, {1, 1}, 0));
  // libtorch ends this list with a reference to tensor 99; to us a tensor has
  // no identity, and it is written out.
  std::string expected = Golden("many");
  ASSERT_EQ(expected.substr(expected.size() - 9, 1), "j");
  expected = expected.substr(0, expected.size() - 9) + "etR.";
  EXPECT_EQ(Pickle(tensors), expected);

  auto read = Unpickle(Golden("many"), std::vector<size_t>(100, 4));
  ASSERT_TRUE(read.ok()) << read.status();
  ASSERT_EQ(read->size(), 102u);
  EXPECT_EQ((*read)[100].storage, (*read)[0].storage);
  EXPECT_EQ((*read)[101].storage, (*read)[99].storage);
}

TEST(TensorPickleTest, ReadsWhatLibtorchWrites) {
  auto tensors = Unpickle(Golden("shared"), {24});
  ASSERT_TRUE(tensors.ok()) << tensors.status();
  ASSERT_EQ(tensors->size(), 2u);
  EXPECT_EQ((*tensors)[0].sizes, Sizes({2, 3}));
  EXPECT_EQ((*tensors)[0].strides, Sizes({3, 1}));
  EXPECT_EQ((*tensors)[1].sizes, Sizes({3, 2}));
  EXPECT_EQ((*tensors)[1].strides, Sizes({1, 3}));
  EXPECT_EQ((*tensors)[0].storage, (*tensors)[1].storage);

  tensors = Unpickle(Golden("grad"), {8, 8});
  ASSERT_TRUE(tensors.ok()) << tensors.status();
  EXPECT_TRUE((*tensors)[0].requires_grad);
  EXPECT_FALSE((*tensors)[1].requires_grad);

  tensors = Unpickle(Golden("offset"), {400000});
  ASSERT_TRUE(tensors.ok()) << tensors.status();
  EXPECT_EQ((*tensors)[0].storage_offset, 300);

  tensors = Unpickle(Golden("big"), {1});
  ASSERT_TRUE(tensors.ok()) << tensors.status();
  EXPECT_EQ((*tensors)[0].num_elements(), 5000000000);

  tensors = Unpickle(Golden("empty3"), {0});
  ASSERT_TRUE(tensors.ok()) << tensors.status();
  EXPECT_EQ((*tensors)[0].sizes, Sizes({3, 0, 2}));

  auto one = ParseTensorPickle(Golden("one"));
  ASSERT_TRUE(one.ok()) << one.status();
  EXPECT_EQ((*one)[0].source_device, Device{});
  EXPECT_EQ((*one)[0].storage_elements, 6);
}

// A stock worker would read the second one with the type of the first.
TEST(TensorPickleTest, AStorageOfTwoTypesIsSentForEach) {
  const Tensor floats = Iota({2});
  Tensor ints = floats;
  ints.dtype = DType::kInt32;
  const std::vector<Tensor> tensors = {floats, ints, floats};
  const TensorPickle pickle = PickleTensors(tensors);
  ASSERT_EQ(pickle.storages.size(), 2u);
  EXPECT_EQ(pickle.storages[0], pickle.storages[1]);
  EXPECT_EQ(pickle.storage_of_tensor, std::vector<size_t>({0, 1, 0}));
  auto read = ParseTensorPickle(pickle.pickle);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ((*read)[1].dtype, DType::kInt32);
  EXPECT_EQ((*read)[1].storage_index, 1u);
  EXPECT_EQ((*read)[2].storage_index, 0u);
}

TEST(TensorPickleTest, RefusesWhatAStockWorkerWouldNotSurvive) {
  Tensor tensor = Iota({2});
  EXPECT_TRUE(CheckPicklable(tensor).ok());
  EXPECT_FALSE(CheckPicklable(View(tensor, {3}, {1}, 0)).ok());
  EXPECT_FALSE(CheckPicklable(View(tensor, {2}, {-1}, 1)).ok());
  EXPECT_FALSE(
      CheckPicklable(View(tensor, Sizes(65, 1), Sizes(65, 1), 0)).ok());
  EXPECT_TRUE(CheckPicklable(View(tensor, Sizes(64, 1), Sizes(64, 1), 0)).ok());
  Tensor ints = tensor;
  ints.dtype = DType::kInt32;
  ints.requires_grad = true;
  EXPECT_EQ(CheckPicklable(ints).message(),
            "a tensor of int32 cannot require a gradient");
}

// A later PyTorch's seventh argument.
TEST(TensorPickleTest, ReadsMetadata) {
  const std::string none = Golden("one");
  const auto with = [&](const std::string& metadata) {
    // After OrderedDict(), before the TUPLE that ends the arguments.
    return absl::StrReplaceAll(none, {{")RtRq\x08", ")R" + metadata +
                                                        "tRq"
                                                        "\x08"}});
  };
  const std::string tag = "ctorch.jit._pickle\nrestore_type_tag\n(";
  const std::string type =
      "X\x0f\x00\x00\x00"
      "Dict[str, bool]"s;
  const std::string conj =
      "X\x04\x00\x00\x00"
      "conj"s;
  ASSERT_NE(with("}"), none);
  EXPECT_TRUE(Unpickle(with("}"), {24}).ok());
  EXPECT_TRUE(
      Unpickle(with(tag + "}(" + conj + "\x89u" + type + "tR"), {24}).ok());
  const absl::Status refusal =
      Refusal(with(tag + "}(" + conj + "\x88u" + type + "tR"));
  EXPECT_EQ(refusal.code(), absl::StatusCode::kUnimplemented);
  EXPECT_EQ(refusal.message(), "tensors with the bit 'conj' are not supported");
  for (const std::string& bad :
       {"N"s, "]"s, "}(K\x01\x89u"s, "}(" + conj + "K\x01u", tag + "tR"}) {
    EXPECT_EQ(Refusal(with(bad)).code(), absl::StatusCode::kInvalidArgument)
        << testing::PrintToString(bad);
  }
}

TEST(TensorPickleTest, NamesWhatIsNotSupported) {
  EXPECT_EQ(Refusal(Golden("quant")),
            absl::UnimplementedError("quantized tensors are not supported"));
  EXPECT_EQ(Refusal(Golden("sparse")),
            absl::UnimplementedError("sparse tensors are not supported"));
  const std::string exotic =
      absl::StrReplaceAll(Golden("one"), {{"FloatStorage", "QUInt4x2Storage"}});
  EXPECT_EQ(Refusal(exotic),
            absl::UnimplementedError("tensors of 'torch\\nQUInt4x2Storage'"
                                     " are not supported"));
}

TEST(TensorPickleTest, RefusesOtherPickles) {
  const std::string one = Golden("one");
  const std::pair<std::string, std::string> changes[] = {
      {"build_tensorlist", "build_intlist"},
      {"torch.jit._pickle", "os"},
      {"_rebuild_tensor_v2", "system"},
      {"OrderedDict", "Counter"},
      {"X\x07\x00\x00\x00storage"s, "X\x07\x00\x00\x00STORAGE"s},
      {"X\x01\x00\x00\x00"
       "0"s,
       "X\x01\x00\x00\x00-"s},
      {"X\x01\x00\x00\x00"
       "0"s,
       "X\x02\x00\x00\x00-1"s},
      {"X\x01\x00\x00\x00"
       "0"s,
       "X\x02\x00\x00\x00+0"s},
      {"X\x01\x00\x00\x00"
       "0"s,
       "X\x00\x00\x00\x00"s},
      {"X\x01\x00\x00\x00"
       "0"s,
       "X\x0a\x00\x00\x00"
       "0000000000"s},
      {"X\x01\x00\x00\x00"
       "0"s,
       "K\x00"s},
      {"X\x03\x00\x00\x00"
       "cpu"s,
       "X\x03\x00\x00\x00"
       "c,u"s},
      {"X\x03\x00\x00\x00"
       "cpu"s,
       "X\x05\x00\x00\x00"
       "cpu:x"s},
      {"X\x03\x00\x00\x00"
       "cpu"s,
       "X\x06\x00\x00\x00"
       "cpu:-1"s},
      {"X\x03\x00\x00\x00"
       "cpu"s,
       "X\x00\x00\x00\x00"s},
      {"K\x06t"s, "J\xff\xff\xff\xfft"s},  // a storage of -1 elements
      {"K\x06t"s, "Nt"s},
      {"K\x00(K\x02"s, "N(K\x02"s},  // no offset
      {"K\x00(K\x02"s, "K\x00(N"s},  // a size that is no number
      {"(K\x02K\x03t"s, "]"s},       // sizes that are no tuple
      {"\x89"
       "c"s,
       "K\x00"
       "c"s},                          // requires_grad
      {")R"s, "N\x85R"s},              // backward hooks
      {"tRq\x08"s, "tRq\x08Nq\x09"s},  // something else in the list
      {"]("s, "}("s},
      {"](", ")("},
      {"etR.", "etR.."},
  };
  for (const auto& [from, to] : changes) {
    const std::string changed = absl::StrReplaceAll(one, {{from, to}});
    ASSERT_NE(changed, one) << testing::PrintToString(from);
    EXPECT_EQ(Refusal(changed).code(), absl::StatusCode::kInvalidArgument)
        << testing::PrintToString(from) << " " << testing::PrintToString(to);
  }
  EXPECT_EQ(Refusal("\x80\x02N.").code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Refusal(absl::StrReplaceAll(
                one, {{"torch._utils\n_rebuild_tensor_v2", "os\nsystem\x01"}})),
            absl::InvalidArgumentError(
                "bad tensor pickle: a call of 'os\\nsystem\\x01'"));
  for (size_t size = 0; size < one.size(); ++size) {
    EXPECT_FALSE(Unpickle(one.substr(0, size), {24}).ok()) << size;
  }
}

TEST(TensorPickleTest, ChecksAgainstTheStorages) {
  const std::string one = Golden("one");  // 6 floats
  EXPECT_TRUE(Unpickle(one, {24}).ok());
  EXPECT_EQ(Refusal(one, {23}),
            absl::InvalidArgumentError("storage 0 is said to hold 6 float32, "
                                       "but fewer bytes were received"));
  EXPECT_EQ(Refusal(one, {}), absl::InvalidArgumentError(
                                  "a tensor is in storage 0, of 0 received"));
  // More elements, or bytes that overflow.
  for (const std::string& size :
       {"K\x07"s, "\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f"s,
        "\x8a\x08\x00\x00\x00\x00\x00\x00\x00\x40"s}) {
    EXPECT_FALSE(
        Unpickle(absl::StrReplaceAll(one, {{"K\x06t"s, size + "t"}}), {24})
            .ok());
  }
  // Views beyond the storage: sizes, strides, offset.
  for (const std::string& sizes : {"(K\x02K\x04t"s, "(K\x03K\x03t"s,
                                   "(K\x02J\xff\xff\xff\xfft"s, "(K\x02t"s}) {
    EXPECT_FALSE(
        Unpickle(absl::StrReplaceAll(one, {{"(K\x02K\x03t"s, sizes}}), {24})
            .ok())
        << testing::PrintToString(sizes);
  }
  EXPECT_FALSE(
      Unpickle(absl::StrReplaceAll(one, {{"(K\x03K\x01t"s, "(K\x04K\x01t"s}}),
               {24})
          .ok());
  for (const std::string& offset :
       {"K\x01"s, "J\xff\xff\xff\xff"s,
        "\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f"s}) {
    EXPECT_FALSE(Unpickle(absl::StrReplaceAll(
                              one, {{"K\x00(K\x02"s, offset + "(K\x02"}}),
                          {24})
                     .ok())
        << testing::PrintToString(offset);
  }
}

TEST(TensorPickleTest, IsBounded) {
  TensorPickleLimits limits;
  limits.max_tensors = 101;
  EXPECT_EQ(ParseTensorPickle(Golden("many"), limits).status().code(),
            absl::StatusCode::kResourceExhausted);
  limits.max_tensors = 102;
  EXPECT_TRUE(ParseTensorPickle(Golden("many"), limits).ok());
  limits.max_dimensions = 1;
  EXPECT_FALSE(ParseTensorPickle(Golden("one"), limits).ok());
}

TEST(TensorPickleTest, NamesDevices) {
  const std::string cuda =
      absl::StrReplaceAll(Golden("one"), {{"X\x03\x00\x00\x00"
                                           "cpu"s,
                                           "X\x06\x00\x00\x00"
                                           "cuda:3"s}});
  auto read = ParseTensorPickle(cuda);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ((*read)[0].source_device, (Device{"cuda", 3}));
}

}  // namespace
}  // namespace reprise
