-- The durable log of one topic. KEYS[2]: the stream; each entry is {n, p}: the number of its first message, and a packet of messages.
-- KEYS[3]: hash {birth, last, tidy, kept}: when the log began; the number of its last message; when it is to be tidied up next, and for how long
-- messages are kept by whoever did so last.
--
-- The identity of the log: the server's run, and the birth. A restart, a fail-over and a flush each change it (I1, U15); of these only the
-- flush changes the birth.
local log, meta = KEYS[2], KEYS[3]

local function log_identity(birth)
  if not birth then
    birth = number(now)
    redis.call('HSET', meta, 'birth', birth)
  end
  local info = redis.call('INFO', 'server')
  local at = select(2, string.find(info, 'run_id:', 1, true))
  return string.sub(info, at + 1, at + 16) .. '/' .. birth
end
