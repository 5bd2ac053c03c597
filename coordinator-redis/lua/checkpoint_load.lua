-- Claims the shard for a token, and reads (C1).
local shard, token = args[1], args[2]
local row = read_shard(shard) or { fence = token, last = '-' }
if is_below(token, row.fence) then
  return { 'fenced', row.fence }
end
if row.fence ~= token then
  row.fence, row.last = token, '-'
end
write_shard(shard, row)
return row.position and { 'loaded', row.position } or { 'loaded' }
