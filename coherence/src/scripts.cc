#include "tiercel/coherence/scripts.h"

// Lua numbers are doubles, exact to 2^53 only, so a version is packed from two 32-bit halves:
// 44 + 20 bits = (ms >> 12), ((ms & 4095) << 20 | seq); and compared by halves, too, since Lua
// compares strings by the server's locale (strcoll) and not by their bytes.
//
// The sequence part of an id exceeds 20 bits only when the server's wall clock was set back and
// more than a million writes followed before it caught up. Then the next millisecond is begun by
// hand; later ids follow on from there.
//
// The message is published before anything changes: where a step is refused midway (no permission
// for the channel, a ttl that is no number), a needless invalidation is harmless and a change that
// nobody is told of is not. Nobody can see the moment in between.

// Macros, since each script must be one literal, and a Lua function would be made anew at each
// call. They share the locals `ms` and `seq`: PARSE_ID sets them from `id`, APPEND from a new entry
// of the history, NEWEST from the newest one; PACK_VERSION makes `version` of them.
// clang-format off
#define TIERCEL_LUA_PARSE_ID \
  "ms, seq = string.match(id, '(%d+)-(%d+)')\n" \
  "ms, seq = ms + 0, seq + 0\n"

#define TIERCEL_LUA_APPEND(history, message, entries) \
  "local id = redis.call('XADD', " history ", 'MAXLEN', '~', " entries ", '*', 'm', " message ")\n" \
  TIERCEL_LUA_PARSE_ID \
  "if seq > 1048575 then\n" \
  "  redis.call('XDEL', " history ", id)\n" \
  "  ms, seq = ms + 1, 0\n" \
  "  redis.call('XADD', " history ", string.format('%.0f-0', ms), 'm', " message ")\n" \
  "end\n"

// Where there is no history, the next entry will be of the server's clock at the earliest: what is
// returned is less than that.
#define TIERCEL_LUA_NEWEST(history) \
  "local ms, seq\n" \
  "local last = redis.call('XREVRANGE', " history ", '+', '-', 'COUNT', 1)\n" \
  "if last[1] then\n" \
  "  local id = last[1][1]\n" \
  TIERCEL_LUA_PARSE_ID \
  "else\n" \
  "  local now = redis.call('TIME')\n" \
  "  ms, seq = now[1] * 1000 + math.floor(now[2] / 1000) - 1, 1048575\n" \
  "end\n"

#define TIERCEL_LUA_PACK_VERSION \
  "local rest = ms % 4096\n" \
  "local version = struct.pack('>I4I4', (ms - rest) / 4096, rest * 1048576 + seq)\n"

#define TIERCEL_LUA_STORE(key, envelope, ttl) \
  "if " ttl " == '0' then\n" \
  "  redis.call('SET', " key ", version .. " envelope ")\n" \
  "else\n" \
  "  redis.call('SET', " key ", version .. " envelope ", 'PX', " ttl ")\n" \
  "end\n"

// A fill lease is its holder's token, and one byte more once somebody waits for its end.
#define TIERCEL_LUA_END_LEASE(lease, refusal, channel, message) \
  "local held = redis.call('GET', " lease ")\n" \
  "if not held or string.sub(held, 1, #ARGV[1]) ~= ARGV[1] then return " refusal " end\n" \
  "redis.call('DEL', " lease ")\n" \
  "if #held > #ARGV[1] then\n" \
  "  redis.call('PUBLISH', " channel ", '\\0\\0\\0\\0\\0\\0\\0\\0' .. " message ")\n" \
  "end\n"

// From the history entry on, what every write of one key does.
#define TIERCEL_LUA_WRITE \
  "local ms, seq\n" \
  TIERCEL_LUA_APPEND("KEYS[3]", "ARGV[3]", "ARGV[5]") \
  TIERCEL_LUA_PACK_VERSION \
  "redis.call('PUBLISH', ARGV[4], version .. ARGV[3])\n" \
  "redis.call('DEL', KEYS[2])\n" \
  "if ARGV[1] == '' then\n" \
  "  redis.call('DEL', KEYS[1])\n" \
  "  return version\n" \
  "end\n" \
  TIERCEL_LUA_STORE("KEYS[1]", "ARGV[1]", "ARGV[2]") \
  "return version\n"
