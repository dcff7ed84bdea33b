#include "agent/store/c10d_file_log.h"

#include <cstdint>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "agent/store/file_store.h"

namespace reprise {
namespace {

void AppendText(std::string& record, std::string_view prefix,
                std::string_view text) {
  const auto size = static_cast<uint32_t>(prefix.size() + text.size());
  record.append(reinterpret_cast<const char*>(&size), sizeof(size));
  record += prefix;
  record += text;
}

// Takes a text from the front of `records`. Returns what is wrong, or "".
std::string_view TakeText(std::string_view& records, std::string_view& text) {
  uint32_t size;
  if (records.size() < sizeof(size)) return "a record is cut off";
  std::memcpy(&size, records.data(), sizeof(size));
  // What is no such file seldom has a small number there.
  if (size > kMaxFileStoreValueBytes + 64) return "there is no record";
  records.remove_prefix(sizeof(size));
  if (records.size() < size) return "a record is cut off";
  text = records.substr(0, size);
  records.remove_prefix(size);
  return "";
}

}  // namespace

std::string C10dFileRecord(std::string_view prefix, std::string_view key,
                           std::string_view value) {
  std::string record;
  record.reserve(2 * sizeof(uint32_t) + prefix.size() + key.size() +
                 value.size());
  AppendText(record, prefix, key);
  AppendText(record, "", value);
  return record;
}

absl::Status C10dFileLog::Read(std::string_view records) {
  while (!records.empty()) {
    const size_t before = records.size();
    std::string_view key;
    std::string_view value;
    std::string_view problem = TakeText(records, key);
    if (problem.empty()) problem = TakeText(records, value);
    if (!problem.empty()) {
      return absl::FailedPreconditionError(
          absl::StrCat(std::string(problem), " at byte ", num_bytes_));
    }
    num_bytes_ += before - records.size();
    if (key.starts_with(kC10dKeyPrefix)) {
      values_.insert_or_assign(std::string(key), std::string(value));
    } else if (key.starts_with(kC10dDeletedPrefix)) {
      const auto deleted = values_.find(key.substr(1));
      if (deleted != values_.end()) values_.erase(deleted);
    }
  }
  return absl::OkStatus();
}

std::optional<std::string> C10dFileLog::Find(std::string_view key) const {
  const auto found =
      values_.find(absl::StrCat(std::string(kC10dKeyPrefix), std::string(key)));
  if (found == values_.end()) return std::nullopt;
  return found->second;
}

}  // namespace reprise
