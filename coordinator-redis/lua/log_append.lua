-- Adds packets of messages, and tells. Arguments: the command that tells, and the channel; the most entries; for how many milliseconds they are
-- kept; up to how many bytes a packet is told whole; then each packet behind the count of its messages.
local publish, channel, entries = args[1], args[2], args[3]
local kept, most = tonumber(args[4]), tonumber(args[5])
local known = redis.call('HMGET', meta, 'birth', 'tidy', 'kept')
local identity = log_identity(known[1])
for i = 6, #args, 2 do
  local count, packet = tonumber(args[i]), args[i + 1]
  local first = number(redis.call('HINCRBY', meta, 'last', count) - count + 1)
  local id = redis.call('XADD', log, 'MAXLEN', '~', entries, '*', 'n', first, 'p', packet)
  local told = #packet <= most and packet or ''
  redis.call(publish, channel, identity .. ' ' .. id .. ' ' .. first .. ' ' .. told)
end
-- What is too old goes now and then, not with each message. A log that nobody writes to any more goes by itself, and not before its last message is
-- too old. Its numbers last longer than its messages, so that readers see what is missing.
if tonumber(known[2] or 0) <= now or tonumber(known[3] or 0) < kept then
  redis.call('XTRIM', log, 'MINID', '~', number(math.floor(now / 1000) - kept))
  redis.call('PEXPIRE', log, number(kept * 2))
  redis.call('PEXPIRE', meta, number(kept * 4))
  redis.call('HSET', meta, 'tidy', number(now + kept * 1000 / 8), 'kept', args[4])
end
return 1
