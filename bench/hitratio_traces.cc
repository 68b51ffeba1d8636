#include "hitratio_traces.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <memory>
#include <random>
#include <system_error>
#include <unordered_map>
#include <utility>

namespace tiercel::bench {
namespace {

constexpr std::array<std::size_t, 3> kFootprintParts{1000, 100, 10};

static_assert(std::endian::native == std::endian::little, "ids are read as they stand in the file");

void number_from_zero(Trace& trace) {
  std::unordered_map<Id, Id> numbers;
  for (Id& id : trace.ids) id = numbers.emplace(id, numbers.size()).first->second;
  trace.distinct = numbers.size();
}

struct Pipe {
  void operator()(std::FILE* file) const { (void)pclose(file); }
};
struct File {
  void operator()(std::FILE* file) const { (void)std::fclose(file); }
};

std::string quoted_for_shell(const std::string& text) {
  std::string quoted = "'";
  for (const char c : text) quoted += c == '\'' ? std::string{"'\\''"} : std::string{c};
  return quoted + "'";
}

// All bytes up to the end, as ids; false if the last one is not whole, or reading failed.
bool read_ids(std::FILE* from, std::vector<Id>& ids) {
  std::array<char, std::size_t{1} << 16> buffer{};
  std::size_t filled = 0;
  for (;;) {
    const std::size_t got = std::fread(buffer.data() + filled, 1, buffer.size() - filled, from);
    filled += got;
    const std::size_t whole = filled / sizeof(Id);
    const std::size_t before = ids.size();
    ids.resize(before + whole);
    std::memcpy(ids.data() + before, buffer.data(), whole * sizeof(Id));
    filled %= sizeof(Id);
    std::memmove(buffer.data(), buffer.data() + whole * sizeof(Id), filled);
    if (got == 0) return filled == 0 && std::ferror(from) == 0;
  }
}

bool read_packed(const std::string& path, std::vector<Id>& ids) {
  std::unique_ptr<std::FILE, Pipe> pipe{
      popen(("xz --decompress --stdout -- " + quoted_for_shell(path)).c_str(), "r")};
  return pipe != nullptr && read_ids(pipe.get(), ids) && pclose(pipe.release()) == 0;
}

bool read_plain(const std::string& path, std::vector<Id>& ids) {
  const std::unique_ptr<std::FILE, File> file{std::fopen(path.c_str(), "rb")};
  return file != nullptr && read_ids(file.get(), ids);
}

}  // namespace

Result<std::vector<std::filesystem::path>> trace_files(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> files;
  std::error_code failed;
  for (const auto& file : std::filesystem::directory_iterator{folder, failed}) {
    const std::string name = file.path().filename();
    if (name.ends_with(".u64") || name.ends_with(".u64.xz")) files.push_back(file.path());
  }
  if (failed) return invalid_argument(folder.string() + " cannot be read: " + failed.message());
  if (files.empty()) {
    return invalid_argument(folder.string() + " holds no trace: no NAME.u64, no NAME.u64.xz");
  }
  std::ranges::sort(files);
  return files;
}

Result<Trace> read_trace(const std::filesystem::path& file) {
  const std::string name = file.filename();
  Trace trace{.name = name.substr(0, name.find(".u64")), .ids = {}, .sizes = {}};
  const bool packed = name.ends_with(".xz");
  const bool read = packed ? read_packed(file, trace.ids) : read_plain(file, trace.ids);
  if (!read || trace.ids.empty()) {
    return invalid_argument(file.string() + " is no trace, or cannot be read" +
                            (packed ? " (which takes the program xz)" : ""));
  }
  number_from_zero(trace);
  for (const std::size_t part : kFootprintParts) {
    trace.sizes.push_back(std::max<std::size_t>(1, trace.distinct / part));
  }
  return trace;
}

// ---------------------------------------------------------------- made up

namespace {

constexpr std::size_t kIds = 50'000;
constexpr std::size_t kRequests = 1'000'000;
const std::vector<std::size_t> kSizes{50, 500, 5000};

// std::uniform_real_distribution and its like differ between libraries; these do not.
double unit(std::mt19937_64& random) { return static_cast<double>(random() >> 11U) * 0x1p-53; }

class Zipf {
 public:
  explicit Zipf(double exponent) : up_to_(kIds) {
    double sum = 0;
    for (std::size_t i = 0; i < kIds; ++i) {
      sum += std::pow(static_cast<double>(i + 1), -exponent);
      up_to_[i] = sum;
    }
  }
  Id operator()(std::mt19937_64& random) const {
    const auto it =
        std::upper_bound(up_to_.begin(), up_to_.end() - 1, unit(random) * up_to_.back());
    return static_cast<Id>(it - up_to_.begin());
  }

