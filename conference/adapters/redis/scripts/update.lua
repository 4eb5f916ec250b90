-- Writes a person's field if it is still this connection's, with an event in the same step (ARGV[7] may be empty).
-- ARGV[4] user, [5] their JSON, [6] connection id, [7] event type, [8] its payload, [9] its id,
-- [10] another connection id that may be stored.
local user, connection = ARGV[4], ARGV[6]
if not is_connection(user, connection) and not (ARGV[10] ~= '' and is_connection(user, ARGV[10])) then
  return false
end
redis.call('HSET', PEOPLE, user, ARGV[5])
refresh()
if ARGV[7] == '' then
  return {0, redis.call('HGET', ROOM, 'generation')}
end
return append(ARGV[7], ARGV[8], '', ARGV[9])
