// A connection that could not even be begun, for want of file descriptors or of
// a route.
//
// libuv says so at once, which TensorPipe takes for the end of the world: it
// throws in its loop. Here it learns of it a moment later, as it learns of a
// connection that was refused, and until it closes the handle whatever it does
// to it is answered as if the handle were connecting.

#ifndef REPRISE_AGENT_TRANSPORT_FAILED_CONNECT_H_
#define REPRISE_AGENT_TRANSPORT_FAILED_CONNECT_H_

#include <utility>
#include <vector>

#include "uv.h"

namespace reprise {

// Of one handle; used on the thread of its loop.
class FailedConnect {
 public:
  FailedConnect(uv_connect_t* request, uv_tcp_t* handle, uv_connect_cb callback,
                int error);

  // `uv_write`: nothing will be written.
  void Write(uv_write_t* request, uv_stream_t* stream, uv_write_cb callback);
  // `uv_close`: `closed` is called when the handle is closed; it calls
  // `OnClosed` with the handle.
  void Close(uv_handle_t* handle, uv_close_cb callback, uv_close_cb closed);
  // Ends all that was asked for, as libuv does.
  void OnClosed(uv_handle_t* handle);

 private:
  struct Timer;

  void Fail(int error);

  uv_connect_t* const request_;
  uv_connect_cb callback_;  // null once called
  Timer* timer_;            // null once it has gone off
  std::vector<std::pair<uv_write_t*, uv_write_cb>> writes_;
  uv_close_cb close_callback_ = nullptr;
};

}  // namespace reprise

#endif  // REPRISE_AGENT_TRANSPORT_FAILED_CONNECT_H_
