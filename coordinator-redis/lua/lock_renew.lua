-- Prolongs a grant that lasts, and no other (R2); but in quarantine it may bring one back that the store forgot (I6).
-- KEYS[5]: the index of leases.
local bell, key, owner, instance, attempt, ttl, token = args[1], args[2], args[3], args[4], args[5], tonumber(args[6]), args[7]
local known = redis.call('HMGET', KEYS[2], 'token', 'instance', 'released', 'expires', 'memory', 'fence')
local mine = known[1] == token and known[2] == instance
if mine and known[3] == '0' and tonumber(known[4]) > now then
  redis.call('HSET', KEYS[2], 'expires', number(now + ttl), 'memory', memory)
  return 'renewed'
end
if quarantine == 0 or token == '0' or is_below(number(math.min(now / 1000 + 86400000, 9007199254740990)), token) then
  return 'lost'
end
-- Nobody can have been granted the key since, if none higher is known; an equal one only if it was written before the store
-- lost its memory, and so looks expired because its renewals were lost.
if is_below(token, higher(known[1], known[6]) or '0') then
  return 'lost'
end
if known[1] == token and not (mine and known[3] == '0' and known[5] ~= memory) then
  return 'lost'
end
redis.call('HDEL', KEYS[2], 'kept_owner', 'kept_ticket', 'kept_until')
redis.call('HSET', KEYS[2], 'owner', owner, 'instance', instance, 'attempt', attempt, 'token', token,
  'expires', number(now + ttl), 'released', '0', 'memory', memory)
redis.call('ZADD', KEYS[5], token, key)
redis.call('PUBLISH', bell, 'l' .. token .. ' ' .. key)
return 'renewed'
