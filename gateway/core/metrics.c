/*
 * metrics.c - see metrics.h.
 *
 * The region is an array of slots. A slot is a count of published series per family, then the
 * series themselves, family after family; families without labels come first and have exactly one
 * series. A new series is filled in first and published by storing the count (release); readers
 * load the count (acquire) and see whole series only. Series are never removed, so pointers stay
 * valid.
 *
 * The look-up index is private to the process and rebuilt when it attaches to a slot.
 */
#include "gateway/core/metrics.h"

#include "gateway/core/utf8.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define MAX_LABELS 3u
#define VALUE_BYTES 64u
#define MAX_BUCKETS 15u
#define MAX_CELLS (MAX_BUCKETS + 3u)              /* buckets, +Inf, sum, largest */
#define CAPACITY (METRICS_SERIES_PER_FAMILY + 1u) /* and the one for "other" */
#define INDEX_ROOM 1024u                          /* power of two, well above CAPACITY */

enum kind { COUNTER, GAUGE, GAUGE_MAX, HISTOGRAM };
enum bucket_set { NONE, LATENCY, FINE };

static const struct {
    unsigned n;
    uint64_t us[MAX_BUCKETS];
} bucket_sets[] = {
    [NONE] = {0, {0}},
    [LATENCY] = {15,
                 {1000, 2500, 5000, 10000, 25000, 50000, 100000, 250000, 500000, 1000000, 2500000,
                  5000000, 10000000, 30000000, 60000000}},
    [FINE] = {13,
              {50, 100, 250, 500, 1000, 2500, 5000, 10000, 25000, 50000, 100000, 500000, 1000000}},
};

struct family {
    const char *name;
    enum kind kind;
    const char *labels;
    int64_t divisor;
    enum bucket_set buckets;
    const char *help;
};

static const struct family families[METRIC_COUNT] = {
#define X(id, name, kind, labels, divisor, buckets, help)                                          \
    [id] = {name, kind, labels, divisor, buckets, help},
#include "gateway/core/metrics.def"
#undef X
};

/* Families that only rename another. */
static const struct {
    enum metric alias, source;
} aliases[] = {{M_API_REQUESTS, M_HTTP_REQUESTS}, {M_API_SECONDS, M_HTTP_SECONDS}};

struct metric_series {
    enum metric family;
    uint32_t hash;
    uint8_t n[MAX_LABELS]; /* bytes of each value */
    char value[MAX_LABELS][VALUE_BYTES];
    _Atomic int64_t cell[]; /* a histogram's: buckets (not cumulative), +Inf, sum of microseconds,
                              largest of them */
};

/* What follows from the table, computed once. */
struct layout {
    unsigned n_labels, n_cells, capacity;
    struct slice label[MAX_LABELS];
    size_t offset, stride; /* bytes, within a slot */
    enum metric source;    /* itself, or the family it is an alias of */
};

struct slot {
    _Atomic uint32_t n[METRIC_COUNT]; /* series published */
};

static struct {
    char *region; /* shared */
    size_t slot_bytes, region_bytes;
    unsigned n_slots;
    struct layout layout[METRIC_COUNT];
    struct slot *mine;
    bool hide_aliases;
    uint16_t index[METRIC_COUNT][INDEX_ROOM]; /* number of a series + 1, by hash; 0 = free */
} mx;

/* --- layout --------------------------------------------------------------------------------- */

static void split_labels(const char *labels, struct layout *l)
{
    struct slice rest = slice_cstr(labels);

    while (rest.n) {
        size_t n = slice_find(rest, ',');

        assert(l->n_labels < MAX_LABELS);
        l->label[l->n_labels++] = slice_of(rest.p, n);
        rest = slice_from(rest, n + 1);
    }
}

static void describe(enum metric m)
{
    struct layout *l = &mx.layout[m];
    const struct family *f = &families[m];

    *l = (struct layout){.source = m};
    split_labels(f->labels, l);
    l->capacity = l->n_labels ? CAPACITY : 1;
    l->n_cells = f->kind == HISTOGRAM ? bucket_sets[f->buckets].n + 3 : 1;
    l->stride = sizeof(struct metric_series) + l->n_cells * sizeof(int64_t);
    for (size_t i = 0; i < sizeof(aliases) / sizeof(aliases[0]); i++)
        if (aliases[i].alias == m)
            l->source = aliases[i].source;
}

