#include "preloader.h"

#include <algorithm>
#include <atomic>
#include <utility>

namespace tiercel {
namespace {

using namespace std::chrono_literals;

constexpr Duration kStepEvery = 10ms;
constexpr std::size_t kStepsPerSecond = 100;
// Under way at a time, so that slow loaders are not given all of it.
constexpr std::size_t kUnderWayMax = 4096;
constexpr std::size_t kKeysPerSecondMax = 1'000'000;

}  // namespace

Result<void> validate(const PreloadOptions& options) {
  if (options.keys_per_second >= 1 && options.keys_per_second <= kKeysPerSecondMax) return {};
  return invalid_argument("keys_per_second is " + std::to_string(options.keys_per_second) +
                          "; it must be 1 to " + std::to_string(kKeysPerSecondMax));
}

struct Preloader::Run {
  std::vector<std::string> keys;
  std::size_t keys_per_second;
  Read read;
  PreloadCallback done;
  std::size_t begun = 0;
  std::size_t owed = 0;  // Hundredths of keys that may begin.
  std::atomic<std::size_t> found{0}, absent{0}, failed{0};

  [[nodiscard]] std::size_t ended() const { return found + absent + failed; }
};

Preloader::~Preloader() = default;

void Preloader::start(std::vector<std::string> keys, const PreloadOptions& options, Read read,
                      PreloadCallback done) {
  auto run = std::make_shared<Run>();
  run->keys = std::move(keys);
  run->keys_per_second = options.keys_per_second;
  run->read = std::move(read);
  run->done = std::move(done);
  {
    MutexLock lock{mutex_};
    runs_.push_back(run);
  }
  loop_.post([this, run] { step(run); });
}

void Preloader::step(const std::shared_ptr<Run>& run) {
  if (run->ended() == run->keys.size()) return end(run);
  if (may_fill_()) {
    run->owed =
        std::min(run->owed + run->keys_per_second, std::max(run->keys_per_second, kStepsPerSecond));
    while (run->owed >= kStepsPerSecond && run->begun < run->keys.size() &&
           run->begun - run->ended() < kUnderWayMax) {
      run->owed -= kStepsPerSecond;
      run->read(run->keys[run->begun++], [run](const ReadResult& read) {
        ++(!read ? run->failed : *read ? run->found : run->absent);
      });
    }
  }
  loop_.run_after(kStepEvery, [this, run] { step(run); });
}

void Preloader::end(const std::shared_ptr<Run>& run) {
  {
    MutexLock lock{mutex_};
    std::erase(runs_, run);
  }
  if (run->done) {
    run->done({.keys = run->keys.size(),
               .found = run->found,
               .absent = run->absent,
               .failed = run->failed});
  }
}

void Preloader::close() {
  for (;;) {
    std::shared_ptr<Run> run;
    {
      MutexLock lock{mutex_};
      if (runs_.empty()) return;
      run = runs_.back();
    }
    end(run);
  }
}

}  // namespace tiercel
