#include "sim/explore/seed_pool.h"

#include <poll.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "sim/explore/result_log.h"
#include "sim/world/arena.h"

namespace reprise {
namespace {

constexpr int kLookMs = 100;
constexpr size_t kLogBytes = size_t{16} << 20;  // of a batch
// A process costs about as much as two runs of a small scenario.
constexpr uint64_t kMaxBatch = 400;
constexpr uint64_t kMinBatch = 10;
// So many that processes that run side by side end at about the same time.
constexpr uint64_t kBatchesOfAJob = 4;
// Results wait for those before them. Nobody runs further ahead than this.
constexpr uint64_t kMaxBatchesAhead = 4;

}  // namespace

SeedPool::SeedPool(const SimRunOptions& run, uint64_t num_seeds, SeedOf seed_of,
                   int jobs)
    : run_(run),
      num_seeds_(num_seeds),
      seed_of_(std::move(seed_of)),
      jobs_(static_cast<size_t>(std::max(1, jobs))),
      batch_size_(run.scenario->foreign_code
                      ? 1
                      : std::clamp(num_seeds / (kBatchesOfAJob * jobs_),
                                   kMinBatch, kMaxBatch)) {}

SeedPool::~SeedPool() = default;

std::optional<SeedPool::Range> SeedPool::NextRange() {
  if (!rests_.empty()) {
    const Range rest = rests_.front();
    rests_.pop_front();
    return rest;
  }
  const uint64_t limit = next_result_ + kMaxBatchesAhead * jobs_ * batch_size_;
  if (next_batch_ >= std::min(num_seeds_, limit)) return std::nullopt;
  const uint64_t begin = next_batch_;
  next_batch_ = std::min(num_seeds_, begin + batch_size_);
  return Range{begin, next_batch_};
}

absl::Status SeedPool::Step() {
  if (run_.in_process) return RunHere();
  while (batches_.size() < jobs_) {
    const std::optional<Range> range = NextRange();
    if (!range) break;
    if (absl::Status status = Start(*range); !status.ok()) return status;
  }
  std::vector<pollfd> ends;
  bool can_poll = true;
  for (const Batch& batch : batches_) {
    ends.push_back({batch.child->fd(), POLLIN, 0});
    can_poll = can_poll && batch.child->fd() >= 0;
  }
  poll(ends.data(), ends.size(), can_poll ? kLookMs : 2);
  for (size_t i = 0; i < batches_.size();) {
    Batch& batch = batches_[i];
    // Asked first: what it wrote before its end is then there.
    const bool has_ended = batch.child->HasEnded();
    if (absl::Status status = Read(batch); !status.ok()) return status;
    if (!has_ended) {
      ++i;
      continue;
    }
    if (absl::Status status = Finish(batch); !status.ok()) return status;
    batches_.erase(batches_.begin() + static_cast<std::ptrdiff_t>(i));
  }
  return absl::OkStatus();
}

absl::Status SeedPool::Start(Range range) {
  ChildOptions options;
  options.max_seconds = run_.max_wall_seconds;
  options.log_bytes = kLogBytes;
  absl::StatusOr<std::unique_ptr<ChildProcess>> child = ChildProcess::Start(
      options, [&](SharedLog& log) { RunInChild(range, log); });
  if (!child.ok()) return child.status();
  batches_.push_back({range, range.begin, *std::move(child)});
  return absl::OkStatus();
}

void SeedPool::RunInChild(Range range, SharedLog& log) const {
  SimRunOptions run = run_;
  for (uint64_t index = range.begin; index < range.end; ++index) {
    run.seed = seed_of_(index);
    BeginRun(index, nullptr);
    absl::StatusOr<RunResult> result = RunSimulated(run);
    EndRun();
    if (!result.ok()) {
      WriteError(log, result.status());
      return;
    }
    if (index + 1 == range.end && result->held() && HasLostMemory()) {
      result->rule = "leak";
      result->detail = absl::StrCat(
          "LeakSanitizer reports lost memory after "
          "the seeds from ",
          seed_of_(range.begin));
    }
    if (!WriteResult(log, index, *result) || !result->held()) return;
  }
}

absl::Status SeedPool::Read(Batch& batch) {
  while (const char type = batch.child->log().Next()) {
    if (type == kErrorEntry) return ReadError(batch.child->log());
    if (type != kResultEntry) continue;
    uint64_t index = 0;
    Add(batch, ReadResult(batch.child->log(), index));
    batch.position = index + 1;
  }
  return absl::OkStatus();
}

absl::Status SeedPool::Finish(Batch& batch) {
  if (batch.child->was_interrupted()) {
    return absl::CancelledError("a process of the exploration was ended");
  }
  if (!batch.child->ended_well() && batch.position < batch.range.end) {
    RunResult result;
    batch.child->DescribeTo(result);
    Add(batch, std::move(result));
    ++batch.position;
  }
  if (batch.position < batch.range.end) {
    rests_.push_back({batch.position, batch.range.end});
  }
  return absl::OkStatus();
}

void SeedPool::Add(const Batch& batch, RunResult result) {
  SeedResult& added = results_[batch.position];
  added.index = batch.position;
  added.seed = seed_of_(batch.position);
  added.first_seed_of_process = seed_of_(batch.range.begin);
  added.run = std::move(result);
}

absl::Status SeedPool::RunHere() {
  if (is_done()) return absl::OkStatus();
  SimRunOptions run = run_;
  run.seed = seed_of_(next_result_);
  absl::StatusOr<RunResult> result = RunSimulated(run);
  if (!result.ok()) return result.status();
  results_[next_result_] = {next_result_, run.seed, seed_of_(0),
                            *std::move(result)};
  return absl::OkStatus();
}

std::optional<SeedResult> SeedPool::Next() {
  auto it = results_.find(next_result_);
  if (it == results_.end()) return std::nullopt;
  SeedResult result = std::move(it->second);
  results_.erase(it);
  ++next_result_;
  return result;
}

}  // namespace reprise
