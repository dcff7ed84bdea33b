// A store whose accesses a test can make fail.

#ifndef REPRISE_TESTS_UNIT_AGENT_HOOKED_STORE_H_
#define REPRISE_TESTS_UNIT_AGENT_HOOKED_STORE_H_

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "agent/store/store.h"

namespace reprise::testing {

// Called before and after each access, with the name of the method and the key.
// A status that is not OK is returned to the caller. If `before` fails, the
// access is not made; if `after` fails, it was made. The hooks must be
// thread-safe and may be null.
using StoreHook = std::function<absl::Status(const std::string& call,
                                             const std::string& key)>;

std::shared_ptr<Store> MakeHookedStore(std::shared_ptr<Store> store,
                                       StoreHook before, StoreHook after);

// An empty store in which nobody has published anything of ours: all look like
// stock workers.
std::shared_ptr<Store> StockStore();

}  // namespace reprise::testing

#endif  // REPRISE_TESTS_UNIT_AGENT_HOOKED_STORE_H_
