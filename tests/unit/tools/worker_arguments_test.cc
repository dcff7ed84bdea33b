// What a coordinator tells a worker process.

#include "tools/processes/worker_arguments.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace reprise {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::Not;
using testing::StartsWith;

WorkerArguments Some() {
  WorkerArguments worker;
  worker.scenario = "device_streams";
  worker.rank = 1;
  worker.world_size = 3;
  worker.transports = {"shm", "uv"};
  worker.store_url = "file:///tmp/a=b";
  worker.trace_fd = 5;
  worker.params = {{"a=b", 7}};
  return worker;
}

TEST(WorkerArgumentsTest, ListsComeBack) {
  WorkerArguments worker = Some();
  worker.gpus = {3, 0, 3};
  const auto parsed = ParseWorkerArguments(FormatWorkerArguments(worker));
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_THAT(parsed->transports, ElementsAre("shm", "uv"));
  EXPECT_THAT(parsed->gpus, ElementsAre(3, 0, 3));
  EXPECT_EQ(parsed->store_url, worker.store_url);
  EXPECT_EQ(parsed->params, worker.params);
}

TEST(WorkerArgumentsTest, NoGpusAreNoWord) {
  const std::vector<std::string> words = FormatWorkerArguments(Some());
  EXPECT_THAT(words, Not(Contains(StartsWith("gpus="))));
  const auto parsed = ParseWorkerArguments(words);
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_THAT(parsed->gpus, IsEmpty());
}

TEST(WorkerArgumentsTest, ListsThatMakeNoSense) {
  for (const char* word : {"gpus=", "gpus=x", "gpus=1,", "gpus=1 2"}) {
    std::vector<std::string> words = FormatWorkerArguments(Some());
    words.emplace_back(word);
    EXPECT_FALSE(ParseWorkerArguments(words).ok()) << word;
  }
  WorkerArguments worker = Some();
  worker.transports.clear();
  EXPECT_FALSE(ParseWorkerArguments(FormatWorkerArguments(worker)).ok());
}

}  // namespace
}  // namespace reprise
