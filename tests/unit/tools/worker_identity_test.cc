// The identity of a worker, from flags and environment.

#include "tools/processes/worker_identity.h"

#include <map>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace reprise {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

using Variables = std::map<std::string, std::string>;

absl::StatusOr<WorkerIdentity> Resolve(const IdentityFlags& flags,
                                       const Variables& variables) {
  return ResolveIdentity(flags, 3, [&variables](const char* name) {
    const auto found = variables.find(name);
    return found == variables.end() ? nullptr : found->second.c_str();
  });
}

std::string Error(const IdentityFlags& flags, const Variables& variables) {
  const auto identity = Resolve(flags, variables);
  return identity.ok() ? "" : std::string(identity.status().message());
}

const Variables kTorchrun = {{"RANK", "1"},
                             {"WORLD_SIZE", "4"},
                             {"MASTER_ADDR", "node7"},
                             {"MASTER_PORT", "29500"},
                             {"TORCHELASTIC_RUN_ID", "job"},
                             {"TORCHELASTIC_RESTART_COUNT", "2"}};

TEST(WorkerIdentityTest, AsTorchrunSetsIt) {
  const auto identity = Resolve({}, kTorchrun);
  ASSERT_TRUE(identity.ok()) << identity.status();
  EXPECT_EQ(identity->rank, 1);
  EXPECT_EQ(identity->world_size, 4);
  EXPECT_EQ(identity->store_url, "tcp://node7:29500");
  EXPECT_EQ(identity->run_id, "job.2");
}

TEST(WorkerIdentityTest, AsSlurmSetsIt) {
  IdentityFlags flags;
  flags.store_url = "redis://head:6379/0";
  const auto identity = Resolve(flags, {{"SLURM_PROCID", "2"},
                                        {"SLURM_NTASKS", "5"},
                                        {"SLURM_JOB_ID", "77"},
                                        {"SLURM_STEP_ID", "1"}});
  ASSERT_TRUE(identity.ok()) << identity.status();
  EXPECT_EQ(identity->rank, 2);
  EXPECT_EQ(identity->world_size, 5);
  EXPECT_EQ(identity->run_id, "77.1");
}

TEST(WorkerIdentityTest, FlagsWin) {
  IdentityFlags flags;
  flags.rank = 3;
  flags.world_size = 8;
  flags.store_url = "file:///tmp/s";
  flags.run_id = "mine";
  const auto identity = Resolve(flags, kTorchrun);
  ASSERT_TRUE(identity.ok()) << identity.status();
  EXPECT_EQ(identity->rank, 3);
  EXPECT_EQ(identity->world_size, 8);
  EXPECT_EQ(identity->store_url, "file:///tmp/s");
  EXPECT_EQ(identity->run_id, "mine");
}

TEST(WorkerIdentityTest, ANameIsARank) {
  IdentityFlags flags;
  flags.store_url = "file:///tmp/s";
  flags.name = "w2";
  const auto identity = Resolve(flags, {});
  ASSERT_TRUE(identity.ok()) << identity.status();
  EXPECT_EQ(identity->rank, 2);
  EXPECT_EQ(identity->world_size, 3);  // the scenario's
  flags.rank = 1;
  EXPECT_THAT(Error(flags, {}), HasSubstr("--name w2 contradicts rank 1"));
  for (const char* name : {"trainer", "w", "w01", "w-1", "w1x"}) {
    flags.name = name;
    EXPECT_THAT(Error(flags, {}), HasSubstr("w0, w1")) << name;
  }
}

TEST(WorkerIdentityTest, EverythingThatIsMissingIsListed) {
  const std::string error = Error({}, {{"MASTER_ADDR", "node7"}});
  EXPECT_THAT(error, HasSubstr("no rank"));
  EXPECT_THAT(error, HasSubstr("MASTER_PORT is not set"));
  EXPECT_THAT(Error({}, {}), HasSubstr("give --store URL"));
}

TEST(WorkerIdentityTest, NonsenseIsNamed) {
  IdentityFlags flags;
  flags.store_url = "file:///tmp/s";
  EXPECT_THAT(Error(flags, {{"RANK", "one"}}), HasSubstr("RANK is no number"));
  EXPECT_THAT(Error(flags, {{"RANK", "one"}}), Not(HasSubstr("no rank")));
  EXPECT_THAT(Error(flags, {{"RANK", "-1"}}), HasSubstr("negative"));
  EXPECT_THAT(Error(flags, {{"RANK", "3"}}), HasSubstr("does not fit"));
  EXPECT_THAT(Error(flags, {{"RANK", "0"}, {"WORLD_SIZE", "0"}}),
              HasSubstr("world size"));
  flags.run_id = "a/b";
  EXPECT_THAT(Error(flags, {{"RANK", "0"}}), HasSubstr("run id"));
  flags.run_id = "a";
  flags.store_url = "memory://";
  EXPECT_THAT(Error(flags, {{"RANK", "0"}}), HasSubstr("one process"));
}

TEST(WorkerIdentityTest, AnAddressOfIpv6GetsItsBrackets) {
  Variables variables = kTorchrun;
  variables["MASTER_ADDR"] = "2001:db8::7";
  EXPECT_EQ(Resolve({}, variables)->store_url, "tcp://[2001:db8::7]:29500");
}

}  // namespace
}  // namespace reprise
