// Messages with tensors that can be made, and checked, without either agent's
// tensors: both ends of a conversation make the same description of a message
// from its name, and compare what arrived with it, byte for byte.

#ifndef REPRISE_TESTS_INTEROP_MESSAGE_SPEC_H_
#define REPRISE_TESTS_INTEROP_MESSAGE_SPEC_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace reprise::interop {

struct ElementType {
  std::string_view name;
  size_t bytes;
  bool may_require_grad;
};

// Those of PyTorch 1.13, in the order of our `DType`.
inline constexpr std::array<ElementType, 13> kElementTypes = {{
    {"uint8", 1, false},
    {"int8", 1, false},
    {"int16", 2, false},
    {"int32", 4, false},
    {"int64", 8, false},
    {"float16", 2, true},
    {"float32", 4, true},
    {"float64", 8, true},
    {"complex64", 8, true},
    {"complex128", 16, true},
    {"bool", 1, false},
    {"bfloat16", 2, true},
    {"complex32", 4, true},
}};
inline constexpr size_t kBool = 10;

struct TensorSpec {
  size_t type = 0;  // in `kElementTypes`
  std::vector<int64_t> sizes;
  std::vector<int64_t> strides;  // elements
  int64_t offset = 0;            // elements
  bool requires_grad = false;
  size_t storage = 0;  // in `MessageSpec::storage_bytes`
};

// A storage is viewed by tensors of one type: PyTorch 1.13 writes one type for
// each.
struct MessageSpec {
  std::string name;
  std::vector<size_t> storage_bytes;
  std::vector<TensorSpec> tensors;
};

// The message of a name: "dtypes", "views", "shared", "empties", "none",
// "bytes N" (one tensor of N bytes), "many N" (N tensors), "random N"
// (anything, by the seed N). Whatever comes after a '/' makes another message
// of the same shape with other bytes. Throws std::invalid_argument for any
// other name.
MessageSpec MakeMessage(std::string_view name);

// The bytes of a storage of the message.
std::vector<char> StorageOf(const MessageSpec& message, size_t storage);

// Bytes that depend on nothing but `name`.
std::string BytesOf(std::string_view name, size_t size);

// Random numbers that are the same on all machines.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t Next();
  // 0 .. `bound` - 1
  size_t Below(size_t bound) { return static_cast<size_t>(Next() % bound); }

 private:
  uint64_t state_;
};

// What is seen of a tensor that arrived. `storage` must be readable while it is
// compared.
struct ReceivedTensor {
  size_t type = 0;  // kElementTypes.size() for any other
  std::vector<int64_t> sizes;
  std::vector<int64_t> strides;
  int64_t offset = 0;
  bool requires_grad = false;
  const char* storage = nullptr;
  size_t storage_bytes = 0;
};

struct Comparison {
  uint64_t bytes = 0;      // of elements, compared
  uint64_t different = 0;  // of them
  std::string problem;     // "" if all is as it was sent
};

// Compares types, shapes, elements, and which tensors share a storage. A tensor
// that views less than half of 8 KiB or more is sent as a copy by both agents;
// of such ones the strides are not compared, nor what they share.
Comparison Compare(const MessageSpec& sent,
                   const std::vector<ReceivedTensor>& received);

}  // namespace reprise::interop

#endif  // REPRISE_TESTS_INTEROP_MESSAGE_SPEC_H_
