// Invariants: whatever an answer touches lives until the last answer has come, which every
// measurement waits for.

#include "l2_ours.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <deque>
#include <limits>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "in_flight.h"
#include "tiercel/l2/options.h"

namespace tiercel::bench {
namespace {

std::string text_of(const Result<l2::Reply>& reply) {
  return reply ? "reply '" + reply->text + "'" : reply.error().to_string();
}
std::string text_of(const Result<l2::ReplyView>& reply) {
  return reply ? text_of(reply->to_reply()) : reply.error().to_string();
}

}  // namespace

// One application thread's GETs in flight. run() on that thread; the answers come on the loop's.
class Ours::Window {
 public:
  Window(Ours& ours, std::size_t size, std::size_t refill, Handover handover, std::size_t first_key,
         Mistake& mistake)
      : ours_(ours),
        size_(size),
        refill_(std::max<std::size_t>(1, refill)),
        handover_(handover),
        key_(first_key),
        mistake_(mistake) {}

  void run(const std::atomic<bool>& stop, TimePoint deadline) {
    while (!stop.load(std::memory_order_relaxed) && !mistake_.was_made()) {
      const std::uint64_t room = size_ - (submitted_ - answered_.load());
      if (room < refill_) {
        wait_for(submitted_ - size_ + refill_);
      } else if (handover_ == Handover::kSingly) {
        submit_singly(room, deadline);
      } else {
        submit_together(room, deadline);
      }
    }
    wait_for(submitted_);
  }

  [[nodiscard]] std::uint64_t answered() const noexcept { return answered_.load(); }

 private:
  void submit_singly(std::uint64_t count, TimePoint deadline) {
    for (std::uint64_t i = 0; i < count; ++i) {
      ++submitted_;
      ours_.client_->submit_view(ours_.get_command(key_), deadline,
                                 [this, key = key_](const Result<l2::ReplyView>& reply) {
                                   ours_.check_get(reply, key, mistake_);
                                   count_answer();
                                 });
      key_ = ours_.next_key(key_);
    }
  }
  void submit_together(std::uint64_t count, TimePoint deadline) {
    submitted_ += count;
    const std::size_t first = key_;
    for (std::uint64_t i = 0; i < count; ++i) {
      pipeline_.add(l2::Retry::kSafe, {"GET", ours_.data_.keys[key_]});
      key_ = ours_.next_key(key_);
    }
    ours_.client_->submit_pipeline(
        pipeline_, deadline, [this, first](std::size_t index, const Result<l2::ReplyView>& reply) {
          ours_.check_get(reply, (first + index) % ours_.data_.hot_keys, mistake_);
          count_answer();
        });
  }

  // In the total order of the two atomics either this sees what is awaited, or the waiter sees this
  // answer before it sleeps.
  void count_answer() {
    if (answered_.fetch_add(1) + 1 != awaited_.load()) return;
    wakes_.fetch_add(1);
    wakes_.notify_one();
  }

  void wait_for(std::uint64_t answers) {
    awaited_.store(answers);
    for (;;) {
      const std::uint32_t wakes = wakes_.load();
      if (answered_.load() >= answers) return;
      wakes_.wait(wakes);
    }
  }

  Ours& ours_;
  const std::uint64_t size_;
  const std::uint64_t refill_;
  const Handover handover_;
  l2::Pipeline pipeline_;
  std::size_t key_;
  Mistake& mistake_;
  std::uint64_t submitted_ = 0;
  alignas(64) std::atomic<std::uint64_t> answered_{0};
  std::atomic<std::uint64_t> awaited_{std::numeric_limits<std::uint64_t>::max()};
  std::atomic<std::uint32_t> wakes_{0};
};

// GETs of which each is submitted by the answer of the one before.
class Ours::Chain {
 public:
  Chain(Ours& ours, Chains& all, std::size_t first_key) : ours_(ours), all_(all), key_(first_key) {}

  void submit() {
    ours_.client_->submit_view(ours_.get_command(key_), all_.deadline,
                               [this](const Result<l2::ReplyView>& reply) {
                                 ours_.check_get(reply, key_, all_.mistake);
                                 ++answered_;
                                 key_ = ours_.next_key(key_);
                                 if (all_.must_stop()) return all_.running.done();
                                 submit();
                               });
  }

  // When all are done.
  [[nodiscard]] std::uint64_t answered() const noexcept { return answered_; }

