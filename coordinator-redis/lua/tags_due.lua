-- Hash tags that nobody has cleaned for so many milliseconds: taken by whoever asks. KEYS[2]: sorted set of tags, by the last cleaning.
local wall = now / 1000
local due = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', '(' .. number(wall - tonumber(args[1])), 'LIMIT', 0, 20)
for _, tag in ipairs(due) do
  redis.call('ZADD', KEYS[2], number(wall), tag)
end
return due
