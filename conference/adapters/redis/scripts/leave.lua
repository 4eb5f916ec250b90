-- ARGV[4] user, [5] connection id, [6] ParticipantLeft's JSON.
local user = ARGV[4]
if not is_connection(user, ARGV[5]) then
  return false
end
redis.call('HDEL', PEOPLE, user)
redis.call('HINCRBY', ROOM, 'participantCount', -1)
refresh()
return append('ParticipantLeft', ARGV[6], '', '')
