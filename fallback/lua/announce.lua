--[[ Announce: tell something that is not a breaker's own (a misconfigured route, a lagging pump),
     not again for the same subject within a time.

  KEYS[4]  announced  hash  "<name>:<subject>" -> when it was told last; emptied when it is full
  ARGV[2]  json {name, subject, provider, every_ms, evidence, cause}

  Reply    "told" | "known"
]]
local input = cjson.decode(ARGV[2])
local announced_key, field = KEYS[4], input.name .. ":" .. input.subject
read_breakers({})
local told = tonumber(redis.call("HGET", announced_key, field)) or 0
if told <= now and now - told < input.every_ms then return { "known" } end
announcement(input.name, input.subject,
  { evidence = input.evidence, provider = input.provider, cause = input.cause })
if redis.call("HLEN", announced_key) >= limits.announcements then
  redis.call("DEL", announced_key)
end
redis.call("HSET", announced_key, field, digits(now))
redis.call("PEXPIRE", announced_key, digits(input.every_ms + limits.evidence_ttl_ms))
write_changes()
return { "told" }
