/* Metrics in shared memory: cells, label sets, exposition, sums over workers. */
#include "gateway/core/metrics.c"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static int setup(void **state)
{
    static struct buf out;

    metrics_set_aliases(true);
    buf_init(&out, 64u << 20);
    *state = &out;
    return metrics_init(3) ? -1 : 0;
}

static int teardown(void **state)
{
    buf_deinit(*state);
    metrics_deinit();
    return 0;
}

static const char *render(struct buf *out)
{
    buf_reset(out);
    metrics_render(out);
    assert_int_equal(buf_err(out), GW_OK);
    buf_add(out, "", 1);
    return out->p;
}

/* True when the exposition has exactly this line, once. */
static bool has_line(struct buf *out, const char *line)
{
    const char *text = render(out), *at = text;
    size_t n = strlen(line);
    unsigned found = 0;

    while ((at = strstr(at, line)) != NULL) {
        if ((at == text || at[-1] == '\n') && at[n] == '\n')
            found++;
        at += n;
    }
    return found == 1;
}

static void test_families_without_labels_appear_with_zero(void **state)
{
    struct buf *out = *state;

    assert_true(has_line(out, "# HELP http_requests_in_progress Requests being worked on"));
    assert_true(has_line(out, "# TYPE http_requests_in_progress gauge"));
    assert_true(has_line(out, "http_requests_in_progress 0"));
    assert_true(has_line(out, "# TYPE log_lines_dropped_total counter"));
    assert_true(has_line(out, "log_lines_dropped_total 0"));
    assert_true(has_line(out, "# TYPE loop_lag_seconds histogram"));
    assert_true(has_line(out, "loop_lag_seconds_bucket{le=\"+Inf\"} 0"));
    assert_true(has_line(out, "loop_lag_seconds_sum 0"));
    assert_true(has_line(out, "loop_lag_seconds_count 0"));
}

static void test_the_same_labels_are_the_same_series(void **state)
{
    struct buf *out = *state;
    struct metric_series *a = metrics_get(M_HTTP_REQUESTS, "GET", "/v1/models", "200");
    struct metric_series *b = metrics_get(M_HTTP_REQUESTS, "GET", "/v1/models", "404");

    assert_ptr_not_equal(a, b);
    assert_ptr_equal(a, metrics_get(M_HTTP_REQUESTS, "GET", "/v1/models", "200"));
    assert_ptr_not_equal(metrics_get(M_HTTP_REQUESTS, "ab", "c", "d"),
                         metrics_get(M_HTTP_REQUESTS, "a", "bc", "d"));
    metrics_add(a, 1);
    metrics_add(a, 2);
    metrics_add(b, 5);
    assert_int_equal(metrics_value(a), 3);
    assert_true(has_line(
        out, "http_requests_total{method=\"GET\",endpoint=\"/v1/models\",status=\"200\"} 3"));
    assert_true(has_line(
        out, "http_requests_total{method=\"GET\",endpoint=\"/v1/models\",status=\"404\"} 5"));
}

static void test_a_missing_label_value_is_empty(void **state)
{
    struct buf *out = *state;

    metrics_add(metrics_get(M_PROVIDER_FALLBACKS, "openai", NULL, NULL), 1);
    assert_true(has_line(out, "provider_fallbacks_total{from=\"openai\",to=\"\"} 1"));
}

static void test_aliases_show_the_cells_of_the_family_they_rename(void **state)
{
    struct buf *out = *state;

    metrics_add(metrics_get(M_HTTP_REQUESTS, "GET", "/x", "200"), 7);
    metrics_observe_us(metrics_get(M_HTTP_SECONDS, "GET", "/x", NULL), 1500);
    assert_true(has_line(out, "# TYPE api_requests_total counter"));
    assert_true(
        has_line(out, "api_requests_total{method=\"GET\",endpoint=\"/x\",status=\"200\"} 7"));
    assert_true(
        has_line(out, "api_request_duration_seconds_sum{method=\"GET\",endpoint=\"/x\"} 0.0015"));
    metrics_set_aliases(false);
    assert_null(strstr(render(out), "api_"));
    assert_true(
        has_line(out, "http_requests_total{method=\"GET\",endpoint=\"/x\",status=\"200\"} 7"));
}

