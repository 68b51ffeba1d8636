#include "tiercel/l2/command.h"

#include "resp_format.h"
#include "sha1.h"
#include "tiercel/base/check.h"

namespace tiercel::l2 {

Command::Command(Retry retry, std::span<const std::string_view> words) : retry_(retry) {
  TIERCEL_CHECK(!words.empty());  // An empty request gets no reply and would shift all later ones.
  wire_.reserve(request_bytes(words));
  append_request(wire_, words);
}

Command::Command(Retry retry, std::initializer_list<std::string_view> words)
    : Command(retry, std::span{words.begin(), words.size()}) {}

Script::Script(std::string_view source) : source_(source), sha1_(sha1_hex(source)) {}

}  // namespace tiercel::l2
