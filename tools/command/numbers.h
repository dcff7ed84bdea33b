// Checks of the numbers on the command line. CLI11 by itself takes -1 for the
// largest number, what is too large for the largest, and "nan" for any.

#ifndef REPRISE_TOOLS_COMMAND_NUMBERS_H_
#define REPRISE_TOOLS_COMMAND_NUMBERS_H_

#include <charconv>
#include <cstdint>
#include <string>
#include <system_error>

#include "CLI/CLI.hpp"

namespace reprise {

// Whether `text` is a number as a whole. If so, fills in `value`.
template <typename Number>
bool ParseNumber(const std::string& text, Number& value) {
  const char* const end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, value);
  return error == std::errc() && rest == end;
}

// A whole number from `min` to `max`.
inline CLI::Validator WholeNumber(uint64_t min = 0, uint64_t max = UINT64_MAX) {
  const std::string range = std::to_string(min) + " to " + std::to_string(max);
  return CLI::Validator(
      [min, max, range](std::string& text) -> std::string {
        uint64_t value = 0;
        if (ParseNumber(text, value) && value >= min && value <= max) return "";
        return "'" + text + "' is not a whole number from " + range;
      },
      "");
}

// A number from `min` to `max`.
inline CLI::Validator NumberFrom(double min, double max) {
  return CLI::Validator(
      [min, max](std::string& text) -> std::string {
        double value = 0;
        if (ParseNumber(text, value) && value >= min && value <= max) return "";
        return "'" + text + "' is not a number from " +
               CLI::detail::to_string(min) + " to " +
               CLI::detail::to_string(max);
      },
      "");
}

}  // namespace reprise

#endif  // REPRISE_TOOLS_COMMAND_NUMBERS_H_
