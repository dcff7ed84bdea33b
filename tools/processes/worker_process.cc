#include "tools/processes/worker_process.h"

#include <errno.h>
#include <unistd.h>

#include <cstdio>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "agent/store/open_store.h"
#include "sim/trace/trace.h"
#include "tools/processes/real_worker.h"
#include "tools/processes/worker_arguments.h"
#include "tools/processes/worker_gpus.h"

namespace reprise {
namespace {

// Each event is written as it happens, so a worker that is killed has told what
// it did.
void WriteLine(int fd, const Event& event) {
  const std::string text = ToString(event) + "\n";
  std::string_view line = text;
  while (!line.empty()) {
    const ssize_t written = write(fd, line.data(), line.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return;  // The coordinator has closed it and will kill us.
    line.remove_prefix(static_cast<size_t>(written));
  }
}

int Refuse(std::string_view why) {
  std::fprintf(stderr, "reprise: %.*s\n", static_cast<int>(why.size()),
               why.data());
  return 2;
}

}  // namespace

int WorkerProcessMain(int argc, char** argv,
                      const std::function<bool(const std::string&)>& plant,
                      const GpuFinder& find_gpus) {
  std::vector<std::string> words;
  for (int i = 2; i < argc; ++i) words.emplace_back(argv[i]);
  const auto arguments = ParseWorkerArguments(words);
  if (!arguments.ok()) return Refuse(arguments.status().ToString());
  const auto scenario = AllScenarios().find(arguments->scenario);
  if (scenario == AllScenarios().end()) {
    return Refuse(absl::StrCat("no scenario '", arguments->scenario, "'"));
  }
  if (!arguments->plant.empty() && !(plant && plant(arguments->plant))) {
    return Refuse(absl::StrCat("no planted defect '", arguments->plant, "'"));
  }
  auto store = OpenStore(RealRuntime(), arguments->store_url);
  if (!store.ok()) return Refuse(store.status().ToString());
  std::unique_ptr<WorkerGpus> gpus;
  if (!arguments->gpus.empty()) {
    const absl::StatusOr<GpuDriver*> driver = find_gpus();
    if (!driver.ok()) return Refuse(driver.status().ToString());
    auto opened = WorkerGpus::Open(**driver, arguments->gpus);
    if (!opened.ok()) return Refuse(opened.status().ToString());
    gpus = *std::move(opened);
  }

  RealTrace trace(
      arguments->rank, arguments->start_ns,
      [fd = arguments->trace_fd](const Event& event) { WriteLine(fd, event); });
  RealWorker worker(
      scenario->second,
      RealWorkerOptions(arguments->rank,
                        arguments->world_size - scenario->second.clients,
                        arguments->transports, "127.0.0.1"),
      arguments->incarnation, arguments->seed, arguments->params,
      *std::move(store), gpus == nullptr ? nullptr : &gpus->devices(),
      arguments->files, trace);
  worker.Run();
  return 0;
}

}  // namespace reprise
