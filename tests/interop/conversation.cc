#include "tests/interop/conversation.h"

#include <algorithm>
#include <condition_variable>
#include <cstdio>
#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string_view>
#include <utility>
#include <vector>

namespace reprise::interop {
namespace {

// Longer than anything takes on a busy machine.
constexpr double kLongTimeout = 100;
// Of calls that are not answered before they have timed out.
constexpr double kShortTimeout = 0.1;

// What a member has seen, of all its conversations.
class Totals {
 public:
  void Add(const Comparison& comparison) {
    const std::lock_guard<std::mutex> lock(mutex_);
    bytes_ += comparison.bytes;
    different_ += comparison.different;
    if (!comparison.problem.empty()) AddFailure(comparison.problem);
  }
  void AddBytes(std::string_view sent, std::string_view received) {
    Comparison comparison;
    comparison.bytes = sent.size();
    if (sent != received) {
      comparison.problem = "another payload of " +
                           std::to_string(received.size()) +
                           " bytes instead of " + std::to_string(sent.size());
    }
    Add(comparison);
  }
  void AddCall() {
    const std::lock_guard<std::mutex> lock(mutex_);
    ++calls_;
  }
  void Fail(const std::string& why) {
    const std::lock_guard<std::mutex> lock(mutex_);
    AddFailure(why);
  }
  bool Print() {
    const std::lock_guard<std::mutex> lock(mutex_);
    std::printf("calls %llu bytes %llu different %llu failures %llu\n", calls_,
                bytes_, different_, failures_);
    std::fflush(stdout);
    return failures_ == 0;
  }

 private:
  void AddFailure(const std::string& why) {
    ++failures_;
    std::fprintf(stderr, "%s\n", why.c_str());
  }

  std::mutex mutex_;
  unsigned long long calls_ = 0;
  unsigned long long bytes_ = 0;
  unsigned long long different_ = 0;
  unsigned long long failures_ = 0;
};

// The requests, by the first word of their payload:
//   same NAME      the message NAME; the reply has the message NAME/reply
//   payload NAME   and a newline and BytesOf(NAME): answered with the same
//   hold WHO ...   answered after a later "release WHO", with its payload
//   release WHO N  answered when N more of WHO's are held, all of which are let
//                  go
//   fail TEXT      answered with the error TEXT
class Server {
 public:
  explicit Server(Totals& totals) : totals_(totals) {}

  void Serve(const Arrival& request, std::function<void(Answer)> reply) {
    const std::string& text = request.payload;
    const std::string word = FirstWord(text);
    const std::string rest =
        text.substr(std::min(word.size() + 1, text.size()));
    if (word == "same") {
      totals_.Add(Compare(MakeMessage(rest), request.tensors));
      reply({"", text, MakeMessage(rest + "/reply")});
    } else if (word == "payload") {
      const size_t end = rest.find('\n');
      const std::string_view bytes =
          std::string_view(rest).substr(std::min(end + 1, rest.size()));
      totals_.AddBytes(BytesOf(rest.substr(0, end), bytes.size()), bytes);
      reply({"", text, {}});
    } else if (word == "hold") {
      const std::lock_guard<std::mutex> lock(mutex_);
      held_[FirstWord(rest)].push_back([reply, text] {
        reply({"", text, {}});
      });
      changed_.notify_all();
    } else if (word == "release") {
      const std::string who = FirstWord(rest);
      Release(who, std::stoul(rest.substr(who.size() + 1)));
      reply({"", text, {}});
    } else if (word == "fail") {
      reply({rest, "", {}});
    } else {
      totals_.Fail("a request without a meaning: " + text.substr(0, 80));
      reply({"what?", "", {}});
    }
  }

 private:
  static std::string FirstWord(const std::string& text) {
    return text.substr(0, text.find(' '));
  }

  void Release(const std::string& who, size_t count) {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [&] { return held_[who].size() >= count; });
    const std::vector<std::function<void()>> held =
        std::exchange(held_[who], {});
    lock.unlock();
    for (const auto& let_go : held) let_go();
  }

  Totals& totals_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::string, std::vector<std::function<void()>>> held_;
};

class Conversation {
 public:
  Conversation(Member& member, const MemberOptions& options,
               const std::string& peer, Totals& totals)
      : member_(member), options_(options), peer_(peer), totals_(totals) {}

  void Hold() {
    const std::string who = self() + peer_;
    for (const char* const name :
         {"dtypes", "views", "shared", "empties", "none", "many 300"}) {
      SendSame(std::string(name) + "/" + who);
    }
    for (int seed = 0; seed < 20; ++seed) {
      SendSame("random " + std::to_string(1000 * options_.id + seed));
    }
    for (size_t bytes :
         {0, 1, 1023, 65536, (1 << 20) + 1, 16 << 20, 64 << 20}) {
      if (bytes > options_.largest_bytes) break;
      SendSame("bytes " + std::to_string(bytes) + "/" + who);
    }
    for (size_t bytes : {0, 1, 70000, 3 << 20}) SendPayload(who, bytes);
    HoldMany();
    Fail();
    TimeOut();
  }

 private:
  const std::string& self() const { return options_.names[options_.id]; }

