#pragma once

// SentinelSurvey: what all Sentinels say of our master and its replicas, asked at one moment
// (Client::survey_sentinels), and whether anything that they published speaks of a failover.
// Plain data.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tiercel/base/clock.h"
#include "tiercel/base/result.h"
#include "tiercel/base/unique_function.h"
#include "tiercel/l2/options.h"

namespace tiercel::l2 {

// Of what a Sentinel says of a server ("master,s_down,o_down"), what matters to us.
struct SentinelFlags {
  bool s_down = false;        // It cannot reach it.
  bool o_down = false;        // It knows that a quorum cannot. Of a master.
  bool disconnected = false;  // Its own connection to it is down.
  // Of a master: it is failing it over, by election or by hand.
  bool failover_in_progress = false;
  bool promoted = false;  // Of a replica: it is to become the master, or has just.

  // From the comma-separated list; other words are passed over.
  [[nodiscard]] static SentinelFlags parse(std::string_view words);
  friend bool operator==(const SentinelFlags&, const SentinelFlags&) = default;
};

struct SentinelReplica {
  Endpoint endpoint{};
  SentinelFlags flags{};
  Endpoint master{};  // Whom it follows by its own word; port 0: not known.
};

// One Sentinel's answer.
struct SentinelView {
  Endpoint sentinel{};   // Where it was asked.
  std::string run_id{};  // Empty: not known (Redis before 6.2, or not permitted).
  Endpoint master{};     // Whom it names.
  std::uint64_t config_epoch = 0;
  // Whose flags these are. Another than `master` while a failover by this Sentinel has promoted
  // `master` and moves the other replicas; port 0: not known.
  Endpoint flagged_master{};
  SentinelFlags master_flags{};
  bool is_tilted = false;  // It has stopped looking: its flags may be old.
  std::vector<SentinelReplica> replicas{};
  // All that it had published when the survey began has reached us, and all that it published since
  // we began to listen: this long ago (0 where not is_heard). False where its ACL keeps us from
  // one of the channels, or from PING.
  bool is_heard = false;
  Duration heard_for{};
};

struct SentinelSurvey {
  // How long after the last sign of a failover it is quiet. A failover takes 2 to 3 s; one whose
  // leader died in the middle is noticed and mended by the others after about 10.
  static constexpr Duration kQuietAfter = std::chrono::seconds{10};

  struct Silent {
    Endpoint sentinel{};
    // kInvalidArgument: it refuses us (the text names the permission that is missing), or knows no
    // such master. Else kUnavailable, kProtocol.
    Error why{};
  };
  // The last that a Sentinel published of a failover, if that is less than kQuietAfter ago.
  struct Sign {
    Endpoint sentinel{};
    Duration ago{};
    // Set: the failover has made this server the master, and nothing else can come of it:
    // +switch-master, or, of the leader, +promoted-slave.
    std::optional<Endpoint> settled_on{};
  };
  // The same replica, as all those who answered see it.
  struct Replica {
    Endpoint endpoint{};
    std::size_t down_count = 0;  // Who see it s_down or disconnected.
  };

  // A Sentinel that is known under several addresses counts once.
  std::size_t known = 0;  // Configured and learned, those that have never answered included.
  std::vector<SentinelView> views{};
  std::vector<Silent> silent{};
  std::vector<Sign> signs{};

  [[nodiscard]] std::size_t answered() const noexcept { return views.size(); }

  // No Sentinel, whether it answered or not, published a sign of a failover in the last
  // kQuietAfter, but for one that is over and ended with `master` as the master.
  [[nodiscard]] bool is_quiet(const Endpoint& master) const;

  // Nobody who answered knows anything but that `master` is the master: each names it, with no
  // failover of it under way or due (o_down, failover_in_progress, another promoted), and is heard;
  // and it is quiet. The failover that has just made it the master is none of it. If not all have
  // answered: those who did have been heard for kQuietAfter, since a silent one may have been voted
  // for before. False when nobody answered, or one who did is tilted.
  [[nodiscard]] bool is_calm(const Endpoint& master) const;

  // Whom any of them lists, in the order of first mention. Tilted ones are not counted among those
  // who see it down.
  [[nodiscard]] std::vector<Replica> replicas() const;
};

using SurveyCallback = UniqueFunction<void(const SentinelSurvey&)>;

}  // namespace tiercel::l2
