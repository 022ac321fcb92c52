--[[ Evidence: what failures and samples are remembered of a provider, and what they prove.

  failures  zset  "<reason>\31<host>\31<call>\31<API key>" -> when it happened, in ms; at most
                  limits.evidence (a slow call is remembered too, with the reason "slow" and no
                  weight); three parts where no key is known, as in those of before keys were
                  remembered
  samples   hash  "<slice width in ms>:<slice>" -> "<calls> <failures> <slow>"; one slice is a
                  `limits.rate_slices`th of the rate window, slices of another width are dropped
]]
local SEPARATOR = "\31"
local SLOW = "slow"

local function window_ms(policy)
  local window_s = policy.failure_window_s
  if policy.failure_rate_percent > 0 or policy.slow_rate_percent > 0 then
    window_s = math.max(window_s, policy.rate_window_s)
  end
  return window_s * 1000
end

local function failures_in(key, from_ms)
  local rows, found = redis.call("ZRANGEBYSCORE", key, "(" .. digits(from_ms), "+inf", "WITHSCORES"), {}
  for i = 1, #rows, 2 do
    local reason, host, rest = string.match(rows[i], "^([^\31]*)\31([^\31]*)\31(.*)$")
    if reason then
      local key = string.match(rest, "\31(.*)$") or ""
      table.insert(found, { reason = reason, host = host, key = key, at_ms = tonumber(rows[i + 1]) })
    end
  end
  return found
end

local function add_failure(key, policy, outcome, reason, at_ms)
  local parts = { reason, outcome.host, outcome.call }
  if outcome.key ~= "" then table.insert(parts, outcome.key) end
  redis.call("ZREMRANGEBYSCORE", key, "-inf", digits(now - window_ms(policy)))
  redis.call("ZADD", key, digits(at_ms), table.concat(parts, SEPARATOR))
  redis.call("ZREMRANGEBYRANK", key, 0, -limits.evidence - 1)
  redis.call("PEXPIRE", key, digits(window_ms(policy) + limits.evidence_ttl_ms))
end

-- What lies in one window. Stalls speak only when enough calls saw one: a caller's television
-- looks like speech that nobody transcribes.
local function tally(failures, policy, from_ms)
  local stalls = 0
  for _, failure in ipairs(failures) do
    if failure.at_ms > from_ms and failure.reason == "stall" then stalls = stalls + 1 end
  end
  local counts_stalls = stalls >= policy.distinct_calls_for_stall
  local found = {
    weight = 0, calls = 0, hosts = 0, at_once = 0, at_once_hosts = 0, slow_hosts = 0,
    keys = {}, at_once_keys = {}, slow_keys = {},
    reasons = {}, silent_stalls = counts_stalls and 0 or stalls,
  }
  local seen = { hosts = {}, at_once_hosts = {}, slow_hosts = {} }
  local function see(hosts, keys, failure)
    if not seen[hosts][failure.host] then
      seen[hosts][failure.host] = true
      found[hosts] = found[hosts] + 1
    end
    found[keys][failure.key] = (found[keys][failure.key] or 0) + 1
  end
  for _, failure in ipairs(failures) do
    local rule = rule_of(policy, failure.reason)
    if failure.at_ms <= from_ms then -- of the longer window only
    elseif failure.reason == SLOW then
      see("slow_hosts", "slow_keys", failure)
    elseif not rule.is_neutral then
      found.reasons[failure.reason] = (found.reasons[failure.reason] or 0) + 1
      if failure.reason ~= "stall" or counts_stalls then
        found.weight, found.calls = found.weight + rule.weight, found.calls + 1
        see("hosts", "keys", failure)
        if rule.trips_at_once then
          found.at_once, found.at_once_reason = found.at_once + 1, failure.reason
          see("at_once_hosts", "at_once_keys", failure)
        end
      end
    end
  end
  return found
end

