#include "tools/processes/trace_exchange.h"

#include <algorithm>
#include <cstddef>
#include <string_view>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace reprise {
namespace {

constexpr size_t kPieceBytes = size_t{256} << 10;
constexpr int64_t kMostPieces = 4096;  // 1 GiB

std::string Key(const std::string& prefix, int rank, int64_t piece) {
  return absl::StrCat(prefix, "/", rank, "/", piece);
}

std::string EndKey(const std::string& prefix, int rank) {
  return absl::StrCat(prefix, "/", rank, "/end");
}

absl::Status NoTrace(int rank, std::string_view what) {
  return absl::InvalidArgumentError(
      absl::StrCat("w", rank, " left something else than a trace of it: ",
                   absl::string_view(what.data(), what.size())));
}

absl::Status Parse(std::string_view text, int rank,
                   std::vector<Event>& events) {
  while (!text.empty()) {
    const size_t end = text.find('\n');
    const std::string_view line = text.substr(0, end);
    Event event;
    if (end == std::string_view::npos || !ParseEvent(line, event) ||
        event.node != rank) {
      return NoTrace(rank, line.substr(0, 300));
    }
    events.push_back(std::move(event));
    text.remove_prefix(end + 1);
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status SendTrace(Store& store, const std::string& prefix, int rank,
                       const WorkerTrace& trace, absl::Time deadline) {
  std::string text;
  for (const Event& event : trace.events) {
    absl::StrAppend(&text, ToString(event), "\n");
  }
  int64_t pieces = 0;
  for (size_t at = 0; at < text.size(); at += kPieceBytes, ++pieces) {
    if (pieces == kMostPieces) {
      return absl::ResourceExhaustedError(absl::StrCat(
          "a trace of ", text.size(), " bytes is too long for the store"));
    }
    if (absl::Status status =
            store.Set(Key(prefix, rank, pieces),
                      std::string_view(text).substr(at, kPieceBytes), deadline);
        !status.ok()) {
      return status;
    }
  }
  return store.Set(EndKey(prefix, rank),
                   absl::StrCat(pieces, " ", trace.error_ns), deadline);
}

absl::StatusOr<WorkerTrace> ReceiveTrace(Store& store,
                                         const std::string& prefix, int rank,
                                         absl::Time deadline) {
  const auto end = store.Get(EndKey(prefix, rank), deadline);
  if (!end.ok()) return end.status();
  WorkerTrace trace;
  int64_t pieces = 0;
  const std::vector<std::string> words = absl::StrSplit(*end, ' ');
  if (words.size() != 2 || !absl::SimpleAtoi(words[0], &pieces) ||
      !absl::SimpleAtoi(words[1], &trace.error_ns) || pieces < 0 ||
      pieces > kMostPieces || trace.error_ns < 0 ||
      trace.error_ns > int64_t{1} << 60) {
    return NoTrace(rank, end->substr(0, 300));
  }
  std::string text;
  for (int64_t piece = 0; piece < pieces; ++piece) {
    const auto part = store.TryGet(Key(prefix, rank, piece), deadline);
    if (!part.ok()) return part.status();
    if (part->size() > kPieceBytes) return NoTrace(rank, "a piece too large");
    text += *part;
  }
  for (int64_t piece = 0; piece < pieces; ++piece) {
    store.Delete(Key(prefix, rank, piece), deadline).IgnoreError();
  }
  store.Delete(EndKey(prefix, rank), deadline).IgnoreError();
  if (absl::Status status = Parse(text, rank, trace.events); !status.ok()) {
    return status;
  }
  return trace;
}

}  // namespace reprise
