#include "game/keyspaces.h"

#include <unordered_map>
#include <vector>

#include "tiercel/base/bytes.h"

namespace tiercel::game {
namespace {

using namespace std::chrono_literals;

// Short lives, so that a run of seconds shows them end. Nobody waits for that: reads, those of the
// tick thread too, have what is half over renewed beside them, and a slow load is answered with
// what there was.
FillPolicy policy() {
  return {.ttl = 2s, .refresh_ahead = 0.5, .stale_max = 1min, .soft_deadline = 50ms};
}

Players::Load to_load(const PlayerRow& row) {
  Players::Load load{serialization::CapnpValue<wire::Player>{}};
  auto player = load.value->init();
  player.setId(row.id);
  player.setRevision(row.revision);
  player.setName(row.name.c_str());
  player.setLevel(row.level);
  player.setCoins(row.coins);
  player.setZone(row.zone);
  load.tags.push_back(zone_tag(row.zone));
  return load;
}

Inventories::Load to_load(const InventoryRow& row) {
  Inventories::Load load{serialization::CapnpValue<wire::Inventory>{}};
  auto inventory = load.value->init();
  inventory.setRevision(row.revision);
  auto items = inventory.initItems(static_cast<unsigned>(row.items.size()));
  for (unsigned i = 0; i < items.size(); ++i) {
    const ItemRow& item = row.items[i];
    items[i].setName(item.name.c_str());
    items[i].setCount(item.count);
    items[i].setGrams(item.grams);
  }
  return load;
}

Result<PlayerId> id_of(std::string_view key) {
  const auto id = parse_u64(key);
  if (!id) return invalid_argument("'" + std::string{key} + "' is no player's number");
  return *id;
}

Players::Loaded load_player(Database& database, std::string_view key) {
  const auto id = id_of(key);
  if (!id) return id.error();
  const auto row = database.player(*id);
  if (!row) return row.error();
  if (!*row) return std::nullopt;
  return to_load(**row);
}

std::vector<Inventories::Loaded> load_inventories(Database& database,
                                                  std::span<const std::string_view> keys) {
  std::vector<PlayerId> ids;
  for (const auto key : keys) ids.push_back(id_of(key).value_or(0));
  const auto rows = database.inventories(ids);
  std::unordered_map<PlayerId, const InventoryRow*> by_player;
  if (rows) {
    for (const InventoryRow& row : *rows) by_player.emplace(row.player, &row);
  }
  std::vector<Inventories::Loaded> loaded;
  for (const PlayerId id : ids) {
    const auto found = by_player.find(id);
    if (!rows) {
      loaded.emplace_back(rows.error());
    } else if (found == by_player.end()) {
      loaded.emplace_back(std::nullopt);
    } else {
      loaded.emplace_back(to_load(*found->second));
    }
  }
  return loaded;
}

}  // namespace

std::string zone_tag(std::uint32_t zone) { return "zone:" + std::to_string(zone); }

Result<Players> open_players(Cache& cache, Database& database) {
  return Players::open(cache, {.name = "player",
                               .policy = policy(),
                               .loader = [&database](std::string_view key, const Players::Old&) {
                                 return load_player(database, key);
                               }});
}

Result<Inventories> open_inventories(Cache& cache, Database& database) {
  return Inventories::open(cache,
                           {.name = "inventory",
                            .policy = policy(),
                            .batch_loader = [&database](std::span<const std::string_view> keys) {
                              return load_inventories(database, keys);
                            }});
}

}  // namespace tiercel::game