static void test_histogram_buckets_are_cumulative_and_bounds_are_inclusive(void **state)
{
    struct buf *out = *state;
    struct metric_series *s = metrics_get(M_OVERHEAD, NULL, NULL, NULL);

    metrics_observe_us(s, 0);
    metrics_observe_us(s, 50);
    metrics_observe_us(s, 51);
    metrics_observe_us(s, 1000000);
    metrics_observe_us(s, 1000001);
    assert_int_equal(metrics_value(s), 5);
    assert_true(has_line(out, "gateway_overhead_seconds_bucket{le=\"0.00005\"} 2"));
    assert_true(has_line(out, "gateway_overhead_seconds_bucket{le=\"0.0001\"} 3"));
    assert_true(has_line(out, "gateway_overhead_seconds_bucket{le=\"0.5\"} 3"));
    assert_true(has_line(out, "gateway_overhead_seconds_bucket{le=\"1\"} 4"));
    assert_true(has_line(out, "gateway_overhead_seconds_bucket{le=\"+Inf\"} 5"));
    assert_true(has_line(out, "gateway_overhead_seconds_count 5"));
    assert_true(has_line(out, "gateway_overhead_seconds_sum 2.000102"));
}

static void test_latency_bounds_reach_from_a_millisecond_to_a_minute(void **state)
{
    struct buf *out = *state;

    metrics_observe_us(metrics_get(M_LLM_TTFT, "openai", NULL, NULL), 60000000);
    assert_true(has_line(
        out, "llm_time_to_first_token_seconds_bucket{provider=\"openai\",le=\"0.001\"} 0"));
    assert_true(has_line(
        out, "llm_time_to_first_token_seconds_bucket{provider=\"openai\",le=\"0.0025\"} 0"));
    assert_true(
        has_line(out, "llm_time_to_first_token_seconds_bucket{provider=\"openai\",le=\"60\"} 1"));
    assert_true(has_line(out, "llm_time_to_first_token_seconds_sum{provider=\"openai\"} 60"));
}

static void test_money_is_printed_exactly(void **state)
{
    struct buf *out = *state;
    struct metric_series *s = metrics_get(M_LLM_COST, "openai", "gpt-4o", "chat");

    metrics_add(s, 1);
    assert_true(has_line(out, "llm_cost_dollars_total{provider=\"openai\",model=\"gpt-4o\","
                              "purpose=\"chat\"} 0.000000001"));
    metrics_add(s, 1234567890123456788);
    assert_true(has_line(out, "llm_cost_dollars_total{provider=\"openai\",model=\"gpt-4o\","
                              "purpose=\"chat\"} 1234567890.123456789"));
}

static void test_decimals_are_exact_at_both_ends(void **state)
{
    struct buf *out = *state;

    add_decimal(out, INT64_MIN, 1);
    buf_add_char(out, ' ');
    add_decimal(out, INT64_MAX, 1000000000);
    buf_add_char(out, ' ');
    add_decimal(out, -1500000, 1000000);
    buf_add_char(out, ' ');
    add_decimal(out, 10, 1000000);
    assert_true(slice_is(buf_slice(out), "-9223372036854775808 9223372036.854775807 -1.5 0.00001"));
}

static void test_hostile_label_values_are_escaped_and_cleaned(void **state)
{
    struct buf *out = *state;
    const struct slice values[] = {slice_cstr("a\"b\\c\nd\x01\xff")};
    struct metric_series *s = metrics_series(M_RATE_LIMITED, values);

    metrics_add(s, 1);
    assert_ptr_equal(s, metrics_series(M_RATE_LIMITED, values));
    assert_true(has_line(out, "rate_limit_rejections_total{class=\"a\\\"b\\\\c?d??\"} 1"));
}

