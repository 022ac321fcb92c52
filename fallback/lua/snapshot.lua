--[[ Snapshot: every breaker brought up to now, and read. Also the tick that finds a transition
     which is due while nobody asks.

  KEYS[4…] failures  of each provider, see evidence.lua
  ARGV[2…] providers

  Reply    now, version, revision; then for each provider: its end, weighted failures in the window,
           json of their reasons and of the API keys that reported them, the stored breaker
]]
local names = {}
for i = 2, #ARGV do names[i - 1] = ARGV[i] end
local raws = read_breakers(names)
local rows = {}
for i, name in ipairs(names) do
  local breaker = load(name, raws[i] or nil)
  local policy = policy_of(name)
  local from_ms = now - policy.failure_window_s * 1000
  local found = tally(failures_in(KEYS[3 + i], from_ms), policy, from_ms)
  table.insert(rows, until_text(breaker, policy))
  table.insert(rows, digits(found.weight))
  table.insert(rows, cjson.encode(found.reasons))
  table.insert(rows, cjson.encode(told_keys(found.keys)))
  table.insert(rows, encoded(breaker))
end
write_changes()
local reply = { digits(now), version_now(), stored.revision or "" }
for _, row in ipairs(rows) do table.insert(reply, row) end
return reply
