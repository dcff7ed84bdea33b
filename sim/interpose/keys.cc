// pthread_key_*. A key is the process's; a fiber has values of its own.

#include "sim/interpose/keys.h"

#include <pthread.h>

#include <atomic>
#include <climits>
#include <utility>

#include "sim/interpose/real.h"

namespace reprise::interpose {
namespace {

using Destructor = void (*)(void*);

// libc does not say what destructor a key has.
std::atomic<Destructor> destructors[PTHREAD_KEYS_MAX];

}  // namespace

void RunKeyDestructors(InterposedThread& thread) {
  for (int round = 0; round < PTHREAD_DESTRUCTOR_ITERATIONS; ++round) {
    bool again = false;
    for (size_t key = 0; key < thread.key_values.size(); ++key) {
      void* const value = std::exchange(thread.key_values[key], nullptr);
      const Destructor destructor = destructors[key].load();
      if (value == nullptr || destructor == nullptr) continue;
      destructor(value);
      again = true;
    }
    if (!again) return;
  }
}

}  // namespace reprise::interpose

using reprise::World;
using namespace reprise::interpose;  // NOLINT(google-build-using-namespace)

extern "C" {

int pthread_key_create(pthread_key_t* key, void (*destructor)(void*)) noexcept {
  const int result = REPRISE_REAL(pthread_key_create)(key, destructor);
  if (result == 0 && *key < PTHREAD_KEYS_MAX) destructors[*key] = destructor;
  return result;
}

// libstdc++ calls it by this name.
int __pthread_key_create(pthread_key_t* key,  // NOLINT
                         void (*destructor)(void*)) noexcept {
  return pthread_key_create(key, destructor);
}

int pthread_key_delete(pthread_key_t key) noexcept {
  if (key < PTHREAD_KEYS_MAX) destructors[key] = nullptr;
  return REPRISE_REAL(pthread_key_delete)(key);
}

void* pthread_getspecific(pthread_key_t key) noexcept {
  World* const world = WorldOfCaller();
  if (world == nullptr) return REPRISE_REAL(pthread_getspecific)(key);
  const reprise::InterposedThread* const thread = Self(*world).interposed;
  return thread == nullptr || key >= thread->key_values.size()
             ? nullptr
             : thread->key_values[key];
}

int pthread_setspecific(pthread_key_t key, const void* value) noexcept {
  World* const world = WorldOfCaller();
  if (world == nullptr) return REPRISE_REAL(pthread_setspecific)(key, value);
  if (key >= PTHREAD_KEYS_MAX) return EINVAL;
  reprise::InterposedThread& thread = ThreadOf(Self(*world));
  if (key >= thread.key_values.size()) {
    const OutsideWorld outside;
    thread.key_values.resize(key + 1);
  }
  thread.key_values[key] = const_cast<void*>(value);
  return 0;
}

}  // extern "C"
