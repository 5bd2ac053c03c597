-- Forgets a lease that nobody can need any more (K3): free for longer than any lease can last, and its token so old that the clock alone
-- makes the next one higher. KEYS[5]: the index of leases.
local old, before = number(now / 1000 - 604800000), now - 172800 * 1000000
local lease = read_lease()
if quarantine > 0 then
  return 'quarantined'
end
if lease.token and (is_held(lease) or lease.expires >= before or not is_below(higher(lease.token, lease.fence), old)) then
  redis.call('ZADD', KEYS[5], lease.token, args[1])
  return 'kept'
end
for _, ticket in ipairs(redis.call('ZRANGE', LINE, 0, -1)) do
  if read_ticket(ticket) then
    return 'kept'
  end
  drop_ticket(ticket)
end
redis.call('DEL', LEASE, LINE, WAITERS)
redis.call('ZREM', KEYS[5], args[1])
return 'forgotten'
