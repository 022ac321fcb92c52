--[[ Release: take back what a decision leased whose answer nobody heard.

  ARGV[2]  lease     its token, the request of that decision
  ARGV[3…] providers of its chain

  Reply    "released" | "none" (nothing was leased, or it is over)
]]
local lease, names = ARGV[2], {}
for i = 3, #ARGV do names[i - 2] = ARGV[i] end
local found = "none"
local raws = read_breakers(names)
for i, name in ipairs(names) do
  local breaker = load(name, raws[i] or nil)
  if breaker.leases[lease] then
    breaker.leases[lease] = nil
    keep(breaker)
    found = "released"
  end
end
write_changes()
return { found }
