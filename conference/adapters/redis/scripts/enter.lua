-- The atomic JoinRoom. KEYS[4] used:<jti>, KEYS[5] denied:<participant>.
-- ARGV[4] user, [5] their JSON, [6] connection id, [7] seconds to remember the jti, [8] generation and
-- [9] topology of a new room, [10] the JSON of whom it replaces (empty: nobody), then the events to tell: type, payload, ...
local user, person, connection = ARGV[4], ARGV[5], ARGV[6]
if redis.call('EXISTS', KEYS[5]) == 1 then
  return {'removed'}
end
if redis.call('EXISTS', KEYS[4]) == 1 then
  return {'token-refused'}
end
local is_new = redis.call('EXISTS', ROOM) == 0
local before = not is_new and redis.call('HGET', PEOPLE, user) or ''
if before ~= ARGV[10] then
  return {'changed', before}
end
redis.call('SET', KEYS[4], '1', 'EX', ARGV[7])
if is_new then
  make_room(ARGV[8], 0, 1, ARGV[9], 0)
end
if redis.call('HSET', PEOPLE, user, person) == 1 then
  redis.call('HINCRBY', ROOM, 'participantCount', 1)
else
  append('user.taken-over', cjson.encode({connectionId = connection}), user, '')
end
for i = 11, #ARGV, 2 do
  append(ARGV[i], ARGV[i + 1], '', '')
end
refresh()
return {'ok', '', redis.call('HGETALL', ROOM), redis.call('HGETALL', PEOPLE)}
