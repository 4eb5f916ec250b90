-- The atomic JoinRoom. KEYS[4] used:<jti>, KEYS[5] denied:<participant>.
-- ARGV[4] user, [5] their JSON, [6] connection id, [7] seconds to remember the jti, [8] ParticipantJoined's JSON, [9] generation.
local user, person, connection = ARGV[4], ARGV[5], ARGV[6]
if redis.call('EXISTS', KEYS[5]) == 1 then
  return {'removed'}
end
if not redis.call('SET', KEYS[4], '1', 'NX', 'EX', ARGV[7]) then
  return {'token-refused'}
end
if redis.call('EXISTS', ROOM) == 0 then
  make_room(ARGV[9], 0, 1, 'sfu', 0)
end
local before = redis.call('HGET', PEOPLE, user)
if redis.call('HSET', PEOPLE, user, person) == 1 then
  redis.call('HINCRBY', ROOM, 'participantCount', 1)
  append('ParticipantJoined', ARGV[8], '', '')
else
  append('user.taken-over', cjson.encode({connectionId = connection}), user, '')
end
refresh()
return {'ok', before or '', redis.call('HGETALL', ROOM), redis.call('HGETALL', PEOPLE)}
