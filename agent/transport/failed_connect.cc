#include "agent/transport/failed_connect.h"

#include "agent/transport/real_uv.h"

namespace reprise {

struct FailedConnect::Timer {
  uv_timer_t timer;
  FailedConnect* owner;
  int error;

  void Close() {
    RealUv().close(
        reinterpret_cast<uv_handle_t*>(&timer),
        [](uv_handle_t* done) { delete static_cast<Timer*>(done->data); });
  }
};

FailedConnect::FailedConnect(uv_connect_t* request, uv_tcp_t* handle,
                             uv_connect_cb callback, int error)
    : request_(request), callback_(callback), timer_(new Timer) {
  request->handle = reinterpret_cast<uv_stream_t*>(handle);
  timer_->owner = this;
  timer_->error = error;
  uv_timer_init(handle->loop, &timer_->timer);
  timer_->timer.data = timer_;
  uv_timer_start(
      &timer_->timer,
      [](uv_timer_t* timer) {
        auto* const gone_off = static_cast<Timer*>(timer->data);
        gone_off->owner->timer_ = nullptr;
        gone_off->Close();
        gone_off->owner->Fail(gone_off->error);
      },
      0, 0);
}

void FailedConnect::Fail(int error) {
  if (callback_ != nullptr) std::exchange(callback_, nullptr)(request_, error);
}

void FailedConnect::Write(uv_write_t* request, uv_stream_t* stream,
                          uv_write_cb callback) {
  request->handle = stream;
  writes_.emplace_back(request, callback);
}

void FailedConnect::Close(uv_handle_t* handle, uv_close_cb callback,
                          uv_close_cb closed) {
  if (timer_ != nullptr) std::exchange(timer_, nullptr)->Close();
  close_callback_ = callback;
  RealUv().close(handle, closed);
}

void FailedConnect::OnClosed(uv_handle_t* handle) {
  Fail(UV_ECANCELED);
  for (const auto& [request, callback] : std::exchange(writes_, {})) {
    if (callback != nullptr) callback(request, UV_ECANCELED);
  }
  if (close_callback_ != nullptr) close_callback_(handle);
}

}  // namespace reprise
