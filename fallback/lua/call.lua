--[[ A call: what it was given, what it reported, and so what it may not be given again.

  KEYS[4]  call  hash  "touched_ms", "quiet" ("1" while nothing of note happened to it),
                       "provider" it is on, "route", "diverted" ("1" once counted so),
                       "failed:<provider>", "heard:<provider>", "saved:<provider>" "1",
                       "id:<outcome id>" "1" for each outcome taken,
                       "count" of entries, "entry:<n>" json of each: at most limits.call_entries
]]
local call_key = KEYS[4]
local memory, notes = {}, {}

-- An old record is no record, whether or not Redis has collected it yet.
local function recall()
  local fields = redis.call("HGETALL", call_key)
  for i = 1, #fields, 2 do memory[fields[i]] = fields[i + 1] end
  local kept_ms = memory.quiet and limits.quiet_call_ms or limits.call_ms
  local touched = tonumber(memory.touched_ms) or 0
  if touched + kept_ms <= now or touched > now + limits.tolerance_ms then
    local is_stale = next(memory) ~= nil
    memory = {}
    return is_stale
  end
  return false
end

local function note(field, value)
  memory[field] = value
  notes[field] = value
end

local function is_full()
  return (tonumber(memory.count) or 0) >= limits.call_entries
end

local function add_entry(entry)
  if is_full() then return end
  local count = (tonumber(memory.count) or 0) + 1
  note("count", digits(count))
  note("entry:" .. digits(count), cjson.encode(entry))
end

-- `is_stale`: the record that stands there is of a call long ago.
local function write_call(is_stale, is_quiet)
  if is_stale then redis.call("DEL", call_key) end
  if is_quiet then
    note("quiet", "1")
  elseif memory.quiet then
    redis.call("HDEL", call_key, "quiet")
  end
  note("touched_ms", digits(now))
  local fields = {}
  for field, value in pairs(notes) do
    table.insert(fields, field)
    table.insert(fields, value)
  end
  redis.call("HSET", call_key, unpack(fields))
  redis.call("PEXPIRE", call_key, digits(is_quiet and limits.quiet_call_ms or limits.call_ms))
end

-- How gladly a call is sent there: 1 admits, 2 may be back soon, 3 was shut by a person, 4 failed.
local function rank_of(breaker, failed)
  if failed then return 4 end
  if not breaker or ADMITS[breaker.state] then return 1 end
  return breaker.state == "forced_open" and 3 or 2
end
