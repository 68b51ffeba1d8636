#include "totals.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <map>
#include <utility>
#include <vector>

#include "faults.h"
#include "tiercel/base/check.h"

namespace tiercel::sim {
namespace {

// Each number of Counts and the simple ones of Totals, in one order, for adding and for the pipe.
template <typename Visit>
void visit_numbers(Counts& counts, Visit&& visit) {
  for (std::uint64_t* number :
       {&counts.reads, &counts.hits, &counts.stale_serves, &counts.lease_refusals,
        &counts.dead_by_tag, &counts.fills, &counts.fills_refused, &counts.loads, &counts.writes,
        &counts.writes_unknown, &counts.foreign_writes, &counts.epochs, &counts.epochs_warm,
        &counts.drops, &counts.lapses, &counts.promotions, &counts.restarts,
        &counts.full_resyncs}) {
    visit(*number);
  }
  for (std::uint64_t& number : counts.hits_by_mode) visit(number);
  for (std::uint64_t& number : counts.faults) visit(number);
}

void add_counts(Counts& sum, const Counts& more) {
  std::vector<std::uint64_t> numbers;
  Counts copy = more;
  visit_numbers(copy, [&](std::uint64_t& number) { numbers.push_back(number); });
  std::size_t i = 0;
  visit_numbers(sum, [&](std::uint64_t& number) { number += numbers[i++]; });
  sum.lease_available += more.lease_available;
  sum.lease_samples += more.lease_samples;
}

// What a worker tells of one seed, followed by the bytes of `checker` and `text`.
struct Record {
  std::uint64_t seed = 0;
  bool is_over = false;  // Otherwise it only begins.
  std::uint64_t violations = 0;
  std::uint64_t stale_beyond_bound = 0;
  double worst = 0;
  std::uint64_t acknowledged = 0, lost = 0, steps = 0;
  double calm_after_s = 0;
  Counts counts;
  char checker[16] = {};
  char text[600] = {};
};

void put(int fd, const Record& record) {
  const char* bytes = reinterpret_cast<const char*>(&record);
  std::size_t left = sizeof record;
  while (left > 0) {
    const ssize_t written = ::write(fd, bytes, left);
    if (written <= 0) ::_exit(3);
    bytes += written;
    left -= static_cast<std::size_t>(written);
  }
}

bool take(int fd, Record& record) {
  char* bytes = reinterpret_cast<char*>(&record);
  std::size_t left = sizeof record;
  while (left > 0) {
    const ssize_t got = ::read(fd, bytes, left);
    if (got <= 0) return false;
    bytes += got;
    left -= static_cast<std::size_t>(got);
  }
  return true;
}

Record to_record(const Report& report) {
  Record record;
  record.seed = report.seed;
  record.is_over = true;
  record.violations = report.violations.size();
  record.stale_beyond_bound = report.stale_beyond_bound;
  record.worst = report.worst_staleness_over_lease;
  record.acknowledged = report.acknowledged;
  record.lost = report.lost;
  record.steps = report.steps;
  record.calm_after_s = report.calm_after_s;
  record.counts = report.counts;
  if (!report.violations.empty()) {
    std::snprintf(record.checker, sizeof record.checker, "%s",
                  report.violations.front().checker.c_str());
    std::snprintf(record.text, sizeof record.text, "%s", report.violations.front().text.c_str());
  }
  return record;
}

void add_record(Totals& totals, const Record& record) {
  ++totals.seeds;
  if (record.violations > 0) {
    ++totals.seeds_violated;
    totals.violations.emplace_back(record.seed, Violation{record.checker, record.text});
  }
  totals.stale_beyond_bound += record.stale_beyond_bound;
  if (record.worst > totals.worst_staleness_over_lease) {
    totals.worst_staleness_over_lease = record.worst;
    totals.worst_seed = record.seed;
  }
  totals.acknowledged += record.acknowledged;
  totals.lost += record.lost;
  totals.steps += record.steps;
  totals.calm_after_s_max = std::max(totals.calm_after_s_max, record.calm_after_s);
  add_counts(totals.counts, record.counts);
}

[[noreturn]] void work(int fd, std::uint64_t first, std::uint64_t count, std::size_t step,
                       Sabotage sabotage) {
  for (std::uint64_t i = 0; i < count; i += step) {
    const std::uint64_t seed = first + i;
    Record begins;
    begins.seed = seed;
    put(fd, begins);
    put(fd, to_record(simulate({.seed = seed, .sabotage = sabotage})));
  }
  ::_exit(0);
}

}  // namespace

void Totals::add(const Report& report) { add_record(*this, to_record(report)); }

Totals run_seeds(std::uint64_t first, std::uint64_t count, std::size_t jobs, Sabotage sabotage) {
  struct Worker {
    pid_t pid = 0;
    int fd = -1;
    std::uint64_t next = 0;  // The first seed that it has not begun.
    std::uint64_t at = 0;
    bool is_inside = false;
  };
  Totals totals;
  std::vector<Worker> workers(jobs);
  const auto start = [&](Worker& worker, std::uint64_t from) {
    int ends[2];
    TIERCEL_CHECK(::pipe(ends) == 0);
    std::fflush(nullptr);
    worker.pid = ::fork();
    TIERCEL_CHECK(worker.pid >= 0);
    if (worker.pid == 0) {
      ::close(ends[0]);
      work(ends[1], from, first + count - from, jobs, sabotage);
    }
    ::close(ends[1]);
    worker.fd = ends[0];
    worker.next = from;
  };
  for (std::size_t i = 0; i < jobs && i < count; ++i) start(workers[i], first + i);
  // What one worker has to say next; false: it has come to its end.
  const auto hear = [&](Worker& worker) {
    Record record;
    if (take(worker.fd, record)) {
      worker.at = record.seed;
      worker.is_inside = !record.is_over;
      if (record.is_over) add_record(totals, record);
      return true;
    }
    ::close(std::exchange(worker.fd, -1));
    int status = 0;
    ::waitpid(worker.pid, &status, 0);
    if (!worker.is_inside) return false;
    totals.crashed.push_back(worker.at);
    worker.is_inside = false;
    if (worker.at + jobs >= first + count) return false;
    start(worker, worker.at + jobs);
    return true;
  };
  // Whoever speaks first: a pipe is full soon, and its worker waits.
  for (;;) {
    std::vector<pollfd> ends;
    std::vector<Worker*> speakers;
    for (Worker& worker : workers) {
      if (worker.fd < 0) continue;
      ends.push_back({.fd = worker.fd, .events = POLLIN, .revents = 0});
      speakers.push_back(&worker);
    }
    if (ends.empty()) break;
    if (::poll(ends.data(), ends.size(), -1) < 0) continue;  // A signal.
    for (std::size_t i = 0; i < ends.size(); ++i) {
      if (ends[i].revents != 0) hear(*speakers[i]);
    }
  }
  std::sort(totals.violations.begin(), totals.violations.end(),
            [](const auto& a, const auto& b) { return a.first < b.first; });
  return totals;
}

bool tell_seed(std::uint64_t seed, Sabotage sabotage, Telling telling) {
  const Report report = simulate({.seed = seed, .sabotage = sabotage, .telling = telling});
  std::printf("seed %llu: %s\n", static_cast<unsigned long long>(seed), report.setup.c_str());
  for (const std::string& line : report.story) {
    if (telling == Telling::kLastLines) std::printf("%s\n", line.c_str());
  }
  for (const Violation& violation : report.violations) {
    std::printf("VIOLATION of %s: %s\n", violation.checker.c_str(), violation.text.c_str());
  }
  std::printf(
      "fingerprint %016llx, %llu steps, %llu reads, %llu answered by L1, lease held %.1f %%\n",
      static_cast<unsigned long long>(report.fingerprint),
      static_cast<unsigned long long>(report.steps),
      static_cast<unsigned long long>(report.counts.reads),
      static_cast<unsigned long long>(report.counts.hits),
      100 * report.counts.lease_available / std::max(1.0, report.counts.lease_samples));
  return report.violations.empty();
}

void Totals::print() const {
  const auto u = [](std::uint64_t number) { return static_cast<unsigned long long>(number); };
  std::printf("%llu seeds, %llu steps\n", u(seeds), u(steps));
  std::printf(
      "reads %llu, answered by L1 %llu (witness: replicas %llu, sentinels %llu, none %llu), "
      "refused by the lease %llu, dead by tag %llu, served stale on demand %llu\n",
      u(counts.reads), u(counts.hits), u(counts.hits_by_mode[2]), u(counts.hits_by_mode[1]),
      u(counts.hits_by_mode[0]), u(counts.lease_refusals), u(counts.dead_by_tag),
      u(counts.stale_serves));
  std::printf("fills %llu, refused by their tokens %llu, loads %llu\n", u(counts.fills),
              u(counts.fills_refused), u(counts.loads));
  std::printf(
      "writes %llu, acknowledged %llu, of these lost with their branch %llu, unknown %llu; "
      "foreign writes %llu\n",
      u(counts.writes), u(acknowledged), u(lost), u(counts.writes_unknown),
      u(counts.foreign_writes));
  std::printf(
      "epochs %llu, warm %llu; L1 dropped %llu; lapses %llu; lease held %.2f %% of the time\n",
      u(counts.epochs), u(counts.epochs_warm), u(counts.drops), u(counts.lapses),
      100 * counts.lease_available / std::max(1.0, counts.lease_samples));
  std::printf(
      "promotions %llu, restarts %llu, full resynchronisations %llu; calm at the latest "
      "%.1f s after the healing\n",
      u(counts.promotions), u(counts.restarts), u(counts.full_resyncs), calm_after_s_max);
  std::printf("faults:");
  for (std::size_t i = 0; i < kFaults; ++i) {
    std::printf("%s %s %llu", i == 0 ? "" : ",",
                std::string{to_string(static_cast<Fault>(i))}.c_str(), u(counts.faults[i]));
  }
  std::printf("\n");
  std::map<std::string, std::uint64_t> by_checker;
  for (const auto& [seed, violation] : violations) ++by_checker[violation.checker];
  for (const auto& [checker, number] : by_checker) {
    std::printf("seeds that violate %s first: %llu\n", checker.c_str(), u(number));
  }
  std::size_t shown = 0;
  for (const auto& [seed, violation] : violations) {
    if (++shown > 12) break;
    std::printf("seed %llu, %s: %s\n", u(seed), violation.checker.c_str(), violation.text.c_str());
  }
  for (const std::uint64_t seed : crashed) std::printf("seed %llu CRASHED\n", u(seed));
  std::printf("figure seeds_violated %llu\n", u(seeds_violated + crashed.size()));
  std::printf("figure stale_beyond_bound %llu\n", u(stale_beyond_bound));
  std::printf("figure worst_staleness_over_lease %.3f\n", worst_staleness_over_lease);
}

}  // namespace tiercel::sim
