-- In front of every room script. KEYS[1] the room, KEYS[2] its participants, KEYS[3] its events (stream and channel);
-- ARGV[1] seconds that the room lives on, ARGV[2] events that the stream keeps, ARGV[3] the publishing process.
local ROOM, PEOPLE, EVENTS = KEYS[1], KEYS[2], KEYS[3]
local TTL, CAP, ORIGIN = ARGV[1], ARGV[2], ARGV[3]

local function refresh()
  redis.call('EXPIRE', ROOM, TTL)
  redis.call('EXPIRE', PEOPLE, TTL)
  redis.call('EXPIRE', EVENTS, TTL)
end

local function fan_out(seq, generation, type, payload, to, id)
  redis.call('SPUBLISH', EVENTS, table.concat({seq, generation, type, to, ORIGIN, id, payload}, '\n'))
end

-- Numbers, stores and fans out in one step: the stream's order is the order of seq. Gives seq and generation.
local function append(type, payload, to, id)
  local generation = redis.call('HGET', ROOM, 'generation')
  local seq = redis.call('HINCRBY', ROOM, 'seq', 1)
  redis.call('XADD', EVENTS, 'MAXLEN', '~', CAP, seq .. '-0',
    'type', type, 'payload', payload, 'to', to, 'origin', ORIGIN, 'id', id)
  redis.call('EXPIRE', EVENTS, TTL)  -- the first entry makes the stream, maybe after the last `refresh`
  fan_out(seq, generation, type, payload, to, id)
  return {seq, generation}
end

-- A room numbers from the milliseconds of its making on, so that the events of a room that was lost and made again
-- have higher numbers than all that clients know. `floor` is the highest that the maker has seen.
local function make_room(generation, floor, epoch, topology, is_recording)
  local now = redis.call('TIME')
  local seq = math.max(now[1] * 1000 + math.floor(now[2] / 1000), floor + 1)
  seq = string.format('%d', seq)
  redis.call('DEL', PEOPLE, EVENTS)  -- left-overs of a room whose hash expired first would break the order of ids
  redis.call('HSET', ROOM, 'generation', generation, 'seq', seq, 'base', seq, 'epoch', epoch, 'topology', topology,
    'isRecording', is_recording, 'participantCount', 0)
end

local function is_connection(user, connection)
  local stored = redis.call('HGET', PEOPLE, user)
  return stored and cjson.decode(stored).connectionId == connection
end
