// What the members of a group say to each other.

#ifndef REPRISE_TESTS_INTEROP_CONVERSATION_H_
#define REPRISE_TESTS_INTEROP_CONVERSATION_H_

#include "tests/interop/member.h"

namespace reprise::interop {

// The `main` of a member's program. Flags: --store, --transport, --channel,
// --names=A,B,..., --id, --calls, --largest. It starts the member, calls every
// other one, and leaves. On its standard output it says
//
//   meets                                 before it starts
//   calls N bytes N different N failures N   after it has left
//
// and on the standard error what each failure was. Exits with 0 if there was
// none.
int MemberMain(int argc, char** argv, const StartMember& start);

}  // namespace reprise::interop

#endif  // REPRISE_TESTS_INTEROP_CONVERSATION_H_
