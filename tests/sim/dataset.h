#pragma once

// Dataset: what a server holds of the namespace, as the scripts leave it: values with their
// versions, fill leases, the capped history, the tags' versions.

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>

#include "tiercel/coherence/session.h"
#include "tiercel/coherence/version.h"

namespace tiercel::sim {

using coherence::Version;

// What the keys are for.
//   stored   values set by instances
//   pushed   the same, and the value rides on the message
//   loaded   loaded from a database; changed there, then invalidated by key or by tag
//   foreign  as stored; where foreign writers are observed, they change them, too
inline constexpr std::size_t kKeys = 14;
inline constexpr std::size_t kTagSlots = 3;
[[nodiscard]] constexpr bool is_pushed(std::size_t key) { return key == 4 || key == 5; }
[[nodiscard]] constexpr bool is_loaded(std::size_t key) { return key >= 6 && key < 12; }
[[nodiscard]] constexpr bool is_foreign(std::size_t key) { return key >= 12; }
[[nodiscard]] constexpr std::size_t tag_of(std::size_t key) { return key % kTagSlots; }
std::string key_name(std::size_t key);          // "k7"
std::size_t key_number(std::string_view name);  // Of "k7" or "t1".
std::string tag_name(std::size_t tag);          // "t1"

// Where in the true history (branches.h) something was done.
struct Place {
  int branch = -1;
  std::uint64_t offset = 0;

  friend bool operator==(const Place&, const Place&) = default;
};

// A value: which write made it, and where it was stored.
struct Value {
  std::uint32_t write = 0;        // Rising over the whole run; 0: nothing.
  std::uint32_t incarnation = 0;  // Of the data: each flush begins another.
  Place place{};
};
// As it stands in L1 and in messages.
std::string to_bytes(const Value& value);
Value from_bytes(std::string_view bytes);

struct Stored {
  bool exists = false;
  Version version = coherence::kVersionUnknown;
  Value value{};
};

struct FillLease {
  std::uint64_t token = 0;  // 0: none.
  Version begun_at = coherence::kVersionUnknown;
  Duration until{};  // On the server's own wall clock.
};

// An entry of the history: the message as it was published.
struct Message {
  coherence::ChangeKind kind = coherence::ChangeKind::kNone;
  Version version = coherence::kVersionUnknown;
  std::uint64_t origin = 0;
  std::uint64_t nonce = 0;
  std::size_t subject = 0;  // Key or tag.
  Value value{};            // Of pushed keys.
  bool has_value = false;

  [[nodiscard]] coherence::Change to_change() const;
};

// What a command did, as replicas repeat it.
struct Op {
  enum class Kind : std::uint8_t {
    kWrite,  // Value (or none), message.
    kFillBegin,
    kFillFinish,
    kFillAbandon,
    kTag,
    kClear,
    kBase,  // The hash of tags is begun.
    kForeignSet,
    kForeignDelete,
    kFlush,
  };
  Kind kind = Kind::kWrite;
  std::size_t key = 0;
  Stored stored{};
  FillLease lease{};
  Message message{};
  bool has_message = false;  // It is an entry of the history.
  bool is_published = false;
};

struct Dataset {
  std::array<Stored, kKeys> values{};
  std::array<FillLease, kKeys> leases{};
  std::deque<Message> history{};
  Version last_id = coherence::kVersionUnknown;
  std::array<Version, kTagSlots> tags{};
  // Before it all is dead; there is none until somebody asks, clears or begins a fill.
  Version base = coherence::kVersionUnknown;
  bool has_base = false;
  std::uint32_t incarnation = 0;

  // The id that XADD would give.
  [[nodiscard]] Version next_id(Duration wall_clock) const;
  void apply(const Op& op, std::size_t history_entries);
  [[nodiscard]] Version tag_version(std::size_t tag) const;
};

}  // namespace tiercel::sim
