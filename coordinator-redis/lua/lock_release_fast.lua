-- Frees a lease by its token, if it is still that grant's. The common case comes first and alone, as in `lock_acquire_fast`: nobody waits.
local bell, key, instance, token, successor = args[1], args[2], args[3], args[4], args[5]
local known = redis.call('HMGET', KEYS[2], 'token', 'instance', 'released', 'expires')
if known[1] ~= token or known[2] ~= instance or known[3] ~= '0' or tonumber(known[4]) <= now then
  return 'not_held'
end
redis.call('HSET', KEYS[2], 'released', '1', 'expires', number(now))
redis.call('PUBLISH', bell, 'l' .. token .. ' ' .. key)
if successor == '' and redis.call('ZCARD', KEYS[3]) == 0 then
  return 'released'
end
