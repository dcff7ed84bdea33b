// Planted defects: copies of real bugs, each at the place in the agent where
// that bug would be. They prove that an invariant or a scenario can fail.
//
// `REPRISE_PLANTED(name)` says whether the defect of that name is switched on.
// In the shipped agent it is the constant false, and the compiler drops the
// branch that it guards. Only the `*_planted` libraries of
// tools/bazel/agent_library.bzl are built with REPRISE_WITH_PLANTED_DEFECTS.
// A program that links them provides `IsPlanted`, as tests/planted does, and
// switches a defect on before any agent exists. `REPRISE_PLANTED` may be asked
// on any thread, with or without locks held.

#ifndef REPRISE_AGENT_PLANTED_H_
#define REPRISE_AGENT_PLANTED_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "agent/worker_info.h"

#ifdef REPRISE_WITH_PLANTED_DEFECTS
namespace reprise {
bool IsPlanted(const char* name);
}  // namespace reprise
#define REPRISE_PLANTED(name) (::reprise::IsPlanted(#name))
#else
#define REPRISE_PLANTED(name) false
#endif

namespace reprise {

class Activity;
class CallTable;
class WorkerDirectory;
struct Member;

// What planted defects do to the private parts of classes of the agent, which
// name it as their friend and have no other code for them in their interfaces.
// Each function is defined beside the class that it spoils, and only in planted
// builds, so a call outside `if (REPRISE_PLANTED(...))` does not link.
struct PlantedAccess {
  // Counts a call as ended once more (`double_decrement`).
  static void EndCall(Activity& activity);
  // Enters a call under an id that is only reserved, before the call was
  // validated, and does not count it (`orphan_call`).
  static void EnterOrphan(CallTable& calls, WorkerId to, int64_t id,
                          uint64_t pipe_generation);
  // Replaces the names of the group's members, but not their ids
  // (`unlocked_maps`).
  static void ReplaceNames(
      WorkerDirectory& workers,
      const std::vector<std::shared_ptr<const Member>>& members);
  // Calls `f` with the directory's lock held (`lock_over_store`).
  static void CallLocked(WorkerDirectory& workers,
                         const std::function<void()>& f);
};

}  // namespace reprise

#endif  // REPRISE_AGENT_PLANTED_H_
