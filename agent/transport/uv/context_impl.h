// What the connections and listeners of one uv context share.

#ifndef REPRISE_AGENT_TRANSPORT_UV_CONTEXT_IMPL_H_
#define REPRISE_AGENT_TRANSPORT_UV_CONTEXT_IMPL_H_

#include <array>
#include <cstddef>
#include <memory>
#include <utility>
#include <vector>

#include "agent/transport/uv/first_frames.h"
#include "tensorpipe/transport/context_impl_boilerplate.h"
#include "tensorpipe/transport/uv/loop.h"
#include "uv.h"

namespace reprise {

class UvConnection;
class UvListener;

// Only the loop's thread may call `loop`, `scratch` and `SendSoon`, and only it
// runs the code of connections and listeners. TensorPipe's templates, from
// which the names in lower case come, hand over to it what other threads call.
class UvContextImpl final
    : public tensorpipe::transport::ContextImplBoilerplate<
          UvContextImpl, UvListener, UvConnection> {
 public:
  static std::shared_ptr<UvContextImpl> create(Callers callers);
  explicit UvContextImpl(Callers callers);

  bool inLoop() const override { return loop_.inLoop(); }
  void deferToLoop(TTask task) override { loop_.deferToLoop(std::move(task)); }

  uv_loop_t* loop() { return loop_.ptr(); }
  Callers callers() const { return callers_; }

  // A buffer for one read; the next read uses the same memory.
  uv_buf_t scratch() {
    return uv_buf_init(scratch_.data(),
                       static_cast<unsigned int>(scratch_.size()));
  }
  // Lets `connection` send after everything that has just arrived was handled,
  // so that small frames go out together.
  void SendSoon(std::shared_ptr<UvConnection> connection) {
    senders_.push_back(std::move(connection));
  }

 protected:
  void initImplFromLoop() override;
  void handleErrorImpl() override;
  void joinImpl() override { loop_.join(); }

 private:
  void Send();

  tensorpipe::transport::uv::Loop loop_;
  const Callers callers_;
  uv_check_t after_poll_;
  std::vector<std::shared_ptr<UvConnection>> senders_;
  std::array<char, size_t{64} << 10> scratch_;
};

}  // namespace reprise

#endif  // REPRISE_AGENT_TRANSPORT_UV_CONTEXT_IMPL_H_
