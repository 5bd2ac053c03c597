-- Shuts out planners with a lower token, and reads. KEYS[3]: the hash that knows all keyspaces of the group.
local token = args[1]
local known = redis.call('HMGET', KEYS[2], 'planner', 'epoch', 'document')
if known[1] and is_below(token, known[1]) then
  return { 'fenced', known[1] }
end
redis.call('HSETNX', KEYS[3], args[2], '')
redis.call('HSET', KEYS[2], 'planner', token, 'changed', number(now))
return { 'led', known[2] or '', known[3] or '' }
