#include "l2_hiredis.h"

#include <hiredis/adapters/libuv.h>
#include <hiredis/async.h>
#include <hiredis/hiredis.h>
#include <uv.h>

#include <array>
#include <chrono>
#include <deque>
#include <string>
#include <string_view>
#include <utility>

namespace tiercel::bench {
namespace {

constexpr const char* kHost = "127.0.0.1";
constexpr timeval kPatience{30, 0};

struct FreeReply {
  void operator()(redisReply* reply) const noexcept { freeReplyObject(reply); }
};
using ReplyPointer = std::unique_ptr<redisReply, FreeReply>;

// A GET as redisCommandArgv and its kin want it: no format string to parse.
struct GetWords {
  explicit GetWords(const std::string& key) : words{"GET", key.c_str()}, sizes{3, key.size()} {}
  std::array<const char*, 2> words;
  std::array<std::size_t, 2> sizes;
};

bool check_value(const redisReply* reply, const DataSet& data, std::size_t key, Mistake& mistake) {
  if (reply != nullptr && reply->type == REDIS_REPLY_STRING) {
    return mistake.check(data, key, {reply->str, reply->len});
  }
  mistake.note(data.keys[key] + ": " +
               (reply != nullptr && reply->str != nullptr ? reply->str : "no value"));
  return false;
}

// GETs in flight on one asynchronous connection. All on one thread.
class AsyncGets {
 public:
  AsyncGets(const DataSet& data, std::size_t in_flight) : data_(data) {
    for (std::size_t i = 0; i < in_flight; ++i) slots_.push_back({*this, i % data.hot_keys});
    uv_loop_init(&loop_);
    uv_timer_init(&loop_, &timer_);
    timer_.data = this;
  }
  ~AsyncGets() { uv_loop_close(&loop_); }
  AsyncGets(const AsyncGets&) = delete;
  AsyncGets& operator=(const AsyncGets&) = delete;

  Result<Measurement> run(std::uint16_t port, Duration duration) {
    context_ = redisAsyncConnect(kHost, port);
    if (context_ == nullptr || context_->err != 0) {
      mistake_.note("redisAsyncConnect failed");
      return finish({});
    }
    redisLibuvAttach(context_, &loop_);
    redisAsyncCommand(context_, &AsyncGets::on_selected, this, "SELECT %u", data_.database);
    while (!is_selected_ && !mistake_.was_made()) uv_run(&loop_, UV_RUN_ONCE);
    if (mistake_.was_made()) return finish({});
    const auto stop = [](uv_timer_t* timer) { static_cast<AsyncGets*>(timer->data)->stop_ = true; };
    uv_update_time(&loop_);
    uv_timer_start(&timer_, stop,
                   static_cast<std::uint64_t>(
                       std::chrono::duration_cast<std::chrono::milliseconds>(duration).count()),
                   0);
    const Stopwatch watch;
    for (Slot& slot : slots_) submit(slot);
    while (in_flight_ > 0) uv_run(&loop_, UV_RUN_ONCE);
    return finish(watch.stop(answered_));
  }

 private:
  struct Slot {
    AsyncGets& all;
    std::size_t key;
  };

  static void on_selected(redisAsyncContext*, void* reply, void* self) {
    auto& gets = *static_cast<AsyncGets*>(self);
    gets.is_selected_ = true;
    const auto* status = static_cast<const redisReply*>(reply);
    if (status == nullptr) gets.context_ = nullptr;  // hiredis frees it.
    if (status == nullptr || status->type != REDIS_REPLY_STATUS) gets.mistake_.note("SELECT");
  }

  static void on_reply(redisAsyncContext*, void* reply, void* slot_pointer) {
    auto& slot = *static_cast<Slot*>(slot_pointer);
    slot.all.answered(slot, static_cast<const redisReply*>(reply));
  }

  void answered(Slot& slot, const redisReply* reply) {
    --in_flight_;
    ++answered_;
    if (reply == nullptr) context_ = nullptr;  // The connection was lost; hiredis frees it.
    check_value(reply, data_, slot.key, mistake_);
    slot.key = (slot.key + 1) % data_.hot_keys;
    if (!stop_ && !mistake_.was_made()) submit(slot);
  }

  void submit(Slot& slot) {
    GetWords get{data_.keys[slot.key]};
    if (redisAsyncCommandArgv(context_, &AsyncGets::on_reply, &slot, 2, get.words.data(),
                              get.sizes.data()) != REDIS_OK) {
      return mistake_.note("redisAsyncCommandArgv failed");
    }
    ++in_flight_;
  }

