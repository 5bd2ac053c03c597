-- D2: takes a place in line, or confirms it: until its deadline, unless it is confirmed again. Answers 'now', or for how many microseconds
-- nothing will happen that nobody tells.
local owner, instance, ticket, patience, deadline, channel = args[1], args[2], args[3], args[4], args[5], args[6]
local lease = read_lease()

local function stand_in_line()
  redis.call('HSET', WAITERS, ticket, number(now + deadline) .. ' ' .. patience .. ' ' .. channel .. ' ' .. owner)
  if not redis.call('ZSCORE', LINE, ticket) then
    local last = redis.call('ZRANGE', LINE, -1, -1, 'WITHSCORES')[2]
    redis.call('ZADD', LINE, tonumber(last or 0) + 1, ticket)
  end
end

if is_held(lease) then
  if lease.instance == instance and lease.owner == owner and lease.attempt == string.match(ticket, '/(%d+)/') then
    drop_ticket(ticket)
    return { 'now' }
  end
  stand_in_line()
  return { 'wait', lease.expires - now }
end
-- In quarantine nobody's turn comes: who asks is told for how long.
if quarantine > 0 then
  return { 'now' }
end
if not is_kept(lease) then
  if redis.call('ZCARD', LINE) == 0 then
    return { 'now' }
  end
  stand_in_line()
  call_first(lease, ticket)
end
if is_kept(lease) and not admits(lease, owner, instance) then
  stand_in_line()
  return { 'wait', lease.kept_until - now }
end
drop_ticket(ticket)
return { 'now' }
