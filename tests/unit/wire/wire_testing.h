// Tensors, and messages that are carried without a pipe, for the tests of
// agent/wire.

#ifndef REPRISE_TESTS_UNIT_WIRE_WIRE_TESTING_H_
#define REPRISE_TESTS_UNIT_WIRE_WIRE_TESTING_H_

#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/types/span.h"
#include "agent/device/tensor.h"
#include "agent/wire/message_codec.h"
#include "tensorpipe/core/message.h"

namespace reprise {

// A contiguous tensor with the elements 0, 1, 2, ...
inline Tensor Iota(absl::Span<const int64_t> sizes) {
  Tensor tensor = *MakeTensor(DType::kFloat32, sizes);
  auto* elements = static_cast<float*>(tensor.storage->data());
  for (int64_t i = 0; i < tensor.num_elements(); ++i) {
    elements[i] = static_cast<float>(i);
  }
  return tensor;
}

inline Tensor View(const Tensor& of, std::vector<int64_t> sizes,
                   std::vector<int64_t> strides, int64_t offset) {
  Tensor view = of;
  view.sizes = std::move(sizes);
  view.strides = std::move(strides);
  view.storage_offset = offset;
  return view;
}

// The elements of a float tensor of two dimensions, row by row.
inline std::vector<float> Elements(const Tensor& tensor) {
  std::vector<float> result;
  const auto* elements = static_cast<const float*>(tensor.storage->data());
  for (int64_t i = 0; i < tensor.sizes[0]; ++i) {
    for (int64_t j = 0; j < tensor.sizes[1]; ++j) {
      result.push_back(elements[tensor.storage_offset + i * tensor.strides[0] +
                                j * tensor.strides[1]]);
    }
  }
  return result;
}

// The descriptor that the receiver of `message` gets.
inline tensorpipe::Descriptor DescriptorOf(const tensorpipe::Message& message) {
  tensorpipe::Descriptor descriptor;
  for (const auto& payload : message.payloads) {
    descriptor.payloads.push_back({payload.length, payload.metadata});
  }
  for (const auto& tensor : message.tensors) {
    auto& out = descriptor.tensors.emplace_back();
    out.length = tensor.length;
    out.sourceDevice = tensor.buffer.device();
    out.targetDevice = tensor.targetDevice;
  }
  return descriptor;
}

inline void* Pointer(tensorpipe::Buffer buffer) {
  return buffer.unwrap<tensorpipe::CpuBuffer>().ptr;
}

// Copies the message as a pipe would.
inline void Carry(const tensorpipe::Message& from,
                  const tensorpipe::Allocation& to) {
  for (size_t i = 0; i < from.payloads.size(); ++i) {
    std::memcpy(to.payloads[i].data, from.payloads[i].data,
                from.payloads[i].length);
  }
  for (size_t i = 0; i < from.tensors.size(); ++i) {
    if (from.tensors[i].length == 0) continue;
    std::memcpy(Pointer(to.tensors[i].buffer), Pointer(from.tensors[i].buffer),
                from.tensors[i].length);
  }
}

}  // namespace reprise

#endif  // REPRISE_TESTS_UNIT_WIRE_WIRE_TESTING_H_
