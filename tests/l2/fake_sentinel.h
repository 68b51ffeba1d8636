#pragma once

// FakeSentinel: a Sentinel that says whatever a test wants: the wrong master, an old epoch, TILT,
// nothing at all, garbage; and publishes any event. One thread; methods: any thread, each in effect
// for the next request.

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "tiercel/base/mutex.h"

namespace tiercel::l2 {

// "redis+sentinel://127.0.0.1:P1,127.0.0.1:P2/NAME"
[[nodiscard]] std::string sentinel_url(const std::vector<std::uint16_t>& ports,
                                       const std::string& name);

class FakeSentinel {
 public:
  struct Peer {
    std::string run_id;
    std::uint16_t port = 0;
    bool is_down = false;
  };
  struct Replica {
    std::uint16_t port = 0;
    std::string flags = "slave";
    std::uint16_t master_port = 0;  // 0: "?".
  };
  // What it says. Change it by change().
  struct Story {
    std::string run_id{};
    std::vector<std::string> names{"mymaster"};  // Of the masters that it knows; all are this one:
    std::string master_host = "127.0.0.1";
    std::uint16_t master_port = 0;
    std::uint64_t epoch = 1;
    bool is_tilted = false;
    std::vector<Peer> sentinels{};
    std::string master_flags = "master";
    std::vector<Replica> replicas{};
    bool permits_replicas = true;  // SENTINEL REPLICAS.
    bool permits_ping = true;
    bool withholds_pongs = false;
    std::string pong{};                // Set: what every PING is answered with.
    bool holds_answers = false;        // Until release().
    std::string password{};            // Set: AUTH is wanted.
    bool permits_all_channels = true;  // False: +switch-master only.
    bool is_silent = false;            // Reads, and answers nothing.
    std::string garbage{};             // Set: the answer to everything.
  };

  explicit FakeSentinel(Story story);
  ~FakeSentinel();
  FakeSentinel(const FakeSentinel&) = delete;
  FakeSentinel& operator=(const FakeSentinel&) = delete;

  [[nodiscard]] std::uint16_t port() const noexcept { return port_; }

  template <typename Change>
  void change(Change change) {
    MutexLock lock{mutex_};
    change(story_);
  }
  // Ends holds_answers: what was held, as it would have been answered then, is sent.
  void release();
  // To all that are subscribed to the channel now.
  void publish(std::string_view channel, std::string_view payload);

  [[nodiscard]] std::size_t subscriber_count(std::string_view channel) const;
  [[nodiscard]] int accepted_count() const;
  [[nodiscard]] int question_count() const;  // SENTINEL GET-MASTER-ADDR-BY-NAME.
  [[nodiscard]] int survey_count() const;    // SENTINEL REPLICAS.

 private:
  struct Client {
    std::string input{};
    std::string held{};
    bool is_authenticated = false;
    std::set<std::string, std::less<>> channels{};
  };
  using Words = std::vector<std::string>;

  void run();
  void read_from(int fd) TIERCEL_EXCLUDES(mutex_);
  std::string answer(Client& client, const Words& request) TIERCEL_REQUIRES(mutex_);
  std::string answer_sentinel(const Words& request) TIERCEL_REQUIRES(mutex_);
  std::string subscribe(Client& client, const Words& request) TIERCEL_REQUIRES(mutex_);

  int listener_ = -1;
  int wake_[2] = {-1, -1};
  std::uint16_t port_ = 0;

  mutable Mutex mutex_;
  Story story_ TIERCEL_GUARDED_BY(mutex_);
  std::map<int, Client> clients_ TIERCEL_GUARDED_BY(mutex_);
  int accepted_ TIERCEL_GUARDED_BY(mutex_) = 0;
  int questions_ TIERCEL_GUARDED_BY(mutex_) = 0;
  int surveys_ TIERCEL_GUARDED_BY(mutex_) = 0;

  std::thread thread_;
};

}  // namespace tiercel::l2
