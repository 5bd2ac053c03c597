-- Applies writes of the user, all or none, only if no higher token is known of the lease or the shard (C2, F1). K3: without a row, none.
--
-- KEYS[2]: the lease, or the positions of the shard's keyspace. KEYS[3]: the document of that keyspace. KEYS[4] and on: what is written to. The
-- token; the shard, or nothing; the new position behind a `+`, or nothing; then for each key in turn its command, the type that it needs, and the
-- rest of the command as one list.
local token, shard, position = args[1], args[2], args[3]

local row
if shard ~= '' then
  row = redis.call('EXISTS', KEYS[3]) == 1 and (read_shard(shard) or { fence = token, last = '-' }) or nil
end
local highest = row and row.fence
if shard == '' then
  local known = redis.call('HMGET', KEYS[2], 'token', 'fence')
  highest = known[1] and higher(known[1], known[2])
end
if not highest then
  return { 'no_row' }
end
if is_below(token, highest) then
  return { 'refused', highest }
end

-- A script is not undone: what a key's type would refuse is found before the first write.
local writes = {}
for place = 4, #args, 3 do
  local key = KEYS[4 + #writes]
  local kind = redis.call('TYPE', key).ok
  if args[place + 1] ~= '' and kind ~= 'none' and kind ~= args[place + 1] then
    return { 'wrong_type', key, kind }
  end
  local write = { args[place], key }
  for _, part in ipairs(split_fields(args[place + 2])) do
    write[#write + 1] = part
  end
  writes[#writes + 1] = write
end

if row then
  if row.fence ~= token then
    row.fence, row.last = token, '-'
  end
  if position ~= '' then
    row.position = string.sub(position, 2)
  end
  write_shard(shard, row)
elseif highest ~= token then
  -- A fail-over has lost this grant; older ones are refused from now on.
  redis.call('HSET', KEYS[2], 'fence', token)
end
local answers = {}
for place, write in ipairs(writes) do
  local answer = redis.call(unpack(write))
  answers[place] = type(answer) == 'string' and answer or ''
end
return { 'written', answers }