/* Families without labels first: they are always read, so they should share few pages. */
static void place_families(void)
{
    size_t at = (sizeof(struct slot) + 63) & ~(size_t)63;

    for (int labelled = 0; labelled <= 1; labelled++) {
        for (unsigned m = 0; m < METRIC_COUNT; m++) {
            struct layout *l = &mx.layout[m];

            if (l->source != m || (l->n_labels > 0) != labelled)
                continue;
            l->offset = at;
            at += l->stride * l->capacity;
        }
    }
    mx.slot_bytes = (at + 4095) & ~(size_t)4095;
}

static struct slot *slot_at(unsigned i)
{
    return (struct slot *)(mx.region + i * mx.slot_bytes);
}

static struct metric_series *series_at(const struct slot *slot, enum metric m, unsigned i)
{
    const struct layout *l = &mx.layout[m];

    return (struct metric_series *)((char *)slot + l->offset + i * l->stride);
}

static unsigned published(struct slot *slot, enum metric m)
{
    return atomic_load_explicit(&slot->n[m], memory_order_acquire);
}

static int64_t load(const struct metric_series *s, unsigned cell)
{
    return atomic_load_explicit(&s->cell[cell], memory_order_relaxed);
}

static void store(struct metric_series *s, unsigned cell, int64_t value)
{
    atomic_store_explicit(&s->cell[cell], value, memory_order_relaxed);
}

static void index_add(enum metric m, uint32_t hash, unsigned i)
{
    unsigned at = hash % INDEX_ROOM;

    while (mx.index[m][at])
        at = (at + 1) % INDEX_ROOM;
    mx.index[m][at] = (uint16_t)(i + 1);
}

static void use_slot(unsigned i)
{
    mx.mine = slot_at(i);
    memset(mx.index, 0, sizeof(mx.index));
    for (unsigned m = 0; m < METRIC_COUNT; m++) {
        unsigned n = published(mx.mine, m);

        for (unsigned k = 0; k < n; k++) {
            struct metric_series *s = series_at(mx.mine, m, k);

            index_add(m, s->hash, k);
            if (families[m].kind == GAUGE || families[m].kind == GAUGE_MAX)
                store(s, 0, 0);
        }
    }
}

enum gw_err metrics_init(unsigned n_workers)
{
    assert(!mx.region && n_workers);
    for (unsigned m = 0; m < METRIC_COUNT; m++)
        describe(m);
    place_families();
    mx.n_slots = n_workers + 1;
    if (__builtin_mul_overflow(mx.slot_bytes, mx.n_slots, &mx.region_bytes))
        return GW_ENOMEM;
    mx.region = mmap(NULL, mx.region_bytes, PROT_READ | PROT_WRITE,
                     MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mx.region == MAP_FAILED) {
        mx.region = NULL;
        return GW_ENOMEM;
    }
    for (unsigned i = 0; i < mx.n_slots; i++) {
        for (unsigned m = 0; m < METRIC_COUNT; m++) {
            if (mx.layout[m].source != m || mx.layout[m].n_labels)
                continue;
            series_at(slot_at(i), m, 0)->family = m;
            atomic_store_explicit(&slot_at(i)->n[m], 1, memory_order_release);
        }
    }
    use_slot(n_workers);
    return GW_OK;
}

void metrics_deinit(void)
{
    if (mx.region)
        munmap(mx.region, mx.region_bytes);
    mx.region = NULL;
    mx.mine = NULL;
}

void metrics_attach(unsigned worker)
{
    assert(mx.region && worker < mx.n_slots - 1);
    use_slot(worker);
}

void metrics_set_aliases(bool shown)
{
    mx.hide_aliases = !shown;
}

/* --- finding a series ----------------------------------------------------------------------- */

/* Copies a value so that the exposition stays valid; to holds VALUE_BYTES. */
static struct slice clean_value(struct slice v, char *to)
{
    size_t out = 0;

    for (size_t i = 0, step; i < v.n; i += step) {
        size_t len = utf8_length(v.p + i, v.n - i);
        bool keep = len && (unsigned char)v.p[i] >= 0x20 && v.p[i] != 0x7f;

        step = len ? len : 1;
        if (out + step > VALUE_BYTES)
            break;
        memcpy(to + out, keep ? v.p + i : "?", keep ? len : 1);
        out += keep ? len : 1;
    }
    return slice_of(to, out);
}

static uint32_t hash_values(const struct slice *values, unsigned n)
{
    uint32_t h = 2166136261u;

    for (unsigned i = 0; i < n; i++) {
        for (size_t k = 0; k < values[i].n; k++)
            h = (h ^ (unsigned char)values[i].p[k]) * 16777619u;
        h = (h ^ 0xff) * 16777619u; /* never in UTF-8: ends the value */
    }
    return h ^ h >> 15;
}

