#include "tests/planted/planted.h"

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "agent/planted.h"
#include "agent/probe.h"
#include "agent/rare_way.h"
#include "sim/world/agent_probe.h"
#include "sim/world/rare_way.h"

namespace reprise {
namespace {

struct Entry {
  std::string_view name;
  std::string_view what;
  std::string_view scenario;
  std::string_view command = "explore";
};

// The numbers of defects are those of docs/parity.md.
constexpr auto kDefects = std::to_array<Entry>({
    {"lost_wakeup",
     "defect 8: the timer is told to stop without its lock, and sleeps on",
     "timeouts"},
    {"orphan_call",
     "defect 7: a call is entered before it is known to be valid, and never "
     "counted",
     "lifecycle"},
    {"shared_pool",
     "defect 9: completions and timeouts wait for a worker of the pool that "
     "runs handlers",
     "timeouts"},
    {"join_ignores_timeout", "defect 12: a join waits past its deadline",
     "shutdown_barrier"},
    {"shutdown_waits", "a shutdown waits past its deadline for handlers",
     "shutdown_barrier"},
    {"cma_unchecked",
     "what was copied out of another process's memory is taken for good "
     "without "
     "a look at whether that had been let go of",
     "reused_memory"},
    {"grace_is_enough",
     "a shutdown gives callbacks a while to end, and does not look whether "
     "they "
     "have",
     "slow_shutdown"},
    {"double_decrement",
     "a timeout that loses to the reply counts the call down again",
     "timeouts"},
    {"callback_after_shutdown",
     "handlers and callbacks still run when the shutdown has returned",
     "shutdown_barrier"},
    {"dead_pipe_reused", "defect 5: a failed connection is used again for ever",
     "peer_dies"},
    {"successor_fails",
     "the failure of a connection also fails the calls of the next ones",
     "peer_dies"},
    {"oversized_fails_all",
     "a request that is too large fails its connection, with all calls on it",
     "limits"},
    {"store_asked_first",
     "the store is asked for an address that is known, and may hang",
     "hung_store"},
    {"pauses_without_cap",
     "the pauses between retries grow beyond RetryOptions::max_pause",
     "retries"},
    {"nested_outlives",
     "calls of a handler go on when the request that it serves has ended",
     "timeouts"},
    {"leaver_is_unknown",
     "what a member that is leaving understands is not known any more",
     "keyed_to_leaver"},
    {"memory_held_for_a_while",
     "the memory of a request is given back at its deadline, though it may "
     "still be written",
     "reused_memory_lanes"},
    {"replaced_in_place",
     "a file is replaced where it lies, and not beside and then renamed",
     "checkpoint"},
    {"renamed_before_sync",
     "a new file gets its name before its bytes are durable", "checkpoint"},
    {"names_not_synced", "the new name of a file is not made durable",
     "checkpoint"},
    {"sync_tried_again",
     "a sync that has failed is tried again, and believed the second time",
     "checkpoint"},
    {"name_written_once",
     "a worker that waits does not see that the store has lost its name",
     "store_lost_start"},
    {"incarnations_only_grow",
     "members are told apart by numbers that a lost store gives out again",
     "store_restart_ids"},
    {"garbled_message_ignored",
     "a message that makes no sense is not read, and its connection not failed",
     "garbled"},
    {"listener_gives_up",
     "a listener that cannot be opened again is not tried again", "scarcity"},
    {"starts_without_threads",
     "an agent starts although the system has no thread for it", "scarcity"},
    {"stale_listener", "a listener that failed is not replaced", "peer_dies"},
    {"late_reply_fatal",
     "a reply to a call that timed out breaks the connection", "timeouts"},
    {"unlocked_maps",
     "defect 1: the members change piece by piece, without the lock",
     "graceful_leave"},
    {"lock_over_store",
     "defect 2: the lock of the members is held while the store is asked",
     "slow_store"},
    {"stale_names",
     "defect 16: the first worker never learns of others that come and go",
     "rejoin"},
    {"leave_wipes_maps",
     "defect 3: when a worker leaves, all other device maps are dropped",
     "graceful_leave"},
    {"join_wrong_reverse_map",
     "defect 4: replies take the map that their caller made for another",
     "graceful_leave"},
    {"dash_in_name", "defect 14: a name is cut at its first dash",
     "dynamic_join"},
    {"stale_record_poisons",
     "defect 14: what a worker that crashed left behind keeps it out for ever",
     "rejoin"},
    {"token_not_released",
     "defect 15: a join that failed keeps the token of the group",
     "graceful_leave"},
    {"leave_drops_replies",
     "defect 23: a worker leaves without waiting for the calls it serves",
     "graceful_leave"},
    {"truncated_timeout",
     "defect 11: a timeout of less than a millisecond is none", "timeouts"},
    {"barrier_out_of_step",
     "defect 13: a worker that gives up in a barrier counts it as left",
     "join_again"},
    {"retry_emptied_message",
     "defect 6: a retry sends a message whose payload was moved out",
     "retries"},
    {"retry_after_shutdown",
     "a shutdown forgets the calls that wait for their next attempt",
     "retries"},
    {"no_keepalive", "defect 22: a silent peer is noticed by timeouts only",
     "half_open"},
    {"excused_by_size",
     "a peer that has sent a large message may be silent for the longer",
     "half_open"},
    {"no_ping_while_served",
     "a client that receives replies gives no sign of life itself",
     "slow_link"},
    {"first_message_in_time",
     "the time for connecting goes on until the first message has been carried",
     "slow_link"},
    {"deadline_to_all",
     "a deadline is sent to workers that did not say that they know what it is",
     "mixed_versions"},
    {"deaf_to_answers",
     "answers do not count as signs of life, nor does anything else",
     "lifecycle"},
    {"deaf_within_message",
     "bytes count as arrived only when their message has arrived as a whole",
     "slow_link"},
    {"mute_within_message",
     "a server to which a long message arrives gives no sign of life",
     "slow_link"},
    {"idempotency_ignored", "a server runs every resend of a call",
     "idempotent"},
    {"unbounded_queue", "a server queues whatever its callers send", "flood"},
    {"no_turns",
     "the requests of a peer are all run before those of the next one",
     "flood"},
    {"forgotten_runs_again",
     "a call whose key was forgotten runs its handler a second time",
     "idempotent"},
    {"pending_leak", "defect 10: a call that timed out stays in the table",
     "timeouts"},
    {"cancel_stays_here", "a cancelled call is not cancelled at the server",
     "cancel_reaches_server"},
    {"any_error_is_death",
     "a joiner takes any error of its own for the death of a member",
     "live_twin"},
    {"leftovers_make_a_group",
     "what an earlier run has left in the store counts as members",
     "reused_store"},
    {"one_refusal_is_death",
     "a worker that refuses one connection is taken for dead", "twins"},
    {"cuda_xth_no_wait",
     "cuda_xth copies without waiting for the work of the sender",
     "device_streams"},
    {"cuda_ipc_no_wait",
     "cuda_ipc fills a slot that its last reader may still read",
     "device_streams"},
    {"cuda_direct_no_wait",
     "cuda_direct copies without waiting for the work of the sender",
     "device_streams"},
    {"cuda_direct_early_reply",
     "cuda_direct says that it has read what it has only begun to read",
     "device_streams"},
    {"cuda_basic_early_slot",
     "cuda_basic receives into a slot that is still being copied",
     "device_streams"},
    {"cuda_host_early_reply",
     "cuda_host gives back a slot that is still being copied",
     "device_streams"},
    {"gpu_request_no_wait",
     "the streams on which a request's tensors are made are not waited for",
     "device_streams"},
    {"gpu_reply_no_wait",
     "the streams on which a reply's tensors are made are not waited for",
     "device_streams"},
    {"gpu_handler_no_streams",
     "a handler is not told on which streams its tensors arrive",
     "device_streams"},
    {"gpu_future_no_streams",
     "a future does not hand over the streams of its reply",
     "gpu_parameter_server"},
    {"gpu_guard_dropped",
     "the memory of a message is given back while a stream still reads it",
     "device_streams"},
    {"keepalive_ends_when_late",
     "a watch over connections that was held up looks no more", "half_open"},
    {"retry_without_key", "a retry is sent without its idempotency key",
     "idempotent"},
    {"cancelled_id_reused",
     "the id of a cancelled call is given to the next one, which takes its "
     "reply",
     "cancel_reaches_server"},
    {"gone_reply_never_ends",
     "a reply to a connection that is gone counts as unwritten for ever",
     "retries"},
    {"blocked_peer_forgotten",
     "of two peers whose requests may not be started, one is forgotten",
     "bounds"},
    {"seen_from_last_barrier",
     "who was seen at the last barrier counts as seen at the next one",
     "join_again"},
    {"late_failure_forgets_successor",
     "the failure of an old connection makes the next one forgotten",
     "graceful_leave"},
    {"callbacks_taken_early",
     "a callback that comes while its call is completed is lost", "timeouts"},
    {"attempt_joins_late",
     "an attempt that comes while its call is answered gets no answer",
     "idempotent"},
    {"last_slot_not_seen",
     "when all threads run handlers, the calls of one inherit no deadline",
     "timeouts"},
    {"cancel_lost_in_handover",
     "a call that is cancelled while its connection is replaced is made",
     "moved_peer"},
    {"expired_in_queue_counts",
     "a call whose time ran out in the queue of a connection stays in it",
     "timeouts"},
    {"reading_not_resumed",
     "a connection is not read on when half of its replies were taken",
     "bounds"},
    {"drain_in_haste", "a drain does not wait for the handlers that run",
     "drains"},
    {"add_retried",
     "an arrival at a barrier is added again when its answer was lost",
     "shutdown_barrier"},
    {"absolute_deadline",
     "a deadline is sent as a time of day, which is another one at the server",
     "clocks"},
    {"pointer_order",
     "connections are closed in the order of their addresses in memory",
     "lifecycle", "verify"},
    {"wait_gives_lock_back",
     "a wait returns without its lock (--runtime real, under ThreadSanitizer)",
     "lifecycle"},
    {"stray_clock", "a deadline is taken from the machine's own clock",
     "lifecycle", "verify"},
});

// Set before any agent exists.
std::array<std::atomic<bool>, kDefects.size()> planted = {};
std::atomic<bool> any_planted = false;
std::atomic<bool> rare_ways = false;
std::atomic<bool> agent_probes = false;

}  // namespace

const std::vector<PlantedDefect>& PlantedDefects() {
  static const auto* const defects = [] {
    auto* const all = new std::vector<PlantedDefect>();
    for (const Entry& entry : kDefects) {
      all->push_back({std::string(entry.name), std::string(entry.what),
                      std::string(entry.scenario), std::string(entry.command)});
    }
    return all;
  }();
  return *defects;
}

bool Plant(std::string_view name) {
  for (size_t i = 0; i < kDefects.size(); ++i) {
    if (kDefects[i].name == name) {
      planted[i] = true;
      any_planted = true;
      return true;
    }
  }
  return false;
}

bool IsPlanted(const char* name) {
  if (!any_planted) return false;
  for (size_t i = 0; i < kDefects.size(); ++i) {
    if (planted[i] && kDefects[i].name == name) return true;
  }
  return false;
}

void TakeRareWays() { rare_ways = true; }

void TellAgentProbes() { agent_probes = true; }

void ReachesProbe(const char* name) {
  if (agent_probes) RecordAgentProbe(name);
}

bool TakesRareWay(const char* place) {
  return DecideRareWay(place, /*draws=*/rare_ways);
}

}  // namespace reprise
