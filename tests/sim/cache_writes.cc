// Writes of a CacheModel, as in writes.cc.

#include <utility>

#include "cache_model.h"

namespace tiercel::sim {

using namespace std::chrono_literals;
using coherence::InvalidationKind;
using coherence::kVersionUnknown;

namespace {
constexpr Duration kWriteTimeout = 1s;
}  // namespace

void CacheModel::set(std::size_t key, std::size_t replicas) {
  ++env_.counts.writes;
  send_write(key, ++database_.writes, /*is_delete=*/env_.one_in(12), replicas);
}

void CacheModel::change_and_invalidate(std::size_t key) {
  ++env_.counts.writes;
  database_.rows[key] = ++database_.writes;
  send_write(key, database_.writes, /*is_delete=*/true, 0);
}

void CacheModel::send_write(std::size_t key, std::uint32_t write, bool is_delete,
                            std::size_t replicas) {
  evict(key_name(key), kVersionUnknown);
  auto token = std::make_shared<coherence::FillTable::Token>(fills_.begin(key_name(key)));
  ++writes_under_way_;
  links_.submit(
      [this, key, write, is_delete, nonce = ++nonces_](RedisServer& server) {
        return server.write(key, write, is_delete, origin_, nonce, is_pushed(key));
      },
      /*is_safe=*/false, kWriteTimeout,
      [this, key, is_delete, replicas, token](Links::Ending ending, const Reply& reply) {
        write_done(key, is_delete, replicas, token, ending, reply);
      },
      replicas);
}

void CacheModel::write_done(std::size_t key, bool is_delete, std::size_t replicas,
                            std::shared_ptr<coherence::FillTable::Token> token,
                            Links::Ending ending, const Reply& reply) {
  --writes_under_way_;
  const std::string name = key_name(key);
  if (ending == Links::Ending::kAnswered && reply.status == Status::kOk) {
    // Versions of different servers' histories must not be compared.
    const bool is_comparable = session_.fills_allowed();
    evict(name, is_comparable ? reply.version : kVersionUnknown);
    if (is_comparable && !is_delete) {
      // Where foreign writers are observed its own tracking message may come after this.
      if (!env_.setup.session.observes_foreign_writers) {
        put_into_l1(std::move(*token), reply.stored);
      }
      saw(key, {generation(), reply.stored.value, reply.version});
    }
    const bool by_all = replicas > 0 && static_cast<std::size_t>(reply.outcome) >= replicas &&
                        replicas + 1 == servers_.size();
    env_.checkers.acknowledged(reply.place, by_all);
    return;
  }
  if (ending == Links::Ending::kUnknown) {
    ++env_.counts.writes_unknown;
    evict(name, kVersionUnknown);
  }
  if (is_loaded(key)) queue_invalidation(InvalidationKind::kKey, name);
}

void CacheModel::change_and_invalidate_tag(std::size_t tag) {
  ++env_.counts.writes;
  const std::uint32_t write = ++database_.writes;
  for (std::size_t key = 0; key < kKeys; ++key) {
    if (is_loaded(key) && tag_of(key) == tag) database_.rows[key] = write;
  }
  ++writes_under_way_;
  links_.submit(
      [this, tag, write, nonce = ++nonces_](RedisServer& server) {
        return server.invalidate_tag(tag, write, origin_, nonce);
      },
      /*is_safe=*/false, kWriteTimeout,
      [this, tag](Links::Ending ending, const Reply& reply) {
        --writes_under_way_;
        if (ending == Links::Ending::kAnswered && reply.status == Status::kOk) {
          env_.checkers.acknowledged(reply.place, false);
          if (session_.fills_allowed()) {
            tags_.invalidate(static_cast<coherence::TagSlot>(tag), reply.version);
          }
          return;
        }
        queue_invalidation(InvalidationKind::kTag, tag_name(tag));
      });
}

void CacheModel::change_and_clear() {
  ++env_.counts.writes;
  const std::uint32_t write = ++database_.writes;
  for (std::size_t key = 0; key < kKeys; ++key) {
    if (is_loaded(key)) database_.rows[key] = write;
  }
  ++writes_under_way_;
  links_.submit([this, write, nonce = ++nonces_](
                    RedisServer& server) { return server.clear(write, origin_, nonce); },
                /*is_safe=*/false, kWriteTimeout,
                [this](Links::Ending ending, const Reply& reply) {
                  --writes_under_way_;
                  if (ending == Links::Ending::kAnswered && reply.status == Status::kOk) {
                    return env_.checkers.acknowledged(reply.place, false);
                  }
                  queue_invalidation(InvalidationKind::kClear, {});
                });
}

// --- invalidations that could not be sent, or may not have been: sent again as soon as D is up,
// and no lease until they are acknowledged.

void CacheModel::queue_invalidation(InvalidationKind kind, const std::string& name) {
  queue_.add(kind, name);
  session_.replay_waits(true, clock_.now(), actions_);
  settle();
  replay();
}

// One after the other; what fails waits for a while, or for D.
void CacheModel::replay() {
  if (is_replaying_ || !links_.is_data_up()) return;
  auto batch = queue_.take(1, 1000);
  if (!batch) {
    if (!queue_.empty()) return;
    session_.replay_waits(false, clock_.now(), actions_);
    return settle();
  }
  is_replaying_ = true;
  const std::size_t number = batch->names.empty() ? 0 : key_number(batch->names.front());
  if (batch->kind == InvalidationKind::kKey) evict(batch->names.front(), kVersionUnknown);
  links_.submit(
      [this, kind = batch->kind, number, nonce = ++nonces_](RedisServer& server) {
        // It speaks for all that the database holds by now.
        switch (kind) {
          case InvalidationKind::kTag: return server.invalidate_tag(number, 0, origin_, nonce);
          case InvalidationKind::kClear: return server.clear(0, origin_, nonce);
          default:
            return server.write(number, database_.rows[number], /*is_delete=*/true, origin_, nonce,
                                false);
        }
      },
      /*is_safe=*/true, kWriteTimeout,
      [this, batch = *batch](Links::Ending ending, const Reply& reply) {
        is_replaying_ = false;
        if (ending == Links::Ending::kAnswered && reply.status == Status::kOk) {
          queue_.acknowledge(batch);
          return replay();
        }
        queue_.put_back(batch);
        process_.give_after(50ms, [this] { replay(); });
      });
}

}  // namespace tiercel::sim
