// What PyTorch's pickles of calls are made of, and which readers and writers of
// them share. Seen with PyTorch 1.13.1 and 2.15.0.

#ifndef REPRISE_AGENT_PYTHON_STOCK_NAMES_H_
#define REPRISE_AGENT_PYTHON_STOCK_NAMES_H_

#include <string_view>

#include "agent/wire/pickle_tree.h"

namespace reprise::stock_names {

inline constexpr std::string_view kInternal = "torch.distributed.rpc.internal";
inline constexpr PickleTree::GlobalName kPythonUdf{kInternal, "PythonUDF"};
inline constexpr PickleTree::GlobalName kRemoteException{kInternal,
                                                         "RemoteException"};
inline constexpr std::string_view kBuiltins = "builtins";
inline constexpr PickleTree::GlobalName kGetAttribute{kBuiltins, "getattr"};

// The protocol of TorchScript's pickles.
inline constexpr int kJitProtocol = 2;

}  // namespace reprise::stock_names

#endif  // REPRISE_AGENT_PYTHON_STOCK_NAMES_H_