// clang-format on

namespace tiercel::coherence {

const std::string_view kWriteScript = TIERCEL_LUA_WRITE;

// The head of a value (docs/wire_format.md), with offsets that begin at 1: version, mark, format
// version, kind; the root pointer at 25, as our writers make it; flags at 33, of which bit 0 is
// "negative" and bit 2 "tombstone"; at 65 the pointer to the slots of its tags, in words from 73 on
// (type 1, elements of two bytes: 3), or 0. `current` becomes false where there is no value, or a
// dead one, '' where it is of unknown version.
const std::string_view kWriteIfScript =
    "local head = redis.pcall('GETRANGE', KEYS[1], 0, 71)\n"
    "local current = ''\n"
    "if head == '' then\n"
    "  if redis.call('EXISTS', KEYS[1]) == 0 then current = false end\n"
    "elseif type(head) == 'string' and #head == 72 and\n"
    "    string.sub(head, 9, 14) == '\\241TCL\\1\\1' and\n"
    "    string.sub(head, 25, 32) == '\\0\\0\\0\\0\\3\\0\\2\\0' then\n"
    "  local flags = string.byte(head, 33)\n"
    "  if flags % 2 == 1 or flags % 8 >= 4 then\n"
    "    current = false\n"
    "  elseif string.find(head, '[^%z]') <= 8 then\n"
    "    current = string.sub(head, 1, 8)\n"
    "    local fields = {'base'}\n"
    "    local pointer, list = struct.unpack('<I4I4', head, 65)\n"
    "    if pointer % 4 == 1 and list % 8 == 3 then\n"
    "      local count = (list - 3) / 8\n"
    "      local at = 72 + 2 * (pointer - 1)\n"
    "      local slots = redis.call('GETRANGE', KEYS[1], at, at + 2 * count - 1)\n"
    "      for i = 1, math.min(count, #slots / 2) do\n"
    "        fields[i + 1] = struct.unpack('<I2', slots, 2 * i - 1)\n"
    "      end\n"
    "    end\n"
    "    local high, low = struct.unpack('>I4I4', current)\n"
    "    local changed = redis.call('HMGET', KEYS[4], unpack(fields))\n"
    "    for i = 1, #changed do\n"
    "      local h, l = 4294967295, 0\n"
    "      if changed[i] then h, l = struct.unpack('>I4I4', changed[i]) end\n"
    "      if changed[i] or i == 1 then\n"
    "        if h > high or (h == high and l > low) then current = false end\n"
    "      end\n"
    "    end\n"
    "  end\n"
    "end\n"
    "if ARGV[6] == '' then\n"
    "  if current then return {current} end\n"
    "elseif current ~= ARGV[6] then\n"
    "  return {current}\n"
    "end\n" TIERCEL_LUA_WRITE;

const std::string_view kWriteUnversionedScript =
    "local version = '\\0\\0\\0\\0\\0\\0\\0\\0'\n"
    "redis.call('PUBLISH', ARGV[4], version .. ARGV[3])\n"
    "redis.call('DEL', KEYS[2])\n"
    "if ARGV[1] == '' then\n"
    "  redis.call('DEL', KEYS[1])\n"
    "  return version\n"
    "end\n" TIERCEL_LUA_STORE("KEYS[1]", "ARGV[1]", "ARGV[2]") "return version\n";

// clang-format off
const std::string_view kWriteManyScript =
    "local ms, seq\n"
    TIERCEL_LUA_APPEND("KEYS[1]", "ARGV[1]", "ARGV[3]")
    TIERCEL_LUA_PACK_VERSION
    "redis.call('PUBLISH', ARGV[2], version .. ARGV[1])\n"
    "local count = (#KEYS - 1) / 2\n"
    "redis.call('DEL', unpack(KEYS, count + 2))\n"
    "for i = 1, count do\n"
    "  local envelope, ttl = ARGV[2 * i + 2], ARGV[2 * i + 3]\n"
    TIERCEL_LUA_STORE("KEYS[i + 1]", "envelope", "ttl")
    "end\n"
    "return version\n";
// clang-format on

const std::string_view kInvalidateManyScript =
    "local ms, seq\n" TIERCEL_LUA_APPEND("KEYS[1]", "ARGV[1]", "ARGV[3]") TIERCEL_LUA_PACK_VERSION
    "redis.call('PUBLISH', ARGV[2], version .. ARGV[1])\n"
    "redis.call('DEL', unpack(KEYS, 2))\n"
    "return version\n";

const std::string_view kInvalidateTagsScript =
    "local ms, seq\n" TIERCEL_LUA_APPEND("KEYS[1]", "ARGV[1]", "ARGV[3]") TIERCEL_LUA_PACK_VERSION
    "redis.call('PUBLISH', ARGV[2], version .. ARGV[1])\n"
    "redis.call('HSETNX', KEYS[2], 'base', version)\n"
    "local fields = {}\n"
    "for i = 4, #ARGV do\n"
    "  fields[2 * i - 7], fields[2 * i - 6] = ARGV[i], version\n"
    "end\n"
    "redis.call('HSET', KEYS[2], unpack(fields))\n"
    "return version\n";

const std::string_view kClearScript =
    "local ms, seq\n" TIERCEL_LUA_APPEND("KEYS[1]", "ARGV[1]", "ARGV[3]") TIERCEL_LUA_PACK_VERSION
    "redis.call('PUBLISH', ARGV[2], version .. ARGV[1])\n"
    "redis.call('DEL', KEYS[2])\n"
    "redis.call('HSET', KEYS[2], 'base', version)\n"
    "return version\n";

const std::string_view kReadTagsScript =
    "if redis.call('HEXISTS', KEYS[2], 'base') == 0 then\n" TIERCEL_LUA_NEWEST("KEYS[1]")
        TIERCEL_LUA_PACK_VERSION
    "  redis.call('HSET', KEYS[2], 'base', version)\n"
    "end\n"
    "if #ARGV == 0 then return redis.call('HGETALL', KEYS[2]) end\n"
    "return redis.call('HMGET', KEYS[2], unpack(ARGV))\n";

// clang-format off
// MGET takes what is no string for nothing, so what there is is counted.
const std::string_view kBeginFillsScript =
    "local call, keys, args = redis.call, KEYS, ARGV\n"
    "local count = (#keys - 2) / 2\n"
    "local values, strings = {}, 0\n"
    "local are_strings = true\n"
    "if args[2] == '0' then\n"
    "  values = call('MGET', unpack(keys, 3, count + 2))\n"
    "  for i = 1, count do\n"
    "    if values[i] then strings = strings + 1 end\n"
    "  end\n"
    "  are_strings = call('EXISTS', unpack(keys, 3, count + 2)) == strings\n"
    "end\n"
    "local granted_at = false\n"
    "local answers = {false}\n"
    "for i = 1, count do\n"
    "  local lease, token = keys[i + 2 + count], args[i + 3]\n"
    "  local old, left, answer = values[i], -1, false\n"
    "  if old then\n"
    "    left = call('PTTL', keys[i + 2])\n"
    "    local wanted = args[3] + 0\n"
    "    if left >= 0 and string.sub(old, 9, 14) == '\\241TCL\\1\\1' and #old >= 72 and\n"
    "        string.sub(old, 25, 32) == '\\0\\0\\0\\0\\3\\0\\2\\0' then\n"
    "      local s1, s2, h1, h2 = struct.unpack('<I4I4I4I4', old, 41)\n"
    "      local soft, hard = s1 + s2 * 4294967296, h1 + h2 * 4294967296\n"
    "      if soft > 0 and soft < hard then wanted = wanted + hard - soft end\n"
    "    end\n"
    "    if left < 0 or left >= wanted then answer = {1, old, left} end\n"
    "  elseif not are_strings and call('EXISTS', keys[i + 2]) == 1 then\n"
    "    answer = 0\n"
    "  end\n"
    "  if not answer and not call('SET', lease, token, 'NX', 'PX', args[1]) then\n"
    "    local held = redis.pcall('GET', lease)\n"
    "    if type(held) ~= 'string' then\n"
    "      answer = 4\n"
    "    elseif string.sub(held, 1, #token) ~= token then\n"
    "      if #held == #token then call('APPEND', lease, 'w') end\n"
    "      answer = {3, old or false, left, call('PTTL', lease)}\n"
    "    end\n"
    "  end\n"
    "  if not answer then\n"
    "    if not granted_at then\n"
    TIERCEL_LUA_NEWEST("keys[1]")
    TIERCEL_LUA_PACK_VERSION
    "      call('HSETNX', keys[2], 'base', version)\n"
    "      granted_at = version\n"
    "    end\n"
    "    answer = old and {2, old, left} or 2\n"
    "  end\n"
    "  answers[i + 1] = answer\n"
    "end\n"
    "answers[1] = granted_at\n"
    "return answers\n";

// What the tags say is never newer than what the fill saw, or the fill is refused: also where
// nothing says what happened meanwhile, for the hash is gone, or was begun since.
const std::string_view kFinishFillsScript =
    "local call, keys, args = redis.call, KEYS, ARGV\n"
    "local count = (#keys - 2) / 2\n"
    "local held = call('MGET', unpack(keys, count + 3))\n"
    "local answers, ended, unseen, is_awaited = {}, {}, {}, false\n"
    "for i = 1, count do\n"
    "  answers[i] = false\n"
    "  local mine, token = held[i], args[6 * i - 2]\n"
    "  if mine and mine ~= token then\n"
    "    mine = #mine == #token + 1 and string.sub(mine, 1, #token) == token\n"
    "    if mine then is_awaited = true end\n"
    "  end\n"
    "  held[i] = mine\n"
    "  if mine then\n"
    "    ended[#ended + 1] = keys[i + 2 + count]\n"
    "    if args[6 * i + 2] == '0' then unseen[#unseen + 1] = keys[i + 2] end\n"
    "  end\n"
    "end\n"
    "if #ended == 0 then return answers end\n"
    "call('DEL', unpack(ended))\n"
    "if is_awaited then\n"
    "  call('PUBLISH', args[2], '\\0\\0\\0\\0\\0\\0\\0\\0' .. args[1])\n"
    "end\n"
    "local base = call('HGET', keys[2], 'base')\n"
    "if not base then return answers end\n"
    "local are_unseen_free = #unseen == 0 or call('EXISTS', unpack(unseen)) == 0\n"
    "local newest, granted_at, high, low, is_after_base = false, false, 0, 0, false\n"
    "for i = 1, count do\n"
    "  local is_good, value, may_replace = held[i], keys[i + 2], args[6 * i + 2]\n"
    "  if is_good and may_replace == '0' then\n"
    "    is_good = are_unseen_free or call('EXISTS', value) == 0\n"
    "  elseif is_good and may_replace ~= '1' then\n"
    "    local head = redis.pcall('GETRANGE', value, 0, 7)\n"
    "    is_good = head == '' or head == string.sub(may_replace, 2)\n"
    "  end\n"
    "  if is_good and granted_at ~= args[6 * i + 1] then\n"
    "    granted_at = args[6 * i + 1]\n"
    "    high, low = struct.unpack('>I4I4', granted_at)\n"
    "    local h, l = struct.unpack('>I4I4', base)\n"
    "    is_after_base = h < high or (h == high and l <= low)\n"
    "  end\n"
    "  is_good = is_good and is_after_base\n"
    "  local slots = args[6 * i + 3]\n"
    "  if is_good and slots ~= '' then\n"
    "    local fields = {}\n"
    "    for at = 1, #slots, 2 do fields[#fields + 1] = (struct.unpack('>I2', slots, at)) end\n"
    "    local changed = call('HMGET', keys[2], unpack(fields))\n"
    "    for c = 1, #changed do\n"
    "      if changed[c] then\n"
    "        local h, l = struct.unpack('>I4I4', changed[c])\n"
    "        if h > high or (h == high and l > low) then is_good = false end\n"
    "      end\n"
    "    end\n"
    "  end\n"
    "  if is_good then\n"
    "    if not newest then\n"
    "      local ms, seq\n"
    "      local last = call('XREVRANGE', keys[1], '+', '-', 'COUNT', 1)\n"
    "      if last[1] then\n"
    "        local id = last[1][1]\n"
    TIERCEL_LUA_PARSE_ID
    "      else\n"
    TIERCEL_LUA_APPEND("keys[1]", "args[1]", "args[3]")
    "      end\n"
    TIERCEL_LUA_PACK_VERSION
    "      newest = version\n"
    "    end\n"
    "    local ttl = args[6 * i]\n"
    "    if ttl == '0' then\n"
    "      call('SET', value, newest .. args[6 * i - 1])\n"
    "    else\n"
    "      call('SET', value, newest .. args[6 * i - 1], 'PX', ttl)\n"
    "    end\n"
    "    answers[i] = newest\n"
    "  end\n"
    "end\n"
    "return answers\n";
// clang-format on

const std::string_view kAbandonFillScript =
    TIERCEL_LUA_END_LEASE("KEYS[1]", "0", "ARGV[2]", "ARGV[3]") "return 1\n";

const std::string_view kNewestScript =
    "local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)\n"
    "return last[1] and last[1][1] or ''\n";

const std::string_view kAuditScript =
    "local size = redis.pcall('STRLEN', KEYS[1])\n"
    "local bytes = false\n"
    "if type(size) ~= 'number' then\n"
    "  size = -1\n"
    "elseif size > tonumber(ARGV[1]) then\n"
    "  bytes = redis.call('GETRANGE', KEYS[1], 0, 32)\n"
    "else\n"
    "  bytes = redis.call('GET', KEYS[1])\n"
    "end\n"
    "return {size, bytes, redis.call('HMGET', KEYS[2], 'base', unpack(ARGV, 2))}\n";

const std::string_view kRegisterLeaseScript =
    "local mine = tonumber(ARGV[1])\n"
    "local longest = tonumber(redis.call('GET', KEYS[1]) or '0') or 0\n"
    "if longest < mine then\n"
    "  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])\n"
    "  return mine\n"
    "end\n"
    "if longest == mine then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end\n"
    "return longest\n";

// The number is drawn before the lock is taken: where the second is refused a number is skipped.
// clang-format off
const std::string_view kAcquireLockScript =
    "local held = redis.call('GET', KEYS[1])\n"
    "if held then\n"
    "  if string.sub(held, 1, 16) == ARGV[1] then\n"
    "    redis.call('PEXPIRE', KEYS[1], ARGV[2])\n"
    "    return {1, string.sub(held, 17, 24)}\n"
    "  end\n"
    "  if ARGV[3] == '1' and #held == 24 and\n"
    "      string.sub(held, 1, 8) ~= string.sub(ARGV[1], 1, 8) then\n"
    "    redis.call('APPEND', KEYS[1], 'w')\n"
    "  end\n"
    "  return {0, redis.call('PTTL', KEYS[1])}\n"
    "end\n"
    "local now = redis.call('TIME')\n"
    "local ms, seq = now[1] * 1000 + math.floor(now[2] / 1000), now[2] % 1000 * 1024\n"
    "local last = redis.call('GET', KEYS[2])\n"
    "if last and #last == 8 then\n"
    "  local high, low = struct.unpack('>I4I4', last)\n"
    "  local last_seq = low % 1048576\n"
    "  local last_ms = high * 4096 + (low - last_seq) / 1048576\n"
    "  if last_ms > ms or (last_ms == ms and last_seq >= seq) then\n"
    "    ms, seq = last_ms, last_seq + 1\n"
    "    if seq > 1048575 then ms, seq = ms + 1, 0 end\n"
    "  end\n"
    "end\n"
    TIERCEL_LUA_PACK_VERSION
    "redis.call('SET', KEYS[2], version)\n"
    "redis.call('SET', KEYS[1], ARGV[1] .. version, 'PX', ARGV[2])\n"
    "return {1, version}\n";
// clang-format on

const std::string_view kRenewLockScript =
    "local held = redis.call('GET', KEYS[1])\n"
    "if not held or string.sub(held, 1, 16) ~= ARGV[1] then return 0 end\n"
    "return redis.call('PEXPIRE', KEYS[1], ARGV[2])\n";

const std::string_view kReleaseLockScript =
    "local held = redis.call('GET', KEYS[1])\n"
    "if not held or string.sub(held, 1, 16) ~= ARGV[1] then return 0 end\n"
    "redis.call('DEL', KEYS[1])\n"
    "return #held > 24 and 2 or 1\n";

}  // namespace tiercel::coherence
