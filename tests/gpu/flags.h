// The flags of the programs here: "--name" or "--name=value".

#ifndef REPRISE_TESTS_GPU_FLAGS_H_
#define REPRISE_TESTS_GPU_FLAGS_H_

#include <algorithm>
#include <cstdio>
#include <map>
#include <set>
#include <string>
#include <string_view>

namespace reprise::gpu {

class Flags {
 public:
  // Only flags that are in `known` may be given.
  Flags(int argc, char** argv, const std::set<std::string>& known) {
    for (int i = 1; i < argc; ++i) {
      std::string_view flag = argv[i];
      const size_t equals = std::min(flag.find('='), flag.size());
      const std::string name(flag.substr(0, equals));
      if (!known.contains(name)) {
        std::fprintf(stderr, "unknown flag: %s; there are:", argv[i]);
        for (const std::string& other : known) {
          std::fprintf(stderr, " %s", other.c_str());
        }
        std::fputc('\n', stderr);
        is_valid_ = false;
      }
      values_[name] = flag.substr(std::min(equals + 1, flag.size()));
    }
  }

  // Whether to go on. If not, it was said why.
  bool is_valid() const { return is_valid_; }
  bool Has(const std::string& name) const { return values_.contains(name); }
  // "" if it was not given.
  std::string Get(const std::string& name) const {
    const auto found = values_.find(name);
    return found == values_.end() ? "" : found->second;
  }

 private:
  bool is_valid_ = true;
  std::map<std::string, std::string> values_;
};

}  // namespace reprise::gpu

#endif  // REPRISE_TESTS_GPU_FLAGS_H_
