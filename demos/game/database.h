#pragma once

// Database: where players and inventories really live: SQLite, in a file that the instances share.
// Any thread; its calls follow one another. They block.

#include <sqlite3.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "tiercel/base/mutex.h"
#include "tiercel/base/result.h"

namespace tiercel::game {

using PlayerId = std::uint64_t;  // 1 to the number of players.
using Revision = std::uint64_t;  // Of a player, or of an inventory: rises with each change.

struct PlayerRow {
  PlayerId id = 0;
  Revision revision = 0;
  std::string name{};
  std::uint32_t level = 0;
  std::int64_t coins = 0;
  std::uint32_t zone = 0;
};

struct ItemRow {
  std::string name{};
  std::uint32_t count = 0;
  std::uint32_t grams = 0;
};

struct InventoryRow {
  PlayerId player = 0;
  Revision revision = 0;
  std::vector<ItemRow> items{};
};

class Database {
 public:
  // Makes the file, with players 1 to `players` in zones 0 to `zones` - 1.
  static Result<std::unique_ptr<Database>> create(const std::string& path, std::uint32_t players,
                                                  std::uint32_t zones);
  // Errors of these and all others: kUnavailable, with what SQLite says.
  static Result<std::unique_ptr<Database>> open(const std::string& path);

  Result<std::optional<PlayerRow>> player(PlayerId id) TIERCEL_EXCLUDES(mutex_);
  // Of those that are there, in the order of their players; one query.
  Result<std::vector<InventoryRow>> inventories(std::span<const PlayerId> ids)
      TIERCEL_EXCLUDES(mutex_);

  // The changes; they are durable for all who open the file when they return.
  Result<Revision> pay(PlayerId id, std::int64_t coins) TIERCEL_EXCLUDES(mutex_);
  Result<Revision> give(PlayerId id, const std::string& item) TIERCEL_EXCLUDES(mutex_);
  // Everyone in the zone rises a level. Who, and to which revision.
  Result<std::vector<std::pair<PlayerId, Revision>>> celebrate(std::uint32_t zone)
      TIERCEL_EXCLUDES(mutex_);

 private:
  struct Close {
    void operator()(sqlite3* handle) const noexcept { sqlite3_close(handle); }
  };
  using Handle = std::unique_ptr<sqlite3, Close>;
  explicit Database(Handle handle) : handle_(std::move(handle)) {}
  Result<void> run(const std::string& sql) TIERCEL_REQUIRES(mutex_);

  friend class Query;
  Mutex mutex_;
  const Handle handle_;
};

}  // namespace tiercel::game
