#include "tests/unit/transport/contract_probes.h"

#include <algorithm>
#include <array>  // nop needs it
#include <condition_variable>
#include <cstddef>
#include <mutex>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tensorpipe/common/nop.h"
#include "tensorpipe/core/nop_types.h"
#include "tensorpipe/transport/connection.h"
#include "tensorpipe/transport/listener.h"
#include "tests/unit/transport/private_object.h"

namespace reprise::testing {
namespace {

using tensorpipe::Error;
using tensorpipe::transport::Connection;
using tensorpipe::transport::Context;
using tensorpipe::transport::Listener;

constexpr size_t kMuch = size_t{16} << 20;

// Without the place in the source from which it comes.
std::string TextOf(const Error& error) {
  if (!error) return "ok";
  return error.castToType<tensorpipe::BaseError>()->what();
}

// Lines that several threads write.
class Log {
 public:
  void Add(std::string line) {
    const std::lock_guard lock(mutex_);
    lines_.push_back(std::move(line));
    changed_.notify_all();
  }
  // Waits until there are so many lines.
  void Await(size_t count) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return lines_.size() >= count; });
  }
  size_t size() {
    const std::lock_guard lock(mutex_);
    return lines_.size();
  }
  Transcript Take() {
    const std::lock_guard lock(mutex_);
    return std::move(lines_);
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  Transcript lines_;
};

// Two contexts, and connections between them.
class Bench {
 public:
  explicit Bench(const ProbedTransport& transport)
      : server(transport.make()),
        client(transport.make()),
        listener(server->listen(transport.any)) {
    Connect();
  }
  ~Bench() {
    client->join();
    server->join();
  }

  // Another connection, after a hello.
  void Connect() {
    auto accepted = std::make_shared<Log>();
    listener->accept(
        [this, accepted](const Error&, std::shared_ptr<Connection> connection) {
          far = std::move(connection);
          accepted->Add("");
        });
    near = client->connect(listener->addr());
    tensorpipe::NopHolder<tensorpipe::Packet> hello;
    hello.getObject() = tensorpipe::RequestedConnection{7};
    near->write(hello, [accepted](const Error&) { accepted->Add(""); });
    accepted->Await(2);
    tensorpipe::NopHolder<tensorpipe::Packet> heard;
    far->read(heard, [accepted](const Error&) { accepted->Add(""); });
    accepted->Await(3);
  }

  // What was sent before has arrived.
  void PingPong(Connection& from, Connection& to) {
    auto done = std::make_shared<Log>();
    static constexpr std::string_view kPing = "ping";
    auto place = std::make_shared<std::string>(kPing.size(), '?');
    for (int i = 0; i < 2; ++i) {
      Connection& sender = i == 0 ? from : to;
      Connection& receiver = i == 0 ? to : from;
      receiver.read(
          place->data(), place->size(),
          [done, place](const Error&, const void*, size_t) { done->Add(""); });
      sender.write(kPing.data(), kPing.size(),
                   [done](const Error&) { done->Add(""); });
      done->Await(2 * (static_cast<size_t>(i) + 1));
    }
  }

  void Write(Connection& connection, const char* label, std::string bytes) {
    auto kept = std::make_shared<const std::string>(std::move(bytes));
    connection.write(kept->data(), kept->size(),
                     [log = log, label, kept](const Error& error) {
                       log->Add(absl::StrCat(label, ": ", TextOf(error)));
                     });
  }
  void Read(Connection& connection, const char* label, size_t length) {
    auto place = std::make_shared<std::string>(length, '?');
    connection.read(
        place->data(), length,
        [log = log, label, place](const Error& error, const void*,
                                  size_t size) {
          // The length that a failed read tells depends on whether the reader
          // or its connection was first.
          log->Add(absl::StrCat(label, ": ", TextOf(error),
                                error        ? ""
                                : size > 100 ? " much"
                                             : " " + place->substr(0, size)));
        });
  }
  void ReadAny(Connection& connection, const char* label) {
    connection.read(
        [log = log, label](const Error& error, const void* bytes, size_t size) {
          log->Add(absl::StrCat(
              label, ": ", TextOf(error), " ",
              std::string(static_cast<const char*>(bytes), error ? 0 : size)));
        });
  }
  void Accept(Listener& at, const char* label) {
    at.accept([log = log, label](const Error& error,
                                 std::shared_ptr<Connection> connection) {
      log->Add(absl::StrCat(label, ": ", TextOf(error),
                            connection == nullptr ? " none" : " one"));
    });
  }

  const std::shared_ptr<Log> log = std::make_shared<Log>();
  const std::shared_ptr<Context> server;
  const std::shared_ptr<Context> client;
  const std::shared_ptr<Listener> listener;
  std::shared_ptr<Connection> near;  // the client's
  std::shared_ptr<Connection> far;
};

