-- Prolongs a life, and takes what its newest heartbeat tells; answers with all lives only if there is news. In quarantine, too, members beat.
local bell, id, incarnation, beat, ttl = args[1], args[2], args[3], args[4], args[5]
local known_members, known_reports, wants_reports, profile, report = args[6], args[7], args[8], args[9], args[10]
local life = life_of(id, incarnation)
local record = read_life(life)
if not record then
  return { 'expired' }
end
if record.evicted == '1' then
  return { 'evicted' }
end
if not record.is_live then
  return { 'expired' }
end

-- `seen` never goes back (S3).
local function merged(old)
  if old == report then
    return report
  end
  local before, fields = {}, split_fields(old)
  for place = 1, #fields, 3 do
    before[fields[place]] = fields[place + 1]
  end
  fields = split_fields(report)
  for place = 1, #fields, 3 do
    fields[place + 1] = higher(fields[place + 1], before[fields[place]])
  end
  return join_fields(fields)
end

if is_below(record.beat, beat) then
  record.beat, record.ttl = beat, ttl
  write_life(life, record)
  redis.call('ZADD', EXPIRY, number(now + tonumber(ttl)), life)
  local old = redis.call('HGET', REPORTS, life) or ''
  local new = merged(old)
  if new ~= old then
    redis.call('HSET', REPORTS, life, new)
  end
  -- An empty text is no profile: it has a weight at least.
  local new_profile = profile ~= '' and redis.call('HGET', PROFILES, life) ~= profile
  if new_profile then
    redis.call('HSET', PROFILES, life, profile)
  end
  grow(bell, new_profile, new ~= old)
end
local members, reports = versions()
if members ~= known_members or (wants_reports == '1' and reports ~= known_reports) then
  return { 'alive', memory, snapshot() }
end
return { 'alive', memory }
