#include <cstdio>

#include "tiercel/cache/cache.h"

int main(int argc, char** argv) {
  using namespace tiercel;

  // Without a URL the same cache lives in this process only.
  auto cache = Cache::open({.name_space = "game", .redis_url = argc > 1 ? argv[1] : ""});
  if (!cache) return std::fprintf(stderr, "%s\n", cache.error().to_string().c_str()), 1;

  // To Redis, and every instance is told; then from L1 alone, as a tick thread would.
  if (auto written = (*cache)->set("player:7", "Ann"); !written) {
    return std::fprintf(stderr, "%s\n", written.error().to_string().c_str()), 1;
  }
  auto player = (*cache)->try_get("player:7");

  // On a miss in both tiers, once in the whole fleet, from your database.
  const Loader from_database = [](std::string_view) { return Loaded{"The Falcons"}; };
  auto guild = (*cache)->get("guild:3", {.loader = from_database});

  if (!player || !guild || !*guild) return 1;  // L1 may not answer yet, or Redis is away.
  std::printf("%s of %s, from %s\n", player->to_string().c_str(), (*guild)->to_string().c_str(),
              std::string{to_string((*guild)->tier())}.c_str());
}
