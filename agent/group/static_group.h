// How a worker enters a static group, and tells the group's members from what
// an earlier run of the job has left in the same store.
//
// A run of a group is an epoch. Beside the keys of PyTorch's agent
// (rendezvous.h) the store has
//
//   reprise/epoch               the present one: "<epoch> forming <before>", or
//                               "<epoch> complete <change>" since all have
//                               entered it
//   reprise/epoch/<epoch>/<id>  the member that has entered it as worker <id>:
//                               "<instance> <address>", or "" if it gave up
//
// A worker enters the present epoch only if a member of it is alive now, which
// means that an agent of that instance answers at the member's address. If all
// its members are proven dead, what is there is left over, and the worker
// begins an epoch of its own. So a group never consists of leftovers: all its
// members have been alive since its epoch began. A worker that finds its own
// place in the epoch taken by another instance waits until that one is proven
// dead, or was silent for `token_lease`, and is refused when it answers.
//
// Silence can mislead: the members of a complete epoch may be cut off from a
// worker that then begins another. "<before>" is that complete epoch. As soon
// as a member of it answers, and while the new one is not complete, it becomes
// the present one again.
//
// Of two live workers of one name and id only one starts, since no epoch ends
// while a worker that has started in it answers:
//  - A worker starts when it has written its mark, `reprise/epoch` has changed
//    since, its epoch is the present one and complete, and its mark is still in
//    its place. A worker that comes to a complete epoch changes "<change>".
//  - A worker that begins an epoch replaces the text that `reprise/epoch` had
//    before it looked at the members. So it has seen all that have started.
//  - These keys are written by compare-and-set, `reprise/epoch` never has the
//    same text twice, and a worker takes its mark back only as the last thing
//    that it does. So an access that takes effect after its worker has stopped
//    waiting for it neither takes the mark of a worker that has started, nor
//    brings an epoch back.
// A worker that finds an epoch that forms looks for its own place in "<before>"
// too: the members of that one may only have been silent to the worker that
// began the new one.
//
// A worker that gives up takes its mark back, unless it sees that its epoch is
// complete: the others may have started with it then, and count on it to come
// back.
//
// A store that restarts may have lost all this, or what was written last. A
// worker that waits for the others then enters again. Those that have started
// by then do not look, and are not found.
//
// Stock workers, and older ones of ours, enter no epochs. They are taken as
// they come: leftovers of theirs cannot be told.

#ifndef REPRISE_AGENT_GROUP_STATIC_GROUP_H_
#define REPRISE_AGENT_GROUP_STATIC_GROUP_H_

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "agent/group/epoch.h"
#include "agent/group/liveness_check.h"
#include "agent/group/store_client.h"
#include "agent/group/worker_directory.h"
#include "agent/options.h"
#include "agent/runtime/runtime.h"

namespace reprise {

// One caller at a time. Holds no lock.
class StaticGroup {
 public:
  using Check =
      std::function<Liveness(const std::string& address, absl::Time deadline)>;

  // Writes what others wait for before they enter, if the store has lost it.
  using Keep = std::function<absl::Status(absl::Time deadline)>;

  // `instance` is ours, as our server tells it, and `features` is what we
  // publish of ourselves. `keep` is called about every second of a wait, and
  // later where others are asked whether they live. `check` asks for the
  // instance of the agent at an address.
  StaticGroup(Runtime& runtime, StoreClient& store, const AgentOptions& options,
              const WorkerDirectory& workers, std::string instance,
              std::string features, Keep keep, Check check);

  // Enters the group, publishes the address and waits for all others. Our
  // listener must be open; `url` returns where it is now. `on_announced` is
  // told what others may find from now on, and `on_published` what is in
  // addrs/<our name>. Returns the addresses of all by id.
  // ALREADY_EXISTS when a live worker has our name and id; DEADLINE_EXCEEDED
  // names those that are missing, or whose death is not proven.
  absl::StatusOr<std::vector<std::string>> Enter(
      std::function<std::string()> url,
      std::function<void(const std::string&)> on_announced,
      std::function<void(const std::string&)> on_published,
      absl::Time deadline);