 private:
  std::vector<double> up_to_;
};

Trace zipf(const std::string& name, double exponent, std::mt19937_64& random) {
  const Zipf ids{exponent};
  Trace trace{.name = name, .ids = {}, .sizes = kSizes};
  for (std::size_t i = 0; i < kRequests; ++i) trace.ids.push_back(ids(random));
  return trace;
}

// After each 20,000 requests, 10,000 ids that come only once.
Trace zipf_and_scans(std::mt19937_64& random) {
  const Zipf ids{0.9};
  Trace trace{.name = "zipf-scans", .ids = {}, .sizes = kSizes};
  for (Id fresh = kIds; trace.ids.size() < kRequests;) {
    for (int i = 0; i < 20'000; ++i) trace.ids.push_back(ids(random));
    for (int i = 0; i < 10'000; ++i) trace.ids.push_back(fresh++);
  }
  return trace;
}

Trace loop_and_zipf_in_turns(std::mt19937_64& random) {
  const Zipf ids{0.9};
  Trace trace{.name = "loop-zipf-turns", .ids = {}, .sizes = {500, 5000}};
  while (trace.ids.size() < kRequests) {
    for (Id i = 0; i < 100'000; ++i) trace.ids.push_back(kIds + i % 7'000);
    for (int i = 0; i < 100'000; ++i) trace.ids.push_back(ids(random));
  }
  return trace;
}

// Nine of ten requests go to 2,000 hot ids, of which one is exchanged at each 25th request.
Trace moving_hot_set(std::mt19937_64& random) {
  Trace trace{.name = "moving-hot-set", .ids = {}, .sizes = {50, 500, 2000, 5000}};
  Id first = kIds;
  for (std::size_t i = 0; i < kRequests; ++i) {
    if (i % 25 == 0) ++first;
    trace.ids.push_back(i % 10 == 0 ? random() % kIds : first + random() % 2'000);
  }
  return trace;
}

// Requests go to what was new lately: the age is geometric, so recency is all.
Trace recency(std::mt19937_64& random) {
  Trace trace{.name = "recency", .ids = {}, .sizes = {50, 500, 2000}};
  Id newest = 10'000;
  for (std::size_t i = 0; i < kRequests; ++i) {
    if (i % 4 == 0) ++newest;
    const double age = -600 * std::log1p(-unit(random));
    trace.ids.push_back(newest - std::min<Id>(newest, static_cast<Id>(age)));
  }
  return trace;
}

Trace loop() {
  Trace trace{.name = "loop-6000", .ids = {}, .sizes = {300, 1000, 3000, 4500, 5500}};
  for (std::size_t i = 0; i < kRequests; ++i) trace.ids.push_back(i % 6'000);
  return trace;
}

}  // namespace

std::vector<Trace> synthetic_traces() {
  std::mt19937_64 random{42};
  std::vector<Trace> all;
  all.push_back(zipf("zipf-0.7", 0.7, random));
  all.push_back(zipf("zipf-0.9", 0.9, random));
  all.push_back(zipf("zipf-1.1", 1.1, random));
  all.push_back(zipf_and_scans(random));
  all.push_back(loop_and_zipf_in_turns(random));
  all.push_back(moving_hot_set(random));
  all.push_back(recency(random));
  all.push_back(loop());
  for (Trace& trace : all) number_from_zero(trace);
  return all;
}

}  // namespace tiercel::bench