  Result<Measurement> finish(Measurement measurement) {
    if (context_ != nullptr) redisAsyncFree(context_);
    uv_close(reinterpret_cast<uv_handle_t*>(&timer_), nullptr);
    uv_run(&loop_, UV_RUN_DEFAULT);
    return mistake_.unless_made(measurement);
  }

  const DataSet& data_;
  std::deque<Slot> slots_;
  uv_loop_t loop_{};
  uv_timer_t timer_{};
  redisAsyncContext* context_ = nullptr;
  Mistake mistake_;
  bool is_selected_ = false;
  bool stop_ = false;
  std::size_t in_flight_ = 0;
  std::uint64_t answered_ = 0;
};

}  // namespace

void HiredisConnection::Free::operator()(redisContext* context) const noexcept {
  redisFree(context);
}

Result<HiredisConnection> HiredisConnection::open(std::uint16_t port, const DataSet& data) {
  HiredisConnection connection{redisConnectWithTimeout(kHost, port, kPatience), data};
  redisContext* context = connection.context_.get();
  if (context == nullptr || context->err != 0) return internal("hiredis cannot connect");
  redisSetTimeout(context, kPatience);
  const ReplyPointer selected{
      static_cast<redisReply*>(redisCommand(context, "SELECT %u", data.database))};
  if (!selected || selected->type != REDIS_REPLY_STATUS) return internal("hiredis: SELECT failed");
  return connection;
}

bool HiredisConnection::get(std::size_t key, Mistake& mistake) {
  GetWords get{data_->keys[key]};
  const ReplyPointer reply{static_cast<redisReply*>(
      redisCommandArgv(context_.get(), 2, get.words.data(), get.sizes.data()))};
  return check_value(reply.get(), *data_, key, mistake);
}

bool HiredisConnection::mget(Mistake& mistake) {
  std::vector<const char*> words{"MGET"};
  std::vector<std::size_t> sizes{4};
  for (const std::string& key : data_->keys) {
    words.push_back(key.c_str());
    sizes.push_back(key.size());
  }
  const ReplyPointer reply{static_cast<redisReply*>(redisCommandArgv(
      context_.get(), static_cast<int>(words.size()), words.data(), sizes.data()))};
  if (!reply || reply->type != REDIS_REPLY_ARRAY || reply->elements != data_->keys.size()) {
    mistake.note("MGET by hiredis");
    return false;
  }
  for (std::size_t key = 0; key < reply->elements; ++key) {
    if (!check_value(reply->element[key], *data_, key, mistake)) return false;
  }
  return true;
}

Result<Measurement> HiredisConnection::get_by_pipelines(std::size_t depth, Duration duration) {
  Mistake mistake;
  std::size_t key = 0;
  std::uint64_t answered = 0;
  const TimePoint end = Clock::system().now() + duration;
  const Stopwatch watch;
  while (Clock::system().now() < end && !mistake.was_made()) {
    for (std::size_t i = 0; i < depth; ++i) {
      GetWords get{data_->keys[(key + i) % data_->hot_keys]};
      redisAppendCommandArgv(context_.get(), 2, get.words.data(), get.sizes.data());
    }
    for (std::size_t i = 0; i < depth && !mistake.was_made(); ++i) {
      void* object = nullptr;
      (void)redisGetReply(context_.get(), &object);
      const ReplyPointer reply{static_cast<redisReply*>(object)};
      check_value(reply.get(), *data_, (key + i) % data_->hot_keys, mistake);
      ++answered;
    }
    key = (key + depth) % data_->hot_keys;
  }
  return mistake.unless_made(watch.stop(answered));
}

Result<Measurement> hiredis_get_by_callbacks(std::uint16_t port, const DataSet& data,
                                             std::size_t in_flight, Duration duration) {
  return AsyncGets{data, in_flight}.run(port, duration);
}

Result<Measurement> hiredis_get_by_threads(std::uint16_t port, const DataSet& data,
                                           std::size_t threads, Duration duration) {
  std::deque<HiredisConnection> connections;
  std::vector<Read> reads;
  for (std::size_t i = 0; i < threads; ++i) {
    auto connection = HiredisConnection::open(port, data);
    if (!connection) return connection.error();
    HiredisConnection& mine = connections.emplace_back(*std::move(connection));
    reads.emplace_back(
        [&mine](std::size_t key, Mistake& mistake) { return mine.get(key, mistake); });
  }
  return read_by_threads(data, reads, duration);
}

}  // namespace tiercel::bench
