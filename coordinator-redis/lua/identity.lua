-- What the store remembers, for scripts that grant or conclude (I1, I2, I4, I5, I7). KEYS[1]: hash {run_id, birth, since, max_ttl}.
--
-- `memory`: the server's run and the birth of this hash: a restart, a fail-over and a flush each change it. `quarantine`: the milliseconds
-- for which nothing is granted, from when it was first seen. The last three arguments: whether an empty store is trusted
-- to be new; the lag of replicas, and `max_ttl`, in milliseconds.
local trusts, lag, max_ttl = table.remove(args), tonumber(table.remove(args)), tonumber(table.remove(args))
local info = redis.call('INFO', 'server')
local run_id = string.sub(info, select(2, string.find(info, 'run_id:', 1, true)) + 1, -1)
run_id = string.sub(run_id, 1, 40)
local known = redis.call('HMGET', KEYS[1], 'run_id', 'birth', 'since', 'max_ttl')
if known[4] and tonumber(known[4]) ~= max_ttl then
  return redis.error_reply('OTHERTTL ' .. known[4])
end
if known[1] ~= run_id then
  local is_new = not known[1] and trusts == '1'
  known[2], known[3] = known[2] or number(now), is_new and '-' or number(now)
  redis.call('HSET', KEYS[1], 'run_id', run_id, 'birth', known[2], 'since', known[3], 'max_ttl', number(max_ttl))
end
local memory, quarantine = run_id .. '/' .. known[2], 0
if known[3] ~= '-' then
  quarantine = math.max(0, math.ceil((tonumber(known[3]) - now) / 1000) + max_ttl + lag)
end
