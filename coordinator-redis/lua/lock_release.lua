-- Wakes one: the successor that was named, or the first in line.
local lease = read_lease()
if successor ~= '' then
  hand_over(lease, successor)
else
  call_first(lease)
end
return 'released'
