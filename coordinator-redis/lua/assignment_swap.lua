-- Replaces the document, if all that it rests on holds at this moment, and makes tombstones of those it counts as ended.
-- KEYS[10]: hash {planner, epoch, document, changed}.
local ROW = KEYS[10]
local bell, keyspace, token, expected, floor, document, named, ended = args[1], args[2], args[3], args[4], args[5], args[6], args[7], args[8]
if quarantine > 0 then
  return { 'quarantined', quarantine }
end
local known = redis.call('HMGET', ROW, 'planner', 'epoch')
local planner, epoch = known[1] or '0', known[2] or nil
if is_below(token, planner) then
  return { 'fenced', planner }
end
if (epoch or '') ~= expected then
  return { 'conflict', epoch or '' }
end
local living, due = {}, {}
for place, life in ipairs(split_fields(ended)) do
  local record = read_life(life)
  -- A life without a record is not ended: absence is no end (G7).
  if not record or record.is_live then
    living[#living + 1] = place
  elseif not record.is_ended then
    due[#due + 1] = life
  end
end
if #living > 0 then
  return { 'living', living }
end
local stamp = next_number(epoch, floor)
if not stamp then
  return { 'numbers' }
end
for _, life in ipairs(due) do
  bury_if_due(life)
end
grow(bell, #due > 0, false)
redis.call('HSET', ROW, 'planner', token, 'epoch', stamp, 'document', document, 'changed', number(now))
redis.call('HSET', NAMED, keyspace, named)
redis.call('PUBLISH', bell, 'a' .. stamp .. ' ' .. keyspace)
return { 'stored', stamp }
