-- Mesh or SFU. ARGV[4] the epoch that it was decided on, [5] topology, [6] type and [7] payload of the event,
-- [8] generation.
local known = redis.call('HMGET', ROOM, 'epoch', 'generation')
if known[1] ~= ARGV[4] or known[2] ~= ARGV[8] then
  return false
end
redis.call('HSET', ROOM, 'topology', ARGV[5], 'epoch', tonumber(ARGV[4]) + 1)
return append(ARGV[6], ARGV[7], '', '')
