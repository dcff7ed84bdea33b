// Any bytes may be a pickle. They must not crash the parser, and a tree that it
// makes must hold together: each node that can be reached is there, has as many
// children as its kind, and refers to bytes of the input.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <set>
#include <string_view>
#include <vector>

#include "agent/wire/pickle_tree.h"

namespace {

using reprise::PickleTree;
using Kind = PickleTree::Kind;

void Require(bool condition) {
  if (!condition) std::abort();
}

// The number of children of a node of that kind, or -1 if it may vary.
int ChildrenOf(Kind kind) {
  switch (kind) {
    case Kind::kNone:
    case Kind::kBool:
    case Kind::kInt:
    case Kind::kFloat:
    case Kind::kString:
    case Kind::kBytes:
    case Kind::kGlobal:
      return 0;
    case Kind::kPersistent:
      return 1;
    case Kind::kReduce:
    case Kind::kNewObject:
    case Kind::kBuild:
    case Kind::kStackGlobal:
      return 2;
    default:
      return -1;
  }
}

void CheckNode(const PickleTree& tree, PickleTree::Ref ref,
               std::string_view input) {
  const Kind kind = tree.kind(ref);
  // Each kind is read by its own function, and by no other.
  Require(tree.AsBool(ref).has_value() == (kind == Kind::kBool));
  Require(tree.AsInt(ref).has_value() == (kind == Kind::kInt));
  Require(tree.AsFloat(ref).has_value() == (kind == Kind::kFloat));
  Require(tree.AsString(ref).has_value() == (kind == Kind::kString));
  Require(tree.AsGlobal(ref).has_value() == (kind == Kind::kGlobal));
  Require(tree.AsBytes(ref).has_value() == (kind == Kind::kBytes));
  Require(tree.AsGlobalName(ref).has_value() ==
          (kind == Kind::kGlobal || kind == Kind::kStackGlobal));
  for (const auto& text :
       {tree.AsString(ref), tree.AsGlobal(ref), tree.AsBytes(ref)}) {
    if (!text.has_value()) continue;
    Require(text->data() >= input.data() &&
            text->data() + text->size() <= input.data() + input.size());
  }
  const size_t count = tree.children(ref).size();
  const int expected = ChildrenOf(kind);
  Require(expected < 0 || count == static_cast<size_t>(expected));
  Require(kind != Kind::kDict || count % 2 == 0);
}

// Reaches each node once: the tree may contain itself.
void CheckTree(const PickleTree& tree, std::string_view input) {
  std::set<PickleTree::Ref> seen = {tree.root()};
  std::vector<PickleTree::Ref> next = {tree.root()};
  while (!next.empty()) {
    const PickleTree::Ref ref = next.back();
    next.pop_back();
    CheckNode(tree, ref, input);
    for (const PickleTree::Ref child : tree.children(ref)) {
      if (seen.insert(child).second) next.push_back(child);
    }
  }
  // No opcode makes two nodes, so there are no more than bytes.
  Require(seen.size() <= input.size());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const auto tree = PickleTree::Parse(input);
  if (tree.ok()) CheckTree(*tree, input);

  // What Python writes, too.
  const auto python = PickleTree::Parse(input, {.max_protocol = 5});
  Require(python.ok() || !tree.ok());
  if (python.ok()) CheckTree(*python, input);

  reprise::PickleLimits limits;
  limits.max_nodes = 16;
  limits.max_depth = 2;
  const auto small = PickleTree::Parse(input, limits);
  Require(tree.ok() || !small.ok());
  if (small.ok()) CheckTree(*small, input);
  return 0;
}