  // After `Enter`: which members are stock workers, by id.
  const std::vector<bool>& is_stock() const { return is_stock_; }
  // After `Enter`: the instances of the members, by id; "" for stock workers.
  const std::vector<std::string>& instances() const { return instances_; }
  // What the keys of this epoch begin with.
  std::string key_prefix() const;

 private:
  enum class Verdict { kAlive, kDead, kUnknown };
  // What is known of a member whose life is in doubt.
  struct Suspect {
    int refusals = 0;  // one after another
    absl::Time silent_since = absl::InfiniteFuture();
    bool was_silent = false;
  };

  std::string MemberKey(const std::string& epoch, int64_t id) const;
  // Announces its address: others who find the mark may call us at once.
  std::string MakeMark() const;

  // ABORTED, here and below: something changed or is undecided; try again.
  absl::Status TryToEnter(absl::Time deadline);
  // NOT_FOUND when there is none.
  absl::StatusOr<Epoch> ReadEpoch(absl::Time deadline);
  // The one that we have entered.
  absl::StatusOr<Epoch> ReadEnteredEpoch(absl::Time deadline);
  absl::Status OnLost();
  // The epoch to enter: one in which somebody is alive, or a new one.
  absl::StatusOr<Epoch> FindEpoch(absl::Time deadline);
  // `our_place` becomes what is in our place of that epoch.
  absl::Status CheckOurPlace(const std::string& epoch, std::string& our_place,
                             absl::Time deadline);
  absl::StatusOr<Epoch> BeginEpoch(const Epoch& left_over, absl::Time deadline);
  absl::StatusOr<Verdict> JudgeMember(const std::string& epoch, int64_t id,
                                      absl::Time deadline);
  absl::StatusOr<Verdict> Judge(int64_t id, const std::string& mark,
                                absl::Time deadline);
  // Whether the agent at `address` is the one that wrote `mark`.
  Liveness CheckAt(const std::string& address, const std::string& mark,
                   absl::Time deadline);

  absl::Status Publish(absl::Time deadline);
  // Publishes the address again if the store has lost it.
  absl::Status KeepAddress(absl::Time deadline);
  absl::Status WaitForAll(const Epoch& epoch, absl::Time deadline);
  // Looks for members that `WaitForAll` still misses, by other signs.
  // `is_long`: it has waited for long, and looks at our own place, too.
  absl::Status LookForMissing(const Epoch& epoch, bool is_long,
                              absl::Time deadline);
  absl::Status LookForStock(int64_t id, absl::Time deadline);
  absl::Status ReturnTo(const Epoch& epoch, absl::Time deadline);
  // "" when there is nothing.
  absl::StatusOr<std::string> ReadOurPlace(absl::Time deadline);
  absl::Status Complete(const Epoch& epoch, absl::Time deadline);
  // After a failure, as far as the store answers: nobody is to start with us.
  void Withdraw(absl::Time deadline);
  std::string Missing() const;

  Runtime& runtime_;
  StoreClient& store_;
  const AgentOptions& options_;
  const WorkerDirectory& workers_;
  const std::string instance_;
  const std::string features_;
  const Keep keep_;
  const Check check_;

  std::function<std::string()> url_;
  std::function<void(const std::string&)> on_announced_;
  std::function<void(const std::string&)> on_published_;
  // What addrs/<our name> holds, or held when we began.
  std::string published_;
  bool is_published_ = false;
  int begun_ = 0;      // epochs that we began
  std::string epoch_;  // the last one that we put our mark in, or ""
  std::string mark_;
  bool is_late_ = false;   // our mark came to a complete epoch
  int starts_ = 0;         // attempts of ours to start there
  bool is_lost_ = false;   // what the store had of us
  bool waits_ = false;     // in an epoch, for the others
  std::string our_place_;  // what `FindEpoch` found in our place
  std::map<std::string, Suspect> suspects_;  // by mark
  std::vector<std::string> addresses_;
  std::vector<std::string> instances_;
  std::vector<bool> is_there_;
  std::vector<bool> is_stock_;
  std::map<int64_t, std::string> left_over_;  // why one is missing
};

}  // namespace reprise

#endif  // REPRISE_AGENT_GROUP_STATIC_GROUP_H_
