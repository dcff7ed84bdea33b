#include "agent/wire/pickle_tree.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <new>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "agent/wire/pickle_opcode.h"

namespace reprise {

// The stack machine of a pickle, over node references.
class PickleParser {
 public:
  using Kind = PickleTree::Kind;
  using Ref = PickleTree::Ref;

  PickleParser(std::string_view pickle, const PickleLimits& limits)
      : limits_(limits) {
    tree_.text_ = pickle;
  }

  absl::StatusOr<PickleTree> Run() {
    // Offsets and references are 32 bits wide.
    if (text().size() > limits_.max_bytes ||
        text().size() > std::numeric_limits<uint32_t>::max()) {
      return absl::ResourceExhaustedError(
          absl::StrCat("pickle of ", text().size(), " bytes"));
    }
    if (text().size() < 2 || text()[0] != pickle_opcode::kProto ||
        text()[1] < 2 || text()[1] > limits_.max_protocol) {
      return absl::InvalidArgumentError(
          limits_.max_protocol == 2
              ? "not a pickle of protocol 2"
              : absl::StrCat("not a pickle of protocols 2 to ",
                             limits_.max_protocol));
    }
    position_ = 2;
    // About what a list of tensors needs. Memory that is not used is not
    // touched.
    tree_.nodes_.reserve(std::min(limits_.max_nodes, text().size() / 5 + 16));
    tree_.children_.reserve(tree_.nodes_.capacity());
    while (!stopped_) {
      const size_t start = position_;
      if (!Step()) {
        return absl::InvalidArgumentError(
            absl::StrCat("bad pickle at byte ", start, ": ", problem_));
      }
      if (tree_.nodes_.size() > limits_.max_nodes ||
          marks_.size() > limits_.max_depth) {
        return absl::ResourceExhaustedError(
            absl::StrCat("pickle too complex at byte ", start));
      }
    }
    if (position_ != text().size()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "bad pickle: ", text().size() - position_, " bytes after its end"));
    }
    return std::move(tree_);
  }

 private:
  std::string_view text() const { return tree_.text_; }

  bool Fail(const char* problem) {
    problem_ = problem;
    return false;
  }

  bool Step() {
    namespace op = pickle_opcode;
    uint64_t number = 0;
    if (!ReadNumber(1, &number)) return false;
    switch (static_cast<char>(number)) {
      case op::kMark:
        marks_.push_back(stack_.size());
        return true;
      case op::kStop:
        return Stop();
      case op::kNone:
        return Push({});
      case op::kNewTrue:
        return PushInteger(Kind::kBool, 1);
      case op::kNewFalse:
        return PushInteger(Kind::kBool, 0);
      case op::kBinInt1:
        return ReadNumber(1, &number) &&
               PushInteger(Kind::kInt, static_cast<int64_t>(number));
      case op::kBinInt2:
        return ReadNumber(2, &number) &&
               PushInteger(Kind::kInt, static_cast<int64_t>(number));
      case op::kBinInt:
        return ReadNumber(4, &number) &&
               PushInteger(Kind::kInt, static_cast<int32_t>(number));
      case op::kLong1:
        return PushLong();
      case op::kBinFloat:
        return PushFloat();
      case op::kBinUnicode:
        return PushString(Kind::kString, 4);
      case op::kGlobal:
        return PushGlobal();
      case op::kEmptyTuple:
        return PushTuple(0);
      case op::kTuple1:
        return PushTuple(1);
      case op::kTuple2:
        return PushTuple(2);
      case op::kTuple3:
        return PushTuple(3);
      case op::kTuple: {
        size_t count;
        return PopMark(&count) && PushTuple(count);
      }
      case op::kEmptyList:
        return PushCollection(Kind::kList);
      case op::kEmptyDict:
        return PushCollection(Kind::kDict);
      case op::kAppends:
        return Extend(Kind::kList);
      case op::kSetItems:
        return Extend(Kind::kDict);
      case op::kBinPersId:
        return PushParent(Kind::kPersistent, 1);
      case op::kReduce:
        return PushParent(Kind::kReduce, 2);
      case op::kNewObj:
        return PushParent(Kind::kNewObject, 2);
      case op::kBuild:
        return PushParent(Kind::kBuild, 2);
      case op::kBinPut:
        return ReadNumber(1, &number) && Put(number);
      case op::kLongBinPut:
        return ReadNumber(4, &number) && Put(number);
      case op::kBinGet:
        return ReadNumber(1, &number) && Get(number);
      case op::kLongBinGet:
        return ReadNumber(4, &number) && Get(number);
      default:
        if (limits_.max_protocol > 2) {
          return StepOfPython(static_cast<char>(number));
        }
        return Fail("unsupported opcode");
    }
  }

  // The opcodes that libtorch does not write.
  bool StepOfPython(char opcode) {
    namespace op = pickle_opcode;
    uint64_t number = 0;
    switch (opcode) {
      case op::kFrame:
        // It says what is read at once, which changes nothing.
        return ReadNumber(8, &number);
      case op::kShortBinUnicode:
        return PushString(Kind::kString, 1);
      case op::kShortBinBytes:
        return PushString(Kind::kBytes, 1);
      case op::kBinBytes:
        return PushString(Kind::kBytes, 4);
      case op::kMemoize:
        return Put(memo_.size());
      case op::kAppend:
        return ExtendBy(Kind::kList, 1);
      case op::kSetItem:
        return ExtendBy(Kind::kDict, 2);
      case op::kStackGlobal:
        if (available() < 2 || KindOfTop(0) != Kind::kString ||
            KindOfTop(1) != Kind::kString) {
          return Fail("a global without a name");
        }
        return PushParent(Kind::kStackGlobal, 2);
      default:
        return Fail("unsupported opcode");
    }
  }

  // Of what is `depth` items below the top of the stack.
  Kind KindOfTop(size_t depth) const {
    return tree_.nodes_[stack_[stack_.size() - 1 - depth]].kind;
  }

  // The number of items above the innermost mark, or on the whole stack if
  // there is no mark. Only these can be popped.
  size_t available() const {
    return stack_.size() - (marks_.empty() ? 0 : marks_.back());
  }

  // Little-endian, unsigned.
  bool ReadNumber(size_t count, uint64_t* number) {
    if (text().size() - position_ < count) return Fail("it ends too early");
    *number = 0;
    for (size_t i = count; i-- > 0;) {
      *number =
          *number << 8 | static_cast<unsigned char>(text()[position_ + i]);
    }
    position_ += count;
    return true;
  }

  bool Push(const PickleTree::Node& node) {
    stack_.push_back(static_cast<Ref>(tree_.nodes_.size()));
    tree_.nodes_.push_back(node);
    return true;
  }

  bool PushInteger(Kind kind, int64_t value) {
    PickleTree::Node node;
    node.kind = kind;
    node.integer = value;
    return Push(node);
  }

  bool PushLong() {
    uint64_t length = 0;
    uint64_t number = 0;
    if (!ReadNumber(1, &length)) return false;
    if (length > 8) return Fail("an integer of more than 64 bits");
    if (!ReadNumber(length, &number)) return false;
    if (length == 0) return PushInteger(Kind::kInt, 0);
    const int shift = static_cast<int>(64 - 8 * length);
    return PushInteger(Kind::kInt,
                       static_cast<int64_t>(number << shift) >> shift);
  }

  bool PushFloat() {
    uint64_t number = 0;
    if (!ReadNumber(8, &number)) return false;
    PickleTree::Node node;
    node.kind = Kind::kFloat;
    node.real = std::bit_cast<double>(__builtin_bswap64(number));
    return Push(node);
  }

  bool PushText(Kind kind, size_t length) {
    PickleTree::Node node;
    node.kind = kind;
    node.first = static_cast<uint32_t>(position_);
    node.count = static_cast<uint32_t>(length);
    position_ += length;
    return Push(node);
  }

  // Its length comes first, in `size` bytes.
  bool PushString(Kind kind, size_t size) {
    uint64_t length = 0;
    if (!ReadNumber(size, &length)) return false;
    if (length > text().size() - position_) return Fail("it ends too early");
    return PushText(kind, length);
  }

  bool PushGlobal() {
    // The length is bounded, so that a pickle that consists only of globals
    // takes linear time.
    constexpr size_t kMaxLength = 512;
    const std::string_view rest = text().substr(position_, kMaxLength);
    const size_t module_end = rest.find('\n');
    const size_t name_end =
        module_end == rest.npos ? rest.npos : rest.find('\n', module_end + 1);
    if (name_end == rest.npos) return Fail("a global without an end");
    PushText(Kind::kGlobal, name_end);
    ++position_;  // the last newline
    return true;
  }

  // Makes the `count` topmost items the children of a new node.
  bool PushParent(Kind kind, size_t count) {
    if (available() < count) return Fail("nothing to take from the stack");
    PickleTree::Node node;
    node.kind = kind;
    node.first = static_cast<uint32_t>(tree_.children_.size());
    node.count = static_cast<uint32_t>(count);
    tree_.children_.resize(node.first + count);
    std::copy_n(stack_.end() - static_cast<ptrdiff_t>(count), count,
                tree_.children_.begin() + node.first);
    stack_.resize(stack_.size() - count);
    return Push(node);
  }

  bool PushTuple(size_t count) { return PushParent(Kind::kTuple, count); }

  bool PopMark(size_t* count) {
    if (marks_.empty()) return Fail("no mark");
    *count = available();
    marks_.pop_back();
    return true;
  }

  bool PushCollection(Kind kind) {
    PickleTree::Node node;
    node.kind = kind;
    node.first = static_cast<uint32_t>(tree_.lists_.size());
    tree_.lists_.emplace_back();
    return Push(node);
  }

  bool Extend(Kind kind) {
    size_t count;
    return PopMark(&count) && ExtendBy(kind, count);
  }

  bool ExtendBy(Kind kind, size_t count) {
    if (available() <= count) return Fail("nothing to append to");
    const PickleTree::Node& node =
        tree_.nodes_[stack_[stack_.size() - count - 1]];
    if (node.kind != kind) return Fail("appending to something else");
    if (kind == Kind::kDict && count % 2 != 0) {
      return Fail("a key without a value");
    }
    std::vector<Ref>& list = tree_.lists_[node.first];
    list.insert(list.end(), stack_.end() - static_cast<ptrdiff_t>(count),
                stack_.end());
    stack_.resize(stack_.size() - count);
    return true;
  }

  bool Put(uint64_t id) {
    if (available() == 0) return Fail("nothing to remember");
    // Writers count from 0: no larger id can be needed than there are bytes.
    if (id >= text().size() || id >= limits_.max_nodes) {
      return Fail("memo id out of range");
    }
    if (id >= memo_.size()) memo_.resize(id + 1, kUnset);
    memo_[id] = stack_.back();
    return true;
  }

  bool Get(uint64_t id) {
    if (id >= memo_.size() || memo_[id] == kUnset) {
      return Fail("unknown memo id");
    }
    stack_.push_back(memo_[id]);
    return true;
  }

  bool Stop() {
    if (!marks_.empty() || stack_.size() != 1) {
      return Fail("it does not end with one value");
    }
    tree_.root_ = stack_.back();
    stopped_ = true;
    return true;
  }

  static constexpr Ref kUnset = std::numeric_limits<Ref>::max();

  const PickleLimits limits_;
  PickleTree tree_;
  size_t position_ = 0;
  bool stopped_ = false;
  std::vector<Ref> stack_;
  std::vector<size_t> marks_;  // the height of the stack at each
  std::vector<Ref> memo_;
  const char* problem_ = "";
};

