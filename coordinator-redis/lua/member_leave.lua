-- Ends a life at once, as its member asks.
local bell, life = args[1], life_of(args[2], args[3])
local record = read_life(life)
if not record or not record.is_live then
  return 'not_live'
end
bury(life, record, 'left', now)
grow(bell, true, false)
return 'left'
