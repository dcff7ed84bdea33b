#include "tests/scenarios/board.h"

#include <algorithm>
#include <charconv>
#include <limits>
#include <string>
#include <utility>

namespace reprise::scenarios {
namespace {

constexpr absl::Duration kBeat = absl::Milliseconds(500);
// An older entry says nothing about the present.
constexpr absl::Duration kStale = absl::Milliseconds(1500);
constexpr absl::Duration kAccess = absl::Seconds(1);
constexpr int64_t kNever = std::numeric_limits<int64_t>::max();

std::string KeyOf(int rank) { return "board/" + std::to_string(rank); }

}  // namespace

Board::Board(Worker& worker)
    : worker_(worker),
      store_(worker.environment().store),
      mutex_(worker.runtime(), "Board"),
      changed_(worker.runtime(), "Board.changed") {
  reached_ns_.fill(kNever);
  reached_ns_[0] = absl::ToUnixNanos(worker.runtime().Now());
  Post();
  thread_ = worker.runtime().StartThread("board", [this] { Beat(); });
}

Board::~Board() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    changed_.NotifyAll();
  }
  thread_->Join();
  Enter(Stage::kGone);
}

void Board::Enter(Stage stage) {
  const int64_t now_ns = absl::ToUnixNanos(worker_.runtime().Now());
  {
    MutexLock lock(mutex_);
    for (size_t i = 0; i <= static_cast<size_t>(stage); ++i) {
      if (reached_ns_[i] == kNever) reached_ns_[i] = now_ns;
    }
  }
  Post();
}

void Board::Beat() {
  while (true) {
    {
      MutexLock lock(mutex_);
      const absl::Time next = worker_.In(kBeat);
      while (!stopping_ && changed_.WaitUntil(mutex_, next)) {
      }
      if (stopping_) return;
    }
    Post();
  }
}

void Board::Post() {
  std::string text = std::to_string(absl::ToUnixNanos(worker_.runtime().Now()));
  {
    MutexLock lock(mutex_);
    for (const int64_t time_ns : reached_ns_) {
      text.append(" ").append(std::to_string(time_ns));
    }
  }
  // What fails now is said again with the next beat.
  store_->Set(KeyOf(worker_.rank()), text, worker_.In(kAccess)).IgnoreError();
}

bool Board::Read(int rank, Entry& entry) {
  const absl::StatusOr<std::string> text =
      store_->TryGet(KeyOf(rank), worker_.In(kAccess));
  if (!text.ok()) return false;
  const char* at = text->data();
  const char* const end = at + text->size();
  const auto take = [&at, end](int64_t& number) {
    if (at != end && *at == ' ') ++at;
    const auto [stop, error] = std::from_chars(at, end, number);
    at = stop;
    return error == std::errc();
  };
  if (!take(entry.beat_ns)) return false;
  for (int64_t& time_ns : entry.reached_ns) {
    if (!take(time_ns)) return false;
  }
  return true;
}

bool Board::IsThere(int rank, Stage stage, absl::Time since) {
  Entry entry;
  if (!Read(rank, entry)) return false;
  const int64_t fresh_ns = absl::ToUnixNanos(worker_.runtime().Now() - kStale);
  return entry.beat_ns >= fresh_ns &&
         entry.reached_ns[static_cast<size_t>(stage)] <=
             absl::ToUnixNanos(since) &&
         entry.reached_ns[static_cast<size_t>(Stage::kGone)] == kNever;
}

bool Board::AllAreThere(Stage stage, absl::Time since) {
  for (int rank = 0; rank < worker_.world_size(); ++rank) {
    if (!IsThere(rank, stage, since)) return false;
  }
  return true;
}

absl::Time Board::AllReached(Stage stage) {
  int64_t last_ns = 0;
  for (int rank = 0; rank < worker_.world_size(); ++rank) {
    Entry entry;
    if (!Read(rank, entry)) return absl::InfiniteFuture();
    last_ns = std::max(last_ns, entry.reached_ns[static_cast<size_t>(stage)]);
  }
  return last_ns == kNever ? absl::InfiniteFuture()
                           : absl::FromUnixNanos(last_ns);
}

bool Board::IsGone(int rank) {
  Entry entry;
  return Read(rank, entry) &&
         entry.reached_ns[static_cast<size_t>(Stage::kGone)] != kNever;
}

}  // namespace reprise::scenarios
