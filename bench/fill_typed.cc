#include "fill_typed.h"

#include <time.h>

#include <chrono>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>

#include "coherence_load.h"
#include "quote.capnp.h"
#include "support/allocations.h"
#include "support/locks.h"
#include "support/redis_server.h"
#include "tiercel/cache/keyspace.h"
#include "tiercel/l1/lru_cache.h"
#include "tiercel/serialization/capnp_codec.h"

namespace tiercel::bench {
namespace {

using namespace std::chrono_literals;
using serialization::BytesCodec;
using serialization::CapnpCodec;

constexpr std::size_t kValues = 1024;  // In the processor's caches: what is left is the work.
// Behind segment table and root pointer, both of 8 bytes, `instrument` is first.
constexpr std::size_t kFieldAt = 16;

// As long as the measurement: no audit, no lapse.
constexpr std::chrono::milliseconds kLease = 60s;

volatile std::uint64_t sink;

std::uint64_t field_of(std::string_view bytes) {
  std::uint64_t field = 0;
  std::memcpy(&field, bytes.data() + kFieldAt, sizeof(field));
  return field;
}

Duration thread_cpu() {
  timespec spent{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &spent);
  return std::chrono::seconds{spent.tv_sec} + std::chrono::nanoseconds{spent.tv_nsec};
}

// One contestant: hits the value of a number and reads its field.
struct Contestant {
  TypedRow row;
  std::function<std::uint64_t()> pass;  // Over all values: the sum of the fields.
};

template <typename Look>
std::function<std::uint64_t()> pass_of(Look look) {
  return [look = std::move(look)] {
    std::uint64_t sum = 0;
    for (std::uint64_t i = 0; i < kValues; ++i) sum += look(i);
    return sum;
  };
}

class Arena {
 public:
  Result<void> open() {
    for (std::uint64_t i = 0; i < kValues; ++i) ids_.push_back(std::to_string(i));
    auto cache = open_cache({.name_space = kNamespace,
                             .redis_url = server_->url(),
                             .lease = kLease,
                             .stream_timeout = kLease});
    if (!cache) return cache.error();
    cache_ = *std::move(cache);
    if (auto made = make(bytes_, "raw"); !made) return made;
    if (auto made = make(quotes_, "quote"); !made) return made;
    if (auto made = make(named_, "named"); !made) return made;
    auto l1 = l1::LruCache::create({});
    if (!l1) return l1.error();
    l1_ = *std::move(l1);
    for (std::uint64_t i = 0; i < kValues; ++i) {
      if (auto stored = store(i); !stored) return stored;
    }
    return {};
  }

  std::vector<Contestant> contestants() {
    std::vector<Contestant> all;
    const auto add = [&](const char* name, const char* about, auto look) {
      all.push_back({{.name = name, .about = about}, pass_of(std::move(look))});
    };
    const auto in_bytes = [](const auto& found) { return found ? field_of(found->bytes()) : 0; };
    const auto in_view = [](const auto& found) {
      return found ? found->view().getInstrument() : 0;
    };
    add("bytes", "Cache::try_get of the bytes of `capnp`, key at hand: what the ratios are over",
        [this, in_bytes](std::uint64_t i) { return in_bytes(cache_->try_get(keys_[i])); });
    add("l1", "l1::LruCache::visit of the same bytes: no lease, no version, no pin",
        [this](std::uint64_t i) {
          std::uint64_t field = 0;
          l1_->visit(keys_[i],
                     [&](const l1::EntryView& entry) { field = field_of(entry.value()); });
          return field;
        });
    add("bytes_keyspace", "Keyspace<BytesCodec>::try_get, the key formatted from a string",
        [this](std::uint64_t i) {
          const auto found = bytes_->try_get(ids_[i]);
          return found ? field_of(found->view()) : 0;
        });
    add("capnp", "Keyspace<CapnpCodec>::try_get, a struct with a text, the key from an integer",
        [this, in_view](std::uint64_t i) { return in_view(named_->try_get(i)); });
    add("capnp_string", "the same, the key from a string",
        [this, in_view](std::uint64_t i) { return in_view(named_->try_get(ids_[i])); });
    add("capnp_flat", "as capnp, a struct without pointers",
        [this, in_view](std::uint64_t i) { return in_view(quotes_->try_get(i)); });
    return all;
  }

 private:
  using Quotes = CapnpCodec<wire::Quote>;
  using Named = CapnpCodec<wire::NamedQuote>;

  template <typename Codec>
  Result<void> make(std::optional<Keyspace<Codec>>& space, const char* name) {
    auto made = Keyspace<Codec>::open(*cache_, {.name = name});
    if (!made) return made.error();
    space.emplace(*std::move(made));
    return {};
  }

  Result<void> store(std::uint64_t number) {
    Quotes::Value quote;
    quote.init().setInstrument(number);
    Named::Value named;
    named.init().setInstrument(number);
    named.get().setName("a name");
    const auto bytes = Named{}.encode(named);
    if (!bytes) return bytes.error();
    keys_.push_back("named:" + ids_[number]);
    if (auto written = bytes_->set(number, *bytes); !written) return written.error();
    if (auto written = quotes_->set(number, quote); !written) return written.error();
    if (auto written = named_->set(number, named); !written) return written.error();
    return l1_->insert(keys_.back(), *bytes);
  }

  const std::unique_ptr<testing::RedisServer> server_ = testing::RedisServer::start();
  std::vector<std::string> ids_;
  std::vector<std::string> keys_;
  std::unique_ptr<Cache> cache_;
  std::optional<Keyspace<BytesCodec>> bytes_;
  std::optional<Keyspace<Quotes>> quotes_;
  std::optional<Keyspace<Named>> named_;
  std::unique_ptr<l1::LruCache> l1_;
};

}  // namespace

Result<std::vector<TypedRow>> run_typed(const TypedSettings& settings) {
  constexpr std::uint64_t kSum = kValues * (kValues - 1) / 2;
  Arena arena;
  if (auto opened = arena.open(); !opened) return opened.error();
  std::vector<Contestant> contestants = arena.contestants();
  for (const Contestant& each : contestants) {
    if (each.pass() != kSum) return internal(each.row.name + ": not all were hit");
  }
  for (int round = 0; round < settings.rounds; ++round) {
    for (Contestant& each : contestants) {
      const std::uint64_t allocations = testing::allocations();
      const std::uint64_t locks = testing::locks();
      const Duration began = thread_cpu();
      std::uint64_t sum = 0;
      for (int i = 0; i < settings.passes; ++i) sum += each.pass();
      const Duration took = thread_cpu() - began;
      sink = sum;
      if (testing::allocations() != allocations || testing::locks() != locks) {
        return internal(each.row.name + ": a hit allocated memory, or took a lock");
      }
      if (sum != kSum * static_cast<std::uint64_t>(settings.passes)) {
        return internal(each.row.name + ": not all were hit");
      }
      each.row.nanoseconds.push_back(static_cast<double>(took.count()) /
                                     (settings.passes * static_cast<double>(kValues)));
    }
    for (Contestant& each : contestants) {
      each.row.ratios.push_back(each.row.nanoseconds.back() /
                                contestants.front().row.nanoseconds.back());
    }
  }
  std::vector<TypedRow> rows;
  for (Contestant& each : contestants) rows.push_back(std::move(each.row));
  return rows;
}

}  // namespace tiercel::bench
