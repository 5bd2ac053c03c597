-- Stores a position, unless its token is no longer the highest. Where nobody has claimed the shard, it is refused: after a loss of memory
-- the asker may be an old owner.
local shard, token, count, position = args[1], args[2], args[3], args[4]
local row = read_shard(shard)
if not row then
  return { 'fenced' }
end
if is_below(token, row.fence) then
  return { 'fenced', row.fence }
end
if row.fence ~= token then
  row.fence, row.last = token, '-'
end
if row.last == count and row.position == position then
  return { 'saved' }
end
if row.last ~= '-' and not is_below(row.last, count) then
  return { 'superseded' }
end
row.last, row.position = count, position
write_shard(shard, row)
return { 'saved' }
