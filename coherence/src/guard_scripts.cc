#include "tiercel/coherence/guard_scripts.h"

// What is stored of a guard (docs/design/bloom.md): offsets below begin at 1, as Lua's do. 1 mark,
// 9 id, 25 whether there is a current filter, 26 whether there is a next one, 29 their headers of
// 72 bytes each, in which 32 bytes in are the blocks, and 48 the generation.

namespace tiercel::coherence {

// A key's block is the upper half of its hash times the number of blocks. Lua's numbers are exact
// to 2^53, so the hash comes in four parts of 16 bits: part × blocks < 2^48, and of the sum so far
// only what is beyond its lowest 16 bits can matter to the next. Which bits of the block are set
// depends on the hash alone, so the client has said it.
//
// A chunk that is not as long as it must be has been lost (evicted, deleted), and would begin anew
// with this one key in it. Then the filters in Redis are worth nothing: they are garbage, and
// nobody begins with them any more. (The headers of the current one, the next one and of garbage
// stand one behind the other, so that only their numbers change.)
//
// Where a text of another format stands, its writer knows what we do not, how to extend it: it
// goes.
const std::string_view kGuardPrologue =
    "do\n"
    "  local told, at = table.remove(ARGV), 1\n"
    "  while at <= #told do\n"
    "    local name, state, count = table.remove(KEYS), nil, 0\n"
    "    count, at = struct.unpack('>I2', told, at)\n"
    "    state = redis.call('GET', name)\n"
    "    local good = state and string.sub(state, 1, 8) == '\\241TCLBGS\\1'\n"
    "    local filters = (string.byte(state or '', 25) or 0) + (string.byte(state or '', 26) or "
    "0)\n"
    "    good = good and #state >= 28 + 72 * filters\n"
    "    for i = 1, good and filters or 0 do\n"
    "      local head = 72 * i - 43\n"
    "      local high, low = struct.unpack('>I4I4', state, head + 32)\n"
    "      local blocks = high * 4294967296 + low\n"
    "      high, low = struct.unpack('>I4I4', state, head + 48)\n"
    "      local chunks = string.format('%s:%.0f:', name, high * 4294967296 + low)\n"
    "      for key = at, at + 24 * (count - 1), 24 do\n"
    "        local h0, h1, h2, h3 = struct.unpack('<I2I2I2I2', told, key)\n"
    "        local block = math.floor(h0 * blocks / 65536)\n"
    "        block = math.floor((h1 * blocks + block) / 65536)\n"
    "        block = math.floor((h2 * blocks + block) / 65536)\n"
    "        block = math.floor((h3 * blocks + block) / 65536)\n"
    "        local chunk = math.floor(block / 1024)\n"
    "        local stored = string.format('%s%.0f', chunks, chunk)\n"
    "        local bytes = math.min(1024, blocks - 1024 * chunk) * 64\n"
    "        if redis.pcall('STRLEN', stored) ~= bytes then good = false break end\n"
    "        local bit = (block - 1024 * chunk) * 512\n"
    "        local a, b, c, d, e, f, g, h = struct.unpack('>I2I2I2I2I2I2I2I2', told, key + 8)\n"
    "        redis.call('BITFIELD', stored, 'SET', 'u1', bit + a, 1, 'SET', 'u1', bit + b, 1,\n"
    "          'SET', 'u1', bit + c, 1, 'SET', 'u1', bit + d, 1, 'SET', 'u1', bit + e, 1,\n"
    "          'SET', 'u1', bit + f, 1, 'SET', 'u1', bit + g, 1, 'SET', 'u1', bit + h, 1)\n"
    "      end\n"
    "      if not good then break end\n"
    "    end\n"
    "    if state and not good then\n"
    "      local current, next, garbage = string.byte(state, 25, 27)\n"
    "      if garbage and string.sub(state, 1, 8) == '\\241TCLBGS\\1' then\n"
    "        redis.call('SET', name, string.sub(state, 1, 8) ..\n"
    "          string.sub(redis.sha1hex(state), 1, 16) ..\n"
    "          string.char(0, 0, current + next + garbage) .. string.sub(state, 28))\n"
    "      else\n"
    "        redis.call('DEL', name)\n"
    "      end\n"
    "    end\n"
    "    at = at + 24 * count\n"
    "  end\n"
    "end\n";

const std::string_view kGuardReadScript =
    "return {redis.call('GET', KEYS[1]), redis.call('TIME')}\n";

const std::string_view kGuardChangeScript =
    "if redis.call('GETRANGE', KEYS[1], 8, 23) ~= ARGV[1] then return 0 end\n"
    "if ARGV[2] == '' then\n"
    "  redis.call('DEL', KEYS[1])\n"
    "else\n"
    "  redis.call('SET', KEYS[1], ARGV[2])\n"
    "end\n"
    "return 1\n";

const std::string_view kGuardMergeScript =
    "if redis.call('GETRANGE', KEYS[1], 8, 23) ~= ARGV[1] then return 0 end\n"
    "if redis.call('STRLEN', KEYS[2]) ~= #ARGV[2] then return 0 end\n"
    "redis.call('SET', KEYS[3], ARGV[2])\n"
    "redis.call('BITOP', 'OR', KEYS[2], KEYS[2], KEYS[3])\n"
    "redis.call('DEL', KEYS[3])\n"
    "return 1\n";

const std::string_view kGuardLeaseScript =
    "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end\n"
    "if ARGV[2] == '0' then return redis.call('DEL', KEYS[1]) end\n"
    "return redis.call('PEXPIRE', KEYS[1], ARGV[2])\n";

}  // namespace tiercel::coherence
