-- What a process asks when it connects, and again later: which store this is, what it remembers, and how messages spread in a cluster (U18). The
-- first argument says how they would if nobody has decided it, or is empty. With more arguments also which rights the user lacks, of those that
-- any script needs: on KEYS[2], which is gone afterwards, and to the channels that the arguments name, of which the first has its hash tag.
local missing, known_missing = {}, {}
local wanted = table.remove(args, 1)
local pubsub, age = wanted, 0
if wanted ~= '' then
  -- It may have been changed by hand: since when is found by whoever looks next.
  local decided = redis.call('HMGET', KEYS[1], 'pubsub', 'pubsub_seen', 'pubsub_since')
  pubsub = decided[1] or wanted
  if not decided[1] then
    redis.call('HSET', KEYS[1], 'pubsub', pubsub)
  end
  local since = pubsub == decided[2] and tonumber(decided[3] or '')
  if since then
    age = math.max(0, now - since)
  else
    redis.call('HSET', KEYS[1], 'pubsub_seen', pubsub, 'pubsub_since', number(now))
  end
end

local function try(name, ...)
  local answer = redis.pcall(name, ...)
  local why = type(answer) == 'table' and answer.err or ''
  local is_denied = string.find(why, 'The user executing the script', 1, true) or string.find(why, 'NOPERM', 1, true)
  if is_denied and not known_missing[name] then
    known_missing[name] = true
    missing[#missing + 1] = name
  end
end

if #args > 0 then
  local key = KEYS[2]
  try('SET', key, '1', 'PX', '60000')
  try('GET', key)
  try('PEXPIRE', key, '60000')
  try('TYPE', key)
  try('EXISTS', key)
  try('DEL', key)
  try('HSET', key, 'a', '1')
  try('HSETNX', key, 'a', '1')
  try('HINCRBY', key, 'a', '1')
  try('HGET', key, 'a')
  try('HMGET', key, 'a')
  try('HGETALL', key)
  try('HKEYS', key)
  try('HVALS', key)
  try('HSCAN', key, '0')
  try('HDEL', key, 'a')
  try('ZADD', key, '1', 'a')
  try('ZCARD', key)
  try('ZRANGE', key, '0', '-1')
  try('ZRANGEBYSCORE', key, '-inf', '+inf')
  try('ZSCORE', key, 'a')
  try('ZREM', key, 'a')
  try('XADD', key, '*', 'a', '1')
  try('XRANGE', key, '-', '+')
  try('XREVRANGE', key, '+', '-')
  try('XTRIM', key, 'MAXLEN', '0')
  try('DEL', key)
  for _, channel in ipairs(args) do
    try('PUBLISH', channel, '')
  end
  if pubsub == 'sharded' then
    try('SPUBLISH', args[1], '')
  end
end
return { store, memory, quarantine, missing, pubsub, math.floor(age / 1000) }
