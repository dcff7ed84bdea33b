#include "tools/command/machine_probe.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <optional>
#include <string>

#include "absl/strings/str_cat.h"

namespace reprise {
namespace {

// The stacks of fibers take up to 32,000 mappings for their guard pages
// (sim/world/fiber.cc). What Linux allows by default leaves enough for the
// rest.
constexpr int64_t kMinMappings = 65530;
constexpr int64_t kMinDescriptors = 1024;
// About what an agent with all transports and channels takes.
constexpr int64_t kAgentDescriptors = 150;
// What the pipe to a peer on this host takes: two connections of its own and
// two of the channel cma, over shm.
constexpr int64_t kPeerDescriptors = 4;
// What the heaps of simulated runs reserve (sim/world/arena.cc), without
// touching it.
constexpr size_t kAddressSpace = size_t{1} << 40;

std::optional<int64_t> ReadNumber(const std::string& path) {
  std::ifstream file(path);
  int64_t number = 0;
  if (file >> number) return number;
  return std::nullopt;
}

DoctorFinding ProbeMappings() {
  DoctorFinding finding{"machine", "vm.max_map_count", true, "", ""};
  const auto number = ReadNumber("/proc/sys/vm/max_map_count");
  if (!number) {
    finding.detail = "cannot be read; simulated worlds need up to 32,000";
    return finding;
  }
  finding.works = *number >= kMinMappings;
  finding.detail = absl::StrCat(
      *number, "; the stacks of simulated nodes take up to 32,000 of them");
  if (!finding.works) {
    finding.advice = absl::StrCat("sysctl -w vm.max_map_count=", kMinMappings);
  }
  return finding;
}

DoctorFinding ProbeAddressSpace() {
  DoctorFinding finding{"machine", "address space", true, "", ""};
  void* const memory = mmap(nullptr, kAddressSpace, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  finding.works = memory != MAP_FAILED;
  if (finding.works) {
    munmap(memory, kAddressSpace);
    finding.detail = "1 TiB can be reserved for the heaps of simulated runs";
  } else {
    finding.detail = absl::StrCat(
        "1 TiB cannot be reserved (", strerror(errno),
        "): a simulated run in which a node crashes leaks its memory");
    finding.advice = "ulimit -v unlimited; sysctl -w vm.overcommit_memory=0";
  }
  return finding;
}

DoctorFinding ProbePtraceScope() {
  DoctorFinding finding{"machine", "ptrace scope", true, "", ""};
  const auto scope = ReadNumber("/proc/sys/kernel/yama/ptrace_scope");
  if (!scope) {
    finding.detail = "no Yama: cma may read another process's memory";
    return finding;
  }
  finding.works = *scope <= 1;
  finding.detail = absl::StrCat(
      *scope, finding.works ? ": cma may read another process's memory"
                            : ": cma may not read another process's memory");
  if (!finding.works) {
    finding.advice = "sysctl -w kernel.yama.ptrace_scope=1, or do without cma";
  }
  return finding;
}

DoctorFinding ProbeDescriptors() {
  DoctorFinding finding{"machine", "open files", false, "", ""};
  rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) {
    finding.detail = absl::StrCat("cannot be read: ", strerror(errno));
    return finding;
  }
  // An agent raises its soft limit to the hard one.
  const auto most = static_cast<int64_t>(limit.rlim_max);
  finding.works = limit.rlim_max == RLIM_INFINITY || most >= kMinDescriptors;
  finding.detail =
      limit.rlim_max == RLIM_INFINITY
          ? "unlimited"
          : absl::StrCat(most, ", enough for about ",
                         std::max<int64_t>(most - kAgentDescriptors, 0) /
                             kPeerDescriptors,
                         " peers on this host: an agent takes some ",
                         kAgentDescriptors, ", and ", kPeerDescriptors,
                         " for each peer over shm and cma");
  if (!finding.works) {
    finding.advice = absl::StrCat("raise the hard limit, as with ulimit -Hn ",
                                  4 * kMinDescriptors);
  }
  return finding;
}

}  // namespace

std::vector<DoctorFinding> ProbeMachine() {
  return {ProbeMappings(), ProbeAddressSpace(), ProbePtraceScope(),
          ProbeDescriptors()};
}

}  // namespace reprise
