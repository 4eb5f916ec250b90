-- ARGV[4] the trigger, [5] '1' where it is raised.
if redis.call('EXISTS', ROOM) == 0 then
  return ''
end
local field = 'trigger:' .. ARGV[4]
if ARGV[5] == '1' then
  redis.call('HSET', ROOM, field, '1')
else
  redis.call('HDEL', ROOM, field)
end
fan_out(0, redis.call('HGET', ROOM, 'generation'), 'room.triggers', '{}', '', '')
return ''
