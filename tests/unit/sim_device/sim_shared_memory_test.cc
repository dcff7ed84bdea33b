#include "sim/device/sim_shared_memory.h"

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "gtest/gtest.h"
#include "sim/world/world.h"

namespace reprise {
namespace {

class SimSharedMemoryTest : public ::testing::Test {
 protected:
  static Node NamedNode(const std::string& name) {
    Node node;
    node.label = name;
    return node;
  }

  Node node_ = NamedNode("w0");
  Node neighbour_ = NamedNode("w1");
  Node stranger_ = NamedNode("w2");
  SimSharedMemories all_;
  SharedMemory& own_ = all_.Connect(node_, 0);
  SharedMemory& near_ = all_.Connect(neighbour_, 0);
  SharedMemory& far_ = all_.Connect(stranger_, 1);
};

TEST_F(SimSharedMemoryTest, TwoProcessesOfAHostShareIt) {
  auto made = *own_.Create(4096);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(made->data()) % 4096, 0u);
  EXPECT_EQ(made->data()[4095], '\0');
  auto opened = *near_.Open(made->name(), 4096);
  opened->data()[7] = 'x';
  EXPECT_EQ(made->data()[7], 'x');
  EXPECT_EQ(opened->name(), "");
  // It stays where it is open.
  const std::string name = made->name();
  made = nullptr;
  EXPECT_EQ(opened->data()[7], 'x');
  EXPECT_EQ(near_.Open(name, 4096).status().code(),
            absl::StatusCode::kNotFound);
}

TEST_F(SimSharedMemoryTest, WhatCannotBeOpened) {
  const auto made = *own_.Create(4096);
  EXPECT_EQ(far_.Open(made->name(), 4096).status().code(),
            absl::StatusCode::kNotFound);
  EXPECT_EQ(near_.Open("another", 4096).status().code(),
            absl::StatusCode::kNotFound);
  EXPECT_EQ(near_.Open(made->name(), 8192).status().code(),
            absl::StatusCode::kInvalidArgument);
  node_.alive = false;
  EXPECT_EQ(near_.Open(made->name(), 4096).status().code(),
            absl::StatusCode::kNotFound);
}

TEST_F(SimSharedMemoryTest, ProcessesLiveUntilTheyCrash) {
  EXPECT_TRUE(near_.IsAlive(own_.ProcessName()));
  EXPECT_FALSE(far_.IsAlive(own_.ProcessName()));
  EXPECT_FALSE(near_.IsAlive("nobody"));
  node_.alive = false;
  EXPECT_FALSE(near_.IsAlive(own_.ProcessName()));
}

}  // namespace
}  // namespace reprise