-- The named keys with how many failures each reported, the busiest of too many.
local function told_keys(counts)
  local named, told = {}, {}
  for key, count in pairs(counts) do
    if key ~= "" then table.insert(named, { key = key, count = count }) end
  end
  table.sort(named, function(a, b)
    if a.count ~= b.count then return a.count > b.count end
    return a.key < b.key
  end)
  for i = 1, math.min(#named, limits.keys_told) do told[named[i].key] = named[i].count end
  return told
end

-- Whether enough hosts and enough API keys saw it. Failures without a key (of before keys were
-- remembered) are no key beside those with one: it may be the same.
local function is_quorum(policy, hosts, keys)
  local named = 0
  for key in pairs(keys) do
    if key ~= "" then named = named + 1 end
  end
  return hosts >= policy.distinct_hosts and math.max(1, named) >= policy.distinct_keys
end

-- Samples of calls, for the rate rules ------------------------------------------------------------

local function slice_ms(policy)
  return math.ceil(policy.rate_window_s * 1000 / limits.rate_slices)
end

local function add_sample(key, policy, at_ms, calls, failures, slow)
  local width = slice_ms(policy)
  local field = digits(width) .. ":" .. digits(math.floor(at_ms / width))
  local a, b, c = string.match(redis.call("HGET", key, field) or "", "^(%d+) (%d+) (%d+)$")
  begin_writing()
  redis.call("HSET", key, field, table.concat({
    digits((tonumber(a) or 0) + calls), digits((tonumber(b) or 0) + failures),
    digits((tonumber(c) or 0) + slow),
  }, " "))
  redis.call("PEXPIRE", key, digits(policy.rate_window_s * 1000 + limits.evidence_ttl_ms))
end

-- The sums over the window; `purge` also forgets the slices that have left it.
local function samples_in(key, policy, purge)
  local width = slice_ms(policy)
  local first = math.floor(now / width) - limits.rate_slices + 1
  local rows, sums = redis.call("HGETALL", key), { calls = 0, failures = 0, slow = 0 }
  for i = 1, #rows, 2 do
    local row_width, slice = string.match(rows[i], "^(%d+):(%d+)$")
    local calls, failures, slow = string.match(rows[i + 1], "^(%d+) (%d+) (%d+)$")
    if calls and tonumber(row_width) == width and tonumber(slice) >= first then
      sums.calls = sums.calls + tonumber(calls)
      sums.failures = sums.failures + tonumber(failures)
      sums.slow = sums.slow + tonumber(slow)
    elseif purge then
      redis.call("HDEL", key, rows[i])
    end
  end
  return sums
end

-- The verdict ------------------------------------------------------------------------------------

local function by_count(policy, failures)
  local found = tally(failures, policy, now - policy.failure_window_s * 1000)
  local proof = {
    failures = found.weight, failure_threshold = policy.failure_threshold,
    failure_window_s = policy.failure_window_s, calls = found.calls, hosts = found.hosts,
    keys = told_keys(found.keys), reasons = found.reasons,
  }
  if found.at_once > 0 and is_quorum(policy, found.at_once_hosts, found.at_once_keys) then
    proof.at_once = found.at_once_reason
    return { cause = "trip_at_once", evidence = proof, reason = found.at_once_reason }, proof
  end
  local is_enough = policy.failure_threshold > 0 and found.weight >= policy.failure_threshold
  if is_enough and is_quorum(policy, found.hosts, found.keys) then
    return { cause = "failure_threshold", evidence = proof }, proof
  end
  local named = 0
  for _ in pairs(proof.keys) do named = named + 1 end
  if (is_enough or found.at_once > 0) and policy.distinct_keys > 1 and named < policy.distinct_keys then
    proof.distinct_keys = policy.distinct_keys -- what it waits for
  end
  return nil, proof
end

local function by_rate(policy, failures, samples_key)
  local found = tally(failures, policy, now - policy.rate_window_s * 1000)
  local sums = samples_in(samples_key, policy, true)
  local failed = math.max(0, sums.failures - found.silent_stalls)
  if sums.calls < policy.minimum_calls then return nil end
  local proof = {
    sampled_calls = sums.calls, failed_calls = failed, slow_calls = sums.slow,
    rate_window_s = policy.rate_window_s, minimum_calls = policy.minimum_calls,
    reasons = found.reasons,
  }
  if policy.failure_rate_percent > 0 and is_quorum(policy, found.hosts, found.keys)
    and failed * 100 >= policy.failure_rate_percent * sums.calls then
    proof.failure_rate_percent, proof.keys = policy.failure_rate_percent, told_keys(found.keys)
    return { cause = "failure_rate", evidence = proof }
  end
  if policy.slow_rate_percent > 0 and is_quorum(policy, found.slow_hosts, found.slow_keys)
    and sums.slow * 100 >= policy.slow_rate_percent * sums.calls then
    proof.slow_rate_percent, proof.slow_after_ms = policy.slow_rate_percent, policy.slow_after_ms
    proof.keys = told_keys(found.slow_keys)
    return { cause = "slow_rate", evidence = proof, reason = SLOW }
  end
end

-- What the evidence proves: a trip with its cause, or nil; and the count, to be told.
local function judge(policy, failures_key, samples_key)
  local failures = failures_in(failures_key, now - window_ms(policy))
  local trip, proof = by_count(policy, failures)
  if not trip and (policy.failure_rate_percent > 0 or policy.slow_rate_percent > 0) then
    trip = by_rate(policy, failures, samples_key)
  end
  if trip then
    trip.newest = failures[#failures] and failures[#failures].reason or "unknown"
    trip.hurt = 0
    for _, failure in ipairs(failures) do
      if failure.reason ~= SLOW then trip.hurt = trip.hurt + 1 end
    end
    trip.evidence.first_failure_ms = failures[1] and failures[1].at_ms or nil
  end
  return trip, proof
end

-- Act on what was proven: trip a closed breaker, say what a shadowed one would have done.
-- `latest`: {reason, retry_after_ms, evidence} of the outcome that brought the proof, where one did.
-- Returns the effect, or nil, and the count.
local function conclude(breaker, policy, failures_key, samples_key, latest)
  if breaker.state ~= "closed" and breaker.state ~= "shadow" then return nil end
  local trip, proof = judge(policy, failures_key, samples_key)
  if not trip then return nil, proof end
  trip.reason = trip.reason or latest.reason or trip.newest
  for field, value in pairs(latest.evidence or {}) do trip.evidence[field] = value end
  if breaker.state == "shadow" then
    if now - breaker.would_trip_ms < policy.open_duration_s * 1000 then return nil, proof end
    breaker.would_trip_ms = now
    notice(breaker, "would_trip", trip)
    return "would_trip", proof
  end
  breaker.trips = breaker.trips + 1
  breaker.retry_after_ms = latest.retry_after_ms or 0
  transition(breaker, "open", trip)
  redis.call("DEL", failures_key, samples_key)
  return "tripped", proof
end
