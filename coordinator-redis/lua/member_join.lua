-- Begins a life, or finds the one that the same instance has begun before.
local bell, id, instance, fixed, ttl, floor, profile = args[1], args[2], args[3], args[4], args[5], args[6], args[7]
local last, incarnations = read_name(id)
local newest = incarnations[#incarnations]
local record = newest and read_life(life_of(id, newest))
if record and record.is_live then
  local life = life_of(id, newest)
  -- An evicted life does not come back, not for its own instance either.
  if record.instance ~= instance or record.evicted == '1' then
    return { 'taken', number(now), told_life(life) }
  end
  -- The answer was lost. Its trust counts from the new asking, so its life must last from there.
  record.ttl = ttl
  write_life(life, record)
  redis.call('ZADD', EXPIRY, number(math.max(record.expires, now + tonumber(ttl))), life)
  -- A request that was held up tells nothing newer than the first heartbeat did.
  if record.beat == '0' and redis.call('HGET', PROFILES, life) ~= profile then
    redis.call('HSET', PROFILES, life, profile)
    grow(bell, true, false)
  end
  return { 'member', memory, newest, snapshot() }
end
-- K1 under A-SKEW: a forgotten life of a static name may have had a higher number.
if quarantine > 0 and fixed == '1' and floor == '' then
  return { 'quarantined', quarantine }
end
sweep_group(quarantine)
if redis.call('ZCARD', EXPIRY) >= 4096 then
  return { 'full' }
end
local incarnation = next_number(last, floor)
if not incarnation then
  return { 'numbers' }
end
if quarantine == 0 then
  for _, former in ipairs(incarnations) do
    bury_if_due(life_of(id, former))
  end
end
last, incarnations = read_name(id)
incarnations[#incarnations + 1] = incarnation
write_name(id, incarnation, incarnations)
local life = life_of(id, incarnation)
write_life(life, {
  instance = instance, fixed = fixed, evicted = '0', beat = '0', ttl = ttl, ended = '0', reason = '-', flaps = '0',
})
redis.call('ZADD', EXPIRY, number(now + tonumber(ttl)), life)
redis.call('HSET', PROFILES, life, profile)
grow(bell, true, false)
return { 'member', memory, incarnation, snapshot() }
