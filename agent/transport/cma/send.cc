// The sending half of the channel cma (channel.h).

#include <algorithm>
#include <cstring>
#include <utility>

#include "agent/planted.h"
#include "agent/transport/cma/channel.h"
#include "agent/transport/cma/copier.h"
#include "agent/transport/cma/error.h"
#include "tensorpipe/common/cpu_buffer.h"
#include "tensorpipe/common/nop.h"

namespace reprise {

using tensorpipe::Error;

void CmaChannel::sendImplFromLoop(uint64_t /*number*/,
                                  tensorpipe::Buffer buffer, size_t length,
                                  tensorpipe::channel::TSendCallback done) {
  if (length == 0) return done(Error::kSuccess);
  auto send = std::make_shared<Send>();
  send->bytes =
      static_cast<const char*>(buffer.unwrap<tensorpipe::CpuBuffer>().ptr);
  send->length = length;
  send->done = std::move(done);
  waiting_.push_back(std::move(send));
  OfferWhatCanBe();
}

void CmaChannel::OfferWhatCanBe() {
  if (is_own()) {
    while (peer_secret_.has_value() && !waiting_.empty() && !error_) {
      if (!OfferOwn(*waiting_.front())) return;
      offered_.push_back(std::move(waiting_.front()));
      waiting_.pop_front();
    }
    return;
  }
  while (!waiting_.empty() && !error_ &&
         waiting_.front()->staging.data() != nullptr &&
         !waiting_.front()->is_staging) {
    OfferStaged(*waiting_.front());
    offered_.push_back(std::move(waiting_.front()));
    waiting_.pop_front();
  }
  for (const auto& send : waiting_) {
    if (send->staging.data() != nullptr) continue;
    const bool has_room =
        staged_bytes_ == 0 || staged_bytes_ + send->length <= kMaxStagedBytes;
    if (!has_room || !Stage(send)) return;
  }
}

bool CmaChannel::OfferOwn(Send& send) {
  uint64_t value = *peer_secret_ + ++num_offered_;
  // 0 means that nothing is offered.
  if (value == 0) value = 1;
  send.word = ValidityWord::Make(value);
  if (send.word.address() == 0) {
    setError(CmaErrorOf("no memory"));
    return false;
  }
  const auto descriptor = std::make_shared<const OwnDescriptor>(OwnDescriptor{
      static_cast<uint64_t>(context_->memory().OwnPid()),
      reinterpret_cast<uint64_t>(send.bytes), send.word.address()});
  descriptors_->write(descriptor.get(), sizeof(*descriptor),
                      callbackWrapper_([descriptor](CmaChannel&) {}));
  completions_->read(nullptr, 0,
                     callbackWrapper_([](CmaChannel& channel, const void*,
                                         size_t) { channel.OnCompletion(); }));
  return true;
}

bool CmaChannel::Stage(const std::shared_ptr<Send>& send) {
  send->staging = Staging::Make(send->length);
  if (send->staging.data() == nullptr) {
    setError(CmaErrorOf("no memory to copy a tensor to for its receiver"));
    return false;
  }
  staged_bytes_ += send->length;
  send->is_staging = true;
  std::function<void(const Error&)> done = callbackWrapper_(
      [send](CmaChannel& channel) { channel.OnStaged(*send); });
  const bool runs = context_->copier().Run([send, stop = stop_, done]() {
    const size_t size =
        *stop ? 0 : std::min(send->length - send->staged, Copier::kPieceBytes);
    std::memcpy(send->staging.data() + send->staged, send->bytes + send->staged,
                size);
    send->staged += size;
    if (size > 0 && send->staged < send->length) return true;
    done(Error::kSuccess);
    return false;
  });
  if (runs) return true;
  send->is_staging = false;
  setError(CmaErrorOf("its context has ended"));
  return false;
}

void CmaChannel::OnStaged(Send& send) {
  send.is_staging = false;
  if (!error_) return OfferWhatCanBe();
  send.staging.Release();  // the peer was never told of it
  send.done(error_);
}

void CmaChannel::OfferStaged(const Send& send) {
  const auto descriptor =
      std::make_shared<tensorpipe::NopHolder<StockDescriptor>>();
  descriptor->getObject().pid =
      static_cast<uint32_t>(context_->memory().OwnPid());
  descriptor->getObject().ptr = reinterpret_cast<uint64_t>(
      REPRISE_PLANTED(cma_in_place) ? send.bytes : send.staging.data());
  descriptors_->write(*descriptor,
                      callbackWrapper_([descriptor](CmaChannel&) {}));
  completions_->read(nullptr, 0,
                     callbackWrapper_([](CmaChannel& channel, const void*,
                                         size_t) { channel.OnCompletion(); }));
}

void CmaChannel::OnCompletion() {
  if (error_) return;  // all sends have failed
  const std::shared_ptr<Send> send = std::move(offered_.front());
  offered_.pop_front();
  send->word.Revoke();
  if (!is_own()) {
    send->staging.Release();
    staged_bytes_ -= send->length;
  }
  send->done(Error::kSuccess);
  OfferWhatCanBe();
}

void CmaChannel::FailSends() {
  const auto offered = std::exchange(offered_, {});
  const auto waiting = std::exchange(waiting_, {});
  // All are revoked before the first callback lets its memory be reused, so no
  // peer can take any of them for good any more.
  for (const auto& send : offered) {
    send->word.Revoke();
    send->staging.Retire();
  }
  for (const auto& send : offered) send->done(error_);
  for (const auto& send : waiting) {
    // The memory of a send that is being staged is read until `OnStaged`.
    if (send->is_staging) continue;
    send->staging.Release();
    send->done(error_);
  }
}

}  // namespace reprise
