--[[ Configure: the policies that every breaker is judged by, from the newest configuration.

  KEYS[4…] failures, samples  of each provider, in the order of `policies`
  ARGV[2]  json {revision, policies: a list of (provider, json of its policy),
                 overrides: a list of (provider, json of an override) that stand if the data was lost,
                 is_known: whether there was data before}

  Reply    now, version, revision, "applied" | "same" | "stale" (a newer configuration is here)

  A breaker is first brought up to now under the policy it had, then judged by the new one: a
  threshold lowered below what the window holds opens it at once.
]]
local input = cjson.decode(ARGV[2])
local names, policy_raws, key_index = {}, {}, {}
for i, pair in ipairs(input.policies) do
  names[i] = pair[1]
  policy_raws[pair[1]] = pair[2]
  key_index[pair[1]] = 2 + 2 * i
end

local function reply(status)
  return { digits(now), version_now(), stored.revision or "", status }
end

local raws = read_breakers(names)
local held = tonumber(stored.revision)
if held and held >= input.revision then return reply(held == input.revision and "same" or "stale") end

local fields = redis.call("HGETALL", breakers_key)
local old_policies, breakers = {}, {}
local rows = redis.call("HGETALL", policies_key)
for i = 1, #rows, 2 do old_policies[rows[i]] = rows[i + 1] end

-- Under the old policies first: what was due has happened.
local old_names, old_raws = {}, {}
for i = 1, #fields, 2 do
  if string.sub(fields[i], 1, 1) ~= "#" then
    table.insert(old_names, fields[i])
    old_raws[fields[i]] = fields[i + 1]
  end
end
table.sort(old_names)
for _, name in ipairs(old_names) do breakers[name] = load(name, old_raws[name]) end

-- This data has no past. Operators' orders outlive it: history knows them.
if not stored.incarnation then
  is_changed = true
  if input.is_known then
    append(string.sub(request, 1, 8) .. "--0-" .. request, "state_lost", "", {})
  end
  for _, pair in ipairs(input.overrides) do
    local name, override = pair[1], cjson.decode(pair[2])
    if policy_raws[name] and is_override(override) then
      breakers[name] = breakers[name] or breaker_from(name, nil)
      breakers[name].override = override
      keep(breakers[name])
    end
  end
end

-- A provider that is gone leaves no breaker behind, and no incident open.
for _, name in ipairs(old_names) do
  local breaker = breakers[name]
  if not policy_raws[name] then
    if breaker.state ~= "closed" then
      transition(breaker, "closed", { cause = "policy", actor = "policy", reason = "provider removed" })
    end
    changed[name] = nil
    redis.call("HDEL", breakers_key, name)
    redis.call("HDEL", policies_key, name)
    breakers[name] = nil
  end
end
for name in pairs(old_policies) do
  if not policy_raws[name] then redis.call("HDEL", policies_key, name) end
end

is_changed = true
begin_writing()
for i, name in ipairs(names) do
  redis.call("HSET", policies_key, name, policy_raws[name])
  policies[name] = policy_from(policy_raws[name])
  local breaker = breakers[name] or breaker_from(name, nil)
  settle(breaker)
  if old_policies[name] and old_policies[name] ~= policy_raws[name] then
    conclude(breaker, policies[name], KEYS[key_index[name]], KEYS[key_index[name] + 1], {})
  end
end
stored.revision = digits(input.revision)
redis.call("HSET", breakers_key, "#revision", stored.revision)
write_changes()
return reply("applied")
