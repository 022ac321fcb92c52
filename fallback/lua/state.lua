--[[ A breaker's state: how it is read, how time moves it, and the only place it is written.

  Shared by every verb. A verb's script is: clock, limits, this, (evidence), the verb.

  KEYS[1]  breakers  hash    provider -> "<state> <json of domain.Breaker>", one field per provider;
                             "#version"      rises with every change, in microseconds, so that it
                                             rises even after the data was lost
                             "#revision"     of the configuration that the policies come from
                             "#incarnation"  of this data: the first part of every event id
  KEYS[2]  policies  hash    provider -> json of domain.Policy
  KEYS[3]  events    stream  one entry per transition or notice; `pump` reads it

  ARGV[1]  request   a fresh random id: the last part of event ids, and the token of a lease

  Rules that every line obeys
    - No decision depends on a key having expired: a TTL only collects garbage.
    - A deadline is never stored: it is a start and a duration under the policy of now.
    - Nothing stored may lie over `limits.tolerance_ms` in the future: it is re-based or dropped.
    - The event is appended before the state it announces is written, and every key is read before
      the first write, so that a script that fails leaves all or nothing.
    - The same request executed twice changes nothing the second time.

  `machine.py` says the same in Python. They change together.
]]
local breakers_key, policies_key, events_key = KEYS[1], KEYS[2], KEYS[3]
local request = ARGV[1]
local now_us = clock_us()
local now = math.floor(now_us / 1000)

local ADMITS = { closed = true, forced_closed = true, shadow = true }
local OVERRIDDEN = { forced_open = true, forced_closed = true, shadow = true }
local STATES = {
  closed = true, open = true, half_open = true,
  forced_open = true, forced_closed = true, shadow = true,
}
local NUMBERS = {
  "since_ms", "sequence", "trips", "retry_after_ms", "evidence_since_ms", "successes",
  "failed_probes", "diverted", "hurt", "saved", "would_trip_ms", "noticed_ms",
}
local TEXTS = { "cause", "reason", "incident" }
local PAST = { "since_ms", "evidence_since_ms", "would_trip_ms", "noticed_ms" }

local stored = {} -- "#version", "#revision", "#incarnation", as read by the verb
local changed = {} -- the breakers to write, by name
local is_changed = false -- anything that a reader of the state would see

-- Redis cuts a float in a reply to an integer and Lua prints large ones as 1.79e+15.
local function digits(number)
  return string.format("%.0f", number)
end

local function version()
  return math.max((tonumber(stored.version) or 0) + 1, now_us)
end

-- What a reader is told when nothing is stored must not be lower than what was told before.
local function version_now()
  if is_changed or not stored.version then return digits(version()) end
  return stored.version
end

-- A full Redis refuses a script's first write if it may need memory, and no later one. What breakers
-- and operators write is bounded and small, so it goes through: before it goes a write that needs no
-- memory and changes nothing. (What agents make without bound asks for room first: call.lua.)
local has_written = false
local function begin_writing()
  if has_written then return end
  has_written = true
  redis.call("HDEL", breakers_key, "#none")
end

local function read_breakers(names)
  local values = redis.call("HMGET", breakers_key, "#version", "#revision", "#incarnation", unpack(names))
  stored.version, stored.revision, stored.incarnation = values[1], values[2], values[3]
  local raws = {}
  for i = 1, #names do raws[i] = values[i + 3] end
  return raws
end

-- Policies ---------------------------------------------------------------------------------------

local policies = {}
local AT_LEAST_ONE = {
  "failure_window_s", "rate_window_s", "open_duration_s", "open_duration_max_s",
  "probe_slots", "probe_lease_s", "probe_successes", "retrip_threshold",
}

-- A number that can be reckoned with and written again: cjson reads 1e999 and refuses to write it.
local function is_number(value)
  return type(value) == "number" and math.abs(value) < 2 ^ 53
end

-- A policy that is missing or damaged is the default one, field by field: no stored value can
-- keep a breaker from coming back.
local function policy_from(raw)
  local ok, found = pcall(cjson.decode, raw or "{}")
  local policy = default_policy()
  if not ok or type(found) ~= "table" then return policy end
  for field, default in pairs(policy) do
    local value = found[field]
    if type(value) == type(default) and (type(value) ~= "number" or is_number(value)) then
      policy[field] = value
    end
  end
  for _, field in ipairs(AT_LEAST_ONE) do policy[field] = math.max(1, policy[field]) end
  return policy
end

local function policy_of(name)
  if not policies[name] then
    policies[name] = policy_from(redis.call("HGET", policies_key, name))
  end
  return policies[name]
end

-- A reason that the table does not name counts as `unknown`.
local function rule_of(policy, reason)
  local rule = policy.what_counts[reason] or policy.what_counts.unknown
  if type(rule) ~= "table" then rule = {} end
  local weight = tonumber(rule.weight) or 1
  local at_once = rule.trips_at_once == true
  return {
    weight = weight, trips_at_once = at_once, is_neutral = weight <= 0 and not at_once,
    open_duration_s = tonumber(rule.open_duration_s),
  }
