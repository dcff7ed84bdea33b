// The world's transport as PyTorch's agent finds it: by the registry
// `TensorPipeTransportRegistry`, under the name "sim", as ours is called.

#ifndef REPRISE_SIM_STOCK_STOCK_TRANSPORT_H_
#define REPRISE_SIM_STOCK_STOCK_TRANSPORT_H_

#include <utility>

#include "agent/transport/transports.h"

namespace reprise {

inline constexpr const char* kStockTransport = "sim";
inline constexpr const char* kStockChannel = "basic";

// While one exists, an agent of PyTorch's that is started on this thread gets
// its transport from `provider`. PyTorch makes its contexts by functions
// without arguments, on the thread that starts the agent.
class StockTransportScope {
 public:
  explicit StockTransportScope(TransportProvider& provider)
      : outer_(std::exchange(current_, &provider)) {}
  StockTransportScope(const StockTransportScope&) = delete;
  StockTransportScope& operator=(const StockTransportScope&) = delete;
  ~StockTransportScope() { current_ = outer_; }

  static TransportProvider* current() { return current_; }

 private:
  static inline thread_local constinit TransportProvider* current_ = nullptr;

  TransportProvider* const outer_;
};

}  // namespace reprise

#endif  // REPRISE_SIM_STOCK_STOCK_TRANSPORT_H_
