--[[ Decide: who takes this call. One walk over the whole chain, and the lease where one is due.

  KEYS[4]  call      see call.lua
  ARGV[2]  call id
  ARGV[3]  route
  ARGV[4]  options   words: "probe" (this call may be one), "soonest" (whoever is back first is the
                     last resort), "bypass" (the first step, whatever its breaker), "keep" (remember
                     the call even if nothing of note happens: its first step was not usable)
  ARGV[5]  excluded  json list of (provider, verdict), of the steps that were not asked, "" for none
  ARGV[6]  host
  ARGV[7]  memory    "full" | "brief" | "none": how the call is remembered
  ARGV[8…] provider, "ask" | "failed"   the usable steps in chain order; failed: in this call

  Reply    now, version, revision, index of the chosen step (from 1), how it was found, lease, its
           end; then for each step its verdict, its end, the stored breaker. All strings.
           A healthy decision writes nothing.
]]
local call, route, options, excluded, host = ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local how = ARGV[7]
local names, failed = {}, {}
for i = 8, #ARGV, 2 do
  table.insert(names, ARGV[i])
  failed[ARGV[i]] = ARGV[i + 1] == "failed"
end

local raws = read_breakers(names)
local is_stale = recall(how)
local steps = {}
for i, name in ipairs(names) do
  failed[name] = failed[name] or memory["failed:" .. name] ~= nil
  local raw = raws[i]
  -- A closed breaker needs no look: time alone does not move it.
  local is_closed = not raw or string.sub(raw, 1, 7) == "closed "
  steps[i] = { name = name, raw = raw or "", breaker = not is_closed and load(name, raw) or nil }
end

local function own_lease(breaker)
  for token, lease in pairs(breaker.leases) do
    if lease.call == call then return token, lease end
  end
end

-- A lease for this call: the one it holds, or a new one while there is a slot.
local function lease_for(breaker)
  local token, lease = own_lease(breaker)
  if token then return token, lease end
  local taken = 0
  for _ in pairs(breaker.leases) do taken = taken + 1 end
  if not string.find(options, "probe", 1, true) or taken >= policy_of(breaker.name).probe_slots then
    return nil
  end
  breaker.leases[request] = { call = call, at_ms = now }
  keep(breaker)
  return request, breaker.leases[request]
end

local chosen, given, lease_token, lease_end

-- The call stays where it is while its provider admits it: nobody is moved back in the middle.
local function stay(i)
  local step = steps[i]
  if step.name ~= memory.provider or failed[step.name] then return end
  local breaker = step.breaker
  if not breaker or ADMITS[breaker.state] or (breaker.state == "half_open" and own_lease(breaker)) then
    chosen, given = i, i == 1 and "first" or "sticky"
  end
end

local function verdict_of(i)
  local step = steps[i]
  local breaker = step.breaker
  if failed[step.name] then return "failed_in_call" end
  if not breaker or ADMITS[breaker.state] then return "admitted" end
  if breaker.state ~= "half_open" then return breaker.state end
  -- A better step answers, or the call is elsewhere: spend no lease.
  if chosen and chosen ~= i then return "probes_busy" end
  local token, lease = lease_for(breaker)
  if not token then return "probes_busy" end
  chosen, given, lease_token = i, "probe", token
  lease_end = digits(lease.at_ms + policy_of(breaker.name).probe_lease_s * 1000)
  return "probe"
end

-- Nobody admits, and no call is refused: an open breaker before a forced one before a provider
-- that already failed in this call; among the open ones the first, or whoever is back first.
local function last_resort()
  local best, best_rank, best_end
  for i, step in ipairs(steps) do
    local rank = rank_of(step.breaker, failed[step.name])
    local ends = 0
    if rank == 2 and string.find(options, "soonest", 1, true) then
      ends = until_ms(step.breaker, policy_of(step.name)) or 0
    end
    if not best or rank < best_rank or (rank == best_rank and ends < best_end) then
      best, best_rank, best_end = i, rank, ends
    end
  end
  return best
end

local is_bypass = string.find(options, "bypass", 1, true) ~= nil
if is_bypass then
  chosen, given = 1, "bypass"
  for _, step in ipairs(steps) do step.verdict = "bypass" end
else
  for i in ipairs(steps) do
    if not chosen then stay(i) end
  end
  for i, step in ipairs(steps) do
    step.verdict = verdict_of(i)
    if step.verdict == "admitted" and not chosen then
      chosen, given = i, "first"
    end
  end
  if not chosen then chosen, given = last_resort(), "last_resort" end
end

-- The breaker that this call would have used and does not: it is the one it is diverted from.
local function diverted_from()
  for i = 1, chosen - 1 do
    local verdict = steps[i].verdict
    if verdict == "open" or verdict == "forced_open" or verdict == "probes_busy" then
      return steps[i].breaker
    end
    if verdict == "admitted" then return nil end
  end
end

local function count_diverted(breaker)
  breaker.diverted = breaker.diverted + 1
  keep(breaker)
  if breaker.diverted == 1 then
    notice(breaker, "fallback_active",
      { evidence = { provider = steps[chosen].name, route = route, call = call } })
  end
  note("diverted", "1")
end

-- Told once, until one of the breakers moves.
local function tell_all_down()
  local first
  for _, step in ipairs(steps) do
    if not step.breaker or ADMITS[step.breaker.state] then return end
    first = first or step.breaker
  end
  if first.all_down_told then return end
  first.all_down_told = true
  notice(first, "all_providers_down", { evidence = { route = route, call = call } })
end

if not is_bypass then
  local breaker = not memory.diverted and diverted_from()
  if breaker then count_diverted(breaker) end
  if given == "last_resort" then tell_all_down() end
end

local is_eventful = given ~= "first" or chosen > 1 or next(memory) ~= nil
  or string.find(options, "keep", 1, true) ~= nil
write_changes()
if is_eventful then
  local verdicts = {}
  for i, step in ipairs(steps) do verdicts[i] = { step.name, step.verdict } end
  note("provider", steps[chosen].name)
  note("route", route)
  add_entry({
    type = "decision", at_ms = now, route = route, provider = steps[chosen].name, given = given,
    index = chosen, verdicts = verdicts, excluded = excluded, host = host, lease = lease_token,
  })
  local is_plain = given == "bypass" or (given == "first" and chosen == 1)
  local is_unheard_of = memory.quiet ~= nil or memory.touched_ms == nil
  write_call(is_stale, is_plain and is_unheard_of, how)
end

local reply = {
  digits(now), version_now(), stored.revision or "", digits(chosen), given,
  lease_token or "", lease_end or "",
}
for _, step in ipairs(steps) do
  table.insert(reply, step.verdict)
  table.insert(reply, step.breaker and until_text(step.breaker, policy_of(step.name)) or "")
  table.insert(reply, step.breaker and encoded(step.breaker) or step.raw)
end
return reply
