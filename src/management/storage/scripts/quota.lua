-- The authority's rule, as `quota/authority.rs` states it: how much of what is asked is granted, for several accounts at once.
--
-- KEYS: accounts. ARGV[1]: the replica. Then of each account in turn:
--   sequence, need, want, share, number of limits, and of each limit its field and maximum,
--   number of returned windows, and of each its field and when it began, and how much is returned
-- A field is a period in ms, a dot and an ordinal. The answer of each account is empty where the question is stale, a text
--   where the account cannot be read or written, else granted, and of each limit: when its window began, what is used of it, the
--   ms until it ends
--
-- Redis keeps whole numbers below 2^53 exactly here; printed in full, since Lua would round them.
if redis.replicate_commands then redis.replicate_commands() end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local sequence_field = 's' .. ARGV[1]
local at = 1

local function argument()
  at = at + 1
  return ARGV[at]
end

local function whole(number)
  return string.format('%.0f', number)
end

-- The windows that are open, the fields of those that are not, and the replica's last question. Without open windows nothing of
-- the account is left.
local function read(account)
  local open, ended, last = {}, {}, 0
  local fields = redis.call('HGETALL', account)
  for i = 1, #fields, 2 do
    local field, value = fields[i], fields[i + 1]
    if field == sequence_field then
      last = tonumber(value)
    elseif string.sub(field, 1, 1) == 'w' then
      local period = tonumber(string.match(field, '^w(%d+)'))
      local start, used = string.match(value, '^(%d+):(%d+)$')
      start = tonumber(start)
      if now < start + period and start <= now + period then
        open[field] = { start = start, used = tonumber(used), period = period }
      else
        ended[#ended + 1] = field
      end
    end
  end
  if next(open) == nil and #fields > 0 then
    redis.call('DEL', account)
    return open, {}, 0
  end
  return open, ended, last
end

local function question()
  local asked = {
    sequence = tonumber(argument()), need = tonumber(argument()), want = tonumber(argument()),
    share = math.max(1, tonumber(argument())), limits = {}, returned = {},
  }
  for i = 1, tonumber(argument()) do
    asked.limits[i] = { field = 'w' .. argument(), maximum = tonumber(argument()) }
  end
  for i = 1, tonumber(argument()) do
    asked.returned[i] = { field = 'w' .. argument(), start = tonumber(argument()) }
  end
  asked.count = tonumber(argument())
  return asked
end

local function take_back(open, asked)
  for _, window in ipairs(asked.returned) do
    local known = open[window.field]
    if known and known.start == window.start then
      known.used = math.max(0, known.used - asked.count)
    end
  end
end

local function grantable(open, asked)
  local free
  for _, limit in ipairs(asked.limits) do
    local window = open[limit.field]
    if asked.need == 0 and not window then return 0 end
    local left = math.max(0, limit.maximum - (window and window.used or 0))
    free = math.min(free or left, left)
  end
  local ahead = math.min(asked.need + asked.want, math.floor(free / asked.share))
  return math.min(free, math.max(asked.need, ahead))
end

local function grant(open, asked, granted)
  for _, limit in ipairs(asked.limits) do
    local window = open[limit.field]
    if not window then
      window = { start = now, used = 0, period = tonumber(string.match(limit.field, '^w(%d+)')) }
      open[limit.field] = window
    end
    window.used = window.used + granted
  end
end

-- An account where no window is open means nothing, and is not kept.
local function write(account, open, ended, sequence)
  if next(open) == nil then return end
  local left = 0
  local fields = { sequence_field, whole(sequence) }
  for field, window in pairs(open) do
    fields[#fields + 1] = field
    fields[#fields + 1] = whole(window.start) .. ':' .. whole(window.used)
    left = math.max(left, window.start + window.period - now)
  end
  -- First, since a window that has ended may have begun again.
  if #ended > 0 then redis.call('HDEL', account, unpack(ended)) end
  redis.call('HSET', account, unpack(fields))
  redis.call('PEXPIRE', account, whole(left))
end

local function answer_to(account, asked)
  local open, ended, last = read(account)
  local answer = {}
  if asked.sequence > last then
    take_back(open, asked)
    local granted = grantable(open, asked)
    if granted > 0 then grant(open, asked, granted) end
    write(account, open, ended, asked.sequence)
    answer[1] = granted
    for _, limit in ipairs(asked.limits) do
      local window = open[limit.field]
      answer[#answer + 1] = window and window.start or 0
      answer[#answer + 1] = window and window.used or 0
      answer[#answer + 1] = window and window.start + window.period - now or 0
    end
  end
  return answer
end

local answers = {}
for i, account in ipairs(KEYS) do
  -- One account that is none, or is not ours, is no reason to refuse the others.
  local asked = question()
  local fine, answer = pcall(answer_to, account, asked)
  answers[i] = fine and answer or 'refused'
end
return answers
