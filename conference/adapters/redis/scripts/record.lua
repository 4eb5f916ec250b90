-- ARGV[4] '1' while the room is recorded.
if redis.call('EXISTS', ROOM) == 1 then
  redis.call('HSET', ROOM, 'isRecording', ARGV[4])
end
return ''
