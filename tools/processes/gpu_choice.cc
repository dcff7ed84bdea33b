#include "tools/processes/gpu_choice.h"

#include <numeric>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

namespace reprise {
namespace {

constexpr std::string_view kPrefix = "cuda:";

// What asked for GPUs, and for which.
struct Request {
  std::string by;  // "--device", "LOCAL_RANK"; empty: nothing did
  std::vector<int> gpus;
};

std::string Quoted(const char* name, const std::string& value) {
  return absl::StrCat(name, " is '", value, "'");
}

// "1 GPU, cuda:0" or "8 GPUs, cuda:0 to cuda:7".
std::string CountOf(const GpuDriver& driver) {
  const int count = driver.device_count();
  if (count == 1) return "1 GPU, cuda:0";
  return absl::StrCat(count, " GPUs, cuda:0 to cuda:", count - 1);
}

absl::Status NoGpus(const Scenario& scenario, const absl::Status& why) {
  return absl::FailedPreconditionError(absl::StrCat(
      scenario.name, " puts tensors on GPUs, and this process sees none: ",
      why.message(), ". 'reprise doctor' says what works here; 'reprise run ",
      scenario.name, "' runs it on simulated GPUs"));
}

absl::Status NoSuchGpu(const Request& request, int gpu,
                       const GpuDriver& driver) {
  if (request.by == "--device") {
    return absl::InvalidArgumentError(absl::StrCat(
        "--device cuda:", gpu, ": this process sees ", CountOf(driver)));
  }
  return absl::InvalidArgumentError(absl::StrCat(
      request.by, " is ", gpu, ", and this process sees ", CountOf(driver),
      "; start at most ", driver.device_count(),
      " workers on this machine, or say with --device which GPU this one takes "
      "(--device 0, if the launcher lets each worker see its own GPU only)"));
}

GpuChoice OnCpus(const Scenario& scenario) {
  GpuChoice choice;
  choice.description = absl::StrCat("tensors are on CPUs: ", scenario.name,
                                    " puts none on GPUs");
  return choice;
}

// Fills in `driver` and `gpus`: those of the request, or else all.
absl::StatusOr<GpuChoice> Choose(const Scenario& scenario,
                                 const Request& request,
                                 const GpuFinder& find) {
  const bool needs_gpus = scenario.gpus_per_host > 0;
  const bool is_by_flag = request.by == "--device";
  if (is_by_flag && request.gpus.empty()) {  // --device cpu
    if (!needs_gpus) return OnCpus(scenario);
    return absl::FailedPreconditionError(
        absl::StrCat("--device cpu: ", scenario.name, " puts tensors on GPUs"));
  }
  if (!needs_gpus && !is_by_flag) return OnCpus(scenario);
  const absl::StatusOr<GpuDriver*> driver = find();
  if (!driver.ok()) {
    if (needs_gpus) return NoGpus(scenario, driver.status());
    return absl::InvalidArgumentError(absl::StrCat(
        "--device ", NamesOf(request.gpus),
        ": this process sees no GPU: ", driver.status().message()));
  }
  for (const int gpu : request.gpus) {
    if (gpu < 0 || gpu >= (*driver)->device_count()) {
      return NoSuchGpu(request, gpu, **driver);
    }
  }
  if (!needs_gpus) return OnCpus(scenario);
  GpuChoice choice;
  choice.driver = *driver;
  choice.gpus = request.gpus;
  if (choice.gpus.empty()) {
    choice.gpus.resize(static_cast<size_t>((*driver)->device_count()));
    std::iota(choice.gpus.begin(), choice.gpus.end(), 0);
  }
  return choice;
}

absl::StatusOr<Request> ByFlag(const std::string& device) {
  absl::StatusOr<std::vector<int>> gpus = ParseDevices(device);
  if (!gpus.ok()) return gpus.status();
  return Request{"--device", *std::move(gpus)};
}

absl::StatusOr<Request> ByEnvironment(const Environ& environ) {
  for (const char* name : {"LOCAL_RANK", "SLURM_LOCALID"}) {
    const char* const value = environ(name);
    if (value == nullptr || *value == '\0') continue;
    int rank = 0;
    if (!absl::SimpleAtoi(value, &rank) || rank < 0) {
      return absl::InvalidArgumentError(absl::StrCat(
          Quoted(name, value), ", and must be the number of a GPU, from 0"));
    }
    return Request{name, {rank}};
  }
  return Request();
}

// "cuda:0 (NVIDIA H200), cuda:1 (NVIDIA H200)"
std::string ModelsOf(const GpuChoice& choice) {
  return absl::StrJoin(choice.gpus, ", ", [&](std::string* out, int gpu) {
    absl::StrAppend(out, std::string(kPrefix), gpu, " (",
                    choice.driver->properties(gpu).name, ")");
  });
}

}  // namespace

absl::StatusOr<std::vector<int>> ParseDevices(std::string_view text) {
  std::vector<int> gpus;
  if (text == "cpu") return gpus;
  const std::vector<std::string> words =
      absl::StrSplit(absl::string_view(text.data(), text.size()), ',');
  for (const std::string& word : words) {
    std::string number = word;
    if (number.rfind(kPrefix, 0) == 0) number.erase(0, kPrefix.size());
    int gpu = 0;
    if (!absl::SimpleAtoi(number, &gpu) || gpu < 0) {
      return absl::InvalidArgumentError(absl::StrCat(
          "--device ", std::string(text),
          ": it must be a GPU such as 0 or cuda:0, several with commas between "
          "them, or cpu"));
    }
    gpus.push_back(gpu);
  }
  return gpus;
}

std::string NamesOf(const std::vector<int>& gpus) {
  if (gpus.empty()) return "cpu";
  return absl::StrJoin(gpus, ", ", [](std::string* out, int gpu) {
    absl::StrAppend(out, std::string(kPrefix), gpu);
  });
}

std::vector<int> GpusOfRank(const std::vector<int>& gpus, int rank, int count) {
  std::vector<int> result;
  if (gpus.empty()) return result;
  for (int i = 0; i < count; ++i) {
    result.push_back(gpus[static_cast<size_t>(rank + i) % gpus.size()]);
  }
  return result;
}

absl::StatusOr<GpuChoice> ChooseGpusOfRun(const Scenario& scenario,
                                          const std::string& device,
                                          const GpuFinder& find) {
  absl::StatusOr<Request> request = Request();
  if (!device.empty()) request = ByFlag(device);
  if (!request.ok()) return request.status();
  absl::StatusOr<GpuChoice> choice = Choose(scenario, *request, find);
  if (!choice.ok() || choice->gpus.empty()) return choice;
  std::vector<std::string> workers;
  for (int rank = 0; rank < scenario.workers; ++rank) {
    workers.push_back(absl::StrCat(
        "w", rank, " has ",
        NamesOf(GpusOfRank(choice->gpus, rank, scenario.gpus_per_host))));
  }
  choice->description =
      absl::StrCat("tensors are on GPUs: ", absl::StrJoin(workers, "; "),
                   "; of ", ModelsOf(*choice));
  return choice;
}

absl::StatusOr<GpuChoice> ChooseGpusOfWorker(const Scenario& scenario,
                                             const std::string& device,
                                             const Environ& environ,
                                             const GpuFinder& find) {
  absl::StatusOr<Request> request = Request();
  if (!device.empty()) {
    request = ByFlag(device);
  } else if (scenario.gpus_per_host > 0) {
    request = ByEnvironment(environ);
  }
  if (!request.ok()) return request.status();
  absl::StatusOr<GpuChoice> choice = Choose(scenario, *request, find);
  if (!choice.ok() || choice->gpus.empty()) return choice;
  const size_t wanted =
      request->gpus.empty() ? 1 : static_cast<size_t>(scenario.gpus_per_host);
  if (choice->gpus.size() > wanted) choice->gpus.resize(wanted);
  choice->description = absl::StrCat(
      "tensors are on ", ModelsOf(*choice), ", ",
      request->by.empty()
          ? "the first, as neither --device nor LOCAL_RANK nor SLURM_LOCALID "
            "says otherwise"
          : absl::StrCat("by ", request->by));
  return choice;
}

}  // namespace reprise
