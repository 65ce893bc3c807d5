-- KEYS[1]: when each replica was last heard of; ARGV[1]: this one; ARGV[2]: how many ms a beat counts.
-- The clock is Redis' own, so before Redis 5 what changes is told to replicas, not this script.
if redis.replicate_commands then redis.replicate_commands() end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2])
-- What a clock that was set back has left ahead of it.
redis.call('ZREMRANGEBYSCORE', KEYS[1], '(' .. now, '+inf')
redis.call('PEXPIRE', KEYS[1], 10 * ARGV[2])
return redis.call('ZCARD', KEYS[1])
