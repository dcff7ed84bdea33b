#include "sim/explore/result_log.h"

#include <bit>
#include <concepts>
#include <type_traits>
#include <utility>

namespace reprise {
namespace {

template <typename T>
concept Number = std::integral<T> || std::is_enum_v<T>;

class Writer {
 public:
  explicit Writer(SharedLog& log) : log_(log) {}
  void operator()(const std::string& text) { log_.Put(text); }
  template <Number T>
  void operator()(T number) {
    log_.Put(static_cast<uint64_t>(number));
  }
  void operator()(double number) { log_.Put(std::bit_cast<uint64_t>(number)); }
  template <typename T>
  void operator()(const std::vector<T>& all) {
    log_.Put(uint64_t{all.size()});
    for (const T& one : all) (*this)(one);
  }
  void operator()(const std::set<std::string>& all) {
    log_.Put(uint64_t{all.size()});
    for (const std::string& one : all) (*this)(one);
  }
  void operator()(const std::map<std::string, int64_t>& all) {
    log_.Put(uint64_t{all.size()});
    for (const auto& [key, value] : all) {
      (*this)(key);
      (*this)(value);
    }
  }

 private:
  SharedLog& log_;
};

class Reader {
 public:
  explicit Reader(SharedLog& log) : log_(log) {}
  void operator()(std::string& text) { text = log_.TakeText(); }
  template <Number T>
  void operator()(T& number) {
    number = static_cast<T>(log_.TakeNumber());
  }
  void operator()(double& number) {
    number = std::bit_cast<double>(log_.TakeNumber());
  }
  template <typename T>
  void operator()(std::vector<T>& all) {
    for (uint64_t i = log_.TakeNumber(); i > 0; --i)
      (*this)(all.emplace_back());
  }
  void operator()(std::set<std::string>& all) {
    for (uint64_t i = log_.TakeNumber(); i > 0; --i)
      all.insert(log_.TakeText());
  }
  void operator()(std::map<std::string, int64_t>& all) {
    for (uint64_t i = log_.TakeNumber(); i > 0; --i) {
      std::string key = log_.TakeText();
      (*this)(all[std::move(key)]);
    }
  }

 private:
  SharedLog& log_;
};

// The fields of an entry, for both ways: `Fields` is an Event, a Decision or a
// RunResult, const for a Writer.
template <typename Archive, typename Fields>
requires std::same_as<std::remove_const_t<Fields>, Event>
void Visit(Archive archive, Fields& event) {
  archive(event.time_ns);
  archive(event.node);
  archive(event.kind);
  archive(event.id);
  archive(event.a);
  archive(event.b);
  archive(event.c);
  archive(event.text);
}

template <typename Archive, typename Fields>
requires std::same_as<std::remove_const_t<Fields>, Decision>
void Visit(Archive archive, Fields& decision) {
  archive(decision.site);
  archive(decision.count);
  archive(decision.kind);
  archive(decision.value);
  archive(decision.text);
}

// All but the events and decisions.
template <typename Archive, typename Fields>
requires std::same_as<std::remove_const_t<Fields>, RunResult>
void Visit(Archive archive, Fields& result) {
  archive(result.rule);
  archive(result.detail);
  archive(result.hash);
  archive(result.num_events);
  archive(result.num_decisions);
  archive(result.num_points);
  archive(result.sim_seconds);
  archive(result.wall_seconds);
  archive(result.faults);
  archive(result.topology);
  archive(result.injections);
  archive(result.never_struck);
  archive(result.probes);
  archive(result.waiting);
  archive(result.stacks);
  archive(result.first_mismatch);
  archive(result.scratch_directory);
}

}  // namespace

bool WriteEvent(SharedLog& log, const Event& event) {
  log.Begin(kEventEntry);
  Visit(Writer(log), event);
  return log.Commit();
}

Event ReadEvent(SharedLog& log) {
  Event event;
  Visit(Reader(log), event);
  return event;
}

bool WriteDecision(SharedLog& log, const Decision& decision) {
  log.Begin(kDecisionEntry);
  Visit(Writer(log), decision);
  return log.Commit();
}

Decision ReadDecision(SharedLog& log) {
  Decision decision;
  Visit(Reader(log), decision);
  return decision;
}

bool WritePlan(SharedLog& log, const std::vector<std::string>& faults) {
  log.Begin(kPlanEntry);
  Writer{log}(faults);
  return log.Commit();
}

std::vector<std::string> ReadPlan(SharedLog& log) {
  std::vector<std::string> faults;
  Reader{log}(faults);
  return faults;
}

bool WriteResult(SharedLog& log, uint64_t tag, const RunResult& result) {
  log.Begin(kResultEntry);
  log.Put(tag);
  Visit(Writer(log), result);
  return log.Commit();
}

RunResult ReadResult(SharedLog& log, uint64_t& tag) {
  RunResult result;
  tag = log.TakeNumber();
  Visit(Reader(log), result);
  return result;
}

bool WriteError(SharedLog& log, const absl::Status& status) {
  log.Begin(kErrorEntry);
  log.Put(static_cast<uint64_t>(status.code()));
  log.Put(std::string(status.message()));
  return log.Commit();
}

absl::Status ReadError(SharedLog& log) {
  const auto code = static_cast<absl::StatusCode>(log.TakeNumber());
  return absl::Status(code, log.TakeText());
}

void RunRecorder::Attach(World& world) {
  world_ = &world;
  events_ = 0;
  decisions_ = 0;
  world.trace().AddListener([this](const Event&) { Sync(); });
}

void RunRecorder::Sync() {
  if (world_ == nullptr) return;
  const std::vector<Event>& events = world_->trace().events();
  for (; events_ < events.size(); ++events_) {
    is_whole_ = WriteEvent(log_, events[events_]) && is_whole_;
  }
  const std::vector<Decision>& decisions = world_->decisions().kept();
  for (; decisions_ < decisions.size(); ++decisions_) {
    is_whole_ = WriteDecision(log_, decisions[decisions_]) && is_whole_;
  }
}

}  // namespace reprise
