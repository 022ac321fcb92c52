--[[ Look: some breakers with all their evidence, as they stand. Writes nothing, settles nothing.

  KEYS[4…] failures, samples  of each provider, see evidence.lua
  ARGV[2…] providers

  Reply    now, version, revision, incarnation; then for each provider: the stored breaker, json of
           its policy, json of its failures (member, time, member, …) and of its samples (field,
           value, …)
]]
local breakers_key, policies_key = KEYS[1], KEYS[2]
local meta = redis.call("HMGET", breakers_key, "#version", "#revision", "#incarnation")
local reply = {
  string.format("%.0f", math.floor(clock_us() / 1000)), meta[1] or "", meta[2] or "", meta[3] or "",
}
for i = 2, #ARGV do
  local failures, samples = KEYS[2 * i], KEYS[2 * i + 1]
  table.insert(reply, redis.call("HGET", breakers_key, ARGV[i]) or "")
  table.insert(reply, redis.call("HGET", policies_key, ARGV[i]) or "")
  table.insert(reply, cjson.encode(redis.call("ZRANGE", failures, 0, -1, "WITHSCORES")))
  table.insert(reply, cjson.encode(redis.call("HGETALL", samples)))
end
return reply
