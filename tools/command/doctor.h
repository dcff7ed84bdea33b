// The doctor: what can work on this machine, and what to do about the rest.

#ifndef REPRISE_TOOLS_COMMAND_DOCTOR_H_
#define REPRISE_TOOLS_COMMAND_DOCTOR_H_

#include <string>
#include <vector>

#include "nlohmann/json.hpp"

namespace reprise {

struct DoctorFinding {
  std::string kind;  // "transport", "channel", "store", "machine"
  std::string name;
  bool works = false;
  std::string detail;  // what was found, or why it cannot work
  std::string advice;  // what to do about it; empty if it works
};

struct DoctorReport {
  std::vector<DoctorFinding> findings;  // those of a kind together
};

// Makes the transport probe and the machine probe, and tries the stores in a
// temporary directory. It leaves nothing behind and takes some milliseconds.
DoctorReport RunDoctor();

// A table for people, without a newline at its end.
std::string ToText(const DoctorReport& report);

// {"transports": [{"name", "works", "detail", "advice"}, ...], "channels",
// "stores", "machine": likewise}.
nlohmann::json ToJson(const DoctorReport& report);

}  // namespace reprise

#endif  // REPRISE_TOOLS_COMMAND_DOCTOR_H_
