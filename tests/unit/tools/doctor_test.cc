#include "tools/command/doctor.h"

#include <stdlib.h>

#include <set>
#include <string>

#include "absl/status/status.h"
#include "agent/device/devices.h"
#include "agent/runtime/runtime.h"
#include "agent/transport/transports.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/transport/cuda/fake_gpus.h"

namespace reprise {
namespace {

using testing::ContainsRegex;
using testing::HasSubstr;
using testing::IsSupersetOf;

const DoctorFinding& Find(const DoctorReport& report, const std::string& kind,
                          const std::string& name) {
  for (const DoctorFinding& finding : report.findings) {
    if (finding.kind == kind && finding.name == name) return finding;
  }
  ADD_FAILURE() << "nothing about the " << kind << " " << name;
  return report.findings.front();
}

// Everything but cuda_gdr, which there never is.
constexpr const char* kGpuChannels[] = {"cuda_xth", "cuda_direct", "cuda_ipc",
                                        "cuda_host", "cuda_basic"};

TEST(DoctorTest, SaysWhichGpusThereAre) {
  FakeGpus gpus(2);
  FakeDriver driver(gpus);
  const DoctorReport report = RunDoctor(static_cast<GpuDriver*>(&driver));
  const DoctorFinding& gpu = Find(report, "gpu", "cuda:1");
  EXPECT_TRUE(gpu.works);
  EXPECT_EQ(gpu.detail,
            "fake, GPU-00000000-0000-0000-0000-000000000001, 0.0 GiB, PCI ");
  for (const char* const channel : kGpuChannels) {
    EXPECT_TRUE(Find(report, "channel", channel).works) << channel;
  }
  EXPECT_FALSE(Find(report, "channel", "cuda_gdr").works);
  EXPECT_EQ(ToJson(report)["gpus"].size(), 2u);
  EXPECT_EQ(ToJson(report)["gpus"][1]["name"], "cuda:1");
  EXPECT_EQ(driver.Held(), "");  // nothing is left behind
}

// Each channel for GPUs brings what it is built on.
TEST(DoctorTest, EachChannelWorksWithoutTheOthers) {
  FakeGpus gpus(1);
  FakeDriver driver(gpus);
  Devices devices(RealRuntime(), static_cast<GpuDriver*>(&driver));
  for (const std::string name :
       {"cuda_xth", "cuda_direct", "cuda_ipc", "cuda_host", "cuda_basic"}) {
    TransportOptions options;
    options.transports = {"uv"};
    options.channels = {name, "basic"};
    options.bind_address = "127.0.0.1";
    const auto set = RealTransports().Make(options, &devices);
    ASSERT_TRUE(set.ok()) << set.status();
    ASSERT_EQ(set->channels.size(), 2u) << name;
    EXPECT_EQ(set->channels[0].name, name);
  }
}

TEST(DoctorTest, SaysWhyMemoryCannotBeShared) {
  FakeGpus gpus(1);
  FakeDriver driver(gpus);
  driver.set_can_share(false);
  const DoctorReport report = RunDoctor(static_cast<GpuDriver*>(&driver));
  EXPECT_FALSE(Find(report, "channel", "cuda_direct").works);
  EXPECT_THAT(Find(report, "channel", "cuda_ipc").detail,
              HasSubstr("memory of cuda:0 cannot be shared"));
  EXPECT_THAT(Find(report, "channel", "cuda_ipc").advice,
              HasSubstr("--ipc=host"));
  EXPECT_TRUE(Find(report, "channel", "cuda_host").works);
}

TEST(DoctorTest, SaysWhyThereIsNoGpu) {
  const DoctorReport report =
      RunDoctor(absl::UnimplementedError("no driver, say"));
  EXPECT_FALSE(Find(report, "gpu", "cuda").works);
  EXPECT_EQ(Find(report, "gpu", "cuda").detail, "no driver, say");
  for (const char* const channel : kGpuChannels) {
    EXPECT_THAT(Find(report, "channel", channel).detail,
                HasSubstr("no driver, say"));
  }
}

TEST(DoctorTest, SaysWhatAGpuFailsWith) {
  FakeGpus gpus(1);
  FakeDriver driver(gpus);
  // In one of the calls of the driver, all of which come before the end.
  int num_seen = 0;
  for (int n = 1; n <= 40; ++n) {
    driver.FailCall(n);
    const DoctorReport report = RunDoctor(static_cast<GpuDriver*>(&driver));
    driver.FailCall(0);
    const DoctorFinding& gpu = Find(report, "gpu", "cuda:0");
    if (!gpu.works) ++num_seen;
    EXPECT_EQ(gpu.works, gpu.advice.empty());
    EXPECT_EQ(driver.Held(), "") << n;
  }
  EXPECT_GT(num_seen, 0);
}

TEST(DoctorTest, LooksAtEverything) {
  const DoctorReport report = RunDoctor();
  std::set<std::string> names;
  for (const DoctorFinding& finding : report.findings) {
    names.insert(finding.name);
    EXPECT_NE(finding.detail, "") << finding.name;
    // A finding has advice if and only if it does not work.
    EXPECT_EQ(finding.works, finding.advice.empty()) << finding.name;
  }
  EXPECT_THAT(names, IsSupersetOf({"uv",
                                   "shm",
                                   "ibv",
                                   "basic",
                                   "cma",
                                   "mpt_uv",
                                   "cuda_xth",
                                   "cuda_direct",
                                   "cuda_ipc",
                                   "cuda_gdr",
                                   "cuda_host",
                                   "cuda_basic",
                                   "memory://",
                                   "file://",
                                   "redis://",
                                   "tcp://",
                                   "etcd://",
                                   "vm.max_map_count",
                                   "address space",
                                   "ptrace scope",
                                   "open files"}));
  // Its memory is of no file system, so it needs no room in one.
  EXPECT_FALSE(names.contains("/dev/shm"));
  EXPECT_THAT(Find(report, "machine", "open files").detail,
              ContainsRegex("unlimited|enough for about [0-9]+ peers"));
  EXPECT_TRUE(Find(report, "channel", "basic").works);
  EXPECT_TRUE(Find(report, "store", "memory://").works);
  EXPECT_TRUE(Find(report, "store", "file://").works);
  EXPECT_THAT(Find(report, "store", "redis://").detail,
              HasSubstr("needs a Redis server"));
  EXPECT_THAT(Find(report, "store", "tcp://").detail,
              HasSubstr("needs `reprise store` or PyTorch's TCPStore"));
  EXPECT_THAT(Find(report, "store", "etcd://").detail,
              HasSubstr("needs a cluster of etcd"));
}

TEST(DoctorTest, AFileStoreThatCannotWork) {
  const char* const before = getenv("TMPDIR");
  const std::string kept = before == nullptr ? "" : before;
  ASSERT_EQ(setenv("TMPDIR", "/nowhere/at/all", 1), 0);
  const DoctorReport report = RunDoctor();
  if (before == nullptr) {
    unsetenv("TMPDIR");
  } else {
    setenv("TMPDIR", kept.c_str(), 1);
  }
  const DoctorFinding& file = Find(report, "store", "file://");
  EXPECT_FALSE(file.works);
  EXPECT_THAT(file.detail, HasSubstr("/nowhere/at/all"));
  EXPECT_THAT(file.advice, HasSubstr("TMPDIR"));
}

TEST(DoctorTest, TextAndJsonSayTheSame) {
  const DoctorReport report{{
      {"transport", "uv", true, "here", ""},
      {"channel", "cma", false, "forbidden", "allow it"},
      {"machine", "a long name", true, "good", ""},
  }};
  EXPECT_EQ(ToText(report),
            "transport  uv           yes  here\n"
            "channel    cma          no   forbidden\n"
            "                             -> allow it\n"
            "machine    a long name  yes  good");
  const nlohmann::json json = ToJson(report);
  EXPECT_EQ(json["transports"].size(), 1u);
  EXPECT_EQ(json["transports"][0]["works"], true);
  EXPECT_EQ(json["channels"][0]["name"], "cma");
  EXPECT_EQ(json["channels"][0]["works"], false);
  EXPECT_EQ(json["channels"][0]["advice"], "allow it");
  EXPECT_EQ(json["machine"][0]["detail"], "good");
  EXPECT_TRUE(json["stores"].empty());
}

}  // namespace
}  // namespace reprise
