#pragma once

// Surveyor: one survey of all Sentinels at a time (Client::survey_sentinels): what each says, and
// whether all that it has published has reached us. Loop thread only.

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "failover_signs.h"
#include "host.h"
#include "resolver.h"
#include "sentinel_directory.h"
#include "sentinel_watch.h"
#include "tiercel/l2/sentinel_survey.h"

namespace tiercel::l2 {

class Surveyor {
 public:
  Surveyor(Host& host, const SentinelDirectory& directory, Resolver& resolver, SentinelWatch& watch,
           FailoverSigns& signs)
      : host_(host), directory_(directory), resolver_(resolver), watch_(watch), signs_(signs) {}
  ~Surveyor();
  Surveyor(const Surveyor&) = delete;
  Surveyor& operator=(const Surveyor&) = delete;

  // The callback comes later, or at once after stop().
  void begin(TimePoint deadline, SurveyCallback callback);
  void ponged(SentinelDirectory::Id sentinel, bool is_refused);
  void unsubscribed(SentinelDirectory::Id sentinel) { ponged(sentinel, true); }
  // Answers the survey under way, before the watch and the resolver stop.
  void stop();

 private:
  // A Sentinel, by the address under which it is known. Its answers so far.
  struct Voice {
    SentinelDirectory::Id id = 0;
    Endpoint endpoint{};
    std::string run_id{};
    bool awaits_answer = false;
    bool awaits_pong = false;
    bool is_ponged = false;
    std::optional<SentinelView> view{};
    Error why_silent{};
  };

  [[nodiscard]] Voice* find(SentinelDirectory::Id id);
  void surveyed(SentinelDirectory::Id id, Result<SentinelView> view);
  void finish_if_complete();
  void finish();
  [[nodiscard]] SentinelSurvey conclude(TimePoint now);

  Host& host_;
  const SentinelDirectory& directory_;
  Resolver& resolver_;
  SentinelWatch& watch_;
  FailoverSigns& signs_;

  SurveyCallback callback_;  // Empty: none is under way.
  std::vector<Voice> voices_;
  EventLoop::TimerId timer_ = 0;  // The deadline's, or that of the end.
};

}  // namespace tiercel::l2
