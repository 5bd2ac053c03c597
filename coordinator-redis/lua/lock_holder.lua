-- Who holds an unexpired lease, or for whom a free one is kept.
local lease = read_lease()
if is_held(lease) then
  return told_of(lease, 'held')
end
if is_kept(lease) then
  return told_of(lease, 'kept')
end
return { 'free' }