  Arrival Call(const std::string& payload, const MessageSpec& tensors = {},
               double timeout = kLongTimeout) {
    return Start(payload, tensors, timeout).get();
  }
  std::future<Arrival> Start(const std::string& payload,
                             const MessageSpec& tensors = {},
                             double timeout = kLongTimeout) {
    totals_.AddCall();
    auto promise = std::make_shared<std::promise<Arrival>>();
    member_.Call(peer_, payload, tensors, timeout, [promise](Arrival arrival) {
      promise->set_value(std::move(arrival));
    });
    return promise->get_future();
  }
  // Whether the call succeeded with this payload.
  bool Expect(const Arrival& arrival, const std::string& payload) {
    if (arrival.error.empty() && arrival.payload == payload) return true;
    totals_.Fail(payload.substr(0, 80) + " at " + peer_ + ": " +
                 (arrival.error.empty()
                      ? "answered with " + arrival.payload.substr(0, 80)
                      : arrival.error));
    return false;
  }

  void SendSame(const std::string& name) {
    const Arrival reply = Call("same " + name, MakeMessage(name));
    if (!Expect(reply, "same " + name)) return;
    totals_.Add(Compare(MakeMessage(name + "/reply"), reply.tensors));
  }

  void SendPayload(const std::string& who, size_t bytes) {
    const std::string sent = "payload " + who + "\n" + BytesOf(who, bytes);
    const Arrival reply = Call(sent);
    if (Expect(reply, sent)) totals_.AddBytes(sent, reply.payload);
  }

  void Release(int count) {
    const std::string text = "release " + self() + " " + std::to_string(count);
    Expect(Call(text), text);
  }

  // All are on their way before one of them is answered.
  void HoldMany() {
    std::vector<std::future<Arrival>> replies;
    const auto payload = [this](int i) {
      return "hold " + self() + " " + std::to_string(i);
    };
    for (int i = 0; i < options_.calls; ++i) {
      replies.push_back(
          Start(payload(i), MakeMessage(i % 8 == 0 ? "bytes 64" : "none")));
    }
    Release(options_.calls);
    for (int i = 0; i < options_.calls; ++i) {
      Expect(replies[i].get(), payload(i));
    }
  }

  void Fail() {
    const std::string text = "no such thing as " + peer_;
    const Arrival reply = Call("fail " + text);
    if (reply.error.find(text) == std::string::npos || reply.timed_out) {
      totals_.Fail("an error of " + peer_ + " came as: " + reply.error);
    }
  }

  // What comes after the timeout is dropped, and the connection works on.
  void TimeOut() {
    const Arrival reply = Call("hold " + self(), {}, kShortTimeout);
    if (!reply.timed_out) {
      totals_.Fail("no timeout of a call to " + peer_ + ": " + reply.error);
    }
    // It may have been dropped on its way, and then none is held.
    Release(0);
    SendSame("dtypes/after");
  }

  Member& member_;
  const MemberOptions& options_;
  const std::string peer_;
  Totals& totals_;
};

// Throws std::invalid_argument for what is none.
MemberOptions ParseFlags(int argc, char** argv) {
  MemberOptions options;
  for (int i = 1; i < argc; ++i) {
    const std::string flag = argv[i];
    const size_t equals = std::min(flag.find('='), flag.size());
    const std::string name = flag.substr(0, equals);
    const std::string value = flag.substr(std::min(equals + 1, flag.size()));
    if (name == "--store") {
      options.store = value;
    } else if (name == "--transport") {
      options.transport = value;
    } else if (name == "--channel") {
      options.channel = value;
    } else if (name == "--names") {
      for (size_t begin = 0; begin <= value.size();) {
        const size_t end = std::min(value.find(',', begin), value.size());
        options.names.push_back(value.substr(begin, end - begin));
        begin = end + 1;
      }
    } else if (name == "--id") {
      options.id = std::stoi(value);
    } else if (name == "--calls") {
      options.calls = std::stoi(value);
    } else if (name == "--largest") {
      options.largest_bytes = std::stoul(value);
    } else {
      throw std::invalid_argument("unknown flag " + flag);
    }
  }
  const auto members = static_cast<int>(options.names.size());
  if (options.id < 0 || options.id >= members || options.store.empty() ||
      options.transport.empty() || options.channel.empty()) {
    throw std::invalid_argument(
        "needed are --store, --transport, --channel, --names and an --id below "
        "the number of names");
  }
  return options;
}

}  // namespace

int MemberMain(int argc, char** argv, const StartMember& start) {
  Totals totals;
  // Outlives the member, whose threads use it.
  const auto server = std::make_shared<Server>(totals);
  try {
    const MemberOptions options = ParseFlags(argc, argv);
    std::printf("meets\n");
    std::fflush(stdout);
    const std::unique_ptr<Member> member = start(
        options,
        [server](const Arrival& request, std::function<void(Answer)> reply) {
          server->Serve(request, std::move(reply));
        });
    for (const std::string& peer : options.names) {
      if (peer == options.names[options.id]) continue;
      Conversation(*member, options, peer, totals).Hold();
    }
    const std::string error = member->Leave();
    if (!error.empty()) totals.Fail("the end: " + error);
  } catch (const std::exception& error) {
    totals.Fail(error.what());
  }
  return totals.Print() ? 0 : 1;
}

}  // namespace reprise::interop
