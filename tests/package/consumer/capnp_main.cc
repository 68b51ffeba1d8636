// A user of the installed package whose types are Cap'n Proto structs; here one that every
// installation of Cap'n Proto brings. Exit status 0 when all went well.

#include <capnp/schema.capnp.h>

#include "tiercel/serialization/capnp_codec.h"

int main() {
  using Codec = tiercel::serialization::CapnpCodec<capnp::schema::CapnpVersion>;
  Codec::Value value;
  value.init().setMinor(9);
  const auto bytes = Codec{}.encode(value);
  if (!bytes) return 1;
  const auto version = Codec{}.decode(*bytes);
  return version && version->getMinor() == 9 ? 0 : 1;
}
