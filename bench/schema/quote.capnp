# What codec_bench reads.
@0x9d686a665e17b35b;

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("tiercel::bench::wire");

# 104 bytes of fields.
struct Quote {
  instrument @0 :UInt64;
  bid @1 :Float64;
  ask @2 :Float64;
  bidSize @3 :UInt64;
  askSize @4 :UInt64;
  high @5 :Float64;
  low @6 :Float64;
  open @7 :Float64;
  close @8 :Float64;
  volume @9 :UInt64;
  trades @10 :UInt64;
  atNs @11 :Int64;
  venue @12 :UInt32;
  flags @13 :UInt32;
}

# 88 bytes of fields and a text: 104 with its pointer and its characters.
struct NamedQuote {
  instrument @0 :UInt64;
  bid @1 :Float64;
  ask @2 :Float64;
  bidSize @3 :UInt64;
  askSize @4 :UInt64;
  high @5 :Float64;
  low @6 :Float64;
  open @7 :Float64;
  close @8 :Float64;
  volume @9 :UInt64;
  atNs @10 :Int64;
  name @11 :Text;
}
