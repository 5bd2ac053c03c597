-- Reads the document.
local known = redis.call('HMGET', KEYS[2], 'epoch', 'document')
return { known[1] or '', known[2] or '' }
