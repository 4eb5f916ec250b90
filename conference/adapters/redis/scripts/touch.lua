-- Renews the room's life and sets its count to what the participants hash holds. Gives its generation.
local generation = redis.call('HGET', ROOM, 'generation')
if not generation then
  return false
end
redis.call('HSET', ROOM, 'participantCount', redis.call('HLEN', PEOPLE))
refresh()
return generation
