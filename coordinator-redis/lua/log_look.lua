-- Where the log ends. Arguments: for how many milliseconds messages are kept.
local identity = log_identity(redis.call('HGET', meta, 'birth'))
redis.call('PEXPIRE', meta, number(tonumber(args[1]) * 4))
local last = redis.call('XREVRANGE', log, '+', '-', 'COUNT', 1)[1]
return {identity, last and last[1] or '0-0', redis.call('HGET', meta, 'last') or '0'}
