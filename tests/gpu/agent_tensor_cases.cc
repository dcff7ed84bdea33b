// Dtypes, views, shared storages, sizes and streams.

#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/gpu/agent_cases.h"
#include "tests/gpu/agent_end.h"

namespace reprise::gpu {
namespace {

constexpr absl::Duration kBusyFor = absl::Milliseconds(100);
constexpr DType kDTypes[] = {
    DType::kUInt8,     DType::kInt8,       DType::kInt16,   DType::kInt32,
    DType::kInt64,     DType::kFloat16,    DType::kFloat32, DType::kFloat64,
    DType::kComplex64, DType::kComplex128, DType::kBool,    DType::kBFloat16,
};

absl::Status Wrong(std::string what) {
  return absl::DataLossError(std::move(what));
}

// The bytes of its storage when its stream of `streams` comes to them.
absl::Status CompareTensor(Gpu& gpu, const Tensor& tensor, uint64_t seed,
                           const StreamSet& streams) {
  return gpu.Compare(*tensor.storage, seed, streams.On(FirstGpu().index));
}

// One tensor of each dtype, there and back.
absl::Status AllDTypes(const CaseContext& context) {
  std::vector<Tensor> tensors;
  uint64_t seed = 100;
  for (const DType dtype : kDTypes) {
    auto storage = context.gpu.Make(3 * 5 * SizeOf(dtype), seed++);
    if (!storage.ok()) return storage.status();
    tensors.push_back({dtype, {3, 5}, {5, 1}, 0, false, *std::move(storage)});
  }
  auto reply = Call(context, "echo", tensors, Only(context.gpu.NewStream()));
  if (!reply.ok()) return reply.status();
  if (reply->tensors.size() != tensors.size()) return Wrong("the count");
  seed = 100;
  for (size_t i = 0; i < tensors.size(); ++i, ++seed) {
    const Tensor& got = reply->tensors[i];
    if (got.dtype != tensors[i].dtype || got.sizes != tensors[i].sizes ||
        got.strides != tensors[i].strides) {
      return Wrong(absl::StrCat(std::string(ToString(tensors[i].dtype)),
                                " came back with another type or shape"));
    }
    absl::Status status = CompareTensor(context.gpu, got, seed, reply->streams);
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

// Transposed, shifted, with stride 0, of no dimension, empty; several of them
// on one storage, which must be one at the end, too. None views so little of it
// that it would be sent as a copy.
absl::Status Views(const CaseContext& context) {
  constexpr int64_t kElements = 64 * 48;
  auto storage = context.gpu.Make(kElements * sizeof(float), 7);
  auto other = context.gpu.Make(sizeof(float), 8);
  if (!storage.ok()) return storage.status();
  if (!other.ok()) return other.status();
  const DType f32 = DType::kFloat32;
  const std::vector<Tensor> tensors = {
      {f32, {64, 48}, {48, 1}, 0, false, *storage},
      {f32, {48, 64}, {1, 48}, 0, false, *storage},
      {f32, {60, 47}, {48, 1}, 100, true, *storage},
      {f32, {}, {}, 0, false, *other},
      {f32, {1000, 1000}, {0, 0}, 0, false, *other},
      {f32, {0, 3}, {3, 1}, 0, false, *AllocateCpu(0)},
  };
  auto reply = Call(context, "echo", tensors, Only(context.gpu.NewStream()));
  if (!reply.ok()) return reply.status();
  if (reply->tensors.size() != tensors.size()) return Wrong("the count");
  std::set<const Storage*> storages;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const Tensor& got = reply->tensors[i];
    if (got.sizes != tensors[i].sizes || got.strides != tensors[i].strides ||
        got.storage_offset != tensors[i].storage_offset ||
        got.requires_grad != tensors[i].requires_grad) {
      return Wrong(absl::StrCat("view ", i, " came back as another one"));
    }
    if (got.storage->device() != tensors[i].storage->device()) {
      return Wrong(absl::StrCat("view ", i, " came to another device"));
    }
    if (got.num_elements() == 0) continue;
    storages.insert(got.storage.get());
    absl::Status status =
        CompareTensor(context.gpu, got, i < 3 ? 7 : 8, reply->streams);
    if (!status.ok()) return status;
  }
  if (storages.size() != 2) {
    return Wrong(absl::StrCat("2 storages became ", storages.size()));
  }
  return absl::OkStatus();
}

absl::Status Sizes(const CaseContext& context) {
  uint64_t seed = 1000;
  for (const size_t size : {size_t{0}, size_t{1}, size_t{257}, size_t{1} << 16,
                            (size_t{1} << 20) + 3, (size_t{8} << 20) + 1,
                            size_t{64} << 20, size_t{1} << 30}) {
    if (size > context.gpu.LargestTensor()) break;
    auto storage = context.gpu.Make(size, ++seed);
    if (!storage.ok()) return storage.status();
    auto reply = Call(context, "echo", {BytesOf(*std::move(storage))},
                      Only(context.gpu.NewStream()));
    absl::Status status = reply.status();
    if (status.ok()) {
      status = CompareTensor(context.gpu, reply->tensors.at(0), seed,
                             reply->streams);
    }
    if (!status.ok()) {
      return absl::Status(
          status.code(),
          absl::StrCat(size, " bytes: ", std::string(status.message())));
    }
  }
  return absl::OkStatus();
}

// The caller's work runs still when the call is made.
absl::Status RunningWork(const CaseContext& context, bool& was_busy) {
  constexpr size_t kBytes = (size_t{3} << 20) + 5;
  Gpu& gpu = context.gpu;
  auto tensor = gpu.Make(kBytes, 1);
  auto made = gpu.Make(kBytes, 2);
  if (!tensor.ok()) return tensor.status();
  if (!made.ok()) return made.status();
  const GpuStream stream = gpu.NewStream();
  (*tensor)->RecordUse(stream);
  (*made)->RecordUse(stream);
  absl::Status status = gpu.KeepBusy(stream, kBusyFor);
  if (status.ok()) {
    status =
        gpu.driver().Copy((*tensor)->data(), (*made)->data(), kBytes, stream);
  }
  if (!status.ok()) return status;
  Message request{MessageType::kScriptCall, "check 2", {BytesOf(*tensor)}};
  request.streams = Only(stream);
  const Future reply = context.client.Send(kServer, std::move(request));
  was_busy = gpu.IsBusy(stream).value_or(false);
  return reply.status();
}

// The handler's work runs still when it answers; the caller's own stream waits
// for it, not the host.
absl::Status LateReply(const CaseContext& context) {
  constexpr size_t kBytes = (size_t{3} << 20) + 5;
  Gpu& gpu = context.gpu;
  auto tensor = gpu.Make(kBytes, 1);
  if (!tensor.ok()) return tensor.status();
  const GpuStream stream = gpu.NewStream();
  Message request{MessageType::kScriptCall, "late 40", {BytesOf(*tensor)}};
  request.streams = Only(stream);
  const Future reply = context.client.Send(kServer, std::move(request));
  absl::Status status = reply.WaitOn(gpu.devices(), Only(stream));
  if (!status.ok()) return status;
  return CompareTensor(gpu, reply.result()->tensors.at(0), 40, Only(stream));
}

absl::Status ManyCalls(const CaseContext& context) {
  constexpr uint64_t kCalls = 32;
  std::vector<Future> replies;
  for (uint64_t i = 0; i < kCalls; ++i) {
    auto tensor = context.gpu.Make((size_t{1} << 20) + i, 500 + i);
    if (!tensor.ok()) return tensor.status();
    Message request{MessageType::kScriptCall, "echo", {BytesOf(*tensor)}};
    request.streams = Only(context.gpu.NewStream());
    replies.push_back(context.client.Send(kServer, std::move(request)));
  }
  for (uint64_t i = 0; i < kCalls; ++i) {
    absl::Status status = replies[i].Synchronize(context.gpu.devices());
    if (status.ok()) {
      const Message& reply = *replies[i].result();
      status = CompareTensor(context.gpu, reply.tensors.at(0), 500 + i,
                             reply.streams);
    }
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

}  // namespace

void RunTensorCases(const CaseContext& context) {
  Results& results = context.results;
  const std::string& name = context.name;
  results.Check(name + ": all dtypes", AllDTypes(context));
  results.Check(name + ": views of shared storages", Views(context));
  results.Check(absl::StrCat(name, ": sizes up to ",
                             context.gpu.LargestTensor() >> 20, " MiB"),
                Sizes(context));
  bool was_busy = false;
  const absl::Status running = RunningWork(context, was_busy);
  if (running.ok() && !was_busy) {
    results.Skip(name + ": work that runs still",
                 "the work was done before the call was made");
  } else {
    results.Check(name + ": work that runs still", running);
  }
  results.Check(name + ": a reply that is made late", LateReply(context));
  results.Check(name + ": many calls at once", ManyCalls(context));
}

}  // namespace reprise::gpu
