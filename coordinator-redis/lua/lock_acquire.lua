-- D1: grants the lease if it is free and kept for no other. Asked twice, one grant (W4).
-- KEYS[5]: the index of leases, by the token with which they were first granted, or last looked at by the janitor.
local lease = read_lease()
local same = lease.instance == instance and lease.attempt == attempt
if same and lease.released == '1' then
  return { 'was_released' }
end
if is_held(lease) then
  if same then
    return { 'granted', lease.token }
  end
  return told_of(lease, 'held')
end
if quarantine > 0 then
  return { 'quarantined', quarantine }
end
-- Who stands in line is not passed by in the moment between an expiry and its own timer (L3).
if not is_kept(lease) then
  call_first(lease)
end
if is_kept(lease) and not admits(lease, owner, instance) then
  return told_of(lease, 'kept')
end
local token = next_number(higher(lease.token, lease.fence), floor)
if not token then
  return { 'numbers' }
end
keep_for_nobody(lease)
redis.call('HSET', LEASE, 'owner', owner, 'instance', instance, 'attempt', attempt, 'token', token,
  'expires', number(now + ttl), 'released', '0', 'memory', memory)
if not lease.token then
  redis.call('ZADD', KEYS[5], token, key)
end
ring_lock(bell, key, token)
return { 'granted', token }
