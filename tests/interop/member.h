// A member of a group of our agents and stock ones, without the types of
// either. Each kind of agent implements `Member`; what members say to each
// other is written once, in conversation.h.

#ifndef REPRISE_TESTS_INTEROP_MEMBER_H_
#define REPRISE_TESTS_INTEROP_MEMBER_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tests/interop/message_spec.h"

namespace reprise::interop {

// A request or a reply that has arrived, or, for a call that failed, why there
// is no reply.
struct Arrival {
  std::string error;  // "" if there is none
  bool timed_out = false;
  std::string payload;
  std::vector<ReceivedTensor> tensors;
  std::shared_ptr<void> keeps_tensors;
};

// What is answered: an error, or a payload and tensors.
struct Answer {
  std::string error;
  std::string payload;
  MessageSpec tensors;
};

// Serves requests, several at a time. It may answer at once or later, on any
// thread, and does so once.
using Service =
    std::function<void(const Arrival& request, std::function<void(Answer)>)>;

// What a program of a member is told.
struct MemberOptions {
  std::string store;  // "tcp:PORT" or "file:PATH"
  std::string transport;
  std::string channel;
  std::vector<std::string> names;  // of all members, by their ids
  int id = 0;
  int calls = 100;           // in flight at once
  size_t largest_bytes = 0;  // of a tensor
};

// A member that has met all others. Thread-safe.
class Member {
 public:
  virtual ~Member() = default;

  // Calls `done` once, on some thread. `timeout` in seconds.
  virtual void Call(const std::string& peer, const std::string& payload,
                    const MessageSpec& tensors, double timeout,
                    std::function<void(Arrival)> done) = 0;
  // The barrier, and the end. Returns what went wrong, or "".
  virtual std::string Leave() = 0;
};

// Meets the others. Throws std::runtime_error if it cannot.
using StartMember =
    std::function<std::unique_ptr<Member>(const MemberOptions&, Service)>;

}  // namespace reprise::interop

#endif  // REPRISE_TESTS_INTEROP_MEMBER_H_
