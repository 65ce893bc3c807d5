-- KEYS[1]: a hash of the last purges by their number, `n` the last number, `e` what tells this hash from one that was lost.
-- ARGV[1]: the scope; ARGV[2]: `e`, if this is the first.
redis.call('HSETNX', KEYS[1], 'e', ARGV[2])
local n = redis.call('HINCRBY', KEYS[1], 'n', 1)
redis.call('HSET', KEYS[1], n, ARGV[1])
redis.call('HDEL', KEYS[1], n - 1000)
return {n, redis.call('HMGET', KEYS[1], 'e')[1]}
