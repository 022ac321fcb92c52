-- The clock of every script: Redis's own, in microseconds since the epoch, so that callers' clocks
-- need not agree. Tests put another clock in its place; this text cannot be told the time.
local function clock_us()
  local time = redis.call("TIME")
  return tonumber(time[1]) * 1000000 + tonumber(time[2])
end
