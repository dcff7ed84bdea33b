// Reads an untrusted pickle into a tree: of protocol 2, the opcodes that
// libtorch writes, and on request of the protocols 3 to 5, those that Python
// writes for plain values. It executes nothing: a call stays a node that names
// its callee.
//
// The time and the memory it takes are linear in the bytes given, and bounded
// by `PickleLimits`. A tree can be a graph (a memo reference makes a child of
// two parents) and can even contain itself: walk it by an expected shape, never
// to its end.

#ifndef REPRISE_AGENT_WIRE_PICKLE_TREE_H_
#define REPRISE_AGENT_WIRE_PICKLE_TREE_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace reprise {

struct PickleLimits {
  size_t max_bytes = size_t{64} << 20;
  size_t max_nodes = size_t{4} << 20;
  size_t max_depth = 64;  // open marks
  // 2: what libtorch writes, and nothing else. 5: what Python writes, too.
  int max_protocol = 2;
};

// Immutable. Refers to the bytes it was parsed from, which must outlive it.
class PickleTree {
 public:
  using Ref = uint32_t;

  enum class Kind : uint8_t {
    kNone,
    kBool,
    kInt,
    kFloat,
    kString,
    kBytes,
    kGlobal,
    kStackGlobal,  // children: module, name; both are strings
    kTuple,
    kList,
    kDict,        // children: key, value, key, value, ...
    kPersistent,  // children: the id
    kReduce,      // children: callable, arguments
    kNewObject,   // children: class, arguments
    kBuild,       // children: object, state
  };

  // INVALID_ARGUMENT, with the offset, for anything other than one well-formed
  // pickle; RESOURCE_EXHAUSTED for a pickle beyond the limits.
  static absl::StatusOr<PickleTree> Parse(std::string_view pickle,
                                          const PickleLimits& limits = {});

  Ref root() const { return root_; }
  Kind kind(Ref ref) const { return nodes_[ref].kind; }

  // Empty when the node is of another kind.
  std::optional<bool> AsBool(Ref ref) const;
  std::optional<int64_t> AsInt(Ref ref) const;
  std::optional<double> AsFloat(Ref ref) const;
  std::optional<std::string_view> AsString(Ref ref) const;
  std::optional<std::string_view> AsBytes(Ref ref) const;
  // "module\nname", of a `kGlobal`
  std::optional<std::string_view> AsGlobal(Ref ref) const;
  // Of a global of either kind.
  struct GlobalName {
    std::string_view module;
    std::string_view name;
    friend bool operator==(const GlobalName&, const GlobalName&) = default;
  };
  std::optional<GlobalName> AsGlobalName(Ref ref) const;

  // Empty when the node is of a kind without children.
  absl::Span<const Ref> children(Ref ref) const;

 private:
  friend class PickleParser;

  struct Node {
    Kind kind = Kind::kNone;
    // Text: offset and length in `text_`. Tuples and pairs: the first child and
    // their number, in `children_`. List and dict: the index in `lists_`.
    uint32_t first = 0;
    uint32_t count = 0;
    union {
      int64_t integer = 0;
      double real;
    };
  };

  std::string_view text_;
  std::vector<Node> nodes_;
  std::vector<Ref> children_;
  std::vector<std::vector<Ref>> lists_;
  Ref root_ = 0;
};

}  // namespace reprise

#endif  // REPRISE_AGENT_WIRE_PICKLE_TREE_H_
