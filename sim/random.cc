#include "sim/random.h"

#include <cstdio>
#include <cstdlib>
#include <string_view>

namespace reprise {
namespace {

bool SamePlace(const DrawName& x, const DrawName& y) {
  return x.line() == y.line() && x.column() == y.column() &&
         std::string_view(x.file()) == y.file();
}

[[noreturn]] void DieOfTwoPlaces(const DrawName& first,
                                 const DrawName& second) {
  std::fprintf(stderr,
               "reprise: the draw \"%.*s\" is made at two places, %s:%d:%d and "
               "%s:%d:%d. Give each a name of its own; a function that draws "
               "for its caller takes a DrawName, or a Part of the caller's "
               "Draws.\n",
               static_cast<int>(first.text().size()), first.text().data(),
               first.file(), first.line(), first.column(), second.file(),
               second.line(), second.column());
  std::abort();
}

}  // namespace

uint64_t Draws::Count(const DrawName& name) {
  // There are few names, and the next draw is often the one of last time.
  for (Used& used : used_) {
    if (used.name.hash() != name.hash()) continue;
    if (!SamePlace(used.name, name)) DieOfTwoPlaces(used.name, name);
    return used.count++;
  }
  used_.push_back({name, 1});
  return 0;
}

}  // namespace reprise
