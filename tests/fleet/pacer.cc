#include "fleet/pacer.h"

#include <algorithm>
#include <thread>

namespace tiercel::fleet {
namespace {

double in_seconds(Duration duration) { return std::chrono::duration<double>{duration}.count(); }

}  // namespace

Pacer::Pacer(double per_second) : per_second_(per_second), last_(Clock::system().now()) {}

int Pacer::wait() {
  const auto until_next =
      std::chrono::duration_cast<Duration>(std::chrono::duration<double>{(1 - due_) / per_second_});
  std::this_thread::sleep_for(std::clamp(until_next, kSleepMin, kSleepMax));
  const TimePoint now = Clock::system().now();
  due_ += per_second_ * in_seconds(now - last_);
  last_ = now;
  due_ = std::min(due_, std::max(1.0, per_second_ * in_seconds(kArrears)));
  const int whole = static_cast<int>(due_);
  due_ -= whole;
  return whole;
}

}  // namespace tiercel::fleet
