// Writes of a CacheModel, as in writes.cc.

#include <utility>

#include "cache_model.h"

namespace tiercel::sim {

using namespace std::chrono_literals;
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
      [this, key, is_delete, replicas, token, write](Links::Ending ending, const Reply& reply) {
        write_done(key, is_delete, replicas, token, write, ending, reply);
      },
      replicas);
}

void CacheModel::write_done(std::size_t key, bool is_delete, std::size_t replicas,
                            std::shared_ptr<coherence::FillTable::Token> token,
                            std::uint32_t write, Links::Ending ending, const Reply& reply) {
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
  if (is_loaded(key)) queue_replay(key, write);
}

void CacheModel::change_and_invalidate_tag(std::size_t tag) {
  ++env_.counts.writes;
  const std::uint32_t write = ++database_.writes;
  for (std::size_t key = 0; key < kKeys; ++key) {
    if (is_loaded(key) && tag_of(key) == tag) database_.rows[key] = write;
  }
  submit_tag(tag, write);
}

void CacheModel::submit_tag(std::size_t tag, std::uint32_t write) {
  ++writes_under_way_;
  links_.submit(
      [this, tag, write, nonce = ++nonces_](RedisServer& server) {
        return server.invalidate_tag(tag, write, origin_, nonce);
      },
      /*is_safe=*/false, kWriteTimeout, [this](Links::Ending ending, const Reply& reply) {
        --writes_under_way_;
        if (ending == Links::Ending::kAnswered && reply.status == Status::kOk) {
          env_.checkers.acknowledged(reply.place, false);
        }
      });
}

void CacheModel::change_and_clear() {
  ++env_.counts.writes;
  const std::uint32_t write = ++database_.writes;
  for (std::size_t key = 0; key < kKeys; ++key) {
    if (is_loaded(key)) database_.rows[key] = write;
  }
  ++writes_under_way_;
  links_.submit(
      [this, write, nonce = ++nonces_](RedisServer& server) {
        return server.clear(write, origin_, nonce);
      },
      /*is_safe=*/false, kWriteTimeout, [this](Links::Ending ending, const Reply& reply) {
        --writes_under_way_;
        if (ending == Links::Ending::kAnswered && reply.status == Status::kOk) {
          env_.checkers.acknowledged(reply.place, false);
        }
      });
}

// --- invalidations that could not be sent, or may not have been: sent again as soon as D is up,
// and no lease until they are acknowledged.

void CacheModel::queue_replay(std::size_t key, std::uint32_t write) {
  auto& newest = to_replay_[key];
  newest = std::max(newest, write);
  session_.replay_waits(true, clock_.now(), actions_);
  settle();
  if (links_.is_data_up()) replay_all();
}

void CacheModel::replay_all() {
  for (const auto& [key, write] : std::exchange(to_replay_, {})) {
    ++replays_under_way_;
    links_.submit(
        [this, key = key, write = write, nonce = ++nonces_](RedisServer& server) {
          return server.write(key, write, /*is_delete=*/true, origin_, nonce, false);
        },
        /*is_safe=*/false, kWriteTimeout,
        [this, key = key, write = write](Links::Ending ending, const Reply& reply) {
          --replays_under_way_;
          if (ending == Links::Ending::kAnswered && reply.status == Status::kOk) {
            evict(key_name(key), session_.fills_allowed() ? reply.version : kVersionUnknown);
          } else {
            auto& newest = to_replay_[key];
            newest = std::max(newest, write);
            process_.give_after(50ms, [this] {
              if (links_.is_data_up()) replay_all();
            });
          }
          if (to_replay_.empty() && replays_under_way_ == 0) {
            session_.replay_waits(false, clock_.now(), actions_);
            settle();
          }
        });
  }
}

}  // namespace tiercel::sim
