#include "game/database.h"

#include <string_view>
#include <utility>

namespace tiercel::game {
namespace {

Error failed(sqlite3* handle) {
  return unavailable(std::string{"SQLite: "} + sqlite3_errmsg(handle));
}

constexpr const char* kSchema = R"(
CREATE TABLE player (id INTEGER PRIMARY KEY, revision INTEGER NOT NULL, name TEXT NOT NULL,
  level INTEGER NOT NULL, coins INTEGER NOT NULL, zone INTEGER NOT NULL);
CREATE TABLE inventory (player INTEGER PRIMARY KEY, revision INTEGER NOT NULL);
CREATE TABLE item (player INTEGER NOT NULL, name TEXT NOT NULL, count INTEGER NOT NULL,
  grams INTEGER NOT NULL, PRIMARY KEY (player, name));)";

}  // namespace

// One prepared statement: bound, then stepped through.
class Query {
 public:
  Query(sqlite3* handle, const std::string& sql) : handle_(handle) {
    sqlite3_stmt* statement = nullptr;
    is_good_ = sqlite3_prepare_v2(handle, sql.c_str(), -1, &statement, nullptr) == SQLITE_OK;
    statement_.reset(statement);
  }
  Query& with(std::int64_t number) {
    is_good_ = is_good_ && sqlite3_bind_int64(statement_.get(), ++bound_, number) == SQLITE_OK;
    return *this;
  }
  Query& with(std::string_view text) {
    is_good_ =
        is_good_ && sqlite3_bind_text(statement_.get(), ++bound_, text.data(),
                                      static_cast<int>(text.size()), SQLITE_TRANSIENT) == SQLITE_OK;
    return *this;
  }
  // True: there is a row.
  Result<bool> next() {
    const int step = is_good_ ? sqlite3_step(statement_.get()) : SQLITE_ERROR;
    if (step == SQLITE_ROW) return true;
    if (step == SQLITE_DONE) return false;
    return failed(handle_);
  }
  [[nodiscard]] std::int64_t number(int column) const {
    return sqlite3_column_int64(statement_.get(), column);
  }
  [[nodiscard]] std::uint64_t id(int column) const {
    return static_cast<std::uint64_t>(number(column));
  }
  [[nodiscard]] std::uint32_t small(int column) const {
    return static_cast<std::uint32_t>(number(column));
  }
  [[nodiscard]] std::string text(int column) const {
    const auto* const bytes =
        reinterpret_cast<const char*>(sqlite3_column_text(statement_.get(), column));
    return bytes == nullptr ? std::string{} : std::string{bytes};
  }

 private:
  struct Finalize {
    void operator()(sqlite3_stmt* statement) const noexcept { sqlite3_finalize(statement); }
  };
  sqlite3* const handle_;
  std::unique_ptr<sqlite3_stmt, Finalize> statement_;
  int bound_ = 0;
  bool is_good_ = false;
};

namespace {

std::int64_t signed_of(std::uint64_t id) { return static_cast<std::int64_t>(id); }

Result<Revision> revision_of(Query query) {
  const auto found = query.next();
  if (!found) return found.error();
  if (!*found) return unavailable("there is no such player");
  const Revision revision = query.id(0);
  // Done, and the transaction with it.
  if (const auto end = query.next(); !end) return end.error();
  return revision;
}

}  // namespace

