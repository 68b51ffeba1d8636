#pragma once

// The game's two keyspaces over one cache: profiles, which are loaded one by one and carry their
// zone as a tag, and inventories, which are loaded many at a time. The second instance opens the
// same ones.

#include <string>

#include "game.capnp.h"
#include "game/database.h"
#include "tiercel/cache/keyspace.h"
#include "tiercel/serialization/capnp_codec.h"

namespace tiercel::game {

inline constexpr std::string_view kNameSpace = "game";
inline constexpr std::uint32_t kPlayers = 100;
inline constexpr std::uint32_t kZones = 4;

using Players = Keyspace<serialization::CapnpCodec<wire::Player>>;
using Inventories = Keyspace<serialization::CapnpCodec<wire::Inventory>>;

[[nodiscard]] std::string zone_tag(std::uint32_t zone);  // "zone:3"

// The database must outlive the cache: a load may run until that is closed.
Result<Players> open_players(Cache& cache, Database& database);
Result<Inventories> open_inventories(Cache& cache, Database& database);

}  // namespace tiercel::game
