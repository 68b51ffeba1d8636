#include "tiercel/coherence/scripts.h"

// Lua numbers are doubles, exact to 2^53 only, so a version is packed from two 32-bit halves:
// 44 + 20 bits = (ms >> 12), ((ms & 4095) << 20 | seq).
//
// The sequence part of an id exceeds 20 bits only when the server's wall clock was set back and
// more than a million writes followed before it caught up. Then the next millisecond is begun by
// hand; later ids follow on from there.
//
// The message is published before the value changes: where a step is refused midway (no permission
// for the channel, a ttl that is no number), a needless invalidation is harmless and a change that
// nobody is told of is not. Nobody can see the moment in between.

// Macros, since each script must be one literal. They share the locals `ms` and `seq`: the first
// sets them from `id`, the second from a new entry of the history, the third packs `version`.
#define TIERCEL_LUA_PARSE_ID                     \
  "local dash = string.find(id, '-', 1, true)\n" \
  "ms = tonumber(string.sub(id, 1, dash - 1))\n" \
  "seq = tonumber(string.sub(id, dash + 1))\n"

#define TIERCEL_LUA_APPEND(message)                                                   \
  "local id = redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[5], '*', 'm', " message \
  ")\n" TIERCEL_LUA_PARSE_ID                                                          \
  "if seq > 1048575 then\n"                                                           \
  "  redis.call('XDEL', KEYS[3], id)\n"                                               \
  "  ms, seq = ms + 1, 0\n"                                                           \
  "  redis.call('XADD', KEYS[3], string.format('%.0f-0', ms), 'm', " message          \
  ")\n"                                                                               \
  "end\n"

#define TIERCEL_LUA_PACK_VERSION \
  "local version = struct.pack('>I4I4', math.floor(ms / 4096), (ms % 4096) * 1048576 + seq)\n"

namespace tiercel::coherence {

const std::string_view kWriteScript =
    "local ms, seq\n" TIERCEL_LUA_APPEND("ARGV[3]") TIERCEL_LUA_PACK_VERSION
    "redis.call('PUBLISH', ARGV[4], version .. ARGV[3])\n"
    "redis.call('DEL', KEYS[2])\n"
    "if ARGV[1] == '' then\n"
    "  redis.call('DEL', KEYS[1])\n"
    "elseif ARGV[2] == '0' then\n"
    "  redis.call('SET', KEYS[1], version .. ARGV[1])\n"
    "else\n"
    "  redis.call('SET', KEYS[1], version .. ARGV[1], 'PX', ARGV[2])\n"
    "end\n"
    "return version\n";

const std::string_view kBeginFillScript =
    "if ARGV[3] == '0' then\n"
    "  local value = redis.call('GET', KEYS[1])\n"
    "  if value then return {1, value, redis.call('PTTL', KEYS[1])} end\n"
    "end\n"
    "if redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2]) then return {2} end\n"
    "if redis.call('GET', KEYS[2]) == ARGV[1] then return {2} end\n"
    "return {3, redis.call('PTTL', KEYS[2])}\n";

// clang-format off
const std::string_view kFinishFillScript =
    "if redis.call('GET', KEYS[2]) ~= ARGV[1] then return false end\n"
    "local ms, seq\n"
    "local last = redis.call('XREVRANGE', KEYS[3], '+', '-', 'COUNT', 1)\n"
    "if last[1] then\n"
    "  local id = last[1][1]\n"
    TIERCEL_LUA_PARSE_ID
    "else\n"
    TIERCEL_LUA_APPEND("ARGV[4]")
    "end\n"
    TIERCEL_LUA_PACK_VERSION
    "redis.call('DEL', KEYS[2])\n"
    "if ARGV[3] == '0' then\n"
    "  redis.call('SET', KEYS[1], version .. ARGV[2])\n"
    "else\n"
    "  redis.call('SET', KEYS[1], version .. ARGV[2], 'PX', ARGV[3])\n"
    "end\n"
    "return version\n";
// clang-format on

const std::string_view kAbandonFillScript =
    "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end\n"
    "return redis.call('DEL', KEYS[1])\n";

}  // namespace tiercel::coherence