Transcript FramesComeInOrder(const ProbedTransport& transport) {
  Bench bench(transport);
  for (const auto& [from, to] :
       {std::pair(bench.near, bench.far), std::pair(bench.far, bench.near)}) {
    const size_t before = bench.log->size();
    bench.Write(*from, "write 1", "one");
    bench.Write(*from, "write 2", "");
    bench.Write(*from, "write 3", "three");
    bench.log->Await(before + 3);
    bench.Read(*to, "read 1", 3);
    bench.Read(*to, "read 2", 0);
    bench.ReadAny(*to, "read 3");
    bench.log->Await(before + 6);
    bench.Write(*from, "write 4", "");
    bench.log->Await(before + 7);
    bench.ReadAny(*to, "read 4");
    bench.log->Await(before + 8);
  }
  return bench.log->Take();
}

Transcript EmptyFramesMayHaveNoMemory(const ProbedTransport& transport) {
  Bench bench(transport);
  bench.near->write(nullptr, 0, [log = bench.log](const Error& error) {
    log->Add(absl::StrCat("write: ", TextOf(error)));
  });
  bench.log->Await(1);
  bench.far->read(
      nullptr, 0,
      [log = bench.log](const Error& error, const void* bytes, size_t size) {
        log->Add(absl::StrCat("read: ", TextOf(error), " ", size,
                              bytes == nullptr ? " none" : " some"));
      });
  bench.log->Await(2);
  return bench.log->Take();
}

Transcript ACloseEndsWhatWaits(const ProbedTransport& transport) {
  Bench bench(transport);
  bench.Read(*bench.near, "read 1", 4);
  bench.ReadAny(*bench.near, "read 2");
  bench.Write(*bench.near, "write 1", std::string(kMuch, 'x'));
  bench.Write(*bench.near, "write 2", "x");
  bench.near->close();
  bench.log->Await(4);
  bench.Read(*bench.near, "read 3", 4);
  bench.log->Await(5);
  bench.Write(*bench.near, "write 3", "x");
  bench.log->Await(6);
  bench.near->close();
  return bench.log->Take();
}

Transcript AJoinEndsWhatWaits(const ProbedTransport& transport) {
  Bench bench(transport);
  bench.Accept(*bench.listener, "accept 1");
  bench.Accept(*bench.listener, "accept 2");
  bench.Read(*bench.far, "read", 4);
  bench.Write(*bench.far, "write", std::string(kMuch, 'x'));
  bench.server->join();
  bench.log->Add("joined");
  return bench.log->Take();
}

// A callback of what ends goes on asking.
Transcript AJoinWaitsForCallbacksOfCallbacks(const ProbedTransport& transport) {
  Bench bench(transport);
  auto left = std::make_shared<int>(3);
  auto ask = std::make_shared<std::function<void()>>();
  *ask = [&bench, left, weak = std::weak_ptr(ask)] {
    bench.far->read(
        [&bench, left, weak](const Error& error, const void*, size_t) {
          bench.log->Add(absl::StrCat("read: ", TextOf(error)));
          if (--*left > 0) (*weak.lock())();
        });
  };
  (*ask)();
  bench.server->join();
  bench.log->Add("joined");
  return bench.log->Take();
}

void UseClosed(Bench& bench, const ProbedTransport& transport) {
  Log& log = *bench.log;
  const auto listener = bench.server->listen(transport.any);
  const size_t before = log.size();
  bench.Accept(*listener, "accept");
  log.Await(before + 1);
  const auto connection = bench.server->connect(bench.listener->addr());
  bench.Read(*connection, "read", 4);
  log.Await(before + 2);
  bench.Write(*connection, "write", "x");
  log.Await(before + 3);
  bench.Accept(*bench.listener, "accept at the old one");
  log.Await(before + 4);
}

Transcript AClosedContextMakesWhatIsClosed(const ProbedTransport& transport) {
  Bench bench(transport);
  bench.server->close();
  UseClosed(bench, transport);
  bench.server->join();
  bench.log->Add("joined");
  UseClosed(bench, transport);
  bench.server->join();
  bench.server->close();
  return bench.log->Take();
}

Transcript WhatWasWrittenBeforeTheCloseArrives(
    const ProbedTransport& transport) {
  Bench bench(transport);
  bench.Write(*bench.near, "write", "last");
  bench.log->Await(1);
  bench.near->close();
  bench.Read(*bench.far, "read 1", 4);
  bench.Read(*bench.far, "read 2", 4);
  bench.log->Await(3);
  return bench.log->Take();
}

Transcript TheEndOfTheStreamEndsEverything(const ProbedTransport& transport) {
  Bench bench(transport);
  bench.Read(*bench.near, "read 1", 4);
  bench.ReadAny(*bench.near, "read 2");
  bench.far->close();
  bench.log->Await(2);
  bench.Read(*bench.near, "read 3", 4);
  bench.log->Await(3);
  bench.Write(*bench.near, "write", "x");
  bench.log->Await(4);
  bench.near->close();
  bench.Read(*bench.near, "read 4", 4);
  bench.log->Await(5);
  return bench.log->Take();
}

