// What Redis has of a key, by GET.
//
// Flights that come to look at the same moment do so by one MGET (docs/decisions/0025): a command
// costs the loop thread, the kernel and the server more than each key in it.

#include <algorithm>
#include <span>
#include <utility>
#include <vector>

#include "core.h"
#include "together.h"
#include "words.h"

namespace tiercel {
namespace {

// In one MGET.
constexpr std::size_t kLooksMax = 64;

}  // namespace

void Cache::Core::look(const FlightPtr& flight, TimePoint deadline) {
  Look item{flight, deadline};
  if (loop_->is_forked()) return submit_looks(std::span{&item, 1});
  switch (looks_.push(item)) {
    case Outbox<Look>::Verdict::kFirst: return loop_->post([this] { send_looks(); });
    case Outbox<Look>::Verdict::kWaits: return;
    case Outbox<Look>::Verdict::kClosed: break;
  }
  look_done(flight, now(), closed("the cache was closed"));
}

void Cache::Core::look_done(const FlightPtr& flight, TimePoint sent_at,
                            const Result<l2::ReplyView>& reply) {
  if (flight->loads) return look_before_load_done(flight, sent_at, reply);
  fetch_done(flight, sent_at, kTtlNotAsked, reply);
}

void Cache::Core::send_looks() {
  std::vector<Look> looks = looks_.take();
  if (looks.empty()) return;  // Also where the cache is being closed.
  // Those whose deadlines are near each other come together.
  const auto comes_before = [](const Look& a, const Look& b) {
    return std::pair{!a.flight->loads, a.deadline} < std::pair{!b.flight->loads, b.deadline};
  };
  if (!std::is_sorted(looks.begin(), looks.end(), comes_before)) {
    std::sort(looks.begin(), looks.end(), comes_before);
  }
  client_->submit_together([&] {
    for (std::span<Look> rest{looks}; !rest.empty();) {
      const std::size_t count = count_looks_together(rest);
      submit_looks(rest.first(count));
      rest = rest.subspan(count);
    }
  });
}

std::size_t Cache::Core::count_looks_together(std::span<const Look> looks) {
  Together together{call_bytes_max_, kLooksMax};
  for (const Look& look : looks) {
    const std::size_t key_bytes = look.flight->key.size();
    const std::size_t bytes = key_bytes + learned_of(*look.flight).found_bytes.expected();
    if (!together.takes(bytes, key_bytes, look.deadline)) break;
  }
  return together.count();
}

// What answers have led to: the server is not to wait until all of its own are read. Few are better
// sent with those that the next answers lead to.
void Cache::Core::send_many_looks() {
  if (looks_.size() >= kLooksMax / 2) send_looks();
}

void Cache::Core::submit_looks(std::span<Look> looks) {
  const TimePoint sent_at = now();
  if (looks.size() == 1) {
    const auto& [flight, deadline] = looks.front();
    const std::string key = names_.value_key(flight->key);
    return client_->submit_view(
        l2::Command{l2::Retry::kSafe, {"GET", key}}, deadline,
        [this, flight = flight, sent_at](const Result<l2::ReplyView>& reply) {
          if (!reply) return look_done(flight, sent_at, reply);
          learned_of(*flight).found_bytes.note(reply->text().size());
          look_done(flight, sent_at, reply);
          send_many_looks();
        });
  }
  TimePoint deadline{};
  Words words;
  words.add("MGET");
  for (const Look& look : looks) {
    words.add({names_.value_prefix(), look.flight->key});
    deadline = std::max(deadline, look.deadline);
  }
  std::vector<Look> together{std::make_move_iterator(looks.begin()),
                             std::make_move_iterator(looks.end())};
  client_->submit_view(
      l2::Command{l2::Retry::kSafe, words.views()}, deadline,
      [this, together = std::move(together), sent_at](const Result<l2::ReplyView>& reply) mutable {
        if (!reply) {
          for (const Look& look : together) {
            learned_of(*look.flight).found_bytes.note_too_many(together.size(), call_bytes_max_);
            look_done(look.flight, sent_at, reply);
          }
          return;
        }
        if (reply->size() != together.size()) {  // Refused, maybe for one key alone.
          for (Look& look : together) submit_looks(std::span{&look, 1});
          return;
        }
        for (std::size_t i = 0; i < together.size(); ++i) {
          const l2::ReplyView found = (*reply)[i];
          learned_of(*together[i].flight).found_bytes.note(found.text().size());
          look_done(together[i].flight, sent_at, found);
        }
        send_many_looks();
      });
}

// Any thread. What has not been sent needs no word of the loop's.
void Cache::Core::close_looks() {
  for (const Look& look : looks_.close()) {
    look_done(look.flight, now(), closed("the cache was closed"));
  }
}

}  // namespace tiercel
