#pragma once

// hiredis as Debian ships it, as a contestant: blocking, pipelined by hand, and asynchronous on
// libuv. Every reply is compared with what it must be.

#include <cstddef>
#include <cstdint>
#include <memory>

#include "l2_work.h"
#include "tiercel/base/result.h"

struct redisContext;

namespace tiercel::bench {

// One connection to 127.0.0.1, for one thread at a time.
class HiredisConnection {
 public:
  // `data` must outlive it.
  static Result<HiredisConnection> open(std::uint16_t port, const DataSet& data);

  // False after a mistake.
  bool get(std::size_t key, Mistake& mistake);
  bool mget(Mistake& mistake);  // All keys, in one command.

  // Sends `depth` GETs in one write, then reads their replies, over and over.
  Result<Measurement> get_by_pipelines(std::size_t depth, Duration duration);

 private:
  struct Free {
    void operator()(redisContext* context) const noexcept;
  };
  HiredisConnection(redisContext* context, const DataSet& data) : context_(context), data_(&data) {}

  std::unique_ptr<redisContext, Free> context_;
  const DataSet* data_;
};

// So many GETs in flight on one connection, by the asynchronous API; each callback submits the
// next. On the thread that calls.
Result<Measurement> hiredis_get_by_callbacks(std::uint16_t port, const DataSet& data,
                                             std::size_t in_flight, Duration duration);

// So many threads with a connection each, one blocking GET after the other.
Result<Measurement> hiredis_get_by_threads(std::uint16_t port, const DataSet& data,
                                           std::size_t threads, Duration duration);

}  // namespace tiercel::bench
