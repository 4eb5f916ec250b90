-- Events after ARGV[5] of the generation ARGV[4]; false where they cannot be had.
local seq = tonumber(ARGV[5])
if redis.call('HGET', ROOM, 'generation') ~= ARGV[4] then
  return false
end
if seq >= tonumber(redis.call('HGET', ROOM, 'seq')) then
  return {}
end
local oldest = redis.call('XRANGE', EVENTS, '-', '+', 'COUNT', 1)[1]
if not oldest or tonumber(string.match(oldest[1], '^%d+')) > seq + 1 then
  return false
end
return redis.call('XRANGE', EVENTS, '(' .. ARGV[5] .. '-0', '+')
