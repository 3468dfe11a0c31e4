-- wrk script: posts the chat body of the file BENCH_BODY with the bearer BENCH_KEY, and ends with one
-- line of JSON for bench.py. BENCH_CACHE=miss asks the cache for an answer that is never there (each
-- request has a seed of its own), hit for one that is.
local file = assert(io.open(assert(os.getenv("BENCH_BODY")), "rb"))
wrk.method = "POST"
wrk.body = file:read("*a")
file:close()
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = "Bearer " .. assert(os.getenv("BENCH_KEY"))

local cache = os.getenv("BENCH_CACHE")
if cache then
    wrk.headers["Cache-Control"] = "max-age=3600"
end
if cache == "miss" then
    math.randomseed(os.time())
    local head, seed = '{"seed": ', math.random(1000000000)
    local tail = ", " .. wrk.body:match("^%s*{(.*)$")
    request = function()
        seed = seed + 1
        return wrk.format(nil, nil, nil, head .. seed .. tail)
    end
end

function done(summary, latency)
    local e = summary.errors
    io.write(string.format(
        '\n{"requests": %d, "us": %d, "errors": %d, "p50": %d, "p90": %d, "p99": %d, "max": %d}\n',
        summary.requests, summary.duration, e.connect + e.read + e.write + e.status + e.timeout,
        latency:percentile(50), latency:percentile(90), latency:percentile(99), latency.max))
end
