-- Forgets the document of a keyspace in a group without a living member, seven days after its last change; never one that has positions: it says
-- into how many shards they are cut. KEYS[10]: the document. KEYS[11]: the positions.
local keyspace = args[1]
local old = number(now / 1000 - 604800000)
local row = redis.call('HMGET', KEYS[10], 'planner', 'epoch', 'changed')
if quarantine > 0 or redis.call('ZCARD', EXPIRY) > 0 or redis.call('EXISTS', KEYS[11]) == 1 then
  return 'kept'
end
for place = 1, 3 do
  local number_of = place == 3 and row[3] and number(tonumber(row[3]) / 1000) or row[place]
  if number_of and not is_below(number_of, old) then
    return 'kept'
  end
end
redis.call('DEL', KEYS[10])
redis.call('HDEL', NAMED, keyspace)
return 'forgotten'
