-- Events after ARGV[5] of the generation ARGV[4]; false where they cannot be had.
if redis.call('HGET', ROOM, 'generation') ~= ARGV[4] then
  return false
end
-- A position from before the room's making is its beginning.
local seq = math.max(tonumber(ARGV[5]), tonumber(redis.call('HGET', ROOM, 'base')))
if seq >= tonumber(redis.call('HGET', ROOM, 'seq')) then
  return {}
end
local oldest = redis.call('XRANGE', EVENTS, '-', '+', 'COUNT', 1)[1]
if not oldest or tonumber(string.match(oldest[1], '^%d+')) > seq + 1 then
  return false
end
return redis.call('XRANGE', EVENTS, '(' .. string.format('%d', seq) .. '-0', '+')
