#include "agent/store/etcd_client.h"

#include <curl/curl.h>

#include <algorithm>
#include <cstdint>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "agent/store/server_store.h"

namespace reprise {
namespace {

// A value in base64, and what etcd says beside it.
constexpr size_t kMaxAnswerBytes =
    kMaxServerStoreValueBytes / 3 * 4 + (size_t{4} << 20);
constexpr size_t kMaxPrintedBytes = 200;

// The codes of gRPC (google.golang.org/grpc/codes), by which etcd refuses.
constexpr int kInvalidArgument = 3;
constexpr int kPermissionDenied = 7;
constexpr int kResourceExhausted = 8;
constexpr int kFailedPrecondition = 9;
constexpr int kOutOfRange = 11;
constexpr int kUnauthenticated = 16;

std::string Printable(std::string_view text) {
  return absl::CHexEscape(std::string(text.substr(0, kMaxPrintedBytes)));
}

// libcurl's callback: appends to the std::string `user`. What is too long ends
// the request.
size_t Append(char* data, size_t size, size_t count, void* user) {
  auto& text = *static_cast<std::string*>(user);
  if (text.size() + size * count > kMaxAnswerBytes) return 0;
  text.append(data, size * count);
  return size * count;
}

// In libcurl's milliseconds, of which 0 would be no limit.
// NOLINTNEXTLINE(google-runtime-int): the type of libcurl
long Milliseconds(absl::Duration duration) {
  constexpr int64_t kMax = 1'000'000'000;
  return std::clamp<int64_t>(
      absl::ToInt64Milliseconds(absl::Ceil(duration, absl::Milliseconds(1))), 1,
      kMax);
}

void StartLibrary() {
  static const CURLcode started = curl_global_init(CURL_GLOBAL_DEFAULT);
  static_cast<void>(started);  // without it there are no handles either
}

// Whether the server has certainly not been asked.
bool IsBeforeSending(CURL* handle, CURLcode code) {
  switch (code) {
    case CURLE_COULDNT_CONNECT:
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_FAILED_INIT:
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
      return true;
    case CURLE_OPERATION_TIMEDOUT: {
      curl_off_t until_connected = 0;
      curl_easy_getinfo(handle, CURLINFO_CONNECT_TIME_T, &until_connected);
      return until_connected == 0;
    }
    default:
      return false;
  }
}

}  // namespace

void EtcdClient::FreeHandle::operator()(void* handle) const {
  curl_easy_cleanup(handle);
}

EtcdClient::EtcdClient(void* handle) : handle_(handle) {}

EtcdClient::~EtcdClient() = default;

absl::StatusOr<std::unique_ptr<EtcdClient>> EtcdClient::Make() {
  StartLibrary();
  CURL* const handle = curl_easy_init();
  if (handle == nullptr) {
    return absl::ResourceExhaustedError("etcd store: no memory for libcurl");
  }
  return std::unique_ptr<EtcdClient>(new EtcdClient(handle));
}

EtcdClient::Answer EtcdClient::Post(const Request& request) {
  CURL* const handle = handle_.get();
  std::string body;
  curl_easy_reset(handle);  // which keeps the connections
  curl_slist* const headers = [] {
    curl_slist* list =
        curl_slist_append(nullptr, "Content-Type: application/json");
    // Otherwise libcurl asks before it sends a long body.
    return curl_slist_append(list, "Expect:");
  }();
  curl_easy_setopt(handle, CURLOPT_URL, request.url.c_str());
  curl_easy_setopt(handle, CURLOPT_PROTOCOLS_STR, "http");
  // Neither a proxy of the environment nor signals are the store's.
  curl_easy_setopt(handle, CURLOPT_NOPROXY, "*");
  curl_easy_setopt(handle, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(handle, CURLOPT_HTTPHEADER, headers);
  curl_easy_setopt(handle, CURLOPT_POSTFIELDS, request.body.data());
  curl_easy_setopt(handle, CURLOPT_POSTFIELDSIZE_LARGE,
                   static_cast<curl_off_t>(request.body.size()));
  curl_easy_setopt(handle, CURLOPT_WRITEFUNCTION, Append);
  curl_easy_setopt(handle, CURLOPT_WRITEDATA, &body);
  curl_easy_setopt(handle, CURLOPT_CONNECTTIMEOUT_MS,
                   Milliseconds(request.connect_timeout));
  curl_easy_setopt(handle, CURLOPT_TIMEOUT_MS, Milliseconds(request.timeout));
  curl_easy_setopt(handle, CURLOPT_FRESH_CONNECT, request.once ? 1L : 0L);
  const CURLcode code = curl_easy_perform(handle);
  curl_slist_free_all(headers);

  Answer answer;
  if (code != CURLE_OK) {
    answer.may_have_effect = !IsBeforeSending(handle, code);
    answer.timed_out = code == CURLE_OPERATION_TIMEDOUT;
    const std::string text = absl::StrCat("etcd store: ", request.url, ": ",
                                          curl_easy_strerror(code));
    answer.status = code == CURLE_WRITE_ERROR
                        ? absl::InvalidArgumentError(
                              absl::StrCat("etcd store: a value of more than ",
                                           kMaxServerStoreValueBytes, " bytes"))
                        : absl::UnavailableError(text);
    return answer;
  }
  long http_code = 0;  // NOLINT(google-runtime-int): the type of libcurl
  curl_easy_getinfo(handle, CURLINFO_RESPONSE_CODE, &http_code);
  if (http_code != 200) {
    answer.status = EtcdError(http_code, body);
    answer.may_have_effect = true;
    return answer;
  }
  // Without exceptions, what is not JSON is "discarded".
  answer.json =
      nlohmann::json::parse(body, nullptr, /*allow_exceptions=*/false);
  if (!answer.json.is_object()) {
    answer.status =
        absl::UnavailableError(absl::StrCat("etcd store: ", request.url,
                                            " does not speak as etcd's "
                                            "gateway does: ",
                                            Printable(body)));
    answer.may_have_effect = true;
  }
  return answer;
}

absl::Status EtcdError(long http_code,  // NOLINT(google-runtime-int)
                       std::string_view body) {
  const auto json = nlohmann::json::parse(body, nullptr,
                                          /*allow_exceptions=*/false);
  if (!json.is_object() || !json.contains("error") ||
      !json["error"].is_string() || !json.contains("code") ||
      !json["code"].is_number_integer()) {
    return absl::UnavailableError(
        absl::StrCat("etcd store: the server answers with HTTP's ", http_code,
                     ": ", Printable(body)));
  }
  const std::string text =
      absl::StrCat("etcd store: the server says: ",
                   Printable(json["error"].get<std::string>()));
  // gRPC's own limit has another code than etcd's.
  if (absl::StrContains(text, "message larger than max")) {
    return absl::InvalidArgumentError(text);
  }
  switch (json["code"].get<int>()) {
    case kInvalidArgument:
    case kOutOfRange:
      return absl::InvalidArgumentError(text);
    case kPermissionDenied:
      return absl::PermissionDeniedError(text);
    case kResourceExhausted:
      return absl::ResourceExhaustedError(text);
    case kFailedPrecondition:
      return absl::FailedPreconditionError(text);
    case kUnauthenticated:
      return absl::UnauthenticatedError(text);
    default:
      // It has no leader, has changed it, is overloaded, or has given up the
      // request.
      return absl::UnavailableError(text);
  }
}

}  // namespace reprise
