// What the channels for GPUs cost between two processes on one GPU, beside
// plain copies of the same run.
//
//   gpu_bench [--only=cuda_ipc] [--json[=FILE]] [--fake]
//
//   round trip  a tensor goes to the other process and back; each end waits for
//               its stream before it goes on
//   there+back  the bytes of such a round trip by its time
//   one way     tensors one after another, at most eight on their way, each
//               acknowledged when the receiver's stream is done
//   plain copy  of as many bytes, and a wait for the stream: on the GPU, or for
//               channels by way of the host between it and the GPU
//
// The goals are those for one H200. Medians.

#include <algorithm>
#include <cstdio>
#include <deque>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "agent/runtime/runtime.h"
#include "nlohmann/json.hpp"
#include "tests/gpu/bench_goals.h"
#include "tests/gpu/child.h"
#include "tests/gpu/flags.h"
#include "tests/gpu/gpu.h"
#include "tests/gpu/pipe_end.h"
#include "tests/gpu/results.h"

namespace reprise::gpu {
namespace {

constexpr size_t kSizes[] = {64, size_t{64} << 10, size_t{1} << 20,
                             size_t{64} << 20, size_t{256} << 20};
constexpr int kInFlight = 8;

int RepetitionsOf(size_t num_bytes) {
  if (num_bytes <= size_t{64} << 10) return 200;
  if (num_bytes <= size_t{1} << 20) return 100;
  return num_bytes <= size_t{64} << 20 ? 16 : 8;
}

int64_t NowNs() { return absl::ToUnixNanos(RealRuntime().Now()); }

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values.empty() ? 0 : values[values.size() / 2];
}

double GbPerSecond(size_t num_bytes, double us) {
  return us > 0 ? static_cast<double>(num_bytes) / us / 1e3 : 0;
}

// --- Plain copies ---

struct PlainCopies {
  double on_gpu_us = 0;
  double to_host_us = 0;
  double from_host_us = 0;
};

absl::StatusOr<double> TimeOf(Gpu& gpu, void* to, const void* from,
                              size_t num_bytes) {
  const GpuStream stream = gpu.NewStream();
  std::vector<double> times;
  for (int i = 0; i < RepetitionsOf(num_bytes); ++i) {
    const int64_t start = NowNs();
    absl::Status status = gpu.driver().Copy(to, from, num_bytes, stream);
    if (status.ok()) status = gpu.driver().Synchronize(stream);
    if (!status.ok()) return status;
    times.push_back(static_cast<double>(NowNs() - start) / 1e3);
  }
  return Median(std::move(times));
}

absl::StatusOr<PlainCopies> MeasurePlainCopies(Gpu& gpu, size_t num_bytes) {
  auto from = gpu.Make(num_bytes, 1);
  auto to = gpu.Make(num_bytes, 2);
  auto host = gpu.devices().gpu_memory()->AllocatePinned(num_bytes);
  if (!from.ok()) return from.status();
  if (!to.ok()) return to.status();
  if (!host.ok()) return host.status();
  PlainCopies copies;
  const auto measure = [&](double& us, Storage& target, Storage& source) {
    auto time = TimeOf(gpu, target.data(), source.data(), num_bytes);
    if (time.ok()) us = *time;
    return time.status();
  };
  absl::Status status = measure(copies.on_gpu_us, **to, **from);
  status.Update(measure(copies.to_host_us, **host, **from));
  status.Update(measure(copies.from_host_us, **to, **host));
  if (!status.ok()) return status;
  return copies;
}

// --- The other process ---

// "back": the tensor goes back when it is there. "ack", and "last" for the last
// of several: an empty message does.
absl::Status Answer(Gpu& gpu, PipeEnd& end, PipeMessage message) {
  const GpuStream stream = message.streams.On(FirstGpu().index);
  absl::Status status = gpu.driver().Synchronize(stream);
  if (!status.ok()) return status;
  if (message.text != "back") message.tensors.clear();
  return end.Write(std::move(message))->Wait();
}

int ServeMain(Gpu& gpu, const Way& way, size_t largest) {
  DieWithParent();
  auto context = PipeContext::Make(way, gpu.devices());
  auto buffer = gpu.Make(largest, 3);
  if (!context.ok() || !buffer.ok()) return kFailed;
  std::printf("url %s\n", (*context)->Listen().c_str());
  std::fflush(stdout);
  auto pipe = (*context)->Accept();
  if (!pipe.ok()) return kFailed;
  PipeEnd end(gpu.devices(), *std::move(pipe));
  std::deque<std::shared_ptr<PipeEnd::Arriving>> arriving;
  while (true) {
    auto begun = end.BeginRead(*buffer);
    if (!begun.ok() || (*begun)->message.text == "bye") return kPassed;
    // The next ones begin before this one is waited for.
    const size_t may_wait =
        (*begun)->message.text == "ack" ? kInFlight / 2 - 1 : 0;
    arriving.push_back(*std::move(begun));
    while (arriving.size() > may_wait) {
      PipeEnd::Arriving& first = *arriving.front();
      absl::Status status = first.read.Wait();
      if (status.ok()) status = Answer(gpu, end, std::move(first.message));
      if (!status.ok()) return kFailed;
      arriving.pop_front();
    }
  }
}

// --- This process ---

struct Measured {
  double round_trip_us = 0;
  double one_way_us = 0;  // of one tensor
};

class Bench {
 public:
  static absl::StatusOr<std::unique_ptr<Bench>> Start(Gpu& gpu, const Way& way,
                                                      size_t largest) {
    auto context = PipeContext::Make(way, gpu.devices());
    if (!context.ok()) return context.status();
    std::vector<std::string> arguments = {
        "--serve", absl::StrCat("--only=", way.channel),
        absl::StrCat("--transport=", way.transport)};
    if (way.is_remote) arguments.push_back("--remote");
    if (gpu.is_fake()) arguments.push_back("--fake");
    auto child = Child::Start(std::move(arguments));
    if (!child.ok()) return child.status();
    const auto line = (*child)->ReadLine(absl::Minutes(1));
    if (!line.ok()) return line.status();
    auto from = gpu.Make(largest, 4);
    auto to = gpu.Make(largest, 5);
    if (!from.ok()) return from.status();
    if (!to.ok()) return to.status();
    auto pipe =
        (*context)->Connect(line->substr(std::min<size_t>(4, line->size())));
    return std::unique_ptr<Bench>(new Bench(gpu, *std::move(context),
                                            *std::move(child), std::move(pipe),
                                            *std::move(from), *std::move(to)));
  }
  ~Bench() { end_.Write({"bye", {}, {}})->Wait().IgnoreError(); }