 private:
  Ours& ours_;
  Chains& all_;
  std::size_t key_;
  std::uint64_t answered_ = 0;
};

Result<std::unique_ptr<Ours>> Ours::open(const std::string& url, const DataSet& data) {
  auto options = l2::parse_url(url);
  if (!options) return options.error();
  l2::ClientConfig config;
  config.redis = *std::move(options);
  std::unique_ptr<Ours> ours{new Ours{data}};
  auto client = l2::Client::open(std::move(config), ours->loop_);
  if (!client) return client.error();
  ours->client_ = *std::move(client);
  if (auto pinged = ours->ping(); !pinged) return pinged.error();
  return ours;
}

Result<void> Ours::ping() {
  const auto reply = client_->call(l2::Command{l2::Retry::kSafe, {"PING"}}, deadline_after({}));
  if (!reply) return reply.error();
  return {};
}

l2::Command Ours::get_command(std::size_t key) const {
  return l2::Command{l2::Retry::kSafe, {"GET", data_.keys[key]}};
}

bool Ours::check_get(const Result<l2::Reply>& reply, std::size_t key, Mistake& mistake) const {
  if (reply && reply->is_string()) return mistake.check(data_, key, reply->text);
  mistake.note(data_.keys[key] + ": " + text_of(reply));
  return false;
}

bool Ours::check_get(const Result<l2::ReplyView>& reply, std::size_t key, Mistake& mistake) const {
  if (reply && reply->is_string()) return mistake.check(data_, key, reply->text());
  mistake.note(data_.keys[key] + ": " + text_of(reply));
  return false;
}

Result<Measurement> Ours::get_by_threads(std::size_t threads, std::size_t in_flight,
                                         Handover handover, Duration duration) {
  Mistake mistake;
  std::atomic<bool> stop{false};
  std::deque<Window> windows;
  std::vector<std::jthread> running;
  const TimePoint deadline = deadline_after(duration);
  const Stopwatch watch;
  for (std::size_t i = 0; i < threads; ++i) {
    Window& mine = windows.emplace_back(*this, in_flight / threads, in_flight / 2, handover,
                                        i * data_.hot_keys / threads, mistake);
    running.emplace_back([&mine, &stop, deadline] { mine.run(stop, deadline); });
  }
  std::this_thread::sleep_for(duration);
  stop.store(true);
  running.clear();  // Joins them.
  std::uint64_t answered = 0;
  for (const Window& each : windows) answered += each.answered();
  const Measurement measurement = watch.stop(answered);
  // Answers come one at a time: when this one has come, no other looks at its window any more.
  if (auto pinged = ping(); !pinged) return pinged.error();
  return mistake.unless_made(measurement);
}

Result<Measurement> Ours::get_by_callbacks(std::size_t in_flight, Duration duration) {
  Chains all{in_flight, duration};
  std::deque<Chain> chains;
  const Stopwatch watch;
  for (std::size_t i = 0; i < in_flight; ++i) {
    chains.emplace_back(*this, all, i % data_.hot_keys).submit();
  }
  all.run(duration);
  std::uint64_t answered = 0;
  for (const Chain& chain : chains) answered += chain.answered();
  return all.mistake.unless_made(watch.stop(answered));
}

Result<Measurement> Ours::get_by_coroutines(std::size_t coroutines, Duration duration) {
  Chains all{coroutines, duration};
  std::vector<std::uint64_t> answered(coroutines);
  const auto reads = [this, &all](std::size_t key, std::uint64_t& count) -> Detached {
    for (;;) {
      const auto reply = co_await client_->execute(get_command(key), all.deadline);
      check_get(reply, key, all.mistake);
      ++count;
      if (all.must_stop()) break;
      key = next_key(key);
    }
    all.running.done();
  };
  const Stopwatch watch;
  for (std::size_t i = 0; i < coroutines; ++i) reads(i % data_.hot_keys, answered[i]);
  all.run(duration);
  std::uint64_t sum = 0;
  for (const std::uint64_t count : answered) sum += count;
  return all.mistake.unless_made(watch.stop(sum));
}

Result<Measurement> Ours::get_by_blocking(std::size_t threads, Duration duration) {
  const Read read = [this](std::size_t key, Mistake& mistake) { return get(key, mistake); };
  return read_by_threads(data_, std::vector<Read>(threads, read), duration);
}

bool Ours::get(std::size_t key, Mistake& mistake) {
  const auto reply = client_->call(get_command(key), deadline_after({}));
  return check_get(reply, key, mistake);
}

bool Ours::mget(Mistake& mistake) {
  std::vector<std::string_view> words{"MGET"};
  words.insert(words.end(), data_.keys.begin(), data_.keys.end());
  const auto reply = client_->call(l2::Command{l2::Retry::kSafe, words}, deadline_after({}));
  if (!reply || reply->elements.size() != data_.keys.size()) {
    mistake.note("MGET: " + text_of(reply));
    return false;
  }
  for (std::size_t key = 0; key < data_.keys.size(); ++key) {
    if (!mistake.check(data_, key, reply->elements[key].text)) return false;
  }
  return true;
}

}  // namespace tiercel::bench
