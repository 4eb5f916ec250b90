-- ARGV[4] node, [5] its region, [6] the node that it may replace. Gives the room's node.
local node = redis.call('HGET', ROOM, 'sfuNode')
if node and node ~= ARGV[6] then
  return node
end
if redis.call('EXISTS', ROOM) == 1 then
  redis.call('HSET', ROOM, 'sfuNode', ARGV[4], 'sfuRegion', ARGV[5])
end
return ARGV[4]
