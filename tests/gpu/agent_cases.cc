// Device maps and errors.

#include "tests/gpu/agent_cases.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/gpu/agent_end.h"

namespace reprise::gpu {
namespace {

constexpr size_t kSmall = 4099;

// OK when `status` is of this code and its text has `text`.
absl::Status Expect(const absl::Status& status, absl::StatusCode code,
                    const std::string& text) {
  if (status.code() == code &&
      absl::StrContains(std::string(status.message()), text)) {
    return absl::OkStatus();
  }
  return absl::InternalError(
      absl::StrCat("wanted ", absl::StatusCodeToString(code), " with \"", text,
                   "\", got ", status.ToString()));
}

CallOptions WithMap(const Device& from, const Device& to) {
  CallOptions options;
  options.device_map = {{from, to}};
  return options;
}

// Sends a tensor from `from` to `to` and back again.
absl::Status ThereAndBack(const CaseContext& context, const Device& from,
                          const Device& to) {
  Gpu& gpu = context.gpu;
  const GpuStream stream = gpu.NewStream();
  auto on_gpu = gpu.Make(kSmall, 3);
  if (!on_gpu.ok()) return on_gpu.status();
  auto tensor = BytesOf(*on_gpu);
  if (from == CpuDevice()) {
    tensor.storage = *AllocateCpu(kSmall);
    absl::Status status = gpu.driver().Copy(tensor.storage->data(),
                                            (*on_gpu)->data(), kSmall, stream);
    if (status.ok()) status = gpu.driver().Synchronize(stream);
    if (!status.ok()) return status;
  }
  auto reply =
      Call(context, "devices", {tensor}, Only(stream), WithMap(from, to));
  if (!reply.ok()) return reply.status();
  if (reply->payload != to.ToString()) {
    return absl::DataLossError("it arrived on " + reply->payload);
  }
  Storage& got = *reply->tensors.at(0).storage;
  if (got.device() != from) {
    return absl::DataLossError("it came back to " + got.device().ToString());
  }
  return gpu.Compare(got, 3, reply->streams.On(FirstGpu().index));
}

// Takes what memory there is, in blocks that get smaller.
class Hoard {
 public:
  explicit Hoard(Gpu& gpu) : gpu_(gpu) {
    for (size_t size = size_t{16} << 30; size >= kLeast;) {
      absl::StatusOr<void*> block = gpu.driver().Allocate(0, size);
      if (block.ok()) {
        blocks_.push_back(*block);
      } else {
        why_ = block.status();
        size /= 2;
      }
    }
  }
  ~Hoard() {
    for (void* const block : blocks_) gpu_.driver().Free(0, block);
  }
  // Of the last allocation that failed.
  const absl::Status& why() const { return why_; }