static void test_long_values_are_cut_between_characters(void **state)
{
    struct buf *out = *state;
    char text[80] = "", line[160];
    const struct slice values[] = {slice_of(text, sizeof(text))};

    memset(text, 'x', sizeof(text));
    memcpy(text + 63, "\xc3\xa4", 2); /* bytes 63 and 64 */
    metrics_add(metrics_series(M_RATE_LIMITED, values), 1);
    metrics_add(metrics_series(M_RATE_LIMITED, values), 1);
    snprintf(line, sizeof(line), "rate_limit_rejections_total{class=\"%.63s\"} 2", text);
    assert_true(has_line(out, line));
}

static void test_past_256_label_sets_the_rest_is_other(void **state)
{
    struct buf *out = *state;
    char name[16], line[96];

    for (unsigned i = 0; i < 400; i++) {
        snprintf(name, sizeof(name), "m%u", i);
        metrics_add(metrics_get(M_LLM_TOKENS, "openai", name, "input"), 1);
    }
    assert_true(
        has_line(out, "llm_tokens_total{provider=\"other\",model=\"other\",kind=\"other\"} 144"));
    for (unsigned i = 0; i < 256; i++) {
        snprintf(line, sizeof(line),
                 "llm_tokens_total{provider=\"openai\",model=\"m%u\",kind=\"input\"} 1", i);
        assert_true(i % 51 || has_line(out, line));
    }
    assert_null(strstr(render(out), "\"m256\""));
}

static void test_all_families_full_at_once_keep_apart(void **state)
{
    struct buf *out = *state;
    unsigned wrong = 0;
    char name[16];

    for (unsigned m = 0; m < METRIC_COUNT; m++) {
        if (mx.layout[m].source != m || families[m].kind == HISTOGRAM)
            continue;
        for (unsigned i = 0; i < 300; i++) {
            snprintf(name, sizeof(name), "v%u", i);
            metrics_set(metrics_get(m, name, name, name), (int64_t)m * 1000 + i);
        }
    }
    for (unsigned m = 0; m < METRIC_COUNT; m++) {
        if (mx.layout[m].source != m || families[m].kind == HISTOGRAM || !mx.layout[m].n_labels)
            continue;
        for (unsigned i = 0; i < 256; i++) {
            snprintf(name, sizeof(name), "v%u", i);
            wrong += metrics_value(metrics_get(m, name, name, name)) != (int64_t)m * 1000 + i;
        }
    }
    assert_int_equal(wrong, 0);
    assert_true(strlen(render(out)) > 100000);
}

/* --- over processes ------------------------------------------------------------------------- */

