#include "sim/world/race_annotations.h"

#ifdef REPRISE_TSAN

#if defined(__clang__)
#define REPRISE_UNSEEN __attribute__((disable_sanitizer_instrumentation))
#else
#define REPRISE_UNSEEN __attribute__((no_sanitize_thread))
#endif

// What TSan does in a program that runs worlds, where TSAN_OPTIONS does not say
// otherwise: a race ends its run, as any failure does, and code that was
// compiled without TSan, such as TensorPipe, is not looked at. TSan asks before
// it is ready itself.
// NOLINTNEXTLINE(bugprone-reserved-identifier): TSan's name
extern "C" REPRISE_UNSEEN const char* __tsan_default_options() {
  return "ignore_noninstrumented_modules=1:halt_on_error=1";
}

#endif
