#include "tests/interop/message_spec.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <stdexcept>

namespace reprise::interop {
namespace {

// FNV-1a
uint64_t HashOf(std::string_view text) {
  uint64_t hash = 0xcbf29ce484222325;
  for (const char c : text) {
    hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  }
  return hash;
}

void Fill(uint64_t seed, char* bytes, size_t size) {
  Random random(seed);
  for (size_t i = 0; i < size; i += 8) {
    const uint64_t word = random.Next();
    std::memcpy(bytes + i, &word, std::min<size_t>(8, size - i));
  }
}

std::vector<int64_t> Contiguous(const std::vector<int64_t>& sizes) {
  std::vector<int64_t> strides(sizes.size());
  int64_t stride = 1;
  for (size_t i = sizes.size(); i-- > 0;) {
    strides[i] = stride;
    stride *= std::max<int64_t>(sizes[i], 1);
  }
  return strides;
}

// One storage with one tensor that is all of it.
void AddWhole(MessageSpec& message, size_t type, std::vector<int64_t> sizes) {
  size_t count = 1;
  for (const int64_t size : sizes) count *= static_cast<size_t>(size);
  TensorSpec& tensor = message.tensors.emplace_back();
  tensor.type = type;
  tensor.strides = Contiguous(sizes);
  tensor.sizes = std::move(sizes);
  tensor.storage = message.storage_bytes.size();
  message.storage_bytes.push_back(count * kElementTypes[type].bytes);
}

constexpr size_t kFloat = 6;

// Several views of one storage of floats.
void AddViews(MessageSpec& message, size_t elements,
              std::vector<TensorSpec> views) {
  for (TensorSpec& view : views) {
    view.type = kFloat;
    view.storage = message.storage_bytes.size();
    message.tensors.push_back(std::move(view));
  }
  message.storage_bytes.push_back(elements * kElementTypes[kFloat].bytes);
}

// A view of at most `elements`, which may be none.
void AddRandomView(Random& random, size_t type, size_t elements,
                   TensorSpec& view) {
  view.type = type;
  view.requires_grad =
      kElementTypes[type].may_require_grad && random.Below(4) == 0;
  const size_t dimensions = random.Below(6);
  size_t last = 0;
  bool is_empty = false;
  for (size_t i = 0; i < dimensions; ++i) {
    // Often 1, now and then 0.
    const size_t size = random.Below(7);
    const size_t stride =
        random.Below(3) == 0 ? 0 : random.Below(elements / 4 + 2);
    const size_t extent = (std::max<size_t>(size, 1) - 1) * stride;
    const bool fits = last + extent < elements;
    view.sizes.push_back(static_cast<int64_t>(fits || size == 0 ? size : 1));
    view.strides.push_back(static_cast<int64_t>(stride));
    if (fits) last += extent;
    is_empty = is_empty || size == 0;
  }
  if (elements == 0 && !is_empty) {
    view.sizes.push_back(0);
    view.strides.push_back(1);
  }
  if (last + 1 < elements) {
    view.offset = static_cast<int64_t>(random.Below(elements - last));
  }
  // Now and then all of the storage.
  if (elements > 0 && random.Below(4) == 0) {
    view.sizes = {static_cast<int64_t>(elements)};
    view.strides = {1};
    view.offset = 0;
  }
}

void AddRandom(MessageSpec& message, uint64_t seed) {
  Random random(seed);
  const size_t storages = random.Below(5);
  std::vector<size_t> types;
  std::vector<size_t> counts;
  for (size_t i = 0; i < storages; ++i) {
    types.push_back(random.Below(kElementTypes.size()));
    constexpr std::array<size_t, 4> kMost = {1, 20, 600, 6000};
    counts.push_back(random.Below(kMost[random.Below(kMost.size())] + 1));
    message.storage_bytes.push_back(counts[i] * kElementTypes[types[i]].bytes);
  }
  const size_t tensors = storages == 0 ? 0 : random.Below(8);
  for (size_t i = 0; i < tensors; ++i) {
    TensorSpec& tensor = message.tensors.emplace_back();
    tensor.storage = random.Below(storages);
    AddRandomView(random, types[tensor.storage], counts[tensor.storage],
                  tensor);
  }
}

size_t NumElements(const TensorSpec& tensor) {
  size_t count = 1;
  for (const int64_t size : tensor.sizes) count *= static_cast<size_t>(size);
  return count;
}

// Both agents' rule for tensors of which a copy is sent.
bool IsCopied(const TensorSpec& tensor, size_t storage_bytes) {
  return storage_bytes >= 8192 &&
         storage_bytes / 2 >=
             NumElements(tensor) * kElementTypes[tensor.type].bytes;
}

// Calls `visit(offset in elements, number)` for each run of elements that lie
// together in both of two layouts.
template <typename Visit>
void ForEachRun(const TensorSpec& sent, const ReceivedTensor& received,
                const Visit& visit) {
  if (NumElements(sent) == 0) return;
  std::vector<int64_t> index(sent.sizes.size());
  // The innermost dimensions that are contiguous in both make one run.
  size_t outer = sent.sizes.size();
  int64_t run = 1;
  while (outer > 0 && sent.strides[outer - 1] == run &&
         received.strides[outer - 1] == run) {
    run *= sent.sizes[--outer];
  }
  while (true) {
    int64_t from = sent.offset;
    int64_t to = received.offset;
    for (size_t i = 0; i < outer; ++i) {
      from += index[i] * sent.strides[i];
      to += index[i] * received.strides[i];
    }
    visit(from, to, run);
    size_t i = outer;
    while (i > 0 && ++index[i - 1] == sent.sizes[i - 1]) index[--i] = 0;
    if (i == 0) return;
  }
}

// Whether each element lies inside the storage.
bool IsInside(const ReceivedTensor& tensor) {
  int64_t last = tensor.offset;
  for (size_t i = 0; i < tensor.sizes.size(); ++i) {
    if (tensor.sizes[i] == 0) return true;
    if (tensor.sizes[i] < 0 || tensor.strides[i] < 0) return false;
    last += (tensor.sizes[i] - 1) * tensor.strides[i];
  }
  return tensor.offset >= 0 &&
         (static_cast<size_t>(last) + 1) * kElementTypes[tensor.type].bytes <=
             tensor.storage_bytes;
}

std::string Text(const std::vector<int64_t>& values) {
  std::string text = "[";
  for (const int64_t value : values) {
    text += (text.size() > 1 ? ", " : "") + std::to_string(value);
  }
  return text + "]";
}

// Everything but the elements.
std::string CompareShapes(const TensorSpec& sent, size_t storage_bytes,
                          const ReceivedTensor& received) {
  if (received.type != sent.type) {
    return "another type than " + std::string(kElementTypes[sent.type].name);
  }
  if (received.sizes != sent.sizes) {
    return "sizes " + Text(received.sizes) + " instead of " + Text(sent.sizes);
  }
  if (received.strides.size() != sent.sizes.size() || !IsInside(received)) {
    return "a view beyond its storage";
  }
  if (received.requires_grad != sent.requires_grad) {
    return "another requires_grad";
  }
  if (IsCopied(sent, storage_bytes)) return "";
  if (received.strides != sent.strides || received.offset != sent.offset) {
    return "strides " + Text(received.strides) + " instead of " +
           Text(sent.strides) + ", offset " + std::to_string(received.offset) +
           " instead of " + std::to_string(sent.offset);
  }
  if (received.storage_bytes != storage_bytes) {
    return "a storage of " + std::to_string(received.storage_bytes) +
           " bytes instead of " + std::to_string(storage_bytes);
  }
  return "";
}

}  // namespace

// SplitMix64
uint64_t Random::Next() {
  uint64_t z = (state_ += 0x9e3779b97f4a7c15);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

MessageSpec MakeMessage(std::string_view name) {
  MessageSpec message;
  message.name = name;
  name = name.substr(0, name.find('/'));
  const size_t space = name.find(' ');
  const std::string_view kind = name.substr(0, space);
  uint64_t number = 0;
  if (space != name.npos) {
    const std::string_view digits = name.substr(space + 1);
    std::from_chars(digits.data(), digits.data() + digits.size(), number);
  }
  if (kind == "dtypes") {
    for (size_t type = 0; type < kElementTypes.size(); ++type) {
      AddWhole(message, type, {3, 5});
    }
  } else if (kind == "views") {
    // Transposed, a part, stride 0, overlapping, every other element, a scalar
    // in the middle; and a part that is worth a copy.
    AddViews(message, 60,
             {{.sizes = {6, 10}, .strides = {1, 6}},
              {.sizes = {2, 10}, .strides = {10, 1}, .offset = 20},
              {.sizes = {1000, 3}, .strides = {0, 1}, .offset = 57},
              {.sizes = {20, 4}, .strides = {2, 1}},
              {.sizes = {30}, .strides = {2}, .offset = 1},
              {.sizes = {}, .strides = {}, .offset = 59}});
    AddViews(message, 4096,
             {{.sizes = {32, 32}, .strides = {64, 2}, .offset = 3}});
  } else if (kind == "shared") {
    // One storage of four tensors.
    AddViews(message, 64 * 64,
             {{.sizes = {64, 64}, .strides = {64, 1}},
              {.sizes = {64, 64}, .strides = {1, 64}},
              {.sizes = {4096}, .strides = {1}},
              {.sizes = {48, 64}, .strides = {64, 1}, .offset = 1024}});
    AddWhole(message, kFloat, {2});
  } else if (kind == "empties") {
    AddWhole(message, kFloat, {});
    AddWhole(message, kFloat, {0});
    AddWhole(message, kBool, {3, 0, 2});
    AddWhole(message, 4, {1, 1, 1, 1});
    AddViews(message, 5, {{.sizes = {0}, .strides = {1}, .offset = 4}});
  } else if (kind == "bytes") {
    AddWhole(message, 0, {static_cast<int64_t>(number)});
  } else if (kind == "many") {
    for (uint64_t i = 0; i < number; ++i) {
      AddWhole(message, i % kElementTypes.size(),
               {1 + static_cast<int>(i % 7)});
    }
  } else if (kind == "random") {
    AddRandom(message, number);
  } else if (kind != "none") {
    throw std::invalid_argument("no such message: " + message.name);
  }
  return message;
}

std::vector<char> StorageOf(const MessageSpec& message, size_t storage) {
  std::vector<char> bytes(message.storage_bytes[storage]);
  Fill(HashOf(message.name) + storage, bytes.data(), bytes.size());
  for (const TensorSpec& tensor : message.tensors) {
    if (tensor.storage != storage || tensor.type != kBool) continue;
    for (char& byte : bytes) byte &= 1;  // others are no values of bool
    break;
  }
  return bytes;
}

std::string BytesOf(std::string_view name, size_t size) {
  std::string bytes(size, '\0');
  Fill(HashOf(name), bytes.data(), size);
  return bytes;
}

Comparison Compare(const MessageSpec& sent,
                   const std::vector<ReceivedTensor>& received) {
  Comparison result;
  const auto differ = [&](size_t tensor, const std::string& how) {
    if (!result.problem.empty()) return;
    result.problem =
        sent.name + ", tensor " + std::to_string(tensor) + ": " + how;
  };
  if (received.size() != sent.tensors.size()) {
    differ(0, std::to_string(received.size()) + " tensors instead of " +
                  std::to_string(sent.tensors.size()));
    return result;
  }
  std::vector<std::vector<char>> storages(sent.storage_bytes.size());
  for (size_t i = 0; i < received.size(); ++i) {
    const TensorSpec& tensor = sent.tensors[i];
    const size_t storage_bytes = sent.storage_bytes[tensor.storage];
    const std::string how = CompareShapes(tensor, storage_bytes, received[i]);
    if (!how.empty()) {
      differ(i, how);
      continue;
    }
    for (size_t j = 0; j < i; ++j) {
      const TensorSpec& other = sent.tensors[j];
      if (storage_bytes == 0 || sent.storage_bytes[other.storage] == 0 ||
          IsCopied(tensor, storage_bytes) ||
          IsCopied(other, sent.storage_bytes[other.storage])) {
        continue;
      }
      const bool shares = received[i].storage == received[j].storage;
      if (shares != (tensor.storage == other.storage)) {
        differ(i, (shares ? "shares a storage with tensor "
                          : "shares no storage with tensor ") +
                      std::to_string(j));
      }
    }
    std::vector<char>& storage = storages[tensor.storage];
    if (storage.empty()) storage = StorageOf(sent, tensor.storage);
    const size_t item = kElementTypes[tensor.type].bytes;
    uint64_t different = 0;
    ForEachRun(tensor, received[i], [&](int64_t from, int64_t to, int64_t run) {
      const size_t size = static_cast<size_t>(run) * item;
      const char* const a = storage.data() + static_cast<size_t>(from) * item;
      const char* const b =
          received[i].storage + static_cast<size_t>(to) * item;
      result.bytes += size;
      if (std::memcmp(a, b, size) == 0) return;
      for (size_t k = 0; k < size; ++k) different += a[k] != b[k] ? 1 : 0;
    });
    result.different += different;
    if (different > 0) {
      differ(i, std::to_string(different) + " bytes differ");
    }
  }
  return result;
}

}  // namespace reprise::interop
