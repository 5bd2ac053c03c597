-- Entries from an id on, that one included. Arguments: the id; after how many bytes to stop.
--
-- Answers the identity, the number of the last message, whether more entries follow, and the entries: each {id, number, packet}.
local identity = log_identity(redis.call('HGET', meta, 'birth'))
local from, most, bytes, found, page = args[1], tonumber(args[2]), 0, {}, nil
repeat
  page = redis.call('XRANGE', log, from, '+', 'COUNT', 16)
  for _, entry in ipairs(page) do
    local fields = entry[2]
    found[#found + 1] = {entry[1], fields[2], fields[4]}
    bytes = bytes + #fields[4]
    from = '(' .. entry[1]
  end
until #page < 16 or bytes >= most
return {identity, redis.call('HGET', meta, 'last') or '0', #page < 16 and 0 or 1, found}
