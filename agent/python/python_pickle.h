// Plain values of Python in the two pickles of PyTorch's calls: that of its
// Python side, and that of its JIT, in which calls of builtin operators travel.
// A tensor stands there as its place in the message's list of tensors.

#ifndef REPRISE_AGENT_PYTHON_PYTHON_PICKLE_H_
#define REPRISE_AGENT_PYTHON_PYTHON_PICKLE_H_

#include <cstddef>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "agent/device/tensor.h"
#include "agent/python/pickle_writer.h"
#include "agent/python/python_value.h"
#include "agent/wire/pickle_tree.h"

namespace reprise {

// What a peer's pickle may hold, and what ours may.
inline constexpr int kMaxPythonDepth = 64;
inline constexpr size_t kMaxPythonValues = size_t{1} << 20;

inline constexpr PickleLimits kPythonPickleLimits{.max_protocol = 5};

// Reads values of one message. What the pickle holds only by reference counts
// each time, so a small message cannot become much: at most `kMaxPythonValues`
// values, and 16 MiB of text beyond the length of the pickle.
class PythonReader {
 public:
  // All must outlive it.
  PythonReader(const PickleTree& tree, size_t pickle_bytes,
               absl::Span<const Tensor> tensors);

  // INVALID_ARGUMENT for what no writer writes; UNIMPLEMENTED for objects of
  // other classes, by their names; RESOURCE_EXHAUSTED beyond the limits.
  absl::StatusOr<PythonValue> Read(PickleTree::Ref ref);
  // The items of a tuple or a list.
  absl::StatusOr<std::vector<PythonValue>> ReadItems(PickleTree::Ref ref);

 private:
  absl::StatusOr<PythonValue> ReadAt(PickleTree::Ref ref, int depth);
  absl::StatusOr<std::vector<PythonValue>> ReadChildren(PickleTree::Ref ref,
                                                        int depth);
  absl::StatusOr<PythonValue> ReadObject(PickleTree::Ref ref, int depth);
  absl::StatusOr<PythonValue> ReadTensor(PickleTree::Ref arguments);
  absl::Status Take(size_t text_bytes);

  const PickleTree& tree_;
  const absl::Span<const Tensor> tensors_;
  size_t values_left_ = kMaxPythonValues;
  size_t text_left_;
};

enum class PickleDialect { kPython, kJit };

// Writes `value`, and adds its tensors to `tensors`. INVALID_ARGUMENT for what
// the reader could not read: a text that is not UTF-8, a dictionary's key that
// has no hash, and in the JIT's dialect bytes and dictionaries.
// RESOURCE_EXHAUSTED for what is too deep or too long.
absl::Status WritePython(const PythonValue& value, PickleDialect dialect,
                         PickleWriter& pickle, std::vector<Tensor>& tensors);

}  // namespace reprise

#endif  // REPRISE_AGENT_PYTHON_PYTHON_PICKLE_H_
