# Types of an application, for the tests of CapnpCodec.
@0xc0df114a98c370b2;

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("tiercel::game");

struct Position {
  x @0 :Float64;
  y @1 :Float64;
  z @2 :Float64;
}

struct Item {
  id @0 :UInt32;
  count @1 :UInt16;
  label @2 :Text;
}

struct Player {
  id @0 :UInt64;
  level @1 :UInt32;
  name @2 :Text;
  position @3 :Position;
  items @4 :List(Item);
  avatar @5 :Data;
  titles @6 :List(Text);
  grid @7 :List(List(UInt32));
  marks @8 :List(Void);
  friend @9 :Player;
  union {
    alone @10 :Void;
    guild @11 :Text;
    party :group {
      leader @12 :Text;
      size @13 :UInt8;
    }
  }
  anything @14 :AnyPointer;
}

# Player as a later release has it: another id here, for both must stand in one program.
struct PlayerLater {
  id @0 :UInt64;
  level @1 :UInt32;
  name @2 :Text;
  position @3 :Position;
  items @4 :List(ItemLater);
  avatar @5 :Data;
  titles @6 :List(Text);
  grid @7 :List(List(UInt32));
  marks @8 :List(Void);
  friend @9 :PlayerLater;
  union {
    alone @10 :Void;
    guild @11 :Text;
    party :group {
      leader @12 :Text;
      size @13 :UInt8;
    }
  }
  anything @14 :AnyPointer;
  experience @15 :UInt64 = 100;
  motto @16 :Text = "none";
  rank @17 :Rank;

  enum Rank { novice @0; master @1; }
}

struct ItemLater {
  id @0 :UInt32;
  count @1 :UInt16;
  label @2 :Text;
  weight @3 :Float64 = 1.5;
  maker @4 :Text;
}
