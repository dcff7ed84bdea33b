// The first frames of a connection, as TensorPipe itself makes them.

#ifndef REPRISE_TESTS_UNIT_TRANSPORT_GREETINGS_H_
#define REPRISE_TESTS_UNIT_TRANSPORT_GREETINGS_H_

#include <cstdint>
#include <map>
#include <string>

namespace reprise::testing {

// A frame: `body` with its length before it.
std::string Frame(const std::string& body);

std::string PipeHelloFrame(const std::string& name);
std::string RequestedHelloFrame(uint64_t id);
std::string LaneHelloFrame(uint64_t id);
// A brochure that offers `domains`, by transport, and the channel basic.
std::string BrochureFrame(const std::map<std::string, std::string>& domains = {
                              {"uv", "uv:*"}});
std::string BrochureAnswerFrame();

}  // namespace reprise::testing

#endif  // REPRISE_TESTS_UNIT_TRANSPORT_GREETINGS_H_
