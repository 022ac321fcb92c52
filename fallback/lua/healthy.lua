--[[ Healthy: the decision of most calls, answered before the rest of the script is even set up.

  Making the shared functions costs each run many times what a healthy chain needs: one look at the
  call, one at the breakers. Answers only where decide.lua would write nothing and choose the first
  step: every breaker closed, nothing known of the call, nothing special asked. KEYS, ARGV and the
  reply are decide.lua's; in any doubt it is left to decide.
]]
local function healthy_reply()
  local options, names = ARGV[4], {}
  if string.find(options, "bypass", 1, true) or string.find(options, "keep", 1, true) then return nil end
  for i = 8, #ARGV, 2 do
    if ARGV[i + 1] == "failed" then return nil end
    names[#names + 1] = ARGV[i]
  end
  if redis.call("EXISTS", KEYS[4]) == 1 then return nil end
  local found = redis.call("HMGET", KEYS[1], "#version", "#revision", unpack(names))
  local now_us = clock_us()
  local reply = {
    string.format("%.0f", math.floor(now_us / 1000)), found[1] or string.format("%.0f", now_us),
    found[2] or "", "1", "first", "", "",
  }
  for i = 1, #names do
    local raw, row = found[i + 2], 5 + 3 * i
    if raw and string.sub(raw, 1, 7) ~= "closed " then return nil end
    reply[row], reply[row + 1], reply[row + 2] = "admitted", "", raw or ""
  end
  return reply
end

local healthy = healthy_reply()
if healthy then return healthy end