static bool has_values(const struct metric_series *s, const struct slice *values, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        if (!slice_eq(slice_of(s->value[i], s->n[i]), values[i]))
            return false;
    return true;
}

static struct metric_series *find(enum metric m, const struct slice *values, uint32_t hash)
{
    unsigned at = hash % INDEX_ROOM;

    for (; mx.index[m][at]; at = (at + 1) % INDEX_ROOM) {
        struct metric_series *s = series_at(mx.mine, m, mx.index[m][at] - 1u);

        if (s->hash == hash && has_values(s, values, mx.layout[m].n_labels))
            return s;
    }
    return NULL;
}

static struct metric_series *publish(enum metric m, const struct slice *values, uint32_t hash)
{
    unsigned i = published(mx.mine, m);
    struct metric_series *s = series_at(mx.mine, m, i);

    assert(i < mx.layout[m].capacity);
    s->family = m;
    s->hash = hash;
    for (unsigned k = 0; k < mx.layout[m].n_labels; k++) {
        memcpy(s->value[k], values[k].n ? values[k].p : "", values[k].n);
        s->n[k] = (uint8_t)values[k].n;
    }
    index_add(m, hash, i);
    atomic_store_explicit(&mx.mine->n[m], i + 1, memory_order_release);
    return s;
}

/* The series was not found as it was asked for: clean the values, look again, make it. */
static struct metric_series *find_or_make(enum metric m, const struct slice *values)
{
    static const struct slice others[MAX_LABELS] = {{"other", 5}, {"other", 5}, {"other", 5}};
    unsigned n = mx.layout[m].n_labels;
    char text[MAX_LABELS][VALUE_BYTES];
    struct slice clean[MAX_LABELS];
    struct metric_series *s;

    for (unsigned i = 0; i < n; i++)
        clean[i] = clean_value(values[i], text[i]);
    s = find(m, clean, hash_values(clean, n));
    if (s)
        return s;
    if (published(mx.mine, m) < METRICS_SERIES_PER_FAMILY)
        return publish(m, clean, hash_values(clean, n));
    s = find(m, others, hash_values(others, n));
    return s ? s : publish(m, others, hash_values(others, n));
}

struct metric_series *metrics_series(enum metric m, const struct slice *values)
{
    struct metric_series *s;

    assert(mx.mine && m < METRIC_COUNT);
    m = mx.layout[m].source;
    if (!mx.layout[m].n_labels)
        return series_at(mx.mine, m, 0);
    s = find(m, values, hash_values(values, mx.layout[m].n_labels));
    return s ? s : find_or_make(m, values);
}

struct metric_series *metrics_get(enum metric m, const char *a, const char *b, const char *c)
{
    const struct slice values[MAX_LABELS] = {slice_cstr(a), slice_cstr(b), slice_cstr(c)};

    return metrics_series(m, values);
}

/* --- counting ------------------------------------------------------------------------------- */

void metrics_add(struct metric_series *s, int64_t delta)
{
    assert(families[s->family].kind != HISTOGRAM);
    store(s, 0, load(s, 0) + delta);
}

void metrics_set(struct metric_series *s, int64_t value)
{
    assert(families[s->family].kind != HISTOGRAM);
    store(s, 0, value);
}

void metrics_observe_us(struct metric_series *s, uint64_t us)
{
    enum bucket_set set = families[s->family].buckets;
    unsigned n = bucket_sets[set].n, i = 0;

    assert(families[s->family].kind == HISTOGRAM);
    while (i < n && us > bucket_sets[set].us[i])
        i++;
    store(s, i, load(s, i) + 1);
    store(s, n + 1, load(s, n + 1) + (int64_t)us);
    if ((int64_t)us > load(s, n + 2))
        store(s, n + 2, (int64_t)us);
}

void metrics_inc(enum metric m)
{
    assert(!mx.layout[m].n_labels);
    metrics_add(metrics_series(m, NULL), 1);
}

int64_t metrics_value(const struct metric_series *s)
{
    unsigned n_cells = mx.layout[s->family].n_cells;
    int64_t sum = 0;

    if (families[s->family].kind != HISTOGRAM)
        return load(s, 0);
    for (unsigned i = 0; i + 2 < n_cells; i++)
        sum += load(s, i);
    return sum;
}

/* The series with these labels in any worker's slot, or NULL. */
static const struct metric_series *find_in(struct slot *slot, enum metric m,
                                           const struct slice *values, uint32_t hash)
{
    unsigned n = published(slot, m), n_labels = mx.layout[m].n_labels;

    for (unsigned i = 0; i < n; i++) {
        const struct metric_series *s = series_at(slot, m, i);

        if (!n_labels || (s->hash == hash && has_values(s, values, n_labels)))
            return s;
    }
    return NULL;
}