end

-- Reading and writing one breaker ----------------------------------------------------------------

local function is_lease(lease)
  return type(lease) == "table" and type(lease.call) == "string" and is_number(lease.at_ms)
end

local function is_override(override)
  return type(override) == "table" and OVERRIDDEN[override.state]
    and is_number(override.at_ms)
    and type(override.by) == "string" and type(override.reason) == "string"
end

-- Whatever stands there, the result is a whole breaker: damage reads as closed and zero.
local function breaker_from(name, raw)
  local brace = raw and string.find(raw, "{", 1, true)
  local ok, found = pcall(cjson.decode, brace and string.sub(raw, brace) or "{}")
  if not ok or type(found) ~= "table" then found = {} end
  local breaker = { name = name, state = STATES[found.state] and found.state or "closed" }
  for _, field in ipairs(NUMBERS) do
    breaker[field] = is_number(found[field]) and found[field] or 0
  end
  for _, field in ipairs(TEXTS) do
    breaker[field] = type(found[field]) == "string" and found[field] or ""
  end
  local is_whole = type(found.evidence) == "table" and pcall(cjson.encode, found.evidence)
  breaker.evidence = is_whole and found.evidence or {}
  breaker.all_down_told = found.all_down_told == true
  breaker.leases = {}
  for token, lease in pairs(type(found.leases) == "table" and found.leases or {}) do
    if is_lease(lease) then breaker.leases[token] = { call = lease.call, at_ms = lease.at_ms } end
  end
  if is_override(found.override) then
    local order = found.override
    breaker.override = {
      state = order.state, by = order.by, reason = order.reason, at_ms = order.at_ms,
      until_ms = is_number(order.until_ms) and order.until_ms or nil,
    }
  end
  return breaker
end

local function encoded(breaker)
  local name = breaker.name
  breaker.name = nil
  local raw = breaker.state .. " " .. cjson.encode(breaker)
  breaker.name = name
  return raw
end

local function keep(breaker)
  changed[breaker.name] = breaker
  is_changed = true
end

-- Write what changed, with the version that tells every reader so. The last step of every verb.
local function write_changes()
  if not is_changed then return end
  local fields = { "#version", digits(version()) }
  if not stored.incarnation then
    stored.incarnation = string.sub(request, 1, 8)
  end
  table.insert(fields, "#incarnation")
  table.insert(fields, stored.incarnation)
  for name, breaker in pairs(changed) do
    table.insert(fields, name)
    table.insert(fields, encoded(breaker))
  end
  begin_writing()
  redis.call("HSET", breakers_key, unpack(fields))
  stored.version = fields[2]
  is_changed = false
end

-- Events -----------------------------------------------------------------------------------------

-- Unique for ever: a retry repeats the request, a fork of the history has another one, and data
-- that was lost starts another incarnation.
local function next_event_id(breaker)
  breaker.sequence = breaker.sequence + 1
  local incarnation = stored.incarnation or string.sub(request, 1, 8)
  return incarnation .. "-" .. breaker.name .. "-" .. digits(breaker.sequence) .. "-" .. request
end

local function append(id, name, provider, event)
  begin_writing()
  redis.call("XADD", events_key, "MAXLEN", "~", limits.events, "*",
    "id", id, "name", name, "provider", provider,
    "before", event.before or "", "after", event.after or "", "at_ms", digits(event.at_ms or now),
    "cause", event.cause or "", "actor", event.actor or BREAKER_ACTOR, "reason", event.reason or "",
    "incident", event.incident or "", "evidence", cjson.encode(event.evidence or {}),
    "version", digits(version()))
end

-- A notice: something worth telling that moves nothing.
local function notice(breaker, name, event)
  local id = next_event_id(breaker)
  event.before, event.after, event.incident = breaker.state, breaker.state, breaker.incident
  append(id, name, breaker.name, event)
  keep(breaker)
end

-- Something worth telling that is no breaker's own. At most one for each run of a script.
-- `event`: evidence, and where there is one provider and cause.
local function announcement(name, subject, event)
  local incarnation = stored.incarnation or string.sub(request, 1, 8)
  event.reason = subject
  append(incarnation .. "--" .. digits(now_us) .. "-" .. request, name, event.provider or "", event)
  is_changed = true
end

local function transition_name(from, to)
  if OVERRIDDEN[to] then return "override_set" end
  if OVERRIDDEN[from] then return "override_cleared" end
  if to == "open" then return from == "half_open" and "probe_failed" or "tripped" end
  if to == "half_open" then return "probing" end
  return "recovered"
end

