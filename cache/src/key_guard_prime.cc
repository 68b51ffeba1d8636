// From Redis. Adds are kept from begin_priming() on, and everything is read after that: whoever
// created a key before has set its bits in the chunks, and the message of whoever did later comes.

#include <string>
#include <utility>

#include "key_guard.h"
#include "link_driver.h"

namespace tiercel {

using namespace std::chrono_literals;

void KeyGuard::begin_priming() {
  begin(Job::kPrime);
  if (auto begun = generations_.begin_priming(); !begun) return fail(begun.error());
  ask(in_job([this](Result<l2::Reply> reply) { prime(std::move(reply)); }));
}

void KeyGuard::prime(Result<l2::Reply> reply) {
  if (!reply) return fail(reply.error());
  if (!reply->is_array() || reply->elements.size() != 2) return fail(refused(*reply));
  auto stored = decode_guard(reply->elements[0].text);
  if (!stored || stored->branch != branch_ || !stored->current) return end(0s);
  stored_ = std::move(*stored);
  if (auto taken = generations_.take_header(*stored_.current); !taken) return fail(taken.error());
  pump_.start({.chunks = chunks_of(*stored_.current),
               .send =
                   [this](std::size_t chunk, l2::ReplyCallback callback) {
                     const std::string key =
                         chunk_key(around_.guard_key, stored_.current->generation, chunk);
                     around_.client->submit(l2::Command{l2::Retry::kSafe, {"GET", key}},
                                            answer_by(), std::move(callback));
                     return true;
                   },
               .take = [this](std::size_t chunk,
                              Result<l2::Reply> got) { return take_chunk(chunk, std::move(got)); },
               .done = [this](Result<void> result) { primed(std::move(result)); }});
}

Result<void> KeyGuard::take_chunk(std::size_t chunk, Result<l2::Reply> reply) {
  if (!is_linked()) return unavailable("the links have moved");
  if (!reply) return reply.error();
  if (reply->is_nil()) return corrupt("chunk " + std::to_string(chunk) + " is not there");
  if (!reply->is_string()) return refused(*reply);
  return generations_.take_chunk(chunk, reply->text);
}

void KeyGuard::primed(Result<void> result) {
  if (!is_linked()) return end(kLookForLinks);
  auto old = generations_.current();
  if (result) result = generations_.finish();
  if (!result) {
    if (result.error().code == ErrorCode::kCorrupt) condemn(stored_);
    return fail(result.error());
  }
  if (old) let_go(std::move(old));
  failed_ = 0;
  published_ = 0;
  {
    MutexLock lock{mutex_};
    ++counts_.primed;
  }
  log(LogLevel::kInfo, "primed from Redis");
  end(kLookEvery);
}

}  // namespace tiercel
