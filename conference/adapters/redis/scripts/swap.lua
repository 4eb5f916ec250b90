-- Resume: replaces the person's field if it is as it was read. KEYS[4] denied:<participant>.
-- ARGV[4] user, [5] what was read, [6] the new JSON, [7] new connection id.
local user = ARGV[4]
if redis.call('EXISTS', KEYS[4]) == 1 then
  return {'removed'}
end
if redis.call('HGET', PEOPLE, user) ~= ARGV[5] then
  return {'changed'}
end
redis.call('HSET', PEOPLE, user, ARGV[6])
append('user.taken-over', cjson.encode({connectionId = ARGV[7]}), user, '')
refresh()
return {'ok', '', redis.call('HGETALL', ROOM), redis.call('HGETALL', PEOPLE)}
