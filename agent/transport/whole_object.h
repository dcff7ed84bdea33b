// Tells whether bytes are one whole object in the encoding of the library nop,
// without knowing the type of the object.
//
// Types that TensorPipe keeps to itself can be decoded by its own reader only,
// which checks no bounds: it reads beyond the end of an object that is cut off.
// In the encoding each object begins with a prefix that tells how the object
// goes on, so its bytes can be walked first. After that the reader of any type
// stays within them. It fails by status at a prefix that is not of its type, at
// a count that is not the fixed one of a structure, an array or a tuple, and at
// an index that its variant does not have. As long as it does not fail, it asks
// for the same objects as the walk, which have the same sizes.
//
// What such a reader allocates is bounded, too. Strings and vectors of integers
// are as long as their bytes. Other vectors and maps get their elements one by
// one, and each takes at least one byte, so in all there are at most as many
// elements as bytes, each of the size that its type has in memory.
//
// There is one exception, which TensorPipe has nowhere: a structure that is
// marked NOP_UNBOUNDED_BUFFER writes beyond its own array.

#ifndef REPRISE_AGENT_TRANSPORT_WHOLE_OBJECT_H_
#define REPRISE_AGENT_TRANSPORT_WHOLE_OBJECT_H_

#include <string_view>

#include "tensorpipe/common/nop.h"

namespace reprise {

// Returns whether `bytes` are exactly one object. It takes linear time and no
// memory. Tables are refused, because the readers of two versions disagree
// about what is in them, as are handles, extensions and reserved prefixes, and
// what is nested more than 16 deep. No object of TensorPipe's has any of these.
bool IsWholeObject(std::string_view bytes);

// Decodes `bytes` into `object`, and returns whether they are exactly one
// object of its type. If they are not, `object` may have been changed in part.
// Throws std::bad_alloc, and takes the time that the containers of the type
// take, which is quadratic for hash maps whose keys somebody has picked.
bool ReadWholeObject(std::string_view bytes,
                     tensorpipe::AbstractNopHolder& object);

}  // namespace reprise

#endif  // REPRISE_AGENT_TRANSPORT_WHOLE_OBJECT_H_
