-- Reads the epoch of the document.
return redis.call('HGET', KEYS[2], 'epoch') or ''
