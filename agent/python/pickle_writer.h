// Writes pickles that PyTorch's Python and its JIT read: opcode after opcode,
// as a stack machine that the reader runs. Each function says what it leaves on
// the reader's stack. The opcodes are those of Python's `pickletools`.

#ifndef REPRISE_AGENT_PYTHON_PICKLE_WRITER_H_
#define REPRISE_AGENT_PYTHON_PICKLE_WRITER_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace reprise {

// Not thread-safe. Texts and bytes have less than 4 GiB.
class PickleWriter {
 public:
  // `prefix` stands before the pickle. Of protocol 2, which the JIT reads, it
  // has no bytes.
  explicit PickleWriter(std::string prefix = "", int protocol = 4);

  // Each pushes a value.
  void None();
  void Bool(bool value);
  void Int(int64_t value);
  void Float(double value);
  void Text(std::string_view utf8);
  void Bytes(std::string_view bytes);
  // `name` of `module`; Python looks it up. Of protocol 4, dots in `name` are
  // attributes. Neither may have a newline.
  void Global(std::string_view module, std::string_view name);
  void EmptyTuple();
  void EmptyList();
  void EmptyDict();

  // Marks the stack for one of the following three.
  void Mark();
  // Pops what was pushed since the mark, and pushes it as a tuple.
  void Tuple();
  // Pops it and adds it to the list, or the pairs to the dictionary, below.
  void Appends();
  void SetItems();

  // Pop a callable and its tuple of arguments, and push what it returns.
  void Reduce();
  // Pop a class and its tuple of arguments, and push an object of it.
  void NewObject();
  // Pops a state and gives it to the object below.
  void Build();

  // The pickle, whose value is what is left on the stack: exactly one.
  std::string Finish() &&;

 private:
  void Number(uint64_t number, size_t num_bytes);
  void Counted(char short_opcode, char opcode, std::string_view bytes);

  const int protocol_;
  std::string bytes_;
};

}  // namespace reprise

#endif  // REPRISE_AGENT_PYTHON_PICKLE_WRITER_H_
