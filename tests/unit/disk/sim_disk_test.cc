// The simulated disk: the contract of every disk, and what a disk may do that
// is not well, or whose machine loses its power.

#include "sim/disk/sim_disk.h"

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/disk/disk_contract.h"
#include "tests/unit/sim/sim_testing.h"

namespace reprise {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::UnorderedElementsAre;

constexpr int kSeeds = 60;

INSTANTIATE_TEST_SUITE_P(
    Simulated, DiskContractTest,
    testing::Values([](const std::function<void(Disk&)>& body) {
      TestWorld world(With(Policy::kRandom));
      SimDisks disks(*world);
      world.Start(0, "main", [&] { body(*disks.Connect(world.node())); });
      EXPECT_EQ(world.Run(), Outcome::kFinished);
    }));

class SimDiskTest : public testing::Test {
 protected:
  // Runs `body` on a disk in a world of this seed, kills its machine, and then
  // runs `after`.
  void Run(uint64_t seed, NodeDeath death, std::function<void(Disk&)> body,
           std::function<void(Disk&)> after) {
    AllowLeaks leaks;  // of the fibers that die
    TestWorld world(With(Policy::kRandom, seed));
    SimDisks disks(*world);
    disks.OnInjected(
        [this](FaultKind kind, int) { injections_.push_back(kind); });
    if (prepare_) prepare_(disks);
    world.Start(0, "main", [&] {
      body(*disks.Connect(world.node()));
      world->Crash(world.node(), death);
    });
    world->AtRestart(kSecond, {}, [&] {
      Node& node = world.Restart(0);
      world->scheduler().Start(node, "main",
                               [&] { after(*disks.Connect(node)); });
    });
    EXPECT_EQ(world.Run(), Outcome::kFinished);
  }

  // What `after` finds in file "a", over all seeds; "-" for no file.
  std::set<std::string> Outcomes(NodeDeath death,
                                 const std::function<void(Disk&)>& body) {
    std::set<std::string> found;
    for (int seed = 1; seed <= kSeeds; ++seed) {
      Run(static_cast<uint64_t>(seed), death, body,
          [&](Disk& disk) { found.insert(disk.Read("a").value_or("-")); });
    }
    return found;
  }

