-- Forgets what the store remembers of a hash tag, once nothing is kept under it: whoever comes back finds a store that is new. KEYS: the
-- identity, then what must not be there.
if quarantine > 0 or redis.call('EXISTS', unpack(KEYS, 2)) > 0 then
  return 'kept'
end
redis.call('DEL', KEYS[1])
return 'forgotten'
