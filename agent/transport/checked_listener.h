// A listener of a checked transport (checked_transport.h).
//
// A connection that fails before TensorPipe's core has read its hello ends a
// listener of the core's, and with it every handshake under way. So a listener
// for the core hands a connection over once its hello has come, and a
// connection for a new pipe once there are file descriptors for the pipe
// (descriptor_room.h). The others cost what a connection costs, until their
// peers go away or too many wait: then the oldest one is dropped.

#ifndef REPRISE_AGENT_TRANSPORT_CHECKED_LISTENER_H_
#define REPRISE_AGENT_TRANSPORT_CHECKED_LISTENER_H_

#include <cstddef>
#include <memory>
#include <string>

#include "agent/transport/checked_connection.h"
#include "agent/transport/descriptor_room.h"
#include "tensorpipe/transport/listener.h"

namespace reprise {

class CheckedListener final : public tensorpipe::transport::Listener {
 public:
  // How many may wait for their hellos, and how many for descriptors: a quarter
  // and a sixteenth of the limit of open files, and at most 256 each.
  static size_t MaxUngreeted();
  static size_t MaxWithoutRoom();

  // `is_for_core`: TensorPipe's core accepts here, and no channel. `room` must
  // outlive the listener, and whoever waits there (descriptor_room.h).
  CheckedListener(std::shared_ptr<const CheckedCommon> common,
                  std::shared_ptr<tensorpipe::transport::Listener> inner,
                  bool is_for_core,
                  DescriptorRoom& room = DescriptorRoom::OfProcess());
  ~CheckedListener() override;

  void accept(accept_callback_fn done) override;
  std::string addr() const override { return inner_->addr(); }
  void setId(std::string id) override { inner_->setId(std::move(id)); }
  void close() override;

 private:
  class Greetings;

  const std::shared_ptr<const CheckedCommon> common_;
  const std::shared_ptr<tensorpipe::transport::Listener> inner_;
  std::shared_ptr<Greetings> greetings_;  // null: not for the core
};

}  // namespace reprise

#endif  // REPRISE_AGENT_TRANSPORT_CHECKED_LISTENER_H_
