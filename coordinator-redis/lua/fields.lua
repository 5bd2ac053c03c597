-- A list of texts as one: `length:text` each, whatever the texts hold.
local function split_fields(text)
  local list, at = {}, 1
  while at <= #text do
    local colon = string.find(text, ':', at, true)
    local length = tonumber(string.sub(text, at, colon - 1))
    list[#list + 1] = string.sub(text, colon + 1, colon + length)
    at = colon + length + 1
  end
  return list
end

local function join_fields(list)
  local parts = {}
  for place, text in ipairs(list) do
    parts[place] = #text .. ':' .. text
  end
  return table.concat(parts)
end
