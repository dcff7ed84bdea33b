#include "tools/command/doctor.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "agent/device/cuda/cuda_driver.h"
#include "agent/device/devices.h"
#include "agent/runtime/runtime.h"
#include "agent/store/open_store.h"
#include "agent/transport/transports.h"
#include "sim/scenario/scratch_directory.h"
#include "tools/command/machine_probe.h"

namespace reprise {
namespace {

std::string AdviceOn(const TransportProbe& probe) {
  if (probe.viable) return "";
  if (probe.name == "ibv") {
    return "needs an InfiniBand device and libibverbs; the others do not";
  }
  if (probe.name == "shm") {
    return "mount /proc, and let a seccomp filter pass memfd_create";
  }
  if (probe.name == "cma" || probe.name == "reprise_cma") {
    return "see the ptrace scope below";
  }
  if (absl::StrContains(probe.detail, "file descriptors")) {
    return "raise the limit of open files (ulimit -n)";
  }
  return "set TP_SOCKET_IFNAME to an interface that peers can reach";
}

void AddTransports(DoctorReport& report) {
  for (TransportProbe& probe : ProbeRealTransports()) {
    report.findings.push_back(
        {probe.kind, probe.name, probe.viable,
         probe.detail.empty() ? "it can be made" : probe.detail,
         AdviceOn(probe)});
  }
}

std::string AdviceOnGpuChannel(const TransportProbe& probe, bool has_gpus) {
  if (probe.viable) return "";
  if (probe.name == "cuda_gdr") {
    return "it is not needed: two hosts use cuda_host or cuda_basic";
  }
  if (!has_gpus) return "it needs a GPU: see below";
  if (absl::StrContains(probe.detail, "cannot be shared")) {
    return "in a container, share the namespaces of its peers (--ipc=host "
           "--pid=host); or do with cuda_host, which needs no sharing";
  }
  return "do with another channel";
}

void AddGpuChannels(Devices& devices, DoctorReport& report) {
  for (TransportProbe& probe : ProbeRealGpuChannels(devices)) {
    report.findings.push_back(
        {probe.kind, probe.name, probe.viable,
         probe.detail.empty() ? "it can be made" : probe.detail,
         AdviceOnGpuChannel(probe, devices.gpu_count() > 0)});
  }
}

// Whether memory of the device can be had and copied.
absl::Status TryGpu(GpuDriver& driver, int device) {
  constexpr size_t kBytes = 4096;
  const absl::StatusOr<void*> memory = driver.Allocate(device, kBytes);
  if (!memory.ok()) return memory.status();
  absl::Status status = absl::OkStatus();
  const absl::StatusOr<GpuStream> stream = driver.CreateStream(device);
  if (stream.ok()) {
    char* const data = static_cast<char*>(*memory);
    status = driver.Copy(data, data + kBytes / 2, kBytes / 2, *stream);
    if (status.ok()) status = driver.Synchronize(*stream);
    driver.DestroyStream(*stream);
  } else {
    status = stream.status();
  }
  driver.Free(device, *memory);
  return status;
}

void AddGpus(const absl::StatusOr<GpuDriver*>& driver, DoctorReport& report) {
  if (!driver.ok()) {
    report.findings.push_back(
        {"gpu", "cuda", false, std::string(driver.status().message()),
         "tensors on CPUs need none; for GPUs, install NVIDIA's driver, and "
         "in a container start it with --gpus"});
    return;
  }
  constexpr double kGib = size_t{1} << 30;
  for (int i = 0; i < (*driver)->device_count(); ++i) {
    const GpuProperties& properties = (*driver)->properties(i);
    DoctorFinding finding{
        "gpu", absl::StrCat("cuda:", i), true,
        absl::StrFormat("%s, GPU-%s, %.1f GiB, PCI %s", properties.name,
                        properties.uuid,
                        static_cast<double>(properties.memory_bytes) / kGib,
                        properties.pci_bus_id),
        ""};
    const absl::Status status = TryGpu(**driver, i);
    if (!status.ok()) {
      finding.works = false;
      absl::StrAppend(&finding.detail, ": ", std::string(status.message()));
      finding.advice =
          "see what else uses it, and the kernel's log (nvidia-smi "
          "-q, dmesg)";
    }
    report.findings.push_back(std::move(finding));
  }
}

// Checks that a value that was set can be read.
absl::Status TryStore(const std::string& url) {
  Runtime& runtime = RealRuntime();
  const auto store = OpenStore(runtime, url);
  if (!store.ok()) return store.status();
  const absl::Time deadline = runtime.Now() + absl::Seconds(10);
  absl::Status status = (*store)->Set("doctor", "well", deadline);
  if (!status.ok()) return status;
  const auto value = (*store)->Get("doctor", deadline);
  if (!value.ok()) return value.status();
  return *value == "well"
             ? absl::OkStatus()
             : absl::DataLossError("the store returned another value");
}

DoctorFinding Finding(std::string name, const absl::Status& status,
                      std::string_view good, std::string_view advice) {
  DoctorFinding finding{"store", std::move(name), status.ok(), "", ""};
  if (status.ok()) {
    finding.detail = std::string(good);
  } else {
    finding.detail = std::string(status.message());
    finding.advice = std::string(advice);
  }
  return finding;
}

void AddStores(DoctorReport& report) {
  report.findings.push_back(Finding("memory://", TryStore("memory://"),
                                    "for agents of one process", ""));
  const auto directory = ScratchDirectory::Make();
  report.findings.push_back(Finding(
      "file://",
      directory.ok() ? TryStore(absl::StrCat("file://", directory->path()))
                     : directory.status(),
      "for processes of one machine",
      "set TMPDIR to a directory that can be written"));
  // Whether these work depends on their servers, and none is known here.
  report.findings.push_back({"store", "redis://", true,
                             "for many machines; it is built in, and needs a "
                             "Redis server: redis://host:port",
                             ""});
  report.findings.push_back({"store", "tcp://", true,
                             "for many machines and for groups that PyTorch "
                             "began; it is built in, and needs `reprise store` "
                             "or PyTorch's TCPStore: tcp://host:port",
                             ""});
  report.findings.push_back({"store", "etcd://", true,
                             "for many machines, one of which may fail; it is "
                             "built in, and needs a cluster of etcd: "
                             "etcd://host1,host2,host3",
                             ""});
}

}  // namespace

DoctorReport RunDoctor(const absl::StatusOr<GpuDriver*>& driver) {
  DoctorReport report;
  AddTransports(report);
  Devices devices(RealRuntime(), driver);
  AddGpuChannels(devices, report);
  AddGpus(driver, report);
  AddStores(report);
  for (DoctorFinding& finding : ProbeMachine()) {
    report.findings.push_back(std::move(finding));
  }
  return report;
}

DoctorReport RunDoctor() { return RunDoctor(FindCudaDriver()); }

std::string ToText(const DoctorReport& report) {
  size_t name_width = 0;
  for (const DoctorFinding& finding : report.findings) {
    name_width = std::max(name_width, finding.name.size());
  }
  std::string text;
  for (const DoctorFinding& finding : report.findings) {
    std::string line = finding.kind;
    line.resize(std::max(line.size() + 1, size_t{11}), ' ');
    line += finding.name;
    line.append(name_width + 2 - finding.name.size(), ' ');
    line += finding.works ? "yes  " : "no   ";
    line += finding.detail;
    if (!text.empty()) text += '\n';
    text += line;
    if (!finding.advice.empty()) {
      text += '\n';
      text.append(11 + name_width + 2 + 5, ' ');
      absl::StrAppend(&text, "-> ", finding.advice);
    }
  }
  return text;
}

nlohmann::json ToJson(const DoctorReport& report) {
  nlohmann::json json = {{"transports", nlohmann::json::array()},
                         {"channels", nlohmann::json::array()},
                         {"gpus", nlohmann::json::array()},
                         {"stores", nlohmann::json::array()},
                         {"machine", nlohmann::json::array()}};
  for (const DoctorFinding& finding : report.findings) {
    const std::string group =
        finding.kind == "machine" ? finding.kind : finding.kind + "s";
    json[group].push_back({{"name", finding.name},
                           {"works", finding.works},
                           {"detail", finding.detail},
                           {"advice", finding.advice}});
  }
  return json;
}

}  // namespace reprise
