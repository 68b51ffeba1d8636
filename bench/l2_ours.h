#pragma once

// Tiercel's client as a contestant, through its public API and nothing else: all threads share one
// client. Every reply is compared with what it must be.
//
// Every command of a measurement has the same deadline, made before it: a server that hangs fails
// the bench.

#include <cstddef>
#include <memory>
#include <string>

#include "l2_work.h"
#include "tiercel/base/result.h"
#include "tiercel/l2/client.h"

namespace tiercel::bench {

class Ours {
 public:
  // Returns when it is connected. `data` must outlive it.
  static Result<std::unique_ptr<Ours>> open(const std::string& url, const DataSet& data);

  enum class Handover { kSingly, kTogether };  // submit_view for each, or a pipeline for all.
  // `threads` threads submit GETs, with up to `in_flight` of them in flight in all: whenever an
  // eighth of these has been answered to a thread it submits as many more, else it sleeps.
  Result<Measurement> get_by_threads(std::size_t threads, std::size_t in_flight, Handover handover,
                                     Duration duration);
  // Each answer's callback submits the next GET, on the client's own thread.
  Result<Measurement> get_by_callbacks(std::size_t in_flight, Duration duration);
  // So many coroutines, one GET after the other in each, resumed on the client's own thread.
  Result<Measurement> get_by_coroutines(std::size_t coroutines, Duration duration);
  // So many threads, one blocking GET after the other in each.
  Result<Measurement> get_by_blocking(std::size_t threads, Duration duration);

  // One blocking command. False after a mistake.
  bool get(std::size_t key, Mistake& mistake);
  bool mget(Mistake& mistake);  // All keys, in one command.

 private:
  explicit Ours(const DataSet& data) : data_(data) {}

  Result<void> ping();
  [[nodiscard]] l2::Command get_command(std::size_t key) const;
  [[nodiscard]] std::size_t next_key(std::size_t key) const noexcept {
    return key + 1 == data_.hot_keys ? 0 : key + 1;
  }
  bool check_get(const Result<l2::Reply>& reply, std::size_t key, Mistake& mistake) const;
  bool check_get(const Result<l2::ReplyView>& reply, std::size_t key, Mistake& mistake) const;

  class Window;
  class Chain;

  const DataSet& data_;
  l2::EventLoop loop_;
  std::unique_ptr<l2::Client> client_;  // Before the loop it goes.
};

}  // namespace tiercel::bench
