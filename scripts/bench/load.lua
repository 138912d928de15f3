-- wrk: `1+1` in the named kernels, in turns. Every answer is looked at.
--   wrk -t2 -c10 -d5s -s load.lua http://127.0.0.1:PORT -- KERNEL…
-- The last line it prints is `BENCH_JSON {…}`.

local threads = {}

function setup(thread)
  thread:set("number", #threads)
  table.insert(threads, thread)
end

function init(kernels)
  local headers = { ["Content-Type"] = "application/json" }
  requests = {}
  for i, kernel in ipairs(kernels) do
    requests[i] = wrk.format("POST", "/api/kernels/" .. kernel .. "/execute", headers, '{"code":"1+1"}')
  end
  -- The threads start half a round apart, so that they do not queue at the same kernel.
  turn = number * math.floor(#requests / 2)
  answers, wrong, first_wrong = 0, 0, ""
end

function request()
  turn = turn % #requests + 1
  return requests[turn]
end

function response(status, headers, body)
  answers = answers + 1
  if status ~= 200 or not body:find('"text/plain":"2"', 1, true) then
    wrong = wrong + 1
    if first_wrong == "" then
      first_wrong = status .. " " .. body:sub(1, 200)
    end
  end
end

local function quoted(text)
  return '"' .. text:gsub('[%c"\\]', function(c) return string.format("\\u%04x", c:byte()) end) .. '"'
end

function done(summary, latency)
  local total, bad, example = 0, 0, ""
  for _, thread in ipairs(threads) do
    total = total + thread:get("answers")
    bad = bad + thread:get("wrong")
    if example == "" then example = thread:get("first_wrong") end
  end
  local errors = summary.errors
  local failed = errors.connect + errors.read + errors.write + errors.timeout
  print(string.format(
    'BENCH_JSON {"answers": %d, "wrong": %d, "first_wrong": %s, "socket_errors": %d, "seconds": %.3f, '
      .. '"per_second": %.1f, "p50_ms": %.3f, "p95_ms": %.3f, "max_ms": %.3f}',
    total, bad, quoted(example), failed, summary.duration / 1e6, total / (summary.duration / 1e6),
    latency:percentile(50) / 1e3, latency:percentile(95) / 1e3, latency.max / 1e3))
end
