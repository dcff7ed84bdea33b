// Random numbers and identities. Random bits are a function of the seed, the
// node, and how many of them were drawn before; ids are made of the node's rank
// and of the fiber's number.

#include "sim/random.h"

#include <sys/random.h>
#include <sys/sysinfo.h>
#include <sys/types.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <random>

#include "sim/interpose/interposed_world.h"
#include "sim/interpose/real.h"

namespace reprise::interpose {
namespace {

// What a simulated machine is said to have.
constexpr int kProcessors = 4;

int NextRand(World& world) {
  uint64_t& state = RandState(world);
  state += 0x9e3779b97f4a7c15u;
  return static_cast<int>(Mix(state) >> 33);
}

constinit Real real_device("_ZNSt13random_device9_M_getvalEv");

bool IsUserCall(World& world, const void* return_address) {
  const CodePlace* library = nullptr;
  return UserPlace(world, return_address, &library).kind == PlaceKind::kUser;
}

}  // namespace
}  // namespace reprise::interpose

using reprise::World;
using namespace reprise::interpose;  // NOLINT(google-build-using-namespace)

extern "C" {

ssize_t getrandom(void* bytes, size_t size, unsigned flags) {
  World* const world = WorldOfCaller();
  if (world == nullptr) return REPRISE_REAL(getrandom)(bytes, size, flags);
  FillRandom(*world, bytes, size);
  return static_cast<ssize_t>(size);
}

int getentropy(void* bytes, size_t size) {
  World* const world = WorldOfCaller();
  if (world == nullptr) return REPRISE_REAL(getentropy)(bytes, size);
  constexpr size_t kMost = 256;
  if (size > kMost) {
    errno = EIO;
    return -1;
  }
  FillRandom(*world, bytes, size);
  return 0;
}

uint32_t arc4random() noexcept {
  World* const world = WorldOfCaller();
  if (world == nullptr) return REPRISE_REAL(arc4random)();
  return static_cast<uint32_t>(RandomBits(*world));
}

void arc4random_buf(void* bytes, size_t size) noexcept {
  World* const world = WorldOfCaller();
  if (world == nullptr) {
    REPRISE_REAL(arc4random_buf)(bytes, size);
    return;
  }
  FillRandom(*world, bytes, size);
}

uint32_t arc4random_uniform(uint32_t limit) noexcept {
  World* const world = WorldOfCaller();
  if (world == nullptr) return REPRISE_REAL(arc4random_uniform)(limit);
  return limit == 0
             ? 0
             : static_cast<uint32_t>(reprise::Below(RandomBits(*world), limit));
}

int rand() noexcept {
  World* const world = WorldOfCaller();
  if (world == nullptr) return REPRISE_REAL(rand)();
  return NextRand(*world);
}

void srand(unsigned seed) noexcept {
  World* const world = WorldOfCaller();
  if (world == nullptr) {
    REPRISE_REAL(srand)(seed);
    return;
  }
  RandState(*world) = seed;
}

long random() noexcept {  // NOLINT(google-runtime-int)
  World* const world = WorldOfCaller();
  if (world == nullptr) return REPRISE_REAL(random)();
  return NextRand(*world);
}

void srandom(unsigned seed) noexcept {
  World* const world = WorldOfCaller();
  if (world == nullptr) {
    REPRISE_REAL(srandom)(seed);
    return;
  }
  RandState(*world) = seed;
}

pid_t getpid() noexcept {
  World* const world = WorldOfCaller();
  if (world == nullptr || !IsUserCall(*world, __builtin_return_address(0))) {
    return REPRISE_REAL(getpid)();
  }
  constexpr int kMaxRestarts = 1'000;
  const reprise::Node& node = *Self(*world).node;
  return (node.rank + 1) * kMaxRestarts + node.incarnation;
}

pid_t gettid() noexcept {
  World* const world = WorldOfCaller();
  if (world == nullptr || !IsUserCall(*world, __builtin_return_address(0))) {
    return REPRISE_REAL(gettid)();
  }
  constexpr int kFirst = 1'000'000;
  return kFirst + static_cast<pid_t>(Self(*world).id);
}

// std::thread::hardware_concurrency
int get_nprocs() noexcept {
  World* const world = WorldOfCaller();
  if (world == nullptr) return REPRISE_REAL(get_nprocs)();
  return kProcessors;
}

int get_nprocs_conf() noexcept {
  World* const world = WorldOfCaller();
  if (world == nullptr) return REPRISE_REAL(get_nprocs_conf)();
  return kProcessors;
}

long sysconf(int name) noexcept {  // NOLINT(google-runtime-int)
  World* const world = WorldOfCaller();
  if (world == nullptr ||
      (name != _SC_NPROCESSORS_ONLN && name != _SC_NPROCESSORS_CONF)) {
    return REPRISE_REAL(sysconf)(name);
  }
  return kProcessors;
}

}  // extern "C"

namespace std {

// Real ones may read the processor's generator without a call.
random_device::result_type random_device::_M_getval() {
  if (World* const world = WorldOfCaller()) {
    return static_cast<result_type>(RandomBits(*world));
  }
  return reinterpret_cast<result_type (*)(random_device*)>(real_device.get())(
      this);
}

}  // namespace std
