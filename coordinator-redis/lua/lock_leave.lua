-- Leaves the line, or gives the turn back: this waiter will not ask.
local ticket = args[1]
local lease = read_lease()
drop_ticket(ticket)
if lease.kept_ticket == ticket and is_kept(lease) and not is_held(lease) then
  call_first(lease)
end
return 'left'
