// The contract of every kind of `Disk`, as a parameterised test suite. To run
// it for a kind, depend on :disk_contract and write
//
//   INSTANTIATE_TEST_SUITE_P(Folder, DiskContractTest, testing::Values(...));

#ifndef REPRISE_TESTS_UNIT_DISK_DISK_CONTRACT_H_
#define REPRISE_TESTS_UNIT_DISK_DISK_CONTRACT_H_

#include <functional>
#include <memory>

#include "agent/disk/disk.h"
#include "gtest/gtest.h"

namespace reprise {

// Runs a body that uses an empty disk.
using WithDisk = std::function<void(std::function<void(Disk&)> body)>;

class DiskContractTest : public testing::TestWithParam<WithDisk> {};

}  // namespace reprise

#endif  // REPRISE_TESTS_UNIT_DISK_DISK_CONTRACT_H_
