-- Refuses a life its further heartbeats. One without a record is entered as evicted, and due when its longest TTL has passed: absence is
-- no end (G7).
local bell, id, incarnation = args[1], args[2], args[3]
local life = life_of(id, incarnation)
local record = read_life(life)
if not record then
  local longest = max_ttl * 1000
  local last, incarnations = read_name(id)
  local places = { incarnation }
  for _, other in ipairs(incarnations) do
    if other ~= incarnation then
      places[#places + 1] = other
    end
  end
  table.sort(places, is_below)
  write_name(id, higher(last, incarnation), places)
  write_life(life, {
    instance = string.rep('0', 32), fixed = '0', evicted = '1', beat = '0', ttl = number(longest), ended = '0', reason = '-', flaps = '0',
  })
  redis.call('ZADD', EXPIRY, number(now + longest), life)
  redis.call('HSET', PROFILES, life, args[4])
  grow(bell, true, false)
  return 'entered'
end
if not record.is_live then
  return 'ended'
end
if record.evicted == '0' then
  record.evicted = '1'
  write_life(life, record)
  grow(bell, true, false)
end
return 'marked'
