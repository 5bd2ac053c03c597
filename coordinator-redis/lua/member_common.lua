-- The members of one group (PROTOCOLS section 9). A life is named `incarnation:id`.
--
-- group: hash {members, reports, swept}: the two versions. lives: hash life -> "instance fixed evicted beat ttl ended reason flaps".
-- expiry: sorted set of the lives that have not ended, by the end of their TTL. graves: sorted set of the ended, by when
-- that was found. names: hash id -> "last life life …", incarnations; the last outlives the lives (K1). profiles, reports: hash life ->
-- what the member tells. named: hash keyspace -> the lives that its document names (G7). Times in microseconds of this server's clock.
local GROUP, LIVES, EXPIRY, GRAVES, NAMES = KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local PROFILES, REPORTS, NAMED = KEYS[7], KEYS[8], KEYS[9]
local SECOND = 1000000

local function life_of(id, incarnation)
  return incarnation .. ':' .. id
end

local function parts_of(life)
  return string.match(life, '^(%d+):(.*)$')
end

-- A life's record; nil: there is none.
local function read_life(life)
  local text = redis.call('HGET', LIVES, life)
  if not text then
    return nil
  end
  local record = {}
  record.instance, record.fixed, record.evicted, record.beat, record.ttl, record.ended, record.reason, record.flaps =
    string.match(text, '^(%x+) (%d) (%d) (%d+) (%d+) (%d+) (%S+) (%d+)$')
  record.expires = tonumber(redis.call('ZSCORE', EXPIRY, life) or nil)
  record.is_ended = record.ended ~= '0'
  if not record.is_ended and not record.expires then
    return nil
  end
  record.is_live = not record.is_ended and record.expires > now
  return record
end

local function write_life(life, record)
  redis.call('HSET', LIVES, life, table.concat({
    record.instance, record.fixed, record.evicted, record.beat, record.ttl, record.ended, record.reason, record.flaps,
  }, ' '))
end

-- The last incarnation of a name, nil if there was none; and those of which there are records, oldest first.
local function read_name(id)
  local list = {}
  for incarnation in string.gmatch(redis.call('HGET', NAMES, id) or '', '%d+') do
    list[#list + 1] = incarnation
  end
  return table.remove(list, 1), list
end

local function write_name(id, last, incarnations)
  redis.call('HSET', NAMES, id, last .. ' ' .. table.concat(incarnations, ' '))
end

-- Makes new versions, and tells: `m`, and the group is the channel's.
local function grow(channel, members, reports)
  if not members and not reports then
    return
  end
  local known = redis.call('HMGET', GROUP, 'members', 'reports')
  for place, field in ipairs({ 'members', 'reports' }) do
    if not known[place] or (field == 'members' and members) or (field == 'reports' and reports) then
      redis.call('HSET', GROUP, field, next_number(known[place] or nil, ''))
    end
  end
  redis.call('PUBLISH', channel, 'm')
end

-- Makes a tombstone of a life that ended at a moment.
local function bury(life, record, reason, at)
  local id = select(2, parts_of(life))
  local flaps = reason == 'expired' and 1 or 0
  local _, incarnations = read_name(id)
  for _, incarnation in ipairs(incarnations) do
    local other = read_life(life_of(id, incarnation))
    local ended = other and tonumber(other.ended)
    if other and other.reason == 'expired' and ended <= at and at - ended <= 600 * SECOND then
      flaps = flaps + 1
    end
  end
  record.ended, record.reason, record.flaps = number(at), reason, tostring(flaps)
  write_life(life, record)
  redis.call('ZREM', EXPIRY, life)
  redis.call('ZADD', GRAVES, number(now), life)
end

-- Makes a tombstone of a life that is due. Says whether it did.
local function bury_if_due(life)
  local record = read_life(life)
  if not record or record.is_ended or record.is_live then
    return false
  end
  bury(life, record, record.evicted == '1' and 'evicted' or 'expired', record.expires)
  return true
end

-- The lives that documents of the group name.
local function named_lives()
  local named = {}
  for _, text in ipairs(redis.call('HVALS', NAMED)) do
    for _, life in ipairs(split_fields(text)) do
      named[life] = true
    end
  end
  return named
end

local function forget_life(life)
  local incarnation, id = parts_of(life)
  redis.call('HDEL', LIVES, life)
  redis.call('HDEL', PROFILES, life)
  redis.call('HDEL', REPORTS, life)
  redis.call('ZREM', GRAVES, life)
  local last, incarnations = read_name(id)
  local kept = {}
  for _, other in ipairs(incarnations) do
    if other ~= incarnation then
      kept[#kept + 1] = other
    end
  end
  if last then
    write_name(id, last, kept)
  end
end

-- Makes room, once a minute at most: who has been due for an hour becomes a tombstone; tombstones go when their retention has passed, unless a
-- document names them. Says whether there are new tombstones.
local function sweep_group(quarantine)
  local swept = tonumber(redis.call('HGET', GROUP, 'swept') or 0)
  if swept <= now and now - swept < 60 * SECOND then
    return false
  end
  redis.call('HSET', GROUP, 'swept', number(now))
  local hour_ago, buries = number(now - 3600 * SECOND), false
  if quarantine == 0 then
    for _, life in ipairs(redis.call('ZRANGEBYSCORE', EXPIRY, '-inf', '(' .. hour_ago)) do
      buries = bury_if_due(life) or buries
    end
  end
  local old = redis.call('ZRANGEBYSCORE', GRAVES, '-inf', '(' .. hour_ago, 'LIMIT', 0, 1000)
  if #old > 0 then
    local named = named_lives()
    for _, life in ipairs(old) do
      if not named[life] then
        forget_life(life)
      end
    end
  end
  return buries
end

-- One life, as it is told: the record and its end, the profile, the report.
local function told_life(life)
  return {
    life, redis.call('HGET', LIVES, life), redis.call('ZSCORE', EXPIRY, life) or '0',
    redis.call('HGET', PROFILES, life) or '', redis.call('HGET', REPORTS, life) or '',
  }
end

local function versions()
  local known = redis.call('HMGET', GROUP, 'members', 'reports')
  return known[1] or '0', known[2] or '0'
end

-- Everything of the group, and the moment it is of: the reader makes spans of it.
local function snapshot()
  local members, reports = versions()
  return {
    number(now), members, reports, redis.call('HGETALL', LIVES), redis.call('ZRANGE', EXPIRY, 0, -1, 'WITHSCORES'),
    redis.call('HGETALL', PROFILES), redis.call('HGETALL', REPORTS),
  }
end
