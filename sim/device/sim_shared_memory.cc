#include "sim/device/sim_shared_memory.h"

#include <cstring>
#include <new>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "sim/world/race_annotations.h"

namespace reprise {
namespace {

constexpr std::align_val_t kPage{4096};
// To clear more would cost more than the run; what is larger holds tensors,
// which are written before they are read.
constexpr size_t kClearedBytes = size_t{64} << 10;

}  // namespace

struct SimSharedMemories::Pages {
  Pages(const Node& owner, size_t num_bytes)
      : owner(owner),
        data(static_cast<char*>(::operator new(num_bytes, kPage))),
        num_bytes(num_bytes) {
    std::memset(data, 0, num_bytes < kClearedBytes ? num_bytes : kClearedBytes);
  }
  Pages(const Pages&) = delete;
  Pages& operator=(const Pages&) = delete;
  ~Pages() { ::operator delete(data, kPage); }

  const Node& owner;
  char* const data;
  const size_t num_bytes;
};

class SimSharedMemories::Segment final : public SharedSegment {
 public:
  // `name` is empty where it was opened.
  Segment(SimSharedMemories& all, int host, std::string name,
          std::shared_ptr<Pages> pages)
      : all_(all),
        host_(host),
        name_(std::move(name)),
        pages_(std::move(pages)) {}
  ~Segment() override {
    const InSimulator in;
    if (!name_.empty()) all_.pages_.erase({host_, name_});
  }

  char* data() override { return pages_->data; }
  size_t num_bytes() const override { return pages_->num_bytes; }
  const std::string& name() const override { return name_; }

 private:
  SimSharedMemories& all_;
  const int host_;
  const std::string name_;
  const std::shared_ptr<Pages> pages_;
};

class SimSharedMemories::Process final : public SharedMemory {
 public:
  Process(SimSharedMemories& all, const Node& node, int host)
      : all_(all), node_(node), host_(host) {}

  absl::StatusOr<std::unique_ptr<SharedSegment>> Create(
      size_t num_bytes) override {
    const InSimulator in;
    std::string name = absl::StrCat(node_.label, "/", ++all_.num_made_);
    auto pages = std::make_shared<Pages>(node_, num_bytes);
    all_.pages_[{host_, name}] = pages;
    return std::make_unique<Segment>(all_, host_, std::move(name),
                                     std::move(pages));
  }

  absl::StatusOr<std::unique_ptr<SharedSegment>> Open(
      const std::string& name, size_t num_bytes) override {
    const InSimulator in;
    const auto found = all_.pages_.find({host_, name});
    if (found == all_.pages_.end() || !found->second->owner.alive) {
      return absl::NotFoundError(
          "cannot open the peer's shared memory: No such file or directory");
    }
    if (found->second->num_bytes != num_bytes) {
      return absl::InvalidArgumentError(
          "the peer's shared memory is not of the right size");
    }
    return std::make_unique<Segment>(all_, host_, "", found->second);
  }

  std::string ProcessName() override { return node_.label; }

  bool IsAlive(const std::string& process_name) override {
    const InSimulator in;
    const auto found = all_.processes_.find(process_name);
    return found != all_.processes_.end() && found->second->host_ == host_ &&
           found->second->node_.alive;
  }

 private:
  SimSharedMemories& all_;
  const Node& node_;
  const int host_;
};

SimSharedMemories::SimSharedMemories() = default;
SimSharedMemories::~SimSharedMemories() = default;

SharedMemory& SimSharedMemories::Connect(const Node& node, int host) {
  std::unique_ptr<Process>& process = processes_[node.label];
  process = std::make_unique<Process>(*this, node, host);
  return *process;
}

}  // namespace reprise