Result<std::unique_ptr<Database>> Database::open(const std::string& path) {
  sqlite3* raw = nullptr;
  const int status =
      sqlite3_open_v2(path.c_str(), &raw, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, nullptr);
  Handle handle{raw};
  if (status != SQLITE_OK) return failed(raw);
  std::unique_ptr<Database> database{new Database{std::move(handle)}};
  MutexLock lock{database->mutex_};
  sqlite3_busy_timeout(raw, 10'000);
  // It lives as long as the demo: it need not survive a power cut.
  if (auto done = database->run("PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF;"); !done) {
    return done.error();
  }
  return database;
}

Result<std::unique_ptr<Database>> Database::create(const std::string& path, std::uint32_t players,
                                                   std::uint32_t zones) {
  auto database = open(path);
  if (!database) return database.error();
  std::string sql = std::string{"BEGIN;"} + kSchema;
  for (std::uint32_t i = 1; i <= players; ++i) {
    const std::string id = std::to_string(i);
    sql += "INSERT INTO player VALUES (" + id + ", 1, 'player " + id + "', 1, 100, " +
           std::to_string(i % zones) + ");";
    sql += "INSERT INTO inventory VALUES (" + id + ", 1);";
    sql += "INSERT INTO item VALUES (" + id + ", 'sword', 1, 1500);";
    sql += "INSERT INTO item VALUES (" + id + ", 'bread', 3, 400);";
  }
  MutexLock lock{(*database)->mutex_};
  if (auto done = (*database)->run(sql + "COMMIT;"); !done) return done.error();
  return database;
}

Result<void> Database::run(const std::string& sql) {
  if (sqlite3_exec(handle_.get(), sql.c_str(), nullptr, nullptr, nullptr) != SQLITE_OK) {
    return failed(handle_.get());
  }
  return {};
}

Result<std::optional<PlayerRow>> Database::player(PlayerId id) {
  MutexLock lock{mutex_};
  Query query{handle_.get(),
              "SELECT id, revision, name, level, coins, zone FROM player WHERE id = ?"};
  const auto found = query.with(signed_of(id)).next();
  if (!found) return found.error();
  if (!*found) return std::optional<PlayerRow>{};
  return std::optional{PlayerRow{.id = query.id(0),
                                 .revision = query.id(1),
                                 .name = query.text(2),
                                 .level = query.small(3),
                                 .coins = query.number(4),
                                 .zone = query.small(5)}};
}

Result<std::vector<InventoryRow>> Database::inventories(std::span<const PlayerId> ids) {
  std::string sql =
      "SELECT inventory.player, revision, name, count, grams FROM inventory LEFT JOIN item USING "
      "(player) WHERE inventory.player IN (";
  for (std::size_t i = 0; i < ids.size(); ++i) sql += i == 0 ? "?" : ",?";
  MutexLock lock{mutex_};
  Query query{handle_.get(), sql + ") ORDER BY inventory.player"};
  for (const PlayerId id : ids) query.with(signed_of(id));
  std::vector<InventoryRow> rows;
  for (;;) {
    const auto found = query.next();
    if (!found) return found.error();
    if (!*found) return rows;
    if (rows.empty() || rows.back().player != query.id(0)) {
      rows.push_back({.player = query.id(0), .revision = query.id(1)});
    }
    if (auto name = query.text(2); !name.empty()) {
      rows.back().items.push_back({std::move(name), query.small(3), query.small(4)});
    }
  }
}

Result<Revision> Database::pay(PlayerId id, std::int64_t coins) {
  MutexLock lock{mutex_};
  Query query{handle_.get(),
              "UPDATE player SET coins = coins + ?, revision = revision + 1 WHERE id = ? "
              "RETURNING revision"};
  query.with(coins).with(signed_of(id));
  return revision_of(std::move(query));
}

Result<Revision> Database::give(PlayerId id, const std::string& item) {
  MutexLock lock{mutex_};
  if (auto begun = run("BEGIN IMMEDIATE"); !begun) return begun.error();
  const auto revision = [&]() -> Result<Revision> {
    Query insert{handle_.get(),
                 "INSERT INTO item VALUES (?, ?, 1, 250) ON CONFLICT (player, name) DO UPDATE SET "
                 "count = count + 1"};
    if (auto done = insert.with(signed_of(id)).with(item).next(); !done) return done.error();
    Query update{
        handle_.get(),
        "UPDATE inventory SET revision = revision + 1 WHERE player = ? RETURNING revision"};
    update.with(signed_of(id));
    return revision_of(std::move(update));
  }();
  if (auto ended = run(revision ? "COMMIT" : "ROLLBACK"); !ended) return ended.error();
  return revision;
}

Result<std::vector<std::pair<PlayerId, Revision>>> Database::celebrate(std::uint32_t zone) {
  MutexLock lock{mutex_};
  Query query{handle_.get(),
              "UPDATE player SET level = level + 1, revision = revision + 1 WHERE zone = ? "
              "RETURNING id, revision"};
  query.with(std::int64_t{zone});
  std::vector<std::pair<PlayerId, Revision>> changed;
  for (;;) {
    const auto found = query.next();
    if (!found) return found.error();
    if (!*found) return changed;
    changed.emplace_back(query.id(0), query.id(1));
  }
}

}  // namespace tiercel::game
