-- What a group's own joins do, for a group that nobody joins any more; then forgets names, and the group itself once nothing is left of it.
-- Answers with the keyspaces that have documents, if no member lives.
local bell = args[1]
if quarantine > 0 then
  return { 'quarantined' }
end
if sweep_group(quarantine) then
  grow(bell, true, false)
end
local old = number(now / 1000 - 604800000)
local at, looked = '0', 0
repeat
  local found = redis.call('HSCAN', NAMES, at, 'COUNT', 200)
  at = found[1]
  for place = 1, #found[2], 2 do
    local last, rest = string.match(found[2][place + 1], '^(%d+) ?(.*)$')
    if rest == '' and is_below(last, old) then
      redis.call('HDEL', NAMES, found[2][place])
    end
  end
  looked = looked + 200
until at == '0' or looked >= 5000
if redis.call('ZCARD', EXPIRY) > 0 then
  return { 'lives' }
end
local known = redis.call('HMGET', GROUP, 'members', 'reports')
if redis.call('EXISTS', LIVES, NAMES, NAMED) == 0 and is_below(known[1] or '0', old) and is_below(known[2] or '0', old) then
  redis.call('DEL', GROUP, EXPIRY, GRAVES, PROFILES, REPORTS)
  return { 'forgotten' }
end
return { 'idle', redis.call('HKEYS', NAMED) }
