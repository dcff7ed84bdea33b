// Operations of a transport's listeners and connections as futures.

#ifndef REPRISE_TESTS_UNIT_TRANSPORT_CONNECTIONS_H_
#define REPRISE_TESTS_UNIT_TRANSPORT_CONNECTIONS_H_

#include <array>  // nop needs it
#include <cstddef>
#include <future>
#include <memory>
#include <string>
#include <utility>

#include "gtest/gtest.h"
#include "tensorpipe/common/error.h"
#include "tensorpipe/common/nop.h"
#include "tensorpipe/transport/connection.h"
#include "tensorpipe/transport/listener.h"

namespace reprise::testing {

using tensorpipe::Error;
using tensorpipe::transport::Connection;
using tensorpipe::transport::Listener;

// Empty if there is no error.
inline std::string TextOf(const Error& error) {
  return error ? error.what() : "";
}

struct Accepted {
  std::string error;
  std::shared_ptr<Connection> connection;
};

inline std::future<Accepted> Accept(Listener& listener) {
  auto promise = std::make_shared<std::promise<Accepted>>();
  listener.accept(
      [promise](const Error& error, std::shared_ptr<Connection> connection) {
        promise->set_value({TextOf(error), std::move(connection)});
      });
  return promise->get_future();
}

struct Outcome {
  std::string error;
  std::string bytes;
};

// Reads a frame of the size of `into`.
inline std::future<Outcome> Read(Connection& connection, std::string& into) {
  auto promise = std::make_shared<std::promise<Outcome>>();
  connection.read(into.data(), into.size(),
                  [promise, &into](const Error& error, const void*, size_t) {
                    promise->set_value({TextOf(error), error ? "" : into});
                  });
  return promise->get_future();
}

// The following functions return the text of the error.
inline std::future<std::string> Read(Connection& connection,
                                     tensorpipe::AbstractNopHolder& object) {
  auto promise = std::make_shared<std::promise<std::string>>();
  connection.read(object, [promise](const Error& error) {
    promise->set_value(TextOf(error));
  });
  return promise->get_future();
}

inline std::future<std::string> Write(Connection& connection,
                                      std::string bytes) {
  auto kept = std::make_shared<const std::string>(std::move(bytes));
  auto promise = std::make_shared<std::promise<std::string>>();
  connection.write(kept->data(), kept->size(),
                   [promise, kept](const Error& error) {
                     promise->set_value(TextOf(error));
                   });
  return promise->get_future();
}

inline std::future<std::string> Write(
    Connection& connection, const tensorpipe::AbstractNopHolder& object) {
  auto promise = std::make_shared<std::promise<std::string>>();
  connection.write(object, [promise](const Error& error) {
    promise->set_value(TextOf(error));
  });
  return promise->get_future();
}

// Sends an empty frame from no memory, and expects that it is read to none.
inline void PassNothing(Connection& from, Connection& to) {
  std::promise<std::string> written;
  from.write(nullptr, 0,
             [&](const Error& error) { written.set_value(TextOf(error)); });
  std::promise<const void*> read;
  to.read(nullptr, 0, [&](const Error& error, const void* bytes, size_t size) {
    EXPECT_EQ(TextOf(error), "");
    EXPECT_EQ(size, 0u);
    read.set_value(bytes);
  });
  EXPECT_EQ(read.get_future().get(), nullptr);
  EXPECT_EQ(written.get_future().get(), "");
}

}  // namespace reprise::testing

#endif  // REPRISE_TESTS_UNIT_TRANSPORT_CONNECTIONS_H_
