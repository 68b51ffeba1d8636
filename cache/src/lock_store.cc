// Invariant: what may still be granted is given back behind the question, over the same connection,
// so that it is run after it as long as that connection lasts. Other releases need no order: a
// renewal that comes after one finds another token.

#include "lock_store.h"

#include <algorithm>
#include <array>
#include <utility>

#include "scripts.h"
#include "tiercel/base/bytes.h"

namespace tiercel {
namespace {

using std::chrono::milliseconds;

Error refused(const l2::Reply& reply) {
  constexpr std::size_t kTextMax = 300;
  return unavailable("Redis answered: " +
                     (reply.is_error() ? reply.text.substr(0, kTextMax)
                                       : std::string{"something that the script never returns"}));
}

Result<LockStore::Answer> answer_of(const l2::Reply& reply) {
  const auto& parts = reply.elements;
  if (!reply.is_array() || parts.size() != 2 || !parts[0].is_integer()) return refused(reply);
  if (parts[0].integer == 1 && parts[1].text.size() == sizeof(std::uint64_t)) {
    return LockStore::Answer{.is_granted = true,
                             .fencing_number = read_u64_be(parts[1].text.data())};
  }
  if (parts[0].integer != 0 || !parts[1].is_integer()) return refused(reply);
  LockStore::Answer answer;
  if (parts[1].integer >= 0) answer.left = milliseconds{parts[1].integer};
  return answer;
}

// WAIT holds up all that is behind it; so it is short, and asked for again.
milliseconds wait_of(const LockTicket& ticket) {
  constexpr milliseconds kWaitMax{1000};
  return std::min(kWaitMax, ticket.ttl / 3);
}

// What it asked for was done by the master alone, which is not what was asked for.
std::optional<Error> missing_copies(const DurableWriter::Outcome& outcome, std::uint32_t wanted) {
  if (outcome.replicas.value_or(0) >= wanted) return std::nullopt;
  const std::string have =
      outcome.replicas ? std::to_string(*outcome.replicas) : std::string{"an unknown number"};
  return unavailable("the master agreed, but " + have + " of " + std::to_string(wanted) +
                     " replicas have it");
}

}  // namespace

void RedisLockStore::acquire(const LockTicket& ticket, bool waits, TimePoint deadline,
                             AnswerCallback callback) {
  const std::string key = names_.lock_key(ticket.name);
  const std::string ttl_ms = std::to_string(ticket.ttl.count());
  const std::array<std::string_view, 2> keys{key, names_.lock_number_key()};
  const std::array<std::string_view, 3> arguments{ticket.token, ttl_ms, waits ? "1" : "0"};
  if (ticket.replicas == 0) {
    return client_.submit_script(acquire_lock_script(), keys, arguments, l2::Retry::kIfNotSent,
                                 deadline,
                                 [callback = std::move(callback)](Result<l2::Reply> reply) mutable {
                                   if (!reply) return callback(std::move(reply).error());
                                   callback(answer_of(*reply));
                                 });
  }
  const TimePoint useful_until = std::min<TimePoint>(deadline, clock_.now() + wait_of(ticket));
  durable_writer_.write(acquire_lock_script(), keys, arguments, ticket.replicas, useful_until,
                        [callback = std::move(callback),
                         wanted = ticket.replicas](DurableWriter::Outcome outcome) mutable {
                          if (!outcome.reply) return callback(outcome.reply.error());
                          auto answer = answer_of(*outcome.reply);
                          if (answer && answer->is_granted) {
                            answer->lacks_copies = missing_copies(outcome, wanted);
                          }
                          callback(std::move(answer));
                        });
}

void RedisLockStore::renew(const LockTicket& ticket, TimePoint deadline, RenewedCallback callback) {
  const std::string key = names_.lock_key(ticket.name);
  const std::string ttl_ms = std::to_string(ticket.ttl.count());
  const std::array<std::string_view, 1> keys{key};
  const std::array<std::string_view, 2> arguments{ticket.token, ttl_ms};
  const auto renewed_of = [](const Result<l2::Reply>& reply) -> Result<bool> {
    if (!reply) return reply.error();
    if (!reply->is_integer()) return refused(*reply);
    return reply->integer == 1;
  };
  if (ticket.replicas == 0) {
    return client_.submit_script(
        renew_lock_script(), keys, arguments, l2::Retry::kSafe, deadline,
        [callback = std::move(callback), renewed_of](Result<l2::Reply> reply) mutable {
          callback(renewed_of(reply));
        });
  }
  const TimePoint useful_until = std::min<TimePoint>(deadline, clock_.now() + wait_of(ticket));
  durable_writer_.write(renew_lock_script(), keys, arguments, ticket.replicas, useful_until,
                        [callback = std::move(callback), renewed_of,
                         wanted = ticket.replicas](DurableWriter::Outcome outcome) mutable {
                          auto renewed = renewed_of(outcome.reply);
                          if (renewed && *renewed) {
                            if (auto missing = missing_copies(outcome, wanted)) {
                              return callback(std::move(*missing));
                            }
                          }
                          callback(std::move(renewed));
                        });
}

void RedisLockStore::release(const LockTicket& ticket, l2::Retry retry, TimePoint deadline,
                             ReleasedCallback callback) {
  const std::string key = names_.lock_key(ticket.name);
  const std::array<std::string_view, 1> keys{key};
  const std::array<std::string_view, 1> arguments{ticket.token};
  auto released = [callback = std::move(callback)](const Result<l2::Reply>& reply) mutable {
    if (!reply) return callback(reply.error());
    if (!reply->is_integer()) return callback(refused(*reply));
    callback(reply->integer == 0   ? Released::kNotOurs
             : reply->integer == 2 ? Released::kDoneAndWanted
                                   : Released::kDone);
  };
  // Its question went over the durable writer's connection, where a WAIT may hold up what follows.
  if (ticket.replicas > 0 && retry == l2::Retry::kSafe) {
    durable_writer_.write(release_lock_script(), keys, arguments, /*replicas=*/0, deadline,
                          [](const DurableWriter::Outcome&) {});
  }
  client_.submit_script(
      release_lock_script(), keys, arguments, retry, deadline,
      [released = std::move(released)](Result<l2::Reply> reply) mutable { released(reply); });
}

// --- in this process

LocalLockStore::Held* LocalLockStore::find(const LockTicket& ticket) {
  const auto found = held_.find(ticket.name);
  if (found == held_.end() || found->second.token != ticket.token) return nullptr;
  return found->second.until > clock_.now() ? &found->second : nullptr;
}

void LocalLockStore::acquire(const LockTicket& ticket, bool /*waits*/, TimePoint /*deadline*/,
                             AnswerCallback callback) {
  const TimePoint now = clock_.now();
  const auto found = held_.find(ticket.name);
  if (found != held_.end() && found->second.until > now) {
    return callback(Answer{.left = found->second.until - now});
  }
  held_.insert_or_assign(ticket.name, Held{ticket.token, now + ticket.ttl, ++last_number_});
  callback(Answer{.is_granted = true, .fencing_number = last_number_});
}

void LocalLockStore::renew(const LockTicket& ticket, TimePoint /*deadline*/,
                           RenewedCallback callback) {
  Held* const held = find(ticket);
  if (held != nullptr) held->until = clock_.now() + ticket.ttl;
  callback(held != nullptr);
}

void LocalLockStore::release(const LockTicket& ticket, l2::Retry /*retry*/, TimePoint /*deadline*/,
                             ReleasedCallback callback) {
  const bool was_ours = find(ticket) != nullptr;
  if (const auto found = held_.find(ticket.name);
      found != held_.end() && found->second.token == ticket.token) {
    held_.erase(found);
  }
  callback(was_ours ? Released::kDone : Released::kNotOurs);
}

}  // namespace tiercel
