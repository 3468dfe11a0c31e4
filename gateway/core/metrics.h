/*
 * metrics.h - counters, gauges and histograms in shared memory, one slot per worker.
 *
 * The region is mapped before the workers are forked. Each worker writes only its own slot, without
 * locks (64-bit stores, relaxed); a scrape in any worker sums all slots. A slot belongs to a
 * worker's number, not to its process, so counts survive a restart; gauges are zeroed by the new
 * process. One more slot belongs to the supervisor, and to a process that has not attached to any.
 *
 * A family keeps at most METRICS_SERIES_PER_FAMILY label sets; further ones go to one series whose
 * labels are all "other" (per slot). The api_* families are other names of the http_* ones: they
 * are rendered from the same cells, nobody counts them.
 */
#pragma once

#include "gateway/core/buf.h"
#include "gateway/core/err.h"
#include "gateway/core/slice.h"

#include <stdint.h>

#define METRICS_SERIES_PER_FAMILY 256u

enum metric {
#define X(id, name, kind, labels, divisor, buckets, help) id,
#include "gateway/core/metrics.def"
#undef X
    METRIC_COUNT
};

struct metric_series; /* one label set in this worker's slot; valid for the process's life */

/* Maps memory for n_workers slots and the supervisor's. Before forking. GW_ENOMEM. */
enum gw_err metrics_init(unsigned n_workers) MUST_CHECK;
void metrics_deinit(void);

/* Says which slot this process writes (0 ... n_workers - 1) and zeroes its gauges. Once, first
 * thing in a worker: series looked up before belong to the supervisor's slot. */
void metrics_attach(unsigned worker);

/* Shows or hides the alias families in this process's renderings; shown at first. */
void metrics_set_aliases(bool shown);

/* The series of a family with these label values, in the order of the family's label names; made if
 * new. Values are cut at 64 bytes (between characters); control characters and bytes that are no
 * UTF-8 become "?". Never NULL. Keep the pointer where the same labels come again:
 * the look-up hashes. */
struct metric_series *metrics_series(enum metric m, const struct slice *values);

/* The same with C strings, for up to three labels (unused ones are ignored). */
struct metric_series *metrics_get(enum metric m, const char *a, const char *b, const char *c);

/* Counters and gauges; delta may be negative for gauges only. */
void metrics_add(struct metric_series *s, int64_t delta);
void metrics_set(struct metric_series *s, int64_t value);

/* Histograms. */
void metrics_observe_us(struct metric_series *s, uint64_t us);

/* One-off forms for families without labels. */
void metrics_inc(enum metric m);

/* This worker's value of a series (of a histogram: observations), for tests. */
int64_t metrics_value(const struct metric_series *s);

/* Value of a counter or gauge with these labels (as in metrics_get), over all workers: summed, or
 * of a GAUGE_MAX the largest. 0 when nobody has it. */
int64_t metrics_total(enum metric m, const char *a, const char *b, const char *c);

/* How many workers that are. */
unsigned metrics_workers(void);

/* Adds all families in Prometheus text format 0.0.4, summed over workers. Out of memory is out's
 * error, as with any add. */
void metrics_render(struct buf *out);

/* A histogram's label set, summed over workers. */
struct metric_times {
    const struct slice *labels; /* values, in the order of the family's label names */
    uint64_t count, sum_us, max_us;
    const int64_t *buckets;    /* n_bounds + 1, not cumulative */
    const uint64_t *bounds_us; /* upper bounds of the buckets */
    unsigned n_bounds;
};

/* Calls fn for each label set of a histogram; false when out of memory. What `t` points to lives as
 * long as the call. */
bool metrics_each_times(enum metric m, void (*fn)(const struct metric_times *t, void *arg),
                        void *arg);

/* The time `percent` of the observations did not exceed, interpolated within its bucket. */
uint64_t metrics_quantile_us(const struct metric_times *t, unsigned percent);
