#include "tools/command/replay_verdict.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "tools/command/command.h"

namespace reprise {
namespace {

std::string Followed(const ReplayFile& replay, const RunResult& result) {
  if (replay.decisions.empty()) return "the file has no decisions";
  if (result.first_mismatch.empty()) {
    return "every recorded decision was followed";
  }
  return absl::StrFormat(
      "%d of %d recorded decisions were followed; the run left the recording "
      "at: %s",
      result.decisions.size(), replay.decisions.size(), result.first_mismatch);
}

Verdict JudgeViolated(const ReplayFile& replay, const RunResult& result,
                      bool same_build) {
  const std::string followed = Followed(replay, result);
  if (replay.rule.empty()) {
    return {kViolated, "violated",
            absl::StrCat("the rule '", result.rule,
                         "' was violated; the file names none; ", followed)};
  }
  if (result.rule != replay.rule) {
    return {kViolated, "violated",
            absl::StrCat("another rule was violated than the recorded '",
                         replay.rule, "'; ", followed)};
  }
  if (result.hash == replay.hash) {
    return {kViolated, "violated",
            "the recorded failure happened again, event for event"};
  }
  // A hang is found at any moment of its loop, in which events may happen.
  if (same_build && !replay.is_edited && replay.rule != "hang") {
    return {kNotDeterministic, "not deterministic",
            "the same build failed the same rule in another way; " + followed};
  }
  return {kViolated, "violated",
          absl::StrCat("the recorded failure happened again; ", followed)};
}

std::string Tried(const SearchResult& search) {
  return absl::StrFormat(
      "%d variants in %.1f s (%s)", search.variants, search.seconds,
      absl::StrJoin(search.tried, ", ",
                    [](std::string* out, const auto& entry) {
                      absl::StrAppend(out, entry.second, " ", entry.first);
                    }));
}

}  // namespace

Verdict JudgeReplay(const ReplayFile& replay, const RunResult& result,
                    bool same_build) {
  const bool is_as_recorded = same_build && !replay.is_edited;
  if (!result.held()) {
    if (is_as_recorded && !replay.rule.empty() && result.rule != replay.rule &&
        !replay.expects_hold) {
      return {kNotDeterministic, "not deterministic",
              absl::StrCat("the same build violated another rule than the "
                           "recorded '",
                           replay.rule, "'; ", Followed(replay, result))};
    }
    return JudgeViolated(replay, result, same_build);
  }
  const std::string followed = Followed(replay, result);
  if (replay.expects_hold) {
    return {kHeld, "held",
            absl::StrCat("everything held, as the file expects; ", followed)};
  }
  if (replay.rule.empty()) {
    return {kHeld, "held",
            absl::StrCat("everything held; the file names no rule that was "
                         "violated; ",
                         followed)};
  }
  if (is_as_recorded) {
    return {kNotDeterministic, "not deterministic",
            absl::StrCat("the same build went another way; ", followed)};
  }
  if (same_build) {
    return {kHeld, "held",
            absl::StrCat("everything held in the file as it was edited; ",
                         followed)};
  }
  return {kNotReproduced, "not reproduced",
          absl::StrCat("NOT REPRODUCED: nothing was violated, in another build "
                       "than the one that recorded the failure. The failure "
                       "may still exist: look around the recording with "
                       "--search SECONDS; ",
                       followed)};
}

Verdict JudgeSearch(const ReplayFile& replay, const SearchResult& search,
                    const std::string& path) {
  const std::string tried = Tried(search);
  const SearchFinding* const found = search.same    ? &*search.same
                                     : search.other ? &*search.other
                                                    : nullptr;
  if (found != nullptr) {
    return {kViolated, "violated",
            absl::StrCat(
                search.same ? "the recorded failure was found again"
                            : absl::StrCat("another rule was violated than the "
                                           "recorded '",
                                           replay.rule, "'"),
                " around the recording: ", found->how, "; ", tried,
                "; it is in ", path)};
  }
  if (replay.expects_hold) {
    return {
        kHeld, "held",
        absl::StrCat("everything held, as the file expects; so did ", tried)};
  }
  return {kNotReproduced, "not reproduced",
          absl::StrCat("NOT REPRODUCED: nothing was violated in the recording, "
                       "nor around it in ",
                       tried,
                       ". This is no proof that the failure is gone: explore "
                       "the scenario as well")};
}

}  // namespace reprise