int64_t metrics_total(enum metric m, const char *a, const char *b, const char *c)
{
    const struct slice values[MAX_LABELS] = {slice_cstr(a), slice_cstr(b), slice_cstr(c)};
    uint32_t hash;
    int64_t total = 0;

    m = mx.layout[m].source;
    assert(families[m].kind != HISTOGRAM);
    hash = hash_values(values, mx.layout[m].n_labels);
    for (unsigned i = 0; i < mx.n_slots; i++) {
        const struct metric_series *s = find_in(slot_at(i), m, values, hash);
        int64_t v = s ? load(s, 0) : 0;

        if (families[m].kind != GAUGE_MAX)
            total += v;
        else if (v > total)
            total = v;
    }
    return total;
}

unsigned metrics_workers(void)
{
    return mx.n_slots - 1;
}

/* --- rendering ------------------------------------------------------------------------------ */

/* The series of all slots with one label set. */
struct group {
    const struct metric_series *first;
    int64_t cell[MAX_CELLS];
};

struct groups {
    struct group *all; /* owned */
    uint32_t *index;   /* owned; number of a group + 1, by hash */
    size_t n, index_room;
};

static struct group *group_of(struct groups *g, const struct metric_series *s)
{
    size_t at = s->hash & (g->index_room - 1);
    struct slice values[MAX_LABELS];
    unsigned n = mx.layout[s->family].n_labels;

    for (unsigned i = 0; i < n; i++)
        values[i] = slice_of(s->value[i], s->n[i]);
    for (; g->index[at]; at = (at + 1) & (g->index_room - 1)) {
        struct group *known = &g->all[g->index[at] - 1];

        if (known->first->hash == s->hash && has_values(known->first, values, n))
            return known;
    }
    g->all[g->n].first = s;
    g->index[at] = (uint32_t)++g->n;
    return &g->all[g->n - 1];
}

static void group_add(struct group *group, const struct metric_series *s)
{
    unsigned n = mx.layout[s->family].n_cells;
    enum kind kind = families[s->family].kind;

    for (unsigned i = 0; i < n; i++) {
        bool largest = (kind == GAUGE_MAX && group->first != s) ||
                       (kind == HISTOGRAM && i + 1 == n); /* else the cells are summed */
        int64_t v = load(s, i);

        if (!largest)
            group->cell[i] += v;
        else if (v > group->cell[i])
            group->cell[i] = v;
    }
}

/* Sums a family over the slots; false when out of memory. Another worker may publish a series in
 * the meantime: what counts is the number read here. */
static bool collect(enum metric m, struct groups *g)
{
    size_t total = 0, room = 1;

    *g = (struct groups){0};
    for (unsigned i = 0; i < mx.n_slots; i++)
        total += published(slot_at(i), m);
    if (!total)
        return true;
    while (room < total * 2)
        room *= 2;
    g->index_room = room;
    g->all = calloc(total, sizeof(*g->all));
    g->index = calloc(room, sizeof(*g->index));
    if (!g->all || !g->index)
        return false;
    for (unsigned i = 0; i < mx.n_slots; i++) {
        unsigned n = published(slot_at(i), m);

        for (unsigned k = 0; k < n && total; k++, total--)
            group_add(group_of(g, series_at(slot_at(i), m, k)), series_at(slot_at(i), m, k));
    }
    return true;
}

static void groups_free(struct groups *g)
{
    free(g->all);
    free(g->index);
}

/* v / divisor, exactly: the divisor is a power of ten. */
static void add_decimal(struct buf *out, int64_t v, int64_t divisor)
{
    uint64_t u = v < 0 ? 0 - (uint64_t)v : (uint64_t)v, d = (uint64_t)divisor;
    uint64_t rest = u % d;

    if (v < 0)
        buf_add_char(out, '-');
    buf_add_u64(out, u / d);
    if (rest)
        buf_add_char(out, '.');
    while (rest) {
        d /= 10;
        buf_add_char(out, (char)('0' + rest / d));
        rest %= d;
    }
}

static void add_value(struct buf *out, const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (p[i] == '\\' || p[i] == '"')
            buf_add_char(out, '\\');
        buf_add_char(out, p[i]);
    }
}

