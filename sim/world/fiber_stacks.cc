#include "sim/world/fiber_stacks.h"

#include <execinfo.h>

#include <boost/context/detail/fcontext.hpp>
#include <cstdlib>

#include "sim/world/arena.h"
#include "sim/world/fiber.h"

namespace reprise {
namespace {

namespace fcontext = boost::context::detail;

struct Request {
  void** frames;
  int max;
  int count = 0;
};

// Runs on the fiber's stack, on top of the frames at which it was left.
fcontext::transfer_t Take(fcontext::transfer_t from) {
  auto* const request = static_cast<Request*>(from.data);
  request->count = backtrace(request->frames, request->max);
  fcontext::jump_fcontext(from.fctx, nullptr);
  std::abort();  // Nobody comes back to it.
}

}  // namespace

int StackOfSuspended(Fiber& fiber, void** frames, int max) {
  // Sanitizers must be told of every switch of stacks.
  if (!kHasArena || fiber.stack.low == nullptr ||
      fiber.context.context_ == nullptr) {
    return 0;
  }
  Request request{frames, max};
  fcontext::ontop_fcontext(fiber.context.context_, &request, &Take);
  return request.count;
}

}  // namespace reprise
