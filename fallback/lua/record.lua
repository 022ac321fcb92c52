--[[ Record: what one outcome means for its provider's breaker, and what its call should do now.

  KEYS[4]  call      see call.lua
  KEYS[5]  failures  see evidence.lua
  KEYS[6]  samples   see evidence.lua
  ARGV[2]  outcome   json {id, call, provider, kind, reason, code, message, host, route, lease, mode,
                     source, key, memory, age_ms, latency_ms, retry_after_ms}: all texts, or
                     numbers, but latency_ms which may be left out; memory as in decide
  ARGV[3…] steps     the route's usable providers in chain order, for a failure that may be answered
                     with a swap

  Reply    now, version, revision, status, detail, "1" if counted, effect, the provider to swap to,
           of a trip json of its failures by API key.
           status "no_policy": nothing was taken, because the configuration is not here yet.
]]
local outcome = cjson.decode(ARGV[2])
local failures_key, samples_key = KEYS[5], KEYS[6]
local provider, kind = outcome.provider, outcome.kind
local steps, names = {}, { provider }
for i = 3, #ARGV do
  table.insert(steps, ARGV[i])
  if ARGV[i] ~= provider then table.insert(names, ARGV[i]) end
end

local raws, raw_of = read_breakers(names), {}
for i, name in ipairs(names) do raw_of[name] = raws[i] or nil end
local has_policy = redis.call("HEXISTS", policies_key, provider) == 1
redis.call("ZCARD", failures_key) -- every key is read before the first write
redis.call("HLEN", samples_key)
local is_stale = recall(outcome.memory)

local IS_FAILURE = { init_failure = true, mid_call_failure = true, stall = true }
local is_failure = IS_FAILURE[kind] or false
local loaded = {}

local function breaker_of(name)
  if not loaded[name] then loaded[name] = load(name, raw_of[name]) end
  return loaded[name]
end

local function reply(status, detail, counted, effect, swap_to, keys)
  return {
    digits(now), version_now(), stored.revision or "", status, detail, counted and "1" or "",
    effect, swap_to or "", keys and cjson.encode(keys) or "",
  }
end

-- Whom the call should swap to: where it was sent already, else the best of the chain it has not
-- failed on. No lease is spent: a probe starts with a decision.
local function swap_target()
  local best, best_rank
  for _, name in ipairs(steps) do
    local has_failed = memory["failed:" .. name] ~= nil
    local rank = rank_of(breaker_of(name), has_failed)
    if rank == 1 and memory.provider == name then return name end
    if not has_failed and (not best or rank < best_rank) then best, best_rank = name, rank end
  end
  return best
end

if not has_policy then return reply("no_policy", "", false, "none") end
local is_repeat = memory["id:" .. outcome.id]
  or (is_failure and memory["failed:" .. provider])
  or (kind == "first_transcript" and memory["heard:" .. provider])
if is_repeat then
  local target = is_failure and swap_target() or nil
  write_changes()
  return reply("duplicate", "", false, "none", target)
end
if is_full() then
  write_changes()
  return reply("invalid", "this call has reported " .. limits.call_entries .. " times or "
    .. limits.call_bytes .. " bytes: no more is taken", false, "none")
end

local breaker = breaker_of(provider)
local policy = policy_of(provider)
local happened = now - math.max(0, math.min(outcome.age_ms, limits.age_ms))
local effect, counted = "none", false

local function own_lease()
  for token, lease in pairs(breaker.leases) do
    if lease.call == outcome.call then return token end
  end
end

-- Inconclusive: the slot is free for the next probe.
local function release_lease()
  local token = own_lease()
  if not token then return "none" end
  breaker.leases[token] = nil
  keep(breaker)
  return "probe_released"
end

local function seen()
  return {
    call = outcome.call, host = outcome.host, key = outcome.key, outcome = kind, reason = outcome.reason,
    code = outcome.code, message = outcome.message, route = outcome.route,
  }
end

-- A call that its provider let down, counted with the incident it is part of.
local function count_hurt()
  if breaker.incident ~= "" then
    breaker.hurt = breaker.hurt + 1
    keep(breaker)
  end
end

local function fail_probe(rule)
  breaker.leases[own_lease()] = nil
  breaker.failed_probes = breaker.failed_probes + 1
  count_hurt()
  keep(breaker)
  counted = true
  if breaker.failed_probes >= policy.retrip_threshold or rule.trips_at_once then
    breaker.trips = breaker.trips + 1
    breaker.retry_after_ms = outcome.retry_after_ms
    local evidence = seen()
    evidence.failed_probes, evidence.retrip_threshold = breaker.failed_probes, policy.retrip_threshold
    transition(breaker, "open",
      { cause = "probe_failure", reason = outcome.reason, evidence = evidence })
  end
  return "probe_failed"
end

-- Past the threshold (a quorum is missing, or only a rate rule is on) a storm is told sparingly.
local function tell_failure(proof)
  if proof.failures > policy.failure_threshold and now - breaker.noticed_ms < limits.notice_ms then
    return
  end
  breaker.noticed_ms = now
  local evidence = seen()
  for field, value in pairs(proof) do evidence[field] = value end
  notice(breaker, "provider_failure", { reason = outcome.reason, evidence = evidence })
