-- Leases that may be forgotten: keys whose token is older than seven days and higher than where the last look ended, with the tokens.
return redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. args[1], '(' .. number(now / 1000 - 604800000), 'WITHSCORES', 'LIMIT', 0, 100)
