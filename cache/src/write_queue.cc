// Invariant: of what one thread pushed, nothing is submitted after something that was pushed later.

#include "write_queue.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "scripts.h"
#include "together.h"

namespace tiercel {

std::size_t Cache::Core::Write::bytes() const noexcept {
  std::size_t sum = 0;
  for (const std::string& key : script_keys) sum += key.size();
  for (const std::string& argument : arguments) sum += argument.size();
  return sum;
}

Cache::Core::WriteQueue::Verdict Cache::Core::WriteQueue::push(
    const std::shared_ptr<Write>& write) {
  const std::size_t bytes = write->bytes();
  if (bytes > bytes_max_) return Verdict::kNothingWaits;  // The client says why it cannot be sent.
  MutexLock lock{mutex_};
  if (is_closed_) return Verdict::kClosed;
  if (!write->may_join && waiting_.empty() && !is_sending_) return Verdict::kNothingWaits;
  if (writes_.load(std::memory_order_relaxed) >= writes_max_) return Verdict::kTooManyWrites;
  if (bytes_.load(std::memory_order_relaxed) + bytes > bytes_max_) return Verdict::kTooManyBytes;
  writes_.fetch_add(1, std::memory_order_relaxed);
  bytes_.fetch_add(bytes, std::memory_order_relaxed);
  write->charged_bytes = bytes;
  waiting_.push_back(write);
  return waiting_.size() == 1 ? Verdict::kFirst : Verdict::kWaits;
}

void Cache::Core::WriteQueue::release(Write& write) noexcept {
  const std::size_t bytes = std::exchange(write.charged_bytes, 0);
  if (bytes == 0) return;
  writes_.fetch_sub(1, std::memory_order_relaxed);
  bytes_.fetch_sub(bytes, std::memory_order_relaxed);
}

Cache::Core::WriteQueue::Writes Cache::Core::WriteQueue::take() {
  MutexLock lock{mutex_};
  is_sending_ = true;
  return std::exchange(waiting_, {});
}

void Cache::Core::WriteQueue::sent() {
  MutexLock lock{mutex_};
  is_sending_ = false;
}

Cache::Core::WriteQueue::Writes Cache::Core::WriteQueue::close() {
  MutexLock lock{mutex_};
  is_closed_ = true;
  return std::exchange(waiting_, {});
}

std::size_t Cache::Core::WriteQueue::count_together(
    std::span<const std::shared_ptr<Write>> writes) const {
  // Half, so that what the protocol and the message add finds room in the client's queue.
  Together together{std::min(Together::kBytesMax, bytes_max_ / 2)};
  for (const auto& waiting : writes) {
    const Write& write = *waiting;
    if (!write.may_join) break;
    const std::string& key = write.keys.front();
    if (std::ranges::any_of(writes.first(together.count()),
                            [&](const auto& other) { return other->keys.front() == key; }) ||
        !together.takes(write.charged_bytes, key.size(), write.deadline)) {
      break;
    }
  }
  return std::max<std::size_t>(together.count(), 1);
}

// Loop thread, or any if it never waited.
void Cache::Core::send_alone(const std::shared_ptr<Write>& write) {
  if (write->may_join) {
    auto message = encode_change(serialization::MessageKind::kSet, write->keys);
    if (!message) return write_done(write, std::move(message).error(), false);
    write->arguments[Write::kMessageArgument] = std::move(*message);
  }
  std::vector<std::string_view> keys{write->script_keys.begin(), write->script_keys.end()};
  std::vector<std::string_view> arguments{write->arguments.begin(), write->arguments.end()};
  const GuardTail tail = write->evicts_keys() ? guards_.tail_of(write->keys) : GuardTail{};
  const l2::Script& script = with_tail(*write->script, tail, keys, arguments);
  if (write->replicas > 0) {
    return durable_writer_->write(script, keys, arguments, write->replicas, write->deadline,
                                  [this, write](DurableWriter::Outcome outcome) {
                                    durable_write_done(write, std::move(outcome));
                                  });
  }
  client_->submit_script(script, keys, arguments, l2::Retry::kIfNotSent, write->deadline,
                         [this, write](Result<l2::Reply> reply) {
                           write_done(write, std::move(reply), links_vouch());
                         });
}

void Cache::Core::send_waiting() {
  const WriteQueue::Writes writes = write_queue_->take();
  if (writes.empty()) return write_queue_->sent();  // The cache is being closed.
  client_->submit_together([&] {
    for (std::span<const std::shared_ptr<Write>> rest{writes}; !rest.empty();) {
      const std::size_t count = write_queue_->count_together(rest);
      if (count == 1) {
        send_alone(rest.front());
      } else {
        send_together(rest.first(count));
      }
      rest = rest.subspan(count);
    }
  });
  write_queue_->sent();
}

void Cache::Core::send_together(std::span<const std::shared_ptr<Write>> writes) {
  std::vector<std::string> changed;
  TimePoint deadline{};
  for (const auto& write : writes) {
    changed.push_back(write->keys.front());
    deadline = std::max(deadline, write->deadline);
  }
  const GuardTail tail = guards_.tail_of(changed);
  const auto message = encode_change(serialization::MessageKind::kSet, std::move(changed));
  if (!message) {
    for (const auto& write : writes) write_done(write, message.error(), false);
    return;
  }
  // script_keys and arguments are those of write_script: value, fill lease, …; envelope, ttl, ….
  const std::string entries = std::to_string(options_.history_entries);
  std::vector<std::string_view> keys{names_.history_key()};
  for (const auto& write : writes) keys.push_back(write->script_keys[0]);
  for (const auto& write : writes) keys.push_back(write->script_keys[1]);
  std::vector<std::string_view> arguments{*message, names_.channel(), entries};
  for (const auto& write : writes) {
    arguments.push_back(write->arguments[0]);
    arguments.push_back(write->arguments[1]);
  }
  const l2::Script& script = with_tail(write_many_script(), tail, keys, arguments);
  client_->submit_script(
      script, keys, arguments, l2::Retry::kIfNotSent, deadline,
      [this, together = WriteQueue::Writes{writes.begin(), writes.end()}](Result<l2::Reply> reply) {
        for (const auto& write : together) write_done(write, reply, links_vouch());
      });
}

}  // namespace tiercel