 private:
  // Something must be left for the driver itself.
  static constexpr size_t kLeast = size_t{128} << 20;
  Gpu& gpu_;
  std::vector<void*> blocks_;
  absl::Status why_;
};

void NoMemoryAtTheServer(const CaseContext& context) {
  Results& results = context.results;
  const std::string name = context.name + ": no memory at the server";
  if (context.gpu.is_fake()) {
    return results.Skip(name, "a fake GPU has as much as the host");
  }
  // More than is left, and less than what is read and thrown away.
  constexpr size_t kBytes = size_t{192} << 20;
  auto tensor = context.gpu.Make(kBytes, 5);
  if (!tensor.ok()) return results.Check(name, tensor.status());
  const GpuStream stream = context.gpu.NewStream();
  // What channels and driver need once is there before there is nothing left.
  auto call = Call(context, "check 5", {BytesOf(*tensor)}, Only(stream));
  if (!call.ok()) return results.Check(name, call.status());
  context.gpu.devices().gpu_memory()->Trim();
  call = Call(context, "trim", {}, {});
  if (!call.ok()) return results.Check(name, call.status());
  {
    const Hoard hoard(context.gpu);
    results.Check(context.name + ": the driver says that there is no memory",
                  Expect(hoard.why(), absl::StatusCode::kResourceExhausted,
                         "OUT_OF_MEMORY"));
    call = Call(context, "check 5", {BytesOf(*tensor)}, Only(stream));
    results.Check(
        name, Expect(call.status(), absl::StatusCode::kResourceExhausted, ""));
    call = Call(context, "check 5", {}, {});
    results.Check(context.name + ": a call without tensors works meanwhile",
                  call.status());
  }
  call = Call(context, "check 5", {BytesOf(*tensor)}, Only(stream));
  results.Check(context.name + ": it works when there is memory again",
                call.status());
}

}  // namespace

absl::StatusOr<Message> Call(const CaseContext& context, std::string text,
                             std::vector<Tensor> tensors,
                             const StreamSet& streams, CallOptions options) {
  Message request{MessageType::kScriptCall, std::move(text),
                  std::move(tensors)};
  request.streams = streams;
  const Future reply =
      context.client.Send(kServer, std::move(request), std::move(options));
  absl::Status status = reply.Synchronize(context.gpu.devices());
  if (!status.ok()) return status;
  return *reply.result();
}

void RunMapCases(const CaseContext& context) {
  Results& results = context.results;
  const std::string& name = context.name;
  const Device& gpu = FirstGpu();
  auto tensor = context.gpu.Make(kSmall, 3);
  if (!tensor.ok()) return results.Check(name, tensor.status());
  const StreamSet streams = Only(context.gpu.NewStream());
  results.Check(
      name + ": a tensor without a map fails its call",
      Expect(Call(context, "devices", {BytesOf(*tensor)}, streams).status(),
             absl::StatusCode::kInvalidArgument,
             "only supports CPU tensors by default"));
  results.Check(name + ": from GPU to GPU by the call's map",
                ThereAndBack(context, gpu, gpu));
  results.Check(name + ": from GPU to CPU by the call's map",
                ThereAndBack(context, gpu, CpuDevice()));
  results.Check(name + ": from CPU to GPU by the call's map",
                ThereAndBack(context, CpuDevice(), gpu));
  results.Check(name + ": a device that the server does not have",
                Expect(Call(context, "devices", {BytesOf(*tensor)}, streams,
                            WithMap(gpu, GpuDevice(100)))
                           .status(),
                       absl::StatusCode::kFailedPrecondition, ""));
  results.Check(name + ": and it goes on", ThereAndBack(context, gpu, gpu));
}

void RunErrorCases(const CaseContext& context) {
  Results& results = context.results;
  const std::string& name = context.name;
  Devices& devices = context.gpu.devices();
  results.Check(name + ": no such device",
                Expect(devices.Allocate(GpuDevice(99), 1, {}).status(),
                       absl::StatusCode::kInvalidArgument, "cuda:99"));
  if (!context.gpu.is_fake()) {
    const size_t too_much = context.gpu.driver().properties(0).memory_bytes * 2;
    results.Check(name + ": more than there is",
                  Expect(devices.Allocate(FirstGpu(), too_much, {}).status(),
                         absl::StatusCode::kResourceExhausted, ""));
  }
  NoMemoryAtTheServer(context);
  auto tensor = context.gpu.Make(kSmall, 9);
  if (!tensor.ok()) return results.Check(name, tensor.status());
  const StreamSet streams = Only(context.gpu.NewStream());
  results.Check(
      name + ": an error of the handler",
      Expect(Call(context, "nonsense", {BytesOf(*tensor)}, streams).status(),
             absl::StatusCode::kInvalidArgument, "makes no sense"));
  results.Check(
      name + ": the comparison of bytes can fail",
      Expect(Call(context, "check 10", {BytesOf(*tensor)}, streams).status(),
             absl::StatusCode::kDataLoss, "are not those of 10"));
  results.Check(name + ": and it goes on",
                Call(context, "check 9", {BytesOf(*tensor)}, streams).status());
}

void RunCases(const CaseContext& context, AgentCases cases) {
  switch (cases) {
    case AgentCases::kTensors:
      return RunTensorCases(context);
    case AgentCases::kMaps:
      return RunMapCases(context);
    case AgentCases::kErrors:
      return RunErrorCases(context);
  }
}

}  // namespace reprise::gpu
