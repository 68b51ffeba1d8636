#include "master_finder.h"

#include <utility>

namespace tiercel::l2 {
namespace {

// Several events in a row, or several subscriptions that come up together, make one round.
constexpr Duration kAskSoon = std::chrono::milliseconds{10};

}  // namespace

MasterFinder::MasterFinder(Host& host)
    : host_(host),
      directory_(host.redis().sentinels, host.clock().now()),
      resolver_(host, directory_, *this),
      watch_(host, directory_, *this),
      surveyor_(host, directory_, resolver_, watch_, signs_) {}

MasterFinder::~MasterFinder() = default;  // Not on the loop thread: stop() came before.

void MasterFinder::start() {
  if (has_sentinels()) watch_.follow_directory();
}

void MasterFinder::stop() {
  host_.loop().cancel(std::exchange(refresh_timer_, 0));
  host_.loop().cancel(std::exchange(ask_timer_, 0));
  surveyor_.stop();
  watch_.stop();
  resolver_.stop();
  waiters_.clear();
}

void MasterFinder::resolve(Waiter waiter) {
  if (!has_sentinels()) return waiter(Resolution{host_.redis().server, 0, {}});
  waiters_.push_back(std::move(waiter));
  resolver_.ask_all();
}

void MasterFinder::suspect() {
  if (has_sentinels() && host_.clock().now() - asked_at_ >= kSuspicionGap) resolver_.ask_all();
}

void MasterFinder::found_unreachable(const Endpoint& endpoint) {
  belief_.found_unreachable(endpoint, host_.clock().now());
}

void MasterFinder::ask_soon() {
  if (ask_timer_ != 0) return;
  ask_timer_ = host_.loop().run_after(kAskSoon, [this] {
    ask_timer_ = 0;
    resolver_.ask_all();
  });
}

void MasterFinder::schedule_refresh() {
  host_.loop().cancel(refresh_timer_);
  Duration mean = watch_.subscribed_count() == 0 ? kRefreshUnwatched : kRefreshMean;
  if (belief_.is_ahead(host_.clock().now())) mean = kRefreshUnconfirmed;
  // From half to one and a half: clients that began together do not ask together for ever.
  const auto jitter =
      static_cast<Duration::rep>(host_.random().below(static_cast<std::uint64_t>(mean.count())));
  refresh_timer_ = host_.loop().run_after(mean / 2 + Duration{jitter}, [this] {
    refresh_timer_ = 0;
    resolver_.ask_all();
  });
}

void MasterFinder::round_ended(const Resolver::Round& round) {
  const TimePoint now = host_.clock().now();
  asked_at_ = now;
  // Sentinels that have forgotten our master were told to: what we knew counts for nothing.
  const auto choice = round.is_master_unknown
                          ? std::optional<Resolution>{}
                          : belief_.choose(round.claims, directory_.voters(), now);
  note_silence(round, choice.has_value());
  directory_.forget_silent(now);
  watch_.follow_directory();
  schedule_refresh();
  std::vector<Waiter> waiters = std::exchange(waiters_, {});
  if (!choice) {
    const Result<Resolution> failure = round.error;
    for (Waiter& waiter : waiters) waiter(failure);
    return;
  }
  remember(choice->endpoint);
  // While nobody says anything, a link that is up somewhere stays there.
  if (!round.claims.empty()) host_.move_links(choice->endpoint, true);
  const Result<Resolution> found = *choice;
  for (Waiter& waiter : waiters) waiter(found);
}

void MasterFinder::answered_late(const SentinelClaim& claim) {
  if (master_ != claim.master) ask_soon();
}

void MasterFinder::note_silence(const Resolver::Round& round, bool has_master) {
  const bool is_silence = round.claims.empty() && has_master;
  if (is_silence == std::exchange(is_silence_logged_, is_silence)) return;
  if (is_silence) {
    host_.log(LogLevel::kWarning,
              round.error.message +
                  "; until one does, the last known master is used, but only while it is the same "
                  "process with the same history");
  } else if (!round.claims.empty()) {
    host_.log(LogLevel::kInfo, "a Sentinel answers again");
  }
}

void MasterFinder::remember(const Endpoint& master) {
  if (master_ == master) return;
  if (master_) {
    host_.counters().master_changes.fetch_add(1, std::memory_order_relaxed);
    host_.log(LogLevel::kInfo,
              "the master was " + master_->to_string() + " and is now " + master.to_string());
  }
  master_ = master;
}

void MasterFinder::move_all_links(const Endpoint& master) {
  remember(master);
  host_.move_links(master, false);
  schedule_refresh();
}

void MasterFinder::sentinel_event(SentinelDirectory::Id sentinel, const SentinelEvent& event) {
  using Kind = SentinelEvent::Kind;
  const TimePoint now = host_.clock().now();
  signs_.hear(sentinel, event, now);
  if (const auto promotion = election_.hear(sentinel, event, directory_.voters())) {
    if (belief_.promotion_ordered(promotion->endpoint, promotion->epoch, now)) {
      host_.log(LogLevel::kInfo, "the Sentinel elected in epoch " +
                                     std::to_string(promotion->epoch) + " promotes " +
                                     promotion->endpoint.to_string());
      move_all_links(promotion->endpoint);
    }
  }
  switch (event.kind) {
    case Kind::kSwitched:
    case Kind::kPromoted:
      if (belief_.announced(event.old_master, event.endpoint, now)) {
        move_all_links(event.endpoint);
      }
      return ask_soon();  // For the epoch, or for the others' opinion.
    case Kind::kAborted: belief_.promotion_aborted(); return ask_soon();
    case Kind::kMasterBack:
      if (master_ == event.endpoint) host_.move_links(event.endpoint, false);
      return;
    case Kind::kSentinelSeen:
      directory_.learn(event.endpoint, event.run_id, now);
      return ask_soon();
    case Kind::kViewChanged: return ask_soon();
    default: return;
  }
}

void MasterFinder::sentinel_subscribed(SentinelDirectory::Id sentinel, bool hears_all) {
  if (hears_all) signs_.subscribed(sentinel, host_.clock().now());
  ask_soon();  // What was announced while nobody listened.
}

void MasterFinder::sentinel_unsubscribed(SentinelDirectory::Id sentinel) {
  election_.interrupted(sentinel);
  signs_.unsubscribed(sentinel);
  surveyor_.unsubscribed(sentinel);
}

void MasterFinder::sentinel_ponged(SentinelDirectory::Id sentinel, bool is_refused) {
  surveyor_.ponged(sentinel, is_refused);
}

}  // namespace tiercel::l2
