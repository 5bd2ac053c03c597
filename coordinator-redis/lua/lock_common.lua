-- One key's lease and who waits for it (D1, D2).
--
-- lease: hash {owner, instance, attempt, token, expires, released, kept_owner, kept_ticket, kept_until, memory, fence}. No key expiry: the
-- token outlives the lease (K3). `fence`: a higher token that was seen, of a grant that a fail-over has lost. `expires` and `kept_until` in microseconds of this server's clock.
-- line: sorted set of tickets, `instance/attempt/n`, in order. waiters: hash ticket -> "deadline patience channel owner".
local LEASE, LINE, WAITERS = KEYS[2], KEYS[3], KEYS[4]
local FIELDS = { 'owner', 'instance', 'attempt', 'token', 'expires', 'released', 'kept_owner', 'kept_ticket', 'kept_until', 'fence' }
local HAND_OVER = 1000000

local function read_lease()
  local found, lease = redis.call('HMGET', LEASE, unpack(FIELDS)), {}
  for place, field in ipairs(FIELDS) do
    lease[field] = found[place] or nil
  end
  lease.expires = tonumber(lease.expires or 0)
  lease.kept_until = tonumber(lease.kept_until or 0)
  return lease
end

local function is_held(lease)
  return lease.token and lease.released == '0' and lease.expires > now
end

-- Whether a free lease is kept for somebody at this moment.
local function is_kept(lease)
  return lease.kept_until > now
end

-- The instance of a ticket. A hand-over has none: it is for any start of that member.
local function instance_of(ticket)
  return string.match(ticket or '', '^(%x+)/') or ''
end

local function admits(lease, owner, instance)
  local kept_instance = instance_of(lease.kept_ticket)
  return lease.kept_owner == owner and (kept_instance == '' or kept_instance == instance)
end

local function keep_for(lease, owner, ticket, span)
  lease.kept_owner, lease.kept_ticket, lease.kept_until = owner, ticket, now + span
  redis.call('HSET', LEASE, 'kept_owner', owner, 'kept_ticket', ticket, 'kept_until', number(lease.kept_until))
end

local function keep_for_nobody(lease)
  if lease.kept_until > 0 then
    lease.kept_until = 0
    redis.call('HDEL', LEASE, 'kept_owner', 'kept_ticket', 'kept_until')
  end
end

-- What a ticket stands for; nil if it has no owner any more.
local function read_ticket(ticket)
  local text = redis.call('HGET', WAITERS, ticket)
  if not text then
    return nil
  end
  local deadline, patience, channel, owner = string.match(text, '^(%d+) (%d+) (%S+) (.*)$')
  if tonumber(deadline) <= now then
    return nil
  end
  return { patience = tonumber(patience), channel = channel, owner = owner }
end

local function drop_ticket(ticket)
  redis.call('ZREM', LINE, ticket)
  redis.call('HDEL', WAITERS, ticket)
end

-- Gives the turn to the first live waiter, and tells it: `w` and the ticket. `asker`: the ticket of who asks, and need not be woken.
local function call_first(lease, asker)
  keep_for_nobody(lease)
  while true do
    local ticket = redis.call('ZRANGE', LINE, 0, 0)[1]
    if not ticket then
      return
    end
    local waiter = read_ticket(ticket)
    drop_ticket(ticket)
    if waiter then
      keep_for(lease, waiter.owner, ticket, waiter.patience)
      if ticket ~= asker then
        redis.call('PUBLISH', waiter.channel, 'w' .. ticket)
      end
      return
    end
  end
end

-- Keeps the lease for one member, wherever it stands in the line, or even if it does not.
local function hand_over(lease, owner)
  for _, ticket in ipairs(redis.call('ZRANGE', LINE, 0, -1)) do
    local waiter = read_ticket(ticket)
    if not waiter then
      drop_ticket(ticket)
    elseif waiter.owner == owner then
      drop_ticket(ticket)
      keep_for(lease, owner, '', HAND_OVER)
      redis.call('PUBLISH', waiter.channel, 'w' .. ticket)
      return
    end
  end
  keep_for(lease, owner, '', HAND_OVER)
  -- Nobody else knows that this second has an end: the first looks (`v`), and sets its timer.
  local first = redis.call('ZRANGE', LINE, 0, 0)[1]
  local waiter = first and read_ticket(first)
  if waiter then
    redis.call('PUBLISH', waiter.channel, 'v' .. first)
  end
end

-- Who has the lease, or for whom it is kept.
local function told_of(lease, verdict)
  if verdict == 'kept' then
    return { verdict, lease.token or '0', lease.kept_owner, instance_of(lease.kept_ticket), lease.kept_until - now }
  end
  return { verdict, lease.token, lease.owner, lease.instance, lease.expires - now }
end

-- Tells who watches the key that its holder may be another: `l`, the newest token, the key.
local function ring_lock(channel, key, token)
  redis.call('PUBLISH', channel, 'l' .. token .. ' ' .. key)
end
