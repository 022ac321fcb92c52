--[[ Unknown: an agent named a provider or a route that the configuration does not hold. Remembered
     once for the whole fleet and told when it is new; where there is no more room, for one API key
     or for all, that is told.

  KEYS[4]  unknown  hash  "<what>:<name>" -> json {what, name, route, host, by, at_ms}: by whom it
                          was named last; "#more" -> the first one that there was no room for
  ARGV[2]  json {seen {what, name, route, host, by}, subject, full_subject, evidence}: of the event
                          that tells a new one, and of the one that tells that there is no room

  Reply    "new" | "known" | "full"
]]
local input = cjson.decode(ARGV[2])
local unknown_key, MORE = KEYS[4], "#more"
local field = input.seen.what .. ":" .. input.seen.name
read_breakers({})
local rows = redis.call("HGETALL", unknown_key)

-- When it was named last; nil for what is over, damaged or of a clock that was ahead. And by whom.
local function live_at_ms(raw)
  local ok, found = pcall(cjson.decode, raw)
  local at_ms = ok and type(found) == "table" and found.at_ms
  local is_live = is_number(at_ms) and at_ms <= now + limits.tolerance_ms
    and now - at_ms < limits.unknown_ms
  if is_live then return at_ms, found.by end
end

local live, count, by_this = {}, 0, 0
for i = 1, #rows, 2 do
  local at_ms, by = live_at_ms(rows[i + 1])
  live[rows[i]] = at_ms
  if at_ms and rows[i] ~= MORE then
    count = count + 1
    if by == input.seen.by then by_this = by_this + 1 end
  end
end

local reply, is_due = "known", live[field] and now - live[field] >= limits.unknown_again_ms
if not live[field] then
  local is_full = count >= limits.unknown_names
    or (input.seen.by ~= "" and by_this >= limits.unknown_by_one)
  reply, field = is_full and "full" or "new", is_full and MORE or field
  is_due = not live[field]
  if is_due then
    local subject = is_full and input.full_subject or input.subject
    announcement("misconfigured", subject, { evidence = input.evidence })
  end
end
if is_due then
  for i = 1, #rows, 2 do
    if not live[rows[i]] then redis.call("HDEL", unknown_key, rows[i]) end
  end
  input.seen.at_ms = now
  begin_writing()
  redis.call("HSET", unknown_key, field, cjson.encode(input.seen))
  redis.call("PEXPIRE", unknown_key, digits(limits.unknown_ms))
end
write_changes()
return { reply }
