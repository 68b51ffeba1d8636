# What the game keeps of a player, as it stands in the cache.
@0xd94c29142031829f;

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("tiercel::game::wire");

struct Player {
  id @0 :UInt64;
  # Rises with each change; so the demo can tell an old one.
  revision @1 :UInt64;
  name @2 :Text;
  level @3 :UInt32;
  coins @4 :Int64;
  zone @5 :UInt32;
}

struct Inventory {
  revision @0 :UInt64;
  items @1 :List(Item);

  struct Item {
    name @0 :Text;
    count @1 :UInt32;
    grams @2 :UInt32;
  }
}
