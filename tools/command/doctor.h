// The doctor: what can work on this machine, and what to do about the rest.

#ifndef REPRISE_TOOLS_COMMAND_DOCTOR_H_
#define REPRISE_TOOLS_COMMAND_DOCTOR_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "agent/device/driver.h"
#include "nlohmann/json.hpp"

namespace reprise {

struct DoctorFinding {
  std::string kind;  // "transport", "channel", "gpu", "store", "machine"
  std::string name;
  bool works = false;
  std::string detail;  // what was found, or why it cannot work
  std::string advice;  // what to do about it; empty if it works
};

struct DoctorReport {
  std::vector<DoctorFinding> findings;  // those of a kind together
};

// Makes the transport probe and the machine probe, uses the GPUs of `driver`,
// and tries the stores in a temporary directory. It leaves nothing behind and
// takes some milliseconds, and up to seconds where there are GPUs. `driver`: as
// `FindCudaDriver` returns it, or a simulated one.
DoctorReport RunDoctor(const absl::StatusOr<GpuDriver*>& driver);
// With the GPUs of this machine.
DoctorReport RunDoctor();

// A table for people, without a newline at its end.
std::string ToText(const DoctorReport& report);

// {"transports": [{"name", "works", "detail", "advice"}, ...], "channels",
// "gpus", "stores", "machine": likewise}.
nlohmann::json ToJson(const DoctorReport& report);

}  // namespace reprise

#endif  // REPRISE_TOOLS_COMMAND_DOCTOR_H_
