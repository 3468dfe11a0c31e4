-- wrk script: posts the chat body of the file BENCH_BODY with the bearer BENCH_KEY, and ends with one
-- line of JSON for bench.py.
local file = assert(io.open(assert(os.getenv("BENCH_BODY")), "rb"))
wrk.method = "POST"
wrk.body = file:read("*a")
file:close()
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = "Bearer " .. assert(os.getenv("BENCH_KEY"))

function done(summary, latency)
    local e = summary.errors
    io.write(string.format(
        '\n{"requests": %d, "us": %d, "errors": %d, "p50": %d, "p90": %d, "p99": %d, "max": %d}\n',
        summary.requests, summary.duration, e.connect + e.read + e.write + e.status + e.timeout,
        latency:percentile(50), latency:percentile(90), latency:percentile(99), latency.max))
end
