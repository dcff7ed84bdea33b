// libuv's own functions, where this program has put others in their place.

#ifndef REPRISE_AGENT_TRANSPORT_REAL_UV_H_
#define REPRISE_AGENT_TRANSPORT_REAL_UV_H_

#include "uv.h"

namespace reprise {

struct RealUvFunctions {
  decltype(&uv_accept) accept;
  decltype(&uv_close) close;
  decltype(&uv_listen) listen;
  decltype(&uv_loop_close) loop_close;
  decltype(&uv_loop_init) loop_init;
  decltype(&uv_read_start) read_start;
  decltype(&uv_tcp_connect) tcp_connect;
  decltype(&uv_write) write;
};

const RealUvFunctions& RealUv();

}  // namespace reprise

#endif  // REPRISE_AGENT_TRANSPORT_REAL_UV_H_