Transcript AFrameOfAnotherLengthFailsBothEnds(
    const ProbedTransport& transport) {
  Bench bench(transport);
  for (const char* const sent : {"abc", "abcde"}) {
    const size_t before = bench.log->size();
    bench.Connect();
    bench.Read(*bench.far, "read 1", 4);
    bench.Write(*bench.near, "write", sent);
    bench.log->Await(before + 2);
    bench.Read(*bench.far, "read 2", 4);
    bench.log->Await(before + 3);
    bench.Read(*bench.near, "read back", 4);
    bench.log->Await(before + 4);
  }
  Transcript lines = bench.log->Take();
  // Either end may hear first.
  for (const size_t at : {size_t{0}, size_t{4}}) {
    if (lines[at] < lines[at + 1]) continue;
    std::swap(lines[at], lines[at + 1]);
  }
  return lines;
}

Transcript AnObjectThatIsNoneFailsBothEnds(const ProbedTransport& transport) {
  Bench bench(transport);
  bench.Write(*bench.near, "write", std::string(kOverrun));
  bench.log->Await(1);
  auto object = std::make_shared<tensorpipe::NopHolder<PrivateObject>>();
  bench.far->read(*object, [log = bench.log, object](const Error& error) {
    log->Add(absl::StrCat("read 1: ", TextOf(error)));
  });
  bench.log->Await(2);
  bench.Read(*bench.far, "read 2", 4);
  bench.log->Await(3);
  bench.Read(*bench.near, "read back", 4);
  bench.log->Await(4);
  return bench.log->Take();
}

Transcript NothingIsTakenThatNobodyReads(const ProbedTransport& transport) {
  Bench bench(transport);
  const auto from = bench.near;
  const auto to = bench.far;
  for (const char* const label : {"unread 1", "unread 2", "unread 3"}) {
    bench.Write(*from, label, std::string(kMuch, 'x'));
  }
  bench.Connect();
  bench.Read(*bench.far, "read", kMuch);
  bench.Write(*bench.near, "write", std::string(kMuch, 'x'));
  bench.log->Await(1);
  bench.PingPong(*bench.near, *bench.far);
  bench.log->Await(2);
  bench.log->Add("now they are read");
  bench.Read(*to, "read 1", kMuch);
  bench.Read(*to, "read 2", kMuch);
  bench.Read(*to, "read 3", kMuch);
  bench.log->Await(9);
  Transcript lines = bench.log->Take();
  // Of the same frame, either end may hear first.
  std::sort(lines.begin(), lines.begin() + 2);
  std::sort(lines.begin() + 3, lines.end());
  return lines;
}

Transcript WhatWasNotReadResets(const ProbedTransport& transport) {
  Bench bench(transport);
  const auto from = bench.near;
  const auto to = bench.far;
  bench.Connect();
  bench.Write(*from, "write", "unread");
  bench.log->Await(1);
  bench.PingPong(*bench.near, *bench.far);
  to->close();
  bench.Read(*from, "read", 4);
  bench.log->Await(2);
  bench.Write(*from, "another write", "x");
  bench.log->Await(3);
  return bench.log->Take();
}

Transcript NobodyListens(const ProbedTransport& transport) {
  Bench bench(transport);
  const std::string address = bench.listener->addr();
  bench.listener->close();
  bench.Accept(*bench.listener, "accept");
  bench.log->Await(1);
  const auto connection = bench.client->connect(address);
  bench.Write(*connection, "write", "x");
  bench.Read(*connection, "read", 4);
  bench.log->Await(3);
  bench.Read(*connection, "read again", 4);
  bench.log->Await(4);
  return bench.log->Take();
}

Transcript AnAddressThatIsTaken(const ProbedTransport& transport) {
  Bench bench(transport);
  const auto second = bench.client->listen(bench.listener->addr());
  bench.log->Add(second->addr());
  bench.Accept(*second, "accept");
  bench.log->Await(2);
  bench.Connect();  // the first one does not mind
  return bench.log->Take();
}

}  // namespace

const std::vector<Probe>& AllProbes() {
#define REPRISE_PROBE(name) \
  { #name, &name }
  static const auto* const probes =
      new std::vector<Probe>{REPRISE_PROBE(FramesComeInOrder),
                             REPRISE_PROBE(EmptyFramesMayHaveNoMemory),
                             REPRISE_PROBE(ACloseEndsWhatWaits),
                             REPRISE_PROBE(AJoinEndsWhatWaits),
                             REPRISE_PROBE(AJoinWaitsForCallbacksOfCallbacks),
                             REPRISE_PROBE(AClosedContextMakesWhatIsClosed),
                             REPRISE_PROBE(WhatWasWrittenBeforeTheCloseArrives),
                             REPRISE_PROBE(TheEndOfTheStreamEndsEverything),
                             REPRISE_PROBE(AFrameOfAnotherLengthFailsBothEnds),
                             REPRISE_PROBE(AnObjectThatIsNoneFailsBothEnds),
                             REPRISE_PROBE(NothingIsTakenThatNobodyReads),
                             REPRISE_PROBE(WhatWasNotReadResets),
                             REPRISE_PROBE(NobodyListens),
                             REPRISE_PROBE(AnAddressThatIsTaken)};
#undef REPRISE_PROBE
  return *probes;
}

}  // namespace reprise::testing