-- The only writer of a breaker's state, and no transition without its event.
-- `move`: cause, and where known at_ms, actor, reason, evidence, hurt (calls so far).
local function transition(breaker, to, move)
  local from, at = breaker.state, move.at_ms or now
  local id = next_event_id(breaker)
  if ADMITS[from] and not ADMITS[to] then
    breaker.incident, breaker.diverted, breaker.hurt, breaker.saved = id, 0, move.hurt or 0, 0
  end
  local evidence = move.evidence or {}
  evidence.diverted, evidence.hurt, evidence.saved = breaker.diverted, breaker.hurt, breaker.saved
  evidence.trips = breaker.trips
  append(id, transition_name(from, to), breaker.name, {
    before = from, after = to, at_ms = at, cause = move.cause, actor = move.actor,
    reason = move.reason, incident = breaker.incident, evidence = evidence,
  })
  breaker.state, breaker.since_ms = to, at
  breaker.cause, breaker.reason = move.cause, move.reason or ""
  breaker.leases, breaker.successes, breaker.failed_probes = {}, 0, 0
  breaker.all_down_told = false
  if to == "open" then
    breaker.evidence = evidence
  elseif ADMITS[to] then
    breaker.incident, breaker.evidence = "", {}
    -- What was seen before the breaker admitted again says nothing about now.
    if not ADMITS[from] then breaker.evidence_since_ms = at end
  end
  keep(breaker)
end

-- Time -------------------------------------------------------------------------------------------

-- How long this open spell lasts under the policy of now. A provider whose rate limit said when to
-- come back is taken at its word for a while; else the reason's own time or the policy's, longer
-- with each trip in a row.
local function open_ms(breaker, policy)
  local cap = policy.open_duration_max_s * 1000
  if breaker.retry_after_ms > 0 and breaker.reason == "rate_limit" then
    return math.min(breaker.retry_after_ms, limits.retry_after_ms, cap)
  end
  local duration = (rule_of(policy, breaker.reason).open_duration_s or policy.open_duration_s) * 1000
  for _ = 2, math.min(breaker.trips, 64) do
    if duration >= cap then break end
    duration = math.floor(duration * policy.open_backoff)
  end
  return math.min(duration, cap)
end

-- When this state ends by itself; nil: not by itself.
local function until_ms(breaker, policy)
  if breaker.state == "open" then return breaker.since_ms + open_ms(breaker, policy) end
  if breaker.override then return breaker.override.until_ms end
end

-- A host clock that was stepped back leaves times in the future: they are now, leases are void.
local function rebase(breaker)
  local latest = now + limits.tolerance_ms
  for _, field in ipairs(PAST) do
    if breaker[field] > latest then
      breaker[field] = now
      keep(breaker)
    end
  end
  local override = breaker.override
  if override and override.at_ms > latest then
    if override.until_ms then override.until_ms = override.until_ms - override.at_ms + now end
    override.at_ms = now
    keep(breaker)
  end
end

local function drop_dead_leases(breaker, policy)
  for token, lease in pairs(breaker.leases) do
    local is_live = now - lease.at_ms < policy.probe_lease_s * 1000
      and lease.at_ms <= now + limits.tolerance_ms
    if not is_live then
      breaker.leases[token] = nil
      keep(breaker)
    end
  end
end

-- An operator's order, or a policy in shadow, goes before everything the breaker found itself.
-- `order`: who ended an override, and why; nil when its time was up.
local function obey(breaker, policy, order)
  local ended_at
  if breaker.override and breaker.override.until_ms and breaker.override.until_ms <= now then
    ended_at = breaker.override.until_ms
    order = { cause = "override_ended", at_ms = ended_at }
    breaker.override = nil
    keep(breaker)
  end
  local override = breaker.override
  local wanted = override and override.state or (policy.shadow and "shadow" or nil)
  if wanted and wanted ~= breaker.state then
    transition(breaker, wanted, override
      and { cause = "override", actor = override.by, reason = override.reason,
        evidence = { until_ms = override.until_ms } }
      or order or { cause = "policy", actor = "policy" })
  elseif not wanted and OVERRIDDEN[breaker.state] then
    local probes = breaker.state == "forced_open" and policy.recovery == "probe"
    transition(breaker, probes and "half_open" or "closed",
      order or { cause = "policy", actor = "policy" })
  end
end

-- Bring a breaker up to now: the first step of every verb, so that it matters to nobody who looks
-- when. A transition that was due happened at its deadline, not when somebody looked.
local function settle(breaker, order)
  local policy = policy_of(breaker.name)
  rebase(breaker)
  drop_dead_leases(breaker, policy)
  obey(breaker, policy, order)
  if breaker.state == "open" and now >= until_ms(breaker, policy) then
    transition(breaker, policy.recovery == "timer" and "closed" or "half_open",
      { cause = "time_up", at_ms = until_ms(breaker, policy) })
  elseif breaker.state == "half_open" and policy.recovery == "timer" then
    transition(breaker, "closed", { cause = "policy", actor = "policy" })
  end
  return policy
end

local function load(name, raw)
  local breaker = breaker_from(name, raw)
  settle(breaker)
  return breaker
end

-- One row of a reply: what Python turns into a domain.Finding or domain.BreakerView.
local function until_text(breaker, policy)
  local deadline = until_ms(breaker, policy)
  return deadline and digits(deadline) or ""
end
