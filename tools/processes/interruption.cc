#include "tools/processes/interruption.h"

namespace reprise {
namespace {

volatile sig_atomic_t interrupted_by = 0;

void Remember(int signal) { interrupted_by = signal; }

}  // namespace

Interruption::Interruption() {
  interrupted_by = 0;
  struct sigaction action = {};
  action.sa_handler = Remember;
  sigaction(SIGINT, &action, &old_int_);
  sigaction(SIGTERM, &action, &old_term_);
}

Interruption::~Interruption() {
  sigaction(SIGINT, &old_int_, nullptr);
  sigaction(SIGTERM, &old_term_, nullptr);
  if (interrupted_by != 0) raise(interrupted_by);
}

int Interruption::signal() { return interrupted_by; }

}  // namespace reprise