absl::StatusOr<PickleTree> PickleTree::Parse(std::string_view pickle,
                                             const PickleLimits& limits) {
  try {
    return PickleParser(pickle, limits).Run();
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError("no memory to read a pickle");
  }
}

std::optional<bool> PickleTree::AsBool(Ref ref) const {
  if (kind(ref) != Kind::kBool) return std::nullopt;
  return nodes_[ref].integer != 0;
}

std::optional<int64_t> PickleTree::AsInt(Ref ref) const {
  if (kind(ref) != Kind::kInt) return std::nullopt;
  return nodes_[ref].integer;
}

std::optional<double> PickleTree::AsFloat(Ref ref) const {
  if (kind(ref) != Kind::kFloat) return std::nullopt;
  return nodes_[ref].real;
}

std::optional<std::string_view> PickleTree::AsString(Ref ref) const {
  if (kind(ref) != Kind::kString) return std::nullopt;
  return text_.substr(nodes_[ref].first, nodes_[ref].count);
}

std::optional<std::string_view> PickleTree::AsBytes(Ref ref) const {
  if (kind(ref) != Kind::kBytes) return std::nullopt;
  return text_.substr(nodes_[ref].first, nodes_[ref].count);
}

std::optional<std::string_view> PickleTree::AsGlobal(Ref ref) const {
  if (kind(ref) != Kind::kGlobal) return std::nullopt;
  return text_.substr(nodes_[ref].first, nodes_[ref].count);
}

std::optional<PickleTree::GlobalName> PickleTree::AsGlobalName(Ref ref) const {
  if (kind(ref) == Kind::kStackGlobal) {
    const absl::Span<const Ref> parts = children(ref);
    return GlobalName{AsString(parts[0]).value_or(""),
                      AsString(parts[1]).value_or("")};
  }
  const std::optional<std::string_view> text = AsGlobal(ref);
  if (!text) return std::nullopt;
  const size_t end = text->find('\n');
  return GlobalName{text->substr(0, end), text->substr(end + 1)};
}

absl::Span<const PickleTree::Ref> PickleTree::children(Ref ref) const {
  const Node& node = nodes_[ref];
  switch (node.kind) {
    case Kind::kStackGlobal:
    case Kind::kTuple:
    case Kind::kPersistent:
    case Kind::kReduce:
    case Kind::kNewObject:
    case Kind::kBuild:
      return absl::MakeConstSpan(children_).subspan(node.first, node.count);
    case Kind::kList:
    case Kind::kDict:
      return lists_[node.first];
    default:
      return {};
  }
}

}  // namespace reprise
