-- KEYS[4] once:<id>. ARGV[4] type, [5] payload, [6] to, [7] id, [8] '1' where numbered, [9] seconds to remember the id (0: not).
local type, payload, to, id = ARGV[4], ARGV[5], ARGV[6], ARGV[7]
if ARGV[9] ~= '0' and not redis.call('SET', KEYS[4], '1', 'NX', 'EX', ARGV[9]) then
  return false
end
local generation = redis.call('HGET', ROOM, 'generation') or ''
if ARGV[8] ~= '1' or generation == '' then
  fan_out(0, generation, type, payload, to, id)
  return {0, generation}
end
return append(type, payload, to, id)