  absl::StatusOr<Measured> Measure(size_t num_bytes) {
    Measured measured;
    const int repetitions = RepetitionsOf(num_bytes);
    std::vector<double> times;
    for (int i = -2; i < repetitions; ++i) {
      const int64_t start = NowNs();
      absl::Status status = RoundTrip(num_bytes);
      if (!status.ok()) return status;
      if (i >= 0) times.push_back(static_cast<double>(NowNs() - start) / 1e3);
    }
    measured.round_trip_us = Median(times);
    // What came back is what was sent, or it would be no measure.
    absl::Status status = gpu_.Compare(*to_, 0, num_bytes, 4, stream_);
    if (!status.ok()) return status;
    times.clear();
    for (int i = -1; i < 5; ++i) {
      const int64_t start = NowNs();
      status = OneWay(num_bytes, repetitions);
      if (!status.ok()) return status;
      if (i < 0) continue;
      times.push_back(static_cast<double>(NowNs() - start) / 1e3 / repetitions);
    }
    measured.one_way_us = Median(times);
    return measured;
  }

 private:
  Bench(Gpu& gpu, std::unique_ptr<PipeContext> context,
        std::unique_ptr<Child> child, std::shared_ptr<tensorpipe::Pipe> pipe,
        std::shared_ptr<Storage> from, std::shared_ptr<Storage> to)
      : gpu_(gpu),
        child_(std::move(child)),
        context_(std::move(context)),
        end_(gpu.devices(), std::move(pipe)),
        from_(std::move(from)),
        to_(std::move(to)),
        stream_(gpu.NewStream()) {}

  absl::Status RoundTrip(size_t num_bytes) {
    const auto written =
        end_.Write({"back", {{from_, 0, num_bytes}}, Only(stream_)});
    absl::StatusOr<PipeMessage> reply = end_.Read(to_);
    if (!reply.ok()) return reply.status();
    absl::Status status =
        gpu_.driver().Synchronize(reply->streams.On(FirstGpu().index));
    return status.ok() ? written->Wait() : status;
  }

  absl::Status OneWay(size_t num_bytes, int count) {
    std::vector<std::shared_ptr<Pending>> written;
    for (int done = 0; done < count; ++done) {
      while (static_cast<int>(written.size()) <
             std::min(count, done + kInFlight)) {
        const bool is_last = static_cast<int>(written.size()) == count - 1;
        written.push_back(end_.Write({is_last ? "last" : "ack",
                                      {{from_, 0, num_bytes}},
                                      Only(stream_)}));
      }
      absl::Status status = end_.Read().status();
      if (status.ok()) status = written[done]->Wait();
      if (!status.ok()) return status;
    }
    return absl::OkStatus();
  }

