// Texts as Python has them: sequences of code points, in UTF-8 on the wire.
// Pure functions.

#ifndef REPRISE_AGENT_PYTHON_PYTHON_TEXT_H_
#define REPRISE_AGENT_PYTHON_PYTHON_TEXT_H_

#include <string>
#include <string_view>

namespace reprise {

// Whether Python can decode `text`: UTF-8, without surrogates.
bool IsUtf8(std::string_view text);

// `text` as a caller in PyTorch wants the text of an exception: it decodes the
// escapes of a Python literal in it ("unicode_escape"), and raises something
// else where it cannot. ASCII; what is not UTF-8 becomes U+FFFD.
std::string EscapeForPython(std::string_view text);

}  // namespace reprise

#endif  // REPRISE_AGENT_PYTHON_PYTHON_TEXT_H_