  std::function<void(SimDisks&)> prepare_;
  std::vector<FaultKind> injections_;
};

const std::string kEarlier(1000, 'e');  // two sectors
const std::string kLater(1000, 'l');

void Durably(Disk& disk, std::string_view name, std::string_view bytes) {
  EXPECT_TRUE(disk.Write(name, bytes).ok());
  EXPECT_TRUE(disk.Sync(name).ok());
  EXPECT_TRUE(disk.SyncNames().ok());
}

TEST_F(SimDiskTest, TheEndOfAProcessLosesNothing) {
  for (const NodeDeath death : {NodeDeath::kReset, NodeDeath::kKilled}) {
    EXPECT_THAT(Outcomes(death,
                         [](Disk& disk) {
                           Durably(disk, "a", kEarlier);
                           EXPECT_TRUE(disk.Write("b", kLater).ok());
                           EXPECT_TRUE(disk.Rename("b", "a").ok());
                         }),
                ElementsAre(kLater));
  }
}

TEST_F(SimDiskTest, APowerCutTearsWhatIsNotSynced) {
  const std::string first = kLater.substr(0, 512) + kEarlier.substr(512);
  const std::string second = kEarlier.substr(0, 512) + kLater.substr(512);
  EXPECT_THAT(Outcomes(NodeDeath::kPowerCut,
                       [](Disk& disk) {
                         Durably(disk, "a", kEarlier);
                         EXPECT_TRUE(disk.Write("a", kLater).ok());
                       }),
              UnorderedElementsAre(kEarlier, kLater, first, second));
}

TEST_F(SimDiskTest, APowerCutLeavesWhatIsSynced) {
  EXPECT_THAT(Outcomes(NodeDeath::kPowerCut,
                       [](Disk& disk) {
                         Durably(disk, "a", kEarlier);
                         EXPECT_TRUE(disk.Write("a", kLater).ok());
                         EXPECT_TRUE(disk.Sync("a").ok());
                       }),
              ElementsAre(kLater));
}

TEST_F(SimDiskTest, AFileGrowsByZerosOrNotAtAll) {
  const std::string zeros(1000, '\0');
  const auto found = Outcomes(NodeDeath::kPowerCut, [&zeros](Disk& disk) {
    Durably(disk, "a", "");
    EXPECT_TRUE(disk.Append("a", kLater).ok());
  });
  EXPECT_THAT(found, testing::IsSupersetOf({std::string(), zeros, kLater}));
}

// The name and the bytes know nothing of each other.
TEST_F(SimDiskTest, ARenameThatIsNotSyncedMayBeThereOrNot) {
  EXPECT_THAT(Outcomes(NodeDeath::kPowerCut,
                       [](Disk& disk) {
                         Durably(disk, "a", kEarlier);
                         EXPECT_TRUE(disk.Write("b", "").ok());
                         EXPECT_TRUE(disk.Rename("b", "a").ok());
                       }),
              UnorderedElementsAre(kEarlier, ""));
  EXPECT_THAT(Outcomes(NodeDeath::kPowerCut,
                       [](Disk& disk) {
                         Durably(disk, "a", kEarlier);
                         EXPECT_TRUE(disk.Remove("a").ok());
                         EXPECT_TRUE(disk.SyncNames().ok());
                       }),
              ElementsAre("-"));
}

TEST_F(SimDiskTest, NamesAreLostFromTheLastOn) {
  for (int seed = 1; seed <= kSeeds; ++seed) {
    Run(
        static_cast<uint64_t>(seed), NodeDeath::kPowerCut,
        [](Disk& disk) {
          for (const char* name : {"a", "b", "c"}) {
            EXPECT_TRUE(disk.Write(name, "x").ok());
          }
        },
        [](Disk& disk) {
          const std::vector<std::string> all = {"a", "b", "c"};
          const std::vector<std::string> names = *disk.List();
          EXPECT_EQ(names, std::vector<std::string>(
                               all.begin(),
                               all.begin() + static_cast<int>(names.size())));
        });
  }
}

TEST_F(SimDiskTest, AReplacedFileHasOneContentOrTheOther) {
  // Each number of steps that were made before the power went.
  std::set<std::string> found;
  for (int steps = 0; steps <= 4; ++steps) {
    const auto replace = [steps](Disk& disk) {
      Durably(disk, "a", kEarlier);
      EXPECT_TRUE(steps <= 0 || disk.Write("a.new", kLater).ok());
      EXPECT_TRUE(steps <= 1 || disk.Sync("a.new").ok());
      EXPECT_TRUE(steps <= 2 || disk.Rename("a.new", "a").ok());
      EXPECT_TRUE(steps <= 3 || disk.SyncNames().ok());
    };
    found.merge(Outcomes(NodeDeath::kPowerCut, replace));
  }
  EXPECT_THAT(found, UnorderedElementsAre(kEarlier, kLater));
}

TEST_F(SimDiskTest, AFullDiskTakesAFirstPart) {
  prepare_ = [](SimDisks& disks) { disks.SetFull(0, 100 * kMillisecond); };
  Run(
      1, NodeDeath::kKilled,
      [](Disk& disk) {
        const absl::Status status = disk.Write("a", kLater);
        EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
        EXPECT_EQ(*disk.Read("a"), kLater.substr(0, 500));
        EXPECT_TRUE(disk.Write("b", "").ok());
      },
      [](Disk& disk) { EXPECT_TRUE(disk.Write("a", kLater).ok()); });
  EXPECT_THAT(injections_, ElementsAre(FaultKind::kDiskFull));
}

TEST_F(SimDiskTest, ASlowDiskTakesLonger) {
  for (const bool is_slow : {false, true}) {
    TestWorld world(With(Policy::kRandom));
    SimDisks disks(*world);
    if (is_slow) disks.SetSlow(0, kSecond, 10 * kSecond);
    world.Start(0, "main", [&] {
      EXPECT_TRUE(disks.Connect(world.node())->Write("a", "x").ok());
    });
    EXPECT_EQ(world.Run(), Outcome::kFinished);
    EXPECT_EQ(world.now_ns() > kSecond, is_slow);
  }
}

TEST_F(SimDiskTest, WhatASyncHasLostNoLaterSyncBringsBack) {
  prepare_ = [](SimDisks& disks) { disks.FailNextSync(0); };
  const auto lose = [](Disk& disk) {
    EXPECT_TRUE(disk.Write("a", kEarlier).ok());
    EXPECT_TRUE(disk.SyncNames().ok());
    EXPECT_TRUE(absl::IsUnavailable(disk.Sync("a")));
    EXPECT_EQ(*disk.Read("a"), kEarlier);
  };
  EXPECT_THAT(Outcomes(NodeDeath::kPowerCut,
                       [&lose](Disk& disk) {
                         lose(disk);
                         EXPECT_TRUE(disk.Sync("a").ok());
                       }),
              ElementsAre(""));
  EXPECT_THAT(Outcomes(NodeDeath::kPowerCut,
                       [&lose](Disk& disk) {
                         lose(disk);
                         EXPECT_TRUE(disk.Write("a", kLater).ok());
                         EXPECT_TRUE(disk.Sync("a").ok());
                       }),
              ElementsAre(kLater));
}

TEST_F(SimDiskTest, AWriterThatDiesLeavesAFirstPart) {
  AllowLeaks leaks;
  TestWorld world(With(Policy::kRandom));
  SimDisks disks(*world);
  // Between the two halves of the write.
  world->trace().AddListener([&](const Event& event) {
    if (event.kind != EventKind::kFile) return;
    world->At(world->now_ns() + 1000, {},
              [&] { world->Crash(world.node(), NodeDeath::kKilled); });
  });
  world.Start(0, "main", [&] {
    disks.Connect(world.node())->Write("a", kLater).IgnoreError();
  });
  world->AtRestart(kSecond, {}, [&] {
    Node& node = world.Restart(0);
    world->scheduler().Start(node, "main", [&] {
      EXPECT_EQ(*disks.Connect(node)->Read("a"), kLater.substr(0, 500));
    });
  });
  EXPECT_EQ(world.Run(), Outcome::kFinished);
}

}  // namespace
}  // namespace reprise