end

-- A breaker that admits remembers the failure and is judged by it.
local function count_failure()
  local is_old = happened < breaker.evidence_since_ms or happened <= now - window_ms(policy)
  if is_old then return "none" end
  counted = true
  add_failure(failures_key, policy, outcome, outcome.reason, happened)
  if policy.failure_rate_percent > 0 or policy.slow_rate_percent > 0 then
    local is_new = memory["heard:" .. provider] == nil
    add_sample(samples_key, policy, happened, is_new and 1 or 0, 1, 0)
  end
  keep(breaker)
  local done, proof = conclude(breaker, policy, failures_key, samples_key, {
    reason = outcome.reason, retry_after_ms = outcome.retry_after_ms, evidence = seen(),
  })
  if done then return done end
  if proof then tell_failure(proof) end
  return "counted"
end

local function on_failure()
  local rule = rule_of(policy, outcome.reason)
  if outcome.reason ~= "cancelled" then note("failed:" .. provider, "1") end
  if rule.is_neutral then return release_lease() end
  if breaker.state == "half_open" and own_lease() then return fail_probe(rule) end
  if ADMITS[breaker.state] then return count_failure() end
  -- Open, forced open, or half open without the lease: calls of before. They move nothing, so a
  -- storm of them cannot make the open time longer, but they were hurt.
  count_hurt()
  return "none"
end

-- A call that failed on another provider and is heard on this one was saved.
local function count_saved()
  local fields = {}
  for field in pairs(memory) do table.insert(fields, field) end
  table.sort(fields)
  for _, field in ipairs(fields) do
    local other = string.match(field, "^failed:(.+)$")
    if other and other ~= provider and not memory["saved:" .. other] then
      raw_of[other] = raw_of[other] or redis.call("HGET", breakers_key, other) or nil
      local failed = breaker_of(other)
      if failed.incident ~= "" then
        failed.saved = failed.saved + 1
        keep(failed)
        note("saved:" .. other, "1")
      end
    end
  end
end

-- Only a transcript with the live lease of this half-open spell is proof.
local function prove()
  breaker.leases[outcome.lease] = nil
  breaker.successes = breaker.successes + 1
  keep(breaker)
  if breaker.successes < policy.probe_successes then return "probe_succeeded" end
  local evidence = { call = outcome.call, successes = breaker.successes,
    latency_ms = outcome.latency_ms }
  breaker.trips, breaker.retry_after_ms = 0, 0
  transition(breaker, "closed", { cause = "probe_success", evidence = evidence })
  return "recovered"
end

local function on_transcript()
  note("heard:" .. provider, "1")
  count_saved()
  local lease = breaker.leases[outcome.lease]
  if breaker.state == "half_open" then
    return lease and lease.call == outcome.call and prove() or "none"
  end
  if not ADMITS[breaker.state] or happened < breaker.evidence_since_ms then return "none" end
  if breaker.trips > 0 and breaker.state == "closed" then -- back by the timer; here is the proof
    breaker.trips = 0
    keep(breaker)
  end
  if policy.failure_rate_percent == 0 and policy.slow_rate_percent == 0 then return "none" end
  local is_slow = policy.slow_rate_percent > 0 and (outcome.latency_ms or 0) > policy.slow_after_ms
  if happened > now - policy.rate_window_s * 1000 then
    add_sample(samples_key, policy, happened, 1, 0, is_slow and 1 or 0)
    if is_slow then add_failure(failures_key, policy, outcome, SLOW, happened) end
  end
  return conclude(breaker, policy, failures_key, samples_key, {}) or "none"
end

if is_failure then
  effect = on_failure()
elseif kind == "first_transcript" then
  effect = on_transcript()
elseif kind == "call_end" then
  effect = release_lease()
elseif kind == "started" then
  note("provider", provider)
end

local swap_to
if is_failure and outcome.reason ~= "cancelled" then
  swap_to = swap_target()
  if swap_to then note("provider", swap_to) end
end
local is_quiet = (memory.quiet ~= nil or memory.touched_ms == nil)
  and not is_failure and kind ~= "recovered" and (kind ~= "started" or outcome.mode == "primary")
note("id:" .. outcome.id, "1")
weigh(outcome)
if outcome.route ~= "" then note("route", outcome.route) end
add_entry({
  type = "outcome", at_ms = happened, id = outcome.id, provider = provider, kind = kind,
  reason = is_failure and outcome.reason or nil, code = outcome.code, message = outcome.message,
  latency_ms = outcome.latency_ms, mode = outcome.mode, source = outcome.source,
  host = outcome.host, key = outcome.key ~= "" and outcome.key or nil, counted = counted, effect = effect, swap_to = swap_to,
})
write_changes()
write_call(is_stale, is_quiet, outcome.memory)
return reply("accepted", "", counted, effect, swap_to,
  effect == "tripped" and breaker.evidence.keys or nil)
