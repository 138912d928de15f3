-- wrk: the same request to each path in turns. Every answer is looked at. load.py runs it, with one thread:
--   wrk -t1 -c1 -d60s -s load.lua http://127.0.0.1:PORT -- METHOD BODY EXPECTED COUNT PATH…
-- An answer is right if its status is 2xx and its body holds EXPECTED. With a COUNT, which needs one connection, wrk ends after
-- so many answers and reports the time of each. With a COUNT of 0 it goes on for the time of -d.
-- The last line it prints is `BENCH_JSON {…}`.

local ffi = require("ffi")
ffi.cdef [[
  typedef struct { long seconds; long nanoseconds; } bench_time;
  int clock_gettime(int clock, bench_time *time);
]]
local CLOCK_MONOTONIC = 1
local moment = ffi.new("bench_time")

-- wrk's own percentiles hold corrections for requests that it would have sent meanwhile, hence a clock here.
local function microseconds()
  ffi.C.clock_gettime(CLOCK_MONOTONIC, moment)
  return tonumber(moment.seconds) * 1e6 + tonumber(moment.nanoseconds) / 1e3
end

local threads = {}

function setup(thread)
  table.insert(threads, thread)
end

function init(arguments)
  local method, body = arguments[1], arguments[2]
  expected, count = arguments[3], tonumber(arguments[4])
  local headers = {}
  if body == "" then body = nil else headers["Content-Type"] = "application/json" end
  requests, times = {}, {}
  for i = 5, #arguments do
    table.insert(requests, wrk.format(method, arguments[i], headers, body))
  end
  turn, answers, wrong, first_wrong, sent = 0, 0, 0, "", 0
end

function request()
  turn = turn % #requests + 1
  sent = microseconds()
  return requests[turn]
end

local function quoted(text)
  return '"' .. text:gsub('[%c"\\]', function(c) return string.format("\\u%04x", c:byte()) end) .. '"'
end

function response(status, headers, body)
  local now = microseconds()
  answers = answers + 1
  if status < 200 or status > 299 or not body:find(expected, 1, true) then
    wrong = wrong + 1
    if first_wrong == "" then first_wrong = status .. " " .. body:sub(1, 200) end
  end
  if count == 0 then return end
  times[answers] = string.format("%.1f", now - sent)
  if answers == count then
    print(string.format('BENCH_JSON {"answers": %d, "wrong": %d, "first_wrong": %s, "microseconds": [%s]}',
      answers, wrong, quoted(first_wrong), table.concat(times, ",")))
    io.stdout:flush()
    -- wrk would sleep for the rest of its time.
    os.exit(0)
  end
end

function done(summary, latency)
  local thread, errors = threads[1], summary.errors
  print(string.format(
    'BENCH_JSON {"answers": %d, "wrong": %d, "first_wrong": %s, "socket_errors": %d, "seconds": %.6f, "p50": %.1f, "p95": %.1f}',
    thread:get("answers"), thread:get("wrong"), quoted(thread:get("first_wrong")),
    errors.connect + errors.read + errors.write + errors.timeout, summary.duration / 1e6,
    latency:percentile(50), latency:percentile(95)))
end
