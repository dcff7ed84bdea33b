#include "sim/explore/result_log.h"

#include <bit>
#include <utility>

namespace reprise {
namespace {

class Writer {
 public:
  explicit Writer(SharedLog& log) : log_(log) {}
  void operator()(const std::string& text) { log_.Put(text); }
  void operator()(uint64_t number) { log_.Put(number); }
  void operator()(int64_t number) { log_.Put(static_cast<uint64_t>(number)); }
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
  void operator()(uint64_t& number) { number = log_.TakeNumber(); }
  void operator()(int64_t& number) {
    number = static_cast<int64_t>(log_.TakeNumber());
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

// All fields but the events and decisions.
template <typename Archive, typename Result>
void Visit(Archive archive, Result& result) {
  archive(result.rule);
  archive(result.detail);
  archive(result.hash);
  archive(result.num_events);
  archive(result.num_decisions);
  archive(result.num_points);
  archive(result.sim_seconds);
  archive(result.wall_seconds);
  archive(result.faults);
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
  log.Put(static_cast<uint64_t>(event.time_ns));
  log.Put(static_cast<uint64_t>(event.node));
  log.Put(static_cast<uint64_t>(event.kind));
  log.Put(event.id);
  log.Put(static_cast<uint64_t>(event.a));
  log.Put(static_cast<uint64_t>(event.b));
  log.Put(event.c);
  log.Put(event.text);
  return log.Commit();
}

Event ReadEvent(SharedLog& log) {
  Event event;
  event.time_ns = static_cast<int64_t>(log.TakeNumber());
  event.node = static_cast<int32_t>(log.TakeNumber());
  event.kind = static_cast<EventKind>(log.TakeNumber());
  event.id = log.TakeNumber();
  event.a = static_cast<int64_t>(log.TakeNumber());
  event.b = static_cast<int64_t>(log.TakeNumber());
  event.c = log.TakeNumber();
  event.text = log.TakeText();
  return event;
}

bool WriteDecision(SharedLog& log, const Decision& decision) {
  log.Begin(kDecisionEntry);
  log.Put(decision.site);
  log.Put(decision.count);
  log.Put(static_cast<uint64_t>(decision.kind));
  log.Put(decision.value);
  log.Put(decision.text);
  return log.Commit();
}

Decision ReadDecision(SharedLog& log) {
  Decision decision;
  decision.site = log.TakeText();
  decision.count = log.TakeNumber();
  decision.kind = static_cast<DecisionKind>(log.TakeNumber());
  decision.value = log.TakeNumber();
  decision.text = log.TakeText();
  return decision;
}

bool WritePlan(SharedLog& log, const std::vector<std::string>& faults) {
  log.Begin(kPlanEntry);
  Writer writer(log);
  writer(faults);
  return log.Commit();
}

std::vector<std::string> ReadPlan(SharedLog& log) {
  std::vector<std::string> faults;
  Reader reader(log);
  reader(faults);
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