  Gpu& gpu_;
  const std::unique_ptr<Child> child_;
  const std::unique_ptr<PipeContext> context_;
  PipeEnd end_;
  const std::shared_ptr<Storage> from_;
  const std::shared_ptr<Storage> to_;
  const GpuStream stream_;
};

constexpr char kColumns[] = "%-34s %9s %12s %11s %10s %12s %7s  %s\n";

nlohmann::json Report(const Way& way, size_t num_bytes,
                      const Measured& measured, const PlainCopies& copies,
                      bool as_text) {
  const bool is_on_gpu =
      way.channel == "cuda_direct" || way.channel == "cuda_ipc";
  Sample sample;
  sample.way = way;
  sample.num_bytes = num_bytes;
  sample.round_trip_us = measured.round_trip_us;
  sample.there_and_back = GbPerSecond(2 * num_bytes, measured.round_trip_us);
  sample.one_way = GbPerSecond(num_bytes, measured.one_way_us);
  sample.plain_copy = GbPerSecond(
      num_bytes, is_on_gpu ? copies.on_gpu_us
                           : std::max(copies.to_host_us, copies.from_host_us));
  const Verdict verdict = JudgeGoal(sample);
  const double ratio =
      sample.plain_copy > 0 ? sample.one_way / sample.plain_copy : 0;
  if (as_text) {
    absl::PrintF(kColumns, way.ToString(), absl::StrCat(num_bytes),
                 absl::StrFormat("%.1f", sample.round_trip_us),
                 absl::StrFormat("%.2f", sample.there_and_back),
                 absl::StrFormat("%.2f", sample.one_way),
                 absl::StrFormat("%.2f", sample.plain_copy),
                 absl::StrFormat("%.2f", ratio), verdict.text);
    std::fflush(stdout);
  }
  nlohmann::json json = {{"channel", way.channel},
                         {"transport", way.transport},
                         {"without_shared_memory", way.is_remote},
                         {"bytes", num_bytes},
                         {"round_trip_us", sample.round_trip_us},
                         {"there_and_back_gb_s", sample.there_and_back},
                         {"one_way_gb_s", sample.one_way},
                         {"plain_copy_gb_s", sample.plain_copy},
                         {"one_way_by_plain_copy", ratio}};
  if (verdict.has_goal) {
    json["goal"] = verdict.text;
    json["goal_met"] = verdict.is_met;
  }
  return json;
}

int Main(int argc, char** argv) {
  const Flags flags(
      argc, argv,
      {"--only", "--json", "--fake", "--serve", "--transport", "--remote"});
  if (!flags.is_valid()) return kWrongUsage;
  auto gpu = Gpu::Find(flags.Has("--fake"));
  if (!gpu.ok()) return SkipAll(std::string(gpu.status().message()));
  const size_t largest = std::min(kSizes[4], (*gpu)->LargestTensor());
  const std::string only = flags.Get("--only");
  if (flags.Has("--serve")) {
    return ServeMain(**gpu,
                     {only, flags.Get("--transport"), flags.Has("--remote")},
                     largest);
  }
  // With a file for it, there is a table, too.
  const std::string json_file = flags.Get("--json");
  const bool as_text = !flags.Has("--json") || !json_file.empty();
  nlohmann::json json = {{"gpu", (*gpu)->driver().properties(0).name},
                         {"rows", nlohmann::json::array()},
                         {"skipped", nlohmann::json::array()}};
  std::vector<std::pair<size_t, PlainCopies>> sizes;
  for (const size_t num_bytes : kSizes) {
    if (num_bytes > largest) break;
    auto copies = MeasurePlainCopies(**gpu, num_bytes);
    if (!copies.ok()) {
      std::fprintf(stderr, "plain copies: %s\n",
                   copies.status().ToString().c_str());
      return kFailed;
    }
    sizes.emplace_back(num_bytes, *copies);
  }
  if (as_text) {
    absl::PrintF(kColumns, "channel", "bytes", "round trip", "there+back",
                 "one way", "plain copy", "ratio", "goal");
    absl::PrintF(kColumns, "", "", "us", "GB/s", "GB/s", "GB/s", "", "");
  }
  int exit_code = kPassed;
  for (const Way& way : {Way{"cuda_direct", "shm"}, Way{"cuda_direct", "uv"},
                         Way{"cuda_ipc", "shm"}, Way{"cuda_ipc", "uv"},
                         Way{"cuda_host", "shm"}, Way{"cuda_host", "uv", true},
                         Way{"cuda_basic", "shm"}, Way{"cuda_basic", "uv"}}) {
    if (!only.empty() && only != way.channel) continue;
    auto bench = Bench::Start(**gpu, way, largest);
    absl::Status status = bench.status();
    for (size_t i = 0; i < sizes.size() && status.ok(); ++i) {
      auto measured = (*bench)->Measure(sizes[i].first);
      status = measured.status();
      if (!status.ok()) break;
      json["rows"].push_back(
          Report(way, sizes[i].first, *measured, sizes[i].second, as_text));
    }
    if (status.ok()) continue;
    const std::string why(status.message());
    json["skipped"].push_back(
        {{"channel", way.channel}, {"transport", way.transport}, {"why", why}});
    if (as_text) absl::PrintF("%-34s %s\n", way.ToString(), why);
    if (bench.ok()) exit_code = kFailed;
  }
  if (!as_text) std::printf("%s\n", json.dump(2).c_str());
  if (!json_file.empty()) {
    std::ofstream file(json_file);
    file << json.dump(2) << '\n';
    if (!file.good()) {
      std::fprintf(stderr, "cannot write %s\n", json_file.c_str());
      return kFailed;
    }
  }
  return exit_code;
}

}  // namespace
}  // namespace reprise::gpu

int main(int argc, char** argv) { return reprise::gpu::Main(argc, argv); }
