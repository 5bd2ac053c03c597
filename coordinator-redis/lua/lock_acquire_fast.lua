-- The common case comes first and alone, for each function that a script makes costs time, whether it is called or not: the lease was
-- released, nobody stands in line, and the store remembers.
local bell, key, owner, instance, attempt, ttl, floor = args[1], args[2], args[3], args[4], args[5], tonumber(args[6]), args[7]
if quarantine == 0 then
  local known = redis.call('HMGET', KEYS[2], 'token', 'released', 'instance', 'attempt', 'kept_until', 'fence')
  local same = known[3] == instance and known[4] == attempt
  if known[2] == '1' and not same and not known[5] and redis.call('ZCARD', KEYS[3]) == 0 then
    local token = next_number(higher(known[1], known[6]), floor)
    if not token then
      return { 'numbers' }
    end
    redis.call('HSET', KEYS[2], 'owner', owner, 'instance', instance, 'attempt', attempt, 'token', token,
      'expires', number(now + ttl), 'released', '0', 'memory', memory)
    redis.call('PUBLISH', bell, 'l' .. token .. ' ' .. key)
    return { 'granted', token }
  end
end
