// Which events of a run its story tells, when it cannot tell all.

#ifndef REPRISE_SIM_VIEW_CHOICE_H_
#define REPRISE_SIM_VIEW_CHOICE_H_

#include <cstddef>
#include <map>

#include "sim/scenario/run_result.h"
#include "sim/view/subject.h"

namespace reprise {

// The indices of at most `room` events, ascending, and how many events like it
// each stands for besides itself: the faults that struck, the calls and workers
// that the rule is about, what their peers did, and what came before.
std::map<size_t, size_t> ChooseEvents(const RunResult& result,
                                      const Subject& subject, size_t room);

}  // namespace reprise

#endif  // REPRISE_SIM_VIEW_CHOICE_H_