/* {label="value",le="bound"}; le_us 0 = none, UINT64_MAX = +Inf. */
static void add_labels(struct buf *out, const struct metric_series *s, uint64_t le_us)
{
    const struct layout *l = &mx.layout[s->family];

    if (!l->n_labels && !le_us)
        return;
    for (unsigned i = 0; i < l->n_labels; i++) {
        buf_add_char(out, i ? ',' : '{');
        buf_add_slice(out, l->label[i]);
        buf_add_cstr(out, "=\"");
        add_value(out, s->value[i], s->n[i]);
        buf_add_char(out, '"');
    }
    if (le_us) {
        buf_add_cstr(out, l->n_labels ? ",le=\"" : "{le=\"");
        if (le_us == UINT64_MAX)
            buf_add_cstr(out, "+Inf");
        else
            add_decimal(out, (int64_t)le_us, 1000000);
        buf_add_char(out, '"');
    }
    buf_add_char(out, '}');
}

static void add_sample(struct buf *out, const char *name, const char *suffix,
                       const struct metric_series *s, uint64_t le_us, int64_t v, int64_t divisor)
{
    buf_add_cstr(out, name);
    buf_add_cstr(out, suffix);
    add_labels(out, s, le_us);
    buf_add_char(out, ' ');
    add_decimal(out, v, divisor);
    buf_add_char(out, '\n');
}

static void add_histogram(struct buf *out, const struct family *f, const struct group *g)
{
    unsigned n = bucket_sets[f->buckets].n;
    int64_t sum = 0;

    for (unsigned i = 0; i <= n; i++) {
        sum += g->cell[i];
        add_sample(out, f->name, "_bucket", g->first,
                   i < n ? bucket_sets[f->buckets].us[i] : UINT64_MAX, sum, 1);
    }
    add_sample(out, f->name, "_sum", g->first, 0, g->cell[n + 1], f->divisor);
    add_sample(out, f->name, "_count", g->first, 0, sum, 1);
}

static void add_family(struct buf *out, const struct family *f, const struct groups *g)
{
    static const char *const types[] = {
        [COUNTER] = "counter", [GAUGE] = "gauge", [GAUGE_MAX] = "gauge", [HISTOGRAM] = "histogram"};

    buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", f->name, f->help, f->name, types[f->kind]);
    for (size_t i = 0; i < g->n; i++) {
        if (f->kind == HISTOGRAM)
            add_histogram(out, f, &g->all[i]);
        else
            add_sample(out, f->name, "", g->all[i].first, 0, g->all[i].cell[0], f->divisor);
    }
}

void metrics_render(struct buf *out)
{
    struct groups g;

    for (unsigned m = 0; m < METRIC_COUNT && !out->err; m++) {
        bool is_alias = mx.layout[m].source != m;

        if (is_alias && mx.hide_aliases)
            continue;
        if (collect(mx.layout[m].source, &g))
            add_family(out, &families[m], &g);
        else
            out->err = GW_ENOMEM;
        groups_free(&g);
    }
}

/* --- histograms read back ------------------------------------------------------------------- */

static struct metric_times times_of(const struct group *g, struct slice *labels)
{
    enum bucket_set set = families[g->first->family].buckets;
    struct metric_times t = {.bounds_us = bucket_sets[set].us, .n_bounds = bucket_sets[set].n};

    for (unsigned i = 0; i < mx.layout[g->first->family].n_labels; i++)
        labels[i] = slice_of(g->first->value[i], g->first->n[i]);
    t.labels = labels;
    t.buckets = g->cell;
    for (unsigned i = 0; i <= t.n_bounds; i++)
        t.count += (uint64_t)g->cell[i];
    t.sum_us = (uint64_t)g->cell[t.n_bounds + 1];
    t.max_us = (uint64_t)g->cell[t.n_bounds + 2];
    return t;
}

bool metrics_each_times(enum metric m, void (*fn)(const struct metric_times *t, void *arg),
                        void *arg)
{
    struct slice labels[MAX_LABELS];
    struct groups g;
    bool ok;

    m = mx.layout[m].source;
    assert(families[m].kind == HISTOGRAM);
    ok = collect(m, &g);
    for (size_t i = 0; ok && i < g.n; i++) {
        struct metric_times t = times_of(&g.all[i], labels);

        fn(&t, arg);
    }
    groups_free(&g);
    return ok;
}

uint64_t metrics_quantile_us(const struct metric_times *t, unsigned percent)
{
    double wanted = (double)t->count * percent / 100, below = 0;
    uint64_t low = 0, high;

    for (unsigned i = 0; i <= t->n_bounds; i++) {
        double here = (double)t->buckets[i];

        high = i < t->n_bounds && t->bounds_us[i] < t->max_us ? t->bounds_us[i] : t->max_us;
        if (here > 0 && below + here >= wanted)
            return low + (uint64_t)((double)(high - low) * (wanted - below) / here);
        below += here;
        low = high;
    }
    return t->max_us;
}
