// Accepts the connections that wait at a listening socket.

#ifndef REPRISE_AGENT_TRANSPORT_UV_ACCEPT_H_
#define REPRISE_AGENT_TRANSPORT_UV_ACCEPT_H_

#include <functional>

namespace reprise {

// Gives the sockets of the connections that wait at `listener` to `admit`,
// which takes them over, until none waits any more, 128 have come or `admit`
// returns false. Returns 0, or the error code of libuv with which the system
// refused to accept. Does not block if `listener` does not.
int AcceptWaiting(int listener, const std::function<bool(int fd)>& admit);

// Whether that error is a lack of descriptors or memory, so that it makes sense
// to try again after a while.
bool IsLackOfResources(int error);

}  // namespace reprise

#endif  // REPRISE_AGENT_TRANSPORT_UV_ACCEPT_H_
