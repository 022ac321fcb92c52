--[[ A call: what it was given, what it reported, and so what it may not be given again.

  KEYS[4]  call  hash  "touched_ms", "quiet" ("1" while nothing of note happened to it),
                       "provider" it is on, "route", "diverted" ("1" once counted so),
                       "failed:<provider>", "heard:<provider>", "saved:<provider>" "1",
                       "id:<outcome id>" "1" for each outcome taken,
                       "count" of entries, "entry:<n>" json of each: at most limits.call_entries,
                       "bytes" of the texts of its outcomes: no more from limits.call_bytes on
]]
local call_key = KEYS[4]
local memory, notes = {}, {}
local is_kept = true -- whether this script may write the call

-- Agents make calls without end, and a full Redis must still take what breakers and operators write,
-- which is bounded: so a call is remembered only where Redis has room, which is asked with a
-- command that needs room and changes nothing. `how`: "none" where the call is not to be
-- remembered. Right after `recall`, before the first write.
local function ask_for_room(how, is_known)
  if how == "none" then
    is_kept = false
    return
  end
  local answer = is_known and redis.pcall("HSETNX", call_key, "touched_ms", "")
    or not is_known and redis.pcall("LPUSHX", call_key, "")
  local refusal = type(answer) == "table" and answer.err
  is_kept = not (refusal and string.find(refusal, "OOM", 1, true))
end

-- An old record is no record, whether or not Redis has collected it yet.
local function recall(how)
  local fields = redis.call("HGETALL", call_key)
  for i = 1, #fields, 2 do memory[fields[i]] = fields[i + 1] end
  ask_for_room(how, memory.touched_ms ~= nil)
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
    or (tonumber(memory.bytes) or 0) >= limits.call_bytes
end

-- What an outcome takes; its id is stored twice.
local function weigh(outcome)
  local size = 2 * #outcome.id + #outcome.host + #outcome.code + #outcome.message
  note("bytes", digits((tonumber(memory.bytes) or 0) + size))
end

local function add_entry(entry)
  if is_full() then return end
  local count = (tonumber(memory.count) or 0) + 1
  note("count", digits(count))
  note("entry:" .. digits(count), cjson.encode(entry))
end

-- `is_stale`: the record that stands there is of a call long ago. `how`: "brief" keeps one that was
-- not of note until now as shortly as a quiet one.
local function write_call(is_stale, is_quiet, how)
  if not is_kept then return end
  is_quiet = is_quiet or (how == "brief" and (memory.quiet ~= nil or memory.touched_ms == nil))
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
