-- The positions of one keyspace's shards (PROTOCOLS section 11): hash shard -> "fence number +position"; `-` for a number or a position
-- that is not there.
local function read_shard(shard)
  local text = redis.call('HGET', KEYS[2], shard)
  if not text then
    return nil
  end
  local fence, last, sign, position = string.match(text, '^(%d+) (%S+) ([+-])(.*)$')
  return { fence = fence, last = last, position = sign == '+' and position or nil }
end

local function write_shard(shard, row)
  local position = row.position and '+' .. row.position or '-'
  redis.call('HSET', KEYS[2], shard, row.fence .. ' ' .. row.last .. ' ' .. position)
end
