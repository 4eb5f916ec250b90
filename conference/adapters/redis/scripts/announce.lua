-- After a loss: each process brings its people back; the first one makes the room.
-- ARGV[4] generation, [5] seq, [6] epoch, [7] topology, [8] isRecording, [9] sfuNode, [10] sfuRegion,
-- [11] triggers with commas between, then user, JSON, ...
if redis.call('EXISTS', ROOM) == 0 then
  make_room(ARGV[4], tonumber(ARGV[5]), ARGV[6], ARGV[7], ARGV[8])
end
if ARGV[9] ~= '' then
  if redis.call('HSETNX', ROOM, 'sfuNode', ARGV[9]) == 1 then
    redis.call('HSET', ROOM, 'sfuRegion', ARGV[10])
  end
end
for trigger in string.gmatch(ARGV[11], '[^,]+') do
  redis.call('HSET', ROOM, 'trigger:' .. trigger, '1')
end
for i = 12, #ARGV, 2 do
  redis.call('HSETNX', PEOPLE, ARGV[i], ARGV[i + 1])
end
redis.call('HSET', ROOM, 'participantCount', redis.call('HLEN', PEOPLE))
refresh()
return {'ok', '', redis.call('HGETALL', ROOM), redis.call('HGETALL', PEOPLE)}