static void child(unsigned worker, void (*fn)(void))
{
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        metrics_attach(worker);
        fn();
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static void count_some(void)
{
    metrics_add(metrics_get(M_HTTP_REQUESTS, "GET", "/x", "200"), 10);
    metrics_add(metrics_get(M_HTTP_REQUESTS, "GET", "/y", "200"), 1);
    metrics_add(metrics_get(M_HTTP_IN_PROGRESS, NULL, NULL, NULL), 4);
    metrics_set(metrics_get(M_CIRCUIT_STATE, "openai", NULL, NULL), 2);
    metrics_observe_us(metrics_get(M_LOOP_LAG, NULL, NULL, NULL), 70);
    metrics_inc(M_LOG_DROPPED);
}

static void count_more(void)
{
    if (metrics_value(metrics_get(M_HTTP_REQUESTS, "GET", "/x", "200")) != 10)
        _exit(1);
    metrics_add(metrics_get(M_HTTP_REQUESTS, "GET", "/x", "200"), 5);
}

static void test_a_scrape_sums_over_workers(void **state)
{
    struct buf *out = *state;

    metrics_attach(0);
    metrics_add(metrics_get(M_HTTP_REQUESTS, "GET", "/y", "200"), 100);
    metrics_set(metrics_get(M_CIRCUIT_STATE, "openai", NULL, NULL), 1);
    metrics_observe_us(metrics_get(M_LOOP_LAG, NULL, NULL, NULL), 30);
    child(1, count_some);
    child(2, count_some);
    assert_true(
        has_line(out, "http_requests_total{method=\"GET\",endpoint=\"/x\",status=\"200\"} 20"));
    assert_true(
        has_line(out, "http_requests_total{method=\"GET\",endpoint=\"/y\",status=\"200\"} 102"));
    assert_true(has_line(out, "http_requests_in_progress 8"));
    assert_true(has_line(out, "circuit_breaker_state{provider=\"openai\"} 2"));
    assert_true(has_line(out, "loop_lag_seconds_bucket{le=\"0.00005\"} 1"));
    assert_true(has_line(out, "loop_lag_seconds_bucket{le=\"0.0001\"} 3"));
    assert_true(has_line(out, "loop_lag_seconds_count 3"));
    assert_true(has_line(out, "log_lines_dropped_total 2"));
}

static void test_counters_survive_a_worker_and_its_gauges_do_not(void **state)
{
    struct buf *out = *state;

    child(1, count_some);
    assert_true(has_line(out, "http_requests_in_progress 4"));
    child(1, count_more);
    assert_true(
        has_line(out, "http_requests_total{method=\"GET\",endpoint=\"/x\",status=\"200\"} 15"));
    assert_true(has_line(out, "http_requests_in_progress 0"));
    assert_true(has_line(out, "circuit_breaker_state{provider=\"openai\"} 0"));
    assert_true(has_line(out, "loop_lag_seconds_count 1"));
}

static void test_the_supervisor_counts_in_a_slot_of_its_own(void **state)
{
    struct buf *out = *state;

    metrics_inc(M_WORKERS_RESTARTED);
    child(0, count_some);
    metrics_inc(M_WORKERS_RESTARTED);
    assert_true(has_line(out, "worker_restarts_total 2"));
    metrics_attach(0);
    assert_int_equal(metrics_value(metrics_get(M_WORKERS_RESTARTED, NULL, NULL, NULL)), 0);
}

/* A reader never sees a series that is not whole, however often it looks while one is written. */
static void test_series_published_meanwhile_are_seen_whole(void **state)
{
    struct buf *out = *state;
    int status = 0;
    pid_t pid = fork();

    if (pid == 0) {
        metrics_attach(1);
        for (unsigned i = 0; i < 200; i++) {
            char name[65];

            memset(name, 'a' + (int)(i % 26), 64);
            snprintf(name, sizeof(name), "%03u", i);
            name[3] = '-';
            name[64] = '\0';
            metrics_add(metrics_get(M_LLM_TOKENS, name, "m", "k"), 1);
        }
        _exit(0);
    }
    while (waitpid(pid, &status, WNOHANG) == 0) {
        const char *at = render(out);

        while ((at = strstr(at, "llm_tokens_total{")) != NULL) {
            const char *end = strchr(at, '\n');

            assert_int_equal(end - at,
                             strlen("llm_tokens_total{provider=\"\",model=\"m\",kind=\"k\"} "
                                    "1") +
                                 64);
            at = end;
        }
    }
    assert_int_equal(status, 0);
}

static void test_promtool_accepts_the_exposition(void **state)
{
    struct buf *out = *state;
    FILE *f;

    count_some();
    metrics_observe_us(metrics_get(M_HTTP_SECONDS, "GET", "/x", NULL), 1500);
    metrics_add(metrics_get(M_RATE_LIMITED, "a\"\\\n\xff\xc3\xa4", NULL, NULL), 1);
    metrics_add(metrics_get(M_LLM_COST, "openai", "gpt-4o", "chat"), 123456789);
    render(out);
    f = popen("/usr/bin/promtool check metrics >&2", "w");
    assert_non_null(f);
    assert_int_equal(fwrite(out->p, 1, out->n - 1, f), out->n - 1);
    assert_int_equal(pclose(f), 0);
}

static void test_a_full_buffer_is_reported(void **state)
{
    struct buf small;

    buf_init(&small, 100);
    metrics_render(&small);
    assert_int_equal(buf_err(&small), GW_ETOOBIG);
    buf_deinit(&small);
}

/* --- histograms read back ------------------------------------------------------------------- */

static struct metric_times read_back;
static uint64_t p50, p95;

static void on_times(const struct metric_times *t, void *arg)
{
    if (!slice_is(t->labels[1], arg))
        return;
    assert_true(slice_is(t->labels[0], "GET"));
    read_back = *t;
    p50 = metrics_quantile_us(t, 50);
    p95 = metrics_quantile_us(t, 95);
}

static void test_totals_are_of_all_workers(void **state)
{
    metrics_attach(0);
    metrics_add(metrics_get(M_HTTP_REQUESTS, "GET", "/y", "200"), 100);
    metrics_set(metrics_get(M_CIRCUIT_STATE, "openai", NULL, NULL), 1);
    child(1, count_some);
    child(2, count_some);
    assert_int_equal(metrics_workers(), 3);
    assert_int_equal(metrics_total(M_HTTP_REQUESTS, "GET", "/x", "200"), 20);
    assert_int_equal(metrics_total(M_API_REQUESTS, "GET", "/y", "200"), 102);
    assert_int_equal(metrics_total(M_HTTP_REQUESTS, "GET", "/z", "200"), 0);
    assert_int_equal(metrics_total(M_HTTP_IN_PROGRESS, NULL, NULL, NULL), 8);
    assert_int_equal(metrics_total(M_CIRCUIT_STATE, "openai", NULL, NULL), 2);
}

static void test_histograms_are_read_back_over_all_workers(void **state)
{
    metrics_observe_us(metrics_get(M_HTTP_SECONDS, "GET", "/a", NULL), 900);
    metrics_attach(0);
    for (unsigned i = 0; i < 98; i++)
        metrics_observe_us(metrics_get(M_HTTP_SECONDS, "GET", "/a", NULL), 3000);
    metrics_observe_us(metrics_get(M_HTTP_SECONDS, "GET", "/a", NULL), 90000000);
    metrics_observe_us(metrics_get(M_HTTP_SECONDS, "GET", "/b", NULL), 7);
    assert_true(metrics_each_times(M_API_SECONDS, on_times, "/a"));
    assert_int_equal(read_back.count, 100);
    assert_int_equal(read_back.sum_us, 900 + 98 * 3000 + 90000000);
    assert_int_equal(read_back.max_us, 90000000);
    assert_in_range(p50, 2500, 5000);
    assert_in_range(p95, p50, 5000);
    assert_true(metrics_each_times(M_HTTP_SECONDS, on_times, "/b"));
    assert_int_equal(read_back.count, 1);
    assert_int_equal(read_back.max_us, 7);
    assert_in_range(p95, 1, 7);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_families_without_labels_appear_with_zero),
        TEST(test_the_same_labels_are_the_same_series),
        TEST(test_a_missing_label_value_is_empty),
        TEST(test_aliases_show_the_cells_of_the_family_they_rename),
        TEST(test_histogram_buckets_are_cumulative_and_bounds_are_inclusive),
        TEST(test_latency_bounds_reach_from_a_millisecond_to_a_minute),
        TEST(test_money_is_printed_exactly),
        TEST(test_decimals_are_exact_at_both_ends),
        TEST(test_hostile_label_values_are_escaped_and_cleaned),
        TEST(test_long_values_are_cut_between_characters),
        TEST(test_past_256_label_sets_the_rest_is_other),
        TEST(test_all_families_full_at_once_keep_apart),
        TEST(test_a_scrape_sums_over_workers),
        TEST(test_totals_are_of_all_workers),
        TEST(test_counters_survive_a_worker_and_its_gauges_do_not),
        TEST(test_the_supervisor_counts_in_a_slot_of_its_own),
        TEST(test_series_published_meanwhile_are_seen_whole),
        TEST(test_histograms_are_read_back_over_all_workers),
        TEST(test_promtool_accepts_the_exposition),
        TEST(test_a_full_buffer_is_reported),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
