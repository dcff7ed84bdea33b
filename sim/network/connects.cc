// How connections are made.

#include <algorithm>
#include <utility>

#include "sim/network/endpoint.h"
#include "sim/network/errors.h"
#include "sim/network/network.h"
#include "sim/network/sim_transport.h"

namespace reprise {

void Network::SendConnect(Attempt attempt) {
  Endpoint& client = *attempt.client;
  const int32_t from = client.node().rank;
  int64_t arrival_ns = world_.now_ns() + DrawLatency(client);
  if (attempt.rank >= 0) {
    const int64_t held_until_ns = links_.HeldUntil(from, attempt.rank);
    if (held_until_ns > attempt.begun_ns + kConnectTimeoutNs) {
      return GiveUpConnect(attempt);
    }
    arrival_ns = std::max(arrival_ns + links_.ExtraLatency(from, attempt.rank),
                          held_until_ns);
  }
  const EventOrder order{client.connection() * 2, UINT64_MAX - 1};
  world_.At(arrival_ns, order,
            [this, attempt = std::move(attempt)] { ConnectArrives(attempt); });
}

void Network::ConnectArrives(const Attempt& attempt) {
  const std::shared_ptr<Endpoint>& client = attempt.client;
  Node& client_node = client->node();
  if (!client_node.alive) return;
  const auto it = listeners_.find(attempt.address);
  SimListener* const listener = it == listeners_.end() ? nullptr : it->second;
  if (listener == nullptr ? !IsMachineUp(attempt.rank)
                          : listener->is_backlog_full()) {
    return RetryConnect(attempt);
  }
  int64_t extra_ns = 0;
  int64_t held_until_ns = 0;
  if (attempt.rank >= 0) {
    // The answer has to come back.
    held_until_ns = links_.HeldUntil(attempt.rank, client_node.rank);
    if (held_until_ns > attempt.begun_ns + kConnectTimeoutNs) {
      return GiveUpConnect(attempt);
    }
    extra_ns = links_.ExtraLatency(attempt.rank, client_node.rank);
  }
  bool is_refused = listener == nullptr || !listener->node().alive;
  if (!is_refused) {
    const auto until = refused_until_ns_.find(listener->node().rank);
    if (until != refused_until_ns_.end() && until->second > world_.now_ns()) {
      is_refused = true;
      Injected(FaultKind::kRefuse, listener->node().rank);
    }
  }
  if (!is_refused) {
    world_.Record(&listener->node(),
                  {.kind = EventKind::kAccept, .id = client->connection()});
    // A fault may have struck at this event.
    if (!client_node.alive) return;
    if (!listener->node().alive) {
      // Without its power it does not even refuse.
      if (!IsMachineUp(attempt.rank)) return RetryConnect(attempt);
      is_refused = true;
    }
  }
  const int64_t answer_ns = std::max(
      world_.now_ns() + DrawLatency(*client) + extra_ns, held_until_ns);
  if (is_refused) return Refuse(attempt, answer_ns);
  auto server =
      std::make_shared<Endpoint>(*this, listener->node(), client->connection(),
                                 /*is_server=*/true, client_node.rank);
  server->Establish(client, answer_ns);
  listener->Arrived(server);
  world_.At(answer_ns, {client->connection() * 2, UINT64_MAX},
            [this, client, server] {
              if (client->node().alive) {
                client->Establish(server);
              } else if (IsMachineUp(client->node().rank)) {
                server->AnswerWithReset();
              }
            });
}

void Network::Refuse(const Attempt& attempt, int64_t answer_ns) {
  world_.At(answer_ns, {attempt.client->connection() * 2, UINT64_MAX},
            [this, client = attempt.client] {
              world_.Record(&client->node(), {.kind = EventKind::kRefused,
                                              .id = client->connection()});
              client->Fail(UvErrorOf(UV_ECONNREFUSED));
            });
}

void Network::RetryConnect(Attempt attempt) {
  // The repetitions that have passed were held back with this one.
  int64_t next_ns = 0;
  do {
    ++attempt.retries;
    if (attempt.retries > kConnectRetries) return GiveUpConnect(attempt);
    next_ns = attempt.begun_ns +
              ((int64_t{1} << attempt.retries) - 1) * 1'000'000'000;
  } while (next_ns <= world_.now_ns());
  const EventOrder order{attempt.client->connection() * 2, UINT64_MAX - 2};
  world_.AtIfRunning(next_ns, order, [this, attempt = std::move(attempt)] {
    if (attempt.client->node().alive && !attempt.client->is_over()) {
      SendConnect(attempt);
    }
  });
}

void Network::GiveUpConnect(const Attempt& attempt) {
  world_.AtIfRunning(
      attempt.begun_ns + kConnectTimeoutNs,
      {attempt.client->connection() * 2, UINT64_MAX},
      [client = attempt.client] { client->Fail(UvErrorOf(UV_ETIMEDOUT)); });
}

}  // namespace reprise
