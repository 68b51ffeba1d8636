#include "master_finder.h"

#include <algorithm>
#include <utility>

namespace tiercel::sim {

using namespace std::chrono_literals;
using EventKind = SentinelEvent::Kind;

namespace {
constexpr Duration kHintLife = 5s;
constexpr Duration kQuietAfter = 10s;  // As SentinelSurvey's.
constexpr Duration kAfterFirstAnswer = 100ms;
}  // namespace

MasterFinder::MasterFinder(Env& env, Process& process, std::vector<SentinelModel*> sentinels,
                           std::function<void()> on_change)
    : env_(env),
      process_(process),
      sentinels_(std::move(sentinels)),
      on_change_(std::move(on_change)),
      hearings_(sentinels_.size()) {
  if (sentinels_.empty()) target_ = 0;
}

void MasterFinder::start() {
  if (sentinels_.empty()) return;
  ask();
  process_.give_after(env_.some(5s, 15s), [this] { start(); });
}

void MasterFinder::ask() {
  if (sentinels_.empty()) return;
  if (is_asking_) {
    asks_again_ = true;
    return;
  }
  is_asking_ = true;
  ask_all(500ms, [this](const Round& round) {
    is_asking_ = false;
    judge(round);
    if (std::exchange(asks_again_, false)) ask();
  });
}

void MasterFinder::ask_all(Duration patience, std::function<void(const Round&)> done) {
  auto round = std::make_shared<Round>();
  const auto finish = [round, done = std::move(done)] {
    if (std::exchange(round->is_over, true)) return;
    done(*round);
  };
  for (SentinelModel* sentinel : sentinels_) {
    env_.network.post(process_, sentinel->process(), [this, sentinel, round, finish] {
      env_.network.post(sentinel->process(), process_,
                        [this, round, finish, answer = sentinel->answer()] {
                          if (round->is_over) return;
                          round->answers.push_back(answer);
                          if (round->answers.size() == sentinels_.size()) return finish();
                          if (round->answers.size() == 1) {
                            process_.give_after(kAfterFirstAnswer, finish);
                          }
                        });
    });
  }
  process_.give_after(patience, finish);
}

void MasterFinder::judge(const Round& round) {
  const SentinelAnswer* best = nullptr;
  std::size_t best_count = 0;
  for (const SentinelAnswer& answer : round.answers) {
    const auto count = static_cast<std::size_t>(
        std::count_if(round.answers.begin(), round.answers.end(), [&](const auto& other) {
          return other.master == answer.master && other.config_epoch == answer.config_epoch;
        }));
    if (!best || answer.config_epoch > best->config_epoch ||
        (answer.config_epoch == best->config_epoch && count > best_count)) {
      best = &answer;
      best_count = count;
    }
  }
  if (!best || best->config_epoch < proven_epoch_) return;
  if (env_.now() < hint_until_ && best->config_epoch < target_epoch_) return;
  is_claimed_ = true;
  set_target(best->master, best->config_epoch);
}

void MasterFinder::hear(const SentinelEvent& event) {
  Hearing& hearing = hearings_[event.sentinel];
  ++hearing.heard;
  switch (event.kind) {
    case EventKind::kTry:
    case EventKind::kVote:
    case EventKind::kOrder: hearing.sign_at = env_.now(), hearing.settled_on.reset(); break;
    case EventKind::kPromoted:
    case EventKind::kSwitch: hearing.sign_at = env_.now(), hearing.settled_on = event.server; break;
    default: break;
  }
  switch (event.kind) {
    case EventKind::kVote: votes_[event.epoch][event.leader].insert(event.sentinel); break;
    case EventKind::kOrder: {
      const auto& voters = votes_[event.epoch][event.leader];
      if (2 * voters.size() > sentinels_.size()) hint(event.server, event.epoch);
      break;
    }
    case EventKind::kSwitch:
      if (target_ == event.former_master && event.epoch >= target_epoch_) {
        hint(event.server, event.epoch);
      } else {
        ask();
      }
      break;
    case EventKind::kAborted:
      if (event.epoch == target_epoch_) hint_until_ = TimePoint{};
      ask();
      break;
    case EventKind::kPromoted: ask(); break;
    case EventKind::kTry:
    case EventKind::kObjectivelyDown: break;
  }
}

void MasterFinder::hint(std::size_t server, std::uint64_t epoch) {
  is_claimed_ = false;
  hint_until_ = env_.now() + kHintLife;
  process_.give_after(kHintLife + 1ms, [this] { ask(); });
  set_target(server, epoch);
}

void MasterFinder::set_target(std::size_t server, std::uint64_t epoch) {
  target_epoch_ = epoch;
  if (target_ == server) return;
  env_.trace.tell(process_.name(), "takes M", server + 1, " for the master, epoch ", epoch);
  target_ = server;
  on_change_();
}

void MasterFinder::found_master(std::size_t server) {
  if (target_ == server && is_claimed_) {
    proven_epoch_ = std::max(proven_epoch_, target_epoch_);
  }
}

void MasterFinder::found_none(std::size_t server) {
  if (target_ == server) ask();
}

bool MasterFinder::hears(const SentinelAnswer& answer) {
  Hearing& hearing = hearings_[answer.sentinel];
  const bool hears_all = hearing.has_begun && answer.published == hearing.missed + hearing.heard;
  if (!hears_all) {
    const bool is_first = !std::exchange(hearing.has_begun, true);
    hearing.missed = answer.published;
    hearing.heard = 0;
    hearing.since = env_.now();
    return is_first;
  }
  return true;
}

void MasterFinder::survey(std::size_t master, const std::vector<std::string>& addresses,
                          Duration patience, std::function<void(coherence::SentinelRound)> done) {
  ask_all(patience, [this, master, addresses, done = std::move(done)](const Round& round) {
    coherence::SentinelRound result{.known = sentinels_.size(), .answered = round.answers.size()};
    result.is_calm = !round.answers.empty() &&
                     std::all_of(hearings_.begin(), hearings_.end(), [&](const Hearing& hearing) {
                       return hearing.sign_at == TimePoint{} || hearing.settled_on == master ||
                              env_.now() >= hearing.sign_at + kQuietAfter;
                     });
    for (const SentinelAnswer& answer : round.answers) {
      const bool is_heard =
          hears(answer) && (result.answered >= result.known ||
                            env_.now() >= hearings_[answer.sentinel].since + kQuietAfter);
      const bool has_promoted_it = answer.master != answer.lists_all_but;
      const bool fails_it_over = answer.is_failing_over && !has_promoted_it;
      if (answer.master != master || fails_it_over || answer.is_tilted || !is_heard) {
        result.is_calm = false;
      }
    }
    if (!round.answers.empty()) {
      for (std::size_t i = 0; i < addresses.size(); ++i) {
        // Each lists all servers but the one that it takes for the master.
        coherence::SentinelRound::Replica replica{.address = addresses[i]};
        bool is_listed = false;
        for (const SentinelAnswer& answer : round.answers) {
          if (answer.lists_all_but == i) continue;
          is_listed = true;
          if (answer.sees_down[i] && !answer.is_tilted) ++replica.down_count;
        }
        if (is_listed) result.replicas.push_back(std::move(replica));
      }
    }
    done(std::move(result));
  });
}

}  // namespace tiercel::sim
