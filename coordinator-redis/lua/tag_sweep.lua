-- Forgets what the store remembers of a hash tag, once nothing is kept under it: whoever comes back finds a store that is new. KEYS: the
-- identity, then what must not be there. The argument: whether the identity is this tag's own, and not the namespace's.
if quarantine > 0 or redis.call('EXISTS', unpack(KEYS, 2)) > 0 then
  return 'kept'
end
if args[1] == '1' then
  redis.call('DEL', KEYS[1])
end
return 'forgotten'
