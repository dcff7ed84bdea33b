#include "sim/world/fiber_stacks.h"

#include <execinfo.h>
#include <sys/mman.h>
#include <unistd.h>

#include <boost/context/detail/fcontext.hpp>
#include <cstdint>
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

void ReleaseUnusedStack(const Fiber& fiber) {
  if (!kHasArena || fiber.stack.low == nullptr) return;
  static const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  // The functions that are called from here need less than this.
  constexpr uintptr_t kMargin = 512;
  const auto frame = reinterpret_cast<uintptr_t>(__builtin_frame_address(0));
  const auto low = reinterpret_cast<uintptr_t>(fiber.stack.low);
  const uintptr_t end = (frame - kMargin) / page * page;
  if (end <= low) return;
  // A stack is touched from its top. If the next page was not, none was.
  unsigned char is_resident = 0;
  if (mincore(reinterpret_cast<void*>(end - page), page, &is_resident) == 0 &&
      (is_resident & 1) == 0) {
    return;
  }
  madvise(reinterpret_cast<void*>(low), end - low, MADV_DONTNEED);
}

}  // namespace reprise
