-- What every script begins with: the server's clock, read once, in microseconds; numbers as texts, exact below 2^53 (K2).
local args = ARGV
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

local function number(value)
  return string.format('%.0f', value)
end

-- Compares whole numbers of any length, as texts.
local function is_below(a, b)
  return #a < #b or (#a == #b and a < b)
end

local function higher(a, b)
  if not a then
    return b or nil
  end
  return b and is_below(a, b) and b or a
end

-- K1: rises through crash, restart and fail-over. A floor more than a day ahead is not believed. nil: the numbers have ended.
local function next_number(last, floor)
  local wall = math.floor(now / 1000)
  local found = math.max(wall, tonumber(last or 0) + 1, 1)
  if floor ~= '' and tonumber(floor) <= wall + 86400000 then
    found = math.max(found, tonumber(floor) + 1)
  end
  return found < 9007199254740992 and number(found) or nil
end
