-- KEYS[4] once:<id>. ARGV[4] type, [5] payload, [6] to, [7] id, [8] '1' where numbered,
-- [9] seconds to remember the id (0: not), [10] '1' where an attempt before this one may have been executed.
local type, payload, to, id = ARGV[4], ARGV[5], ARGV[6], ARGV[7]
if ARGV[10] == '1' then
  for _, entry in ipairs(redis.call('XREVRANGE', EVENTS, '+', '-', 'COUNT', CAP)) do
    if entry[2][10] == id then  -- the fields are in the order of `append`
      return false
    end
  end
elseif ARGV[9] ~= '0' and not redis.call('SET', KEYS[4], '1', 'NX', 'EX', ARGV[9]) then
  return false
end
local generation = redis.call('HGET', ROOM, 'generation') or ''
if ARGV[8] ~= '1' or generation == '' then
  fan_out(0, generation, type, payload, to, id)
  return {0, generation}
end
return append(type, payload, to, id)
