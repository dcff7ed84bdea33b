#include "agent/metrics/metric_family.h"

#include <cstddef>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace reprise {
namespace {

// The length of the UTF-8 sequence that `text` begins with. 0 if it must not be
// shown: it is malformed or not in its shortest form, or it is a surrogate,
// beyond U+10FFFF, or a control character.
size_t PrintableSequence(std::string_view text) {
  const auto byte = [&](size_t i) {
    return static_cast<uint32_t>(static_cast<unsigned char>(text[i]));
  };
  const uint32_t first = byte(0);
  if (first < 0x80) return first >= 0x20 && first != 0x7f ? 1 : 0;
  const size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || text.size() < length) return 0;
  uint32_t code = first & (0xffu >> (length + 1));
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
    code = code << 6 | (byte(i) & 0x3f);
  }
  constexpr uint32_t kLeast[] = {0, 0, 0xa0, 0x800, 0x10000};
  if (code < kLeast[length] || code > 0x10ffff) return 0;
  return code >= 0xd800 && code < 0xe000 ? 0 : length;
}

std::string_view TypeName(MetricFamily::Type type) {
  switch (type) {
    case MetricFamily::Type::kCounter:
      return "counter";
    case MetricFamily::Type::kGauge:
      return "gauge";
    case MetricFamily::Type::kHistogram:
      return "histogram";
  }
  return "untyped";
}

void AppendEscaped(std::string& out, std::string_view text) {
  for (const char c : text) {
    if (c == '\\' || c == '"') out += '\\';
    out += c;
  }
}

// "{peer="w1",le="0.5"}", or nothing.
std::string Labels(const MetricSample& sample, std::string_view le) {
  std::string out;
  const auto add = [&out](std::string_view name, std::string_view value) {
    out += out.empty() ? '{' : ',';
    out += name;
    out += "=\"";
    AppendEscaped(out, PrintableLabel(value));
    out += '"';
  };
  for (const auto& [name, value] : sample.labels) add(name, value);
  if (!le.empty()) add("le", le);
  if (!out.empty()) out += '}';
  return out;
}

// Writes whole numbers in full, up to what a double holds.
std::string Number(double value) { return absl::StrFormat("%.15g", value); }

void AppendSample(std::string& out, const MetricFamily& family,
                  const MetricSample& sample) {
  if (family.type != MetricFamily::Type::kHistogram) {
    absl::StrAppend(&out, family.name, Labels(sample, ""), " ",
                    Number(sample.value), "\n");
    return;
  }
  for (const MetricSample::Bucket& bucket : sample.buckets) {
    absl::StrAppend(&out, family.name, "_bucket",
                    Labels(sample, Number(bucket.at_most)), " ", bucket.count,
                    "\n");
  }
  absl::StrAppend(&out, family.name, "_bucket", Labels(sample, "+Inf"), " ",
                  sample.count, "\n");
  absl::StrAppend(&out, family.name, "_sum", Labels(sample, ""), " ",
                  Number(sample.sum), "\n");
  absl::StrAppend(&out, family.name, "_count", Labels(sample, ""), " ",
                  sample.count, "\n");
}

}  // namespace

std::string PrintableLabel(std::string_view value) {
  std::string out;
  while (!value.empty()) {
    const size_t length = PrintableSequence(value);
    if (length == 0) {
      absl::StrAppendFormat(&out, "\\x%02x",
                            static_cast<unsigned char>(value[0]));
      value.remove_prefix(1);
    } else {
      out += value.substr(0, length);
      value.remove_prefix(length);
    }
  }
  return out;
}

std::string PrometheusText(const std::vector<MetricFamily>& families) {
  std::string out;
  for (const MetricFamily& family : families) {
    absl::StrAppend(&out, "# HELP ", family.name, " ", family.help, "\n");
    absl::StrAppend(&out, "# TYPE ", family.name, " ",
                    std::string(TypeName(family.type)), "\n");
    for (const MetricSample& sample : family.samples) {
      AppendSample(out, family, sample);
    }
  }
  return out;
}

}  // namespace reprise
