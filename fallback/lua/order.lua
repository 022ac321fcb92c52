--[[ Order: what an operator tells a breaker: an override, its end, or a reset.

  KEYS[4]  failures  see evidence.lua
  KEYS[5]  samples
  ARGV[2]  order     json {provider, action: "override" | "clear" | "reset", by, reason,
                     state and for_ms (0: until cleared) with "override"}

  Reply    now, version, revision, "done" | "unchanged" (nothing was there to clear), the breaker's
           end, the stored breaker
]]
local order = cjson.decode(ARGV[2])
local failures_key, samples_key = KEYS[4], KEYS[5]
local raw = read_breakers({ order.provider })[1]
redis.call("ZCARD", failures_key)
redis.call("HLEN", samples_key)
local breaker = load(order.provider, raw or nil)
local policy = policy_of(order.provider)
local did = "done"

local function set_override()
  breaker.override = {
    state = order.state, by = order.by, reason = order.reason, at_ms = now,
    until_ms = order.for_ms > 0 and now + order.for_ms or nil,
  }
  keep(breaker)
  if breaker.state == order.state then -- a new end or reason is an order too
    notice(breaker, "override_set",
      { cause = "override", actor = order.by, reason = order.reason,
        evidence = { until_ms = breaker.override.until_ms } })
  end
  settle(breaker)
  if breaker.state == "forced_open" then redis.call("DEL", failures_key, samples_key) end
end

local function clear_override()
  if not breaker.override then
    did = "unchanged"
    return
  end
  breaker.override = nil
  keep(breaker)
  if policy.shadow and breaker.state == "shadow" then
    notice(breaker, "override_cleared",
      { cause = "override_cleared", actor = order.by, reason = order.reason })
  end
  settle(breaker, { cause = "override_cleared", actor = order.by, reason = order.reason })
end

local function reset()
  breaker.override, breaker.trips, breaker.retry_after_ms = nil, 0, 0
  breaker.would_trip_ms, breaker.noticed_ms = 0, 0
  keep(breaker)
  local move = { cause = "reset", actor = order.by, reason = order.reason }
  if breaker.state == "closed" or (policy.shadow and breaker.state == "shadow") then
    notice(breaker, "reset", move)
  else
    transition(breaker, "closed", move)
  end
  breaker.evidence_since_ms = now
  settle(breaker)
  redis.call("DEL", failures_key, samples_key)
end

if order.action == "override" then
  set_override()
elseif order.action == "clear" then
  clear_override()
else
  reset()
end
write_changes()
return {
  digits(now), version_now(), stored.revision or "", did, until_text(breaker, policy),
  encoded(breaker),
}
