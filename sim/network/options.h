// What the links of a simulated network are like.

#ifndef REPRISE_SIM_NETWORK_OPTIONS_H_
#define REPRISE_SIM_NETWORK_OPTIONS_H_

#include <cstddef>
#include <cstdint>
#include <vector>

namespace reprise {

// One direction of a link.
struct LinkOptions {
  int64_t latency_min_ns = 20'000;
  int64_t latency_spread_ns = 80'000;  // uniform on top
  int64_t spike_one_in = 200;          // frames; 0: no spikes
  int64_t spike_max_ns = 5'000'000;
  int64_t bytes_per_second = 1'000'000'000;
  // Frames that are lost and sent again after TCP's retransmission timeout;
  // 0: none. Nothing is drawn then.
  int64_t loss_one_in = 0;
};

// What a rule of a topology changes; what is negative stays.
struct LinkRule {
  // Ranks. `from` to `to`, and back unless `one_way`.
  std::vector<int32_t> from;
  std::vector<int32_t> to;
  bool one_way = false;
  int64_t latency_ns = -1;
  int64_t jitter_ns = -1;  // uniform on top of the latency
  int64_t bytes_per_second = -1;
  int64_t loss_one_in = -1;
};

// The members that are inherited hold for all links between hosts, unless a
// rule says otherwise; the last rule wins.
struct NetworkOptions : LinkOptions {
  // The host of each rank; ranks beyond it have a host each. The workers of a
  // host share its links, and reach each other over its loopback. Only what a
  // worker sends to itself takes as long as between two hosts.
  std::vector<int> hosts = {};
  // Hosts of one worker, which `hosts` does not list, have negative numbers.
  int HostOf(int32_t rank) const {
    const auto index = static_cast<size_t>(rank);
    return rank >= 0 && index < hosts.size() ? hosts[index] : -2 - rank;
  }
  LinkOptions loopback = {.latency_min_ns = 5'000,
                          .latency_spread_ns = 20'000,
                          .bytes_per_second = 4'000'000'000};
  std::vector<LinkRule> rules = {};
  // Whether what peers send is checked as it is over real transports, before
  // TensorPipe sees it (agent/transport/checked_transport.h). Needed where
  // bytes may not be what was sent.
  bool checks_peers = false;
  // What a connection holds in each direction: bytes that were written and not
  // sent, and bytes that were sent and not read.
  int64_t send_buffer_bytes = 512 << 10;
  int64_t receive_window_bytes = 1 << 20;
  // Connections that wait for a transport thread which does not run.
  size_t accept_backlog = 128;
};

// How long TCP tries, as Linux does it by default: a connect is given up after
// 127 s, and a connection whose bytes are not acknowledged after 924.6 s.
inline constexpr int64_t kConnectTimeoutNs = 127'000'000'000;
inline constexpr int kConnectRetries = 6;  // after 1, 3, 7, 15, 31 and 63 s
inline constexpr int64_t kRetransmissionTimeoutNs = 924'600'000'000;
inline constexpr int64_t kFirstRetransmissionNs = 200'000'000;
inline constexpr int64_t kLongestRetransmissionNs = 120'000'000'000;

}  // namespace reprise

#endif  // REPRISE_SIM_NETWORK_OPTIONS_H_
