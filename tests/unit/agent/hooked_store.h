// A store in which accesses can be made to fail.

#ifndef REPRISE_TESTS_UNIT_AGENT_HOOKED_STORE_H_
#define REPRISE_TESTS_UNIT_AGENT_HOOKED_STORE_H_

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "agent/store/store.h"

namespace reprise::testing {

// Called around each access, with the method's name and the key; what is not OK
// is returned to the caller instead. After `before` failed, nothing was done;
// when `after` fails, all was. Must be thread-safe; may be null.
using StoreHook = std::function<absl::Status(const std::string& call,
                                             const std::string& key)>;

std::shared_ptr<Store> MakeHookedStore(std::shared_ptr<Store> store,
                                       StoreHook before, StoreHook after);

}  // namespace reprise::testing

#endif  // REPRISE_TESTS_UNIT_AGENT_HOOKED_STORE_H_
