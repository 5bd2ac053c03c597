-- What the store remembers, for scripts that grant or conclude (I1, I2, I4, I5, I7). KEYS[1]: hash {run_id, birth, since, max_ttl, store}, one for the
-- whole namespace; in a cluster one for each hash tag, for a script there reaches the keys of one slot.
--
-- `memory`: the server's run, and when it was first seen: a restart, a flush, a fail-over and one back to a server that ran on each
-- change it. `quarantine`: the milliseconds for which nothing is granted, from then. `store`: which store this is, by whatever address it is reached;
-- whoever comes first names it, and says it again after a flush. The last four arguments: that name; whether an empty store is trusted to be new;
-- the lag of replicas, and `max_ttl`, in milliseconds.
local store, trusts = table.remove(args), table.remove(args)
local lag, max_ttl = tonumber(table.remove(args)), tonumber(table.remove(args))
local info = redis.call('INFO', 'server')
local _, at = string.find(info, 'run_id:', 1, true)
local run_id = string.sub(info, at + 1, at + 40)
local known = redis.call('HMGET', KEYS[1], 'run_id', 'birth', 'since', 'max_ttl', 'store')
if known[4] and tonumber(known[4]) ~= max_ttl then
  return redis.error_reply('OTHERTTL ' .. known[4])
end
if known[5] then
  store = known[5]
else
  redis.call('HSET', KEYS[1], 'store', store)
end
if known[1] ~= run_id then
  local is_new = not known[1] and trusts == '1'
  known[2], known[3] = number(now), is_new and '-' or number(now)
  redis.call('HSET', KEYS[1], 'run_id', run_id, 'birth', known[2], 'since', known[3], 'max_ttl', number(max_ttl))
end
local memory, quarantine = run_id .. '/' .. known[2], 0
if known[3] ~= '-' then
  quarantine = math.max(0, math.ceil((tonumber(known[3]) - now) / 1000) + max_ttl + lag)
end
