/*
 * spool.c - see spool.h.
 *
 * Segments are in one of three lists: `adopted` (all sealed), `own`, oldest first, whose last one
 * is the active one unless that is NULL, and `stuck` (shipped, but the file would not go). `spare`
 * is in none. Jobs in the offload pool:
 *
 *     prepare   makes the spare                 at most one
 *     save      writes a memory segment out     at most one
 *     sync      forces segments to disk         at most one
 *     scan      takes files over                at most one
 *     remove    has its segment for itself      any number
 *
 * save and sync mark their segments busy, so these stay until the job is done. Jobs are never
 * cancelled: spool_close() waits for them.
 */
#include "storage/spool.h"

#include "gateway/core/loop.h"
#include "gateway/core/offload.h"

#include <assert.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#define TICK_US 1000000u /* how often what failed is tried again; or scan_us, when shorter */
#define STUCK_TICKS 60u  /* how often a file that could not be removed is tried again */
#define MAX_ADOPTED 4u   /* files of the dead held at once */
#define MAX_SYNCED 4u    /* files synced by one job */

TAILQ_HEAD(segment_list, segment);

struct spool {
    struct spool_config cfg;
    struct segment_list adopted, own, stuck;
    unsigned n_adopted;
    struct segment *active, *spare; /* active may be NULL; spare is never in memory */
    enum gw_err err;                /* of the last attempt to make a file */
    uint64_t own_file_bytes;        /* of segments of ours with a file, spare included */
    uint64_t memory_bytes;
    uint64_t rows, bytes; /* unshipped */
    uint64_t syncs, sync_errors;
    struct loop_timer tick, sync_timer;
    struct loop_deferred sync_soon;
    uint64_t next_scan_us;
    unsigned ticks, jobs;
    bool preparing, saving, syncing, scanning, closing;
};

/* What a job in the pool works on; s is for done() alone. */
struct spool_job {
    struct spool *s;
    const char *dir;
    bool sync_dir;
    enum gw_err err;
    int fd;            /* save: the file */
    size_t size;       /* prepare */
    bool unsynced;     /* save: the file is there, the disk did not say so */
    struct segment *g; /* prepare: made; save, remove: worked on */
    unsigned n, room;  /* sync, scan: entries of list; scan: at most */
    struct segment *list[MAX_SYNCED > MAX_ADOPTED ? MAX_SYNCED : MAX_ADOPTED];
    size_t synced_to[MAX_SYNCED];
    char aside[64]; /* scan: a file that was set aside, "" if none */
};

static void roll(struct spool *s);
static void save_next(struct spool *s);
static void try_save(struct spool *s);

/* --- jobs ----------------------------------------------------------------------------------- */

static void job_dropped(void *arg)
{
    (void)arg;
    abort(); /* the pool ended before the spool was closed */
}

static struct spool_job *job_new(struct spool *s)
{
    struct spool_job *j = calloc(1, sizeof(*j));

    if (!j)
        return NULL;
    j->s = s;
    j->dir = s->cfg.dir;
    j->sync_dir = s->cfg.sync != SPOOL_NEVER;
    j->fd = -1;
    return j;
}

/* False: nothing was started. */
static bool job_start(struct spool_job *j, void (*work)(void *), void (*done)(void *))
{
    if (!j || !offload_run(work, done, job_dropped, j))
        return false;
    j->s->jobs++;
    return true;
}

static void job_end(struct spool_job *j)
{
    j->s->jobs--;
    free(j);
}

static void set_state(struct spool *s, enum gw_err err)
{
    if (s->err == err)
        return;
    s->err = err;
    if (s->cfg.on.state)
        s->cfg.on.state(err, s->cfg.on.arg);
}

/* --- removing ------------------------------------------------------------------------------- */

static void remove_work(void *arg)
{
    struct spool_job *j = arg;

    j->err = j->g->refused ? segment_put_aside(j->g, j->dir) : segment_remove(j->g, j->dir);
    if (!j->err)
        j->g = segment_free(j->g);
}

static void remove_done(void *arg)
{
    struct spool_job *j = arg;

    if (j->g)
        TAILQ_INSERT_TAIL(&j->s->stuck, j->g, link);
    job_end(j);
}

/* Takes a segment that is in no list out of the world. */
static void remove_segment(struct spool *s, struct segment *g)
{
    struct spool_job *j = job_new(s);

    if (j)
        j->g = g;
    if (job_start(j, remove_work, remove_done))
        return;
    free(j);
    TAILQ_INSERT_TAIL(&s->stuck, g, link);
}

static void retry_stuck(struct spool *s)
{
    struct segment_list list = TAILQ_HEAD_INITIALIZER(list);
    struct segment *g;

    TAILQ_CONCAT(&list, &s->stuck, link);
    while ((g = TAILQ_FIRST(&list)) != NULL) {
        TAILQ_REMOVE(&list, g, link);
        remove_segment(s, g);
    }
}

static bool is_unshipped(const struct segment *g)
{
    return !g->refused && g->shipped < g->rows;
}

/* Removes a segment when nobody needs it any more. */
static void retire(struct spool *s, struct segment *g)
{
    if (!g->sealed || g->busy || is_unshipped(g))
        return;
    if (g->adopted) {
        TAILQ_REMOVE(&s->adopted, g, link);
        if (--s->n_adopted == 0)
            s->next_scan_us = 0; /* there may be more */
    } else {
        TAILQ_REMOVE(&s->own, g, link);
        if (g->fd < 0)
            s->memory_bytes -= g->size;
        else
            s->own_file_bytes -= g->size;
    }
    remove_segment(s, g);
}

/* --- syncing -------------------------------------------------------------------------------- */

static bool is_dirty(const struct segment *g)
{
    return g->fd >= 0 && g->synced < g->end;
}

/* Something was added, or a sync is through: when does the next begin? */
static void sync_later(struct spool *s);

static void sync_work(void *arg)
{
    struct spool_job *j = arg;
    unsigned i;

    for (i = 0; i < j->n; i++)
        if (segment_sync(j->list[i]->fd) != GW_OK)
            j->err = GW_EIO;
}

/* No pages are retried that failed: the kernel has forgotten them. They are counted. */
static void sync_done(void *arg)
{
    struct spool_job *j = arg;
    struct spool *s = j->s;
    unsigned i;

    s->syncing = false;
    s->syncs++;
    s->sync_errors += j->err != GW_OK;
    for (i = 0; i < j->n; i++) {
        j->list[i]->synced = j->synced_to[i];
        j->list[i]->busy--;
        retire(s, j->list[i]);
    }
    job_end(j);
    sync_later(s);
}

static void sync_now(void *arg)
{
    struct spool *s = arg;
    struct spool_job *j = s->syncing ? NULL : job_new(s);
    struct segment *g;
    unsigned i;

    if (!j)
        return;
    TAILQ_FOREACH (g, &s->own, link) {
        if (j->n == MAX_SYNCED || !is_dirty(g))
            continue;
        j->synced_to[j->n] = g->end;
        j->list[j->n++] = g;
    }
    if (j->n == 0 || !job_start(j, sync_work, sync_done)) {
        free(j);
        return;
    }
    s->syncing = true;
    for (i = 0; i < j->n; i++)
        j->list[i]->busy++;
}

static void sync_later(struct spool *s)
{
    const struct segment *g = TAILQ_LAST(&s->own, segment_list);

    if (s->syncing || s->closing || s->cfg.sync == SPOOL_NEVER || !g || !is_dirty(g))
        return;
    if (s->cfg.sync == SPOOL_ALWAYS)
        loop_defer(&s->sync_soon, sync_now, s);
    else if (!s->sync_timer.due_us)
        loop_timer_set(&s->sync_timer, loop_now_us() + s->cfg.sync_us);
}

/* --- the spare ------------------------------------------------------------------------------ */

static void prepare_work(void *arg)
{
    struct spool_job *j = arg;

    j->err = segment_make_dir(j->dir);
    if (!j->err)
        j->err = segment_create(j->dir, j->size, &j->g);
    if (!j->err && j->sync_dir && segment_sync_dir(j->dir) != GW_OK)
        j->err = GW_OK; /* the name may be lost in a power cut; the service goes on */
}

/* Takes what prepare_work() made. */
static void take_spare(struct spool *s, struct spool_job *j)
{
    set_state(s, j->err);
    if (j->err)
        return;
    s->spare = j->g;
    s->own_file_bytes += j->g->size;
    if (!s->active || s->active->fd < 0 || s->active->broken)
        roll(s);
}

static void prepare_done(void *arg)
{
    struct spool_job *j = arg;
    struct spool *s = j->s;

    s->preparing = false;
    take_spare(s, j);
    job_end(j);
    save_next(s);
}

static bool is_old(const struct spool *s, const struct segment *g)
{
    return s->cfg.fill_us && g->rows && loop_now_us() - g->begun_us > s->cfg.fill_us;
}

static bool needs_spare(const struct spool *s)
{
    const struct segment *g = s->active;

    return !s->spare && !s->preparing && !s->closing &&
           (!g || g->fd < 0 || g->broken || g->end > g->size / 2 || is_old(s, g));
}

/* For one file more, those in the making counted. */
static bool has_room(const struct spool *s)
{
    uint64_t files = 1u + s->preparing + s->saving;

    return s->own_file_bytes + files * s->cfg.segment_bytes <= s->cfg.max_bytes;
}

static void prepare(struct spool *s)
{
    struct spool_job *j;

    if (!has_room(s)) {
        set_state(s, GW_EFULL);
        return;
    }
    j = job_new(s);
    if (j)
        j->size = s->cfg.segment_bytes;
    s->preparing = job_start(j, prepare_work, prepare_done);
    if (!s->preparing)
        free(j);
}

/* --- writing memory segments out ------------------------------------------------------------ */

static void save_work(void *arg)
{
    struct spool_job *j = arg;

    j->err = segment_save(j->g, j->dir, &j->fd);
    if (!j->err && j->sync_dir && (segment_sync(j->fd) || segment_sync_dir(j->dir)))
        j->unsynced = true; /* as above, but these are records: it is counted */
}

static void save_done(void *arg)
{
    struct spool_job *j = arg;
    struct spool *s = j->s;
    struct segment *g = j->g;
    enum gw_err err = j->err;

    s->saving = false;
    s->sync_errors += j->unsynced;
    g->busy--;
    if (!err) {
        segment_settle(g, j->fd);
        g->synced = g->end;
        s->memory_bytes -= g->size;
        s->own_file_bytes += g->size;
    }
    job_end(j);
    set_state(s, err);
    retire(s, g);
    if (!err)
        save_next(s);
}

/* Gives the oldest sealed memory segment its file, now that files can be made. */
static void save_next(struct spool *s)
{
    if (!s->err)
        try_save(s);
}

/* The same, also after a failure. */
static void try_save(struct spool *s)
{
    struct spool_job *j;
    struct segment *g;

    TAILQ_FOREACH (g, &s->own, link)
        if (g->fd < 0 && g->sealed && !g->busy)
            break;
    if (!g || s->saving || s->closing || !has_room(s))
        return;
    j = job_new(s);
    if (j)
        j->g = g;
    s->saving = job_start(j, save_work, save_done);
    if (s->saving)
        g->busy++;
    else
        free(j);
}

/* --- adding --------------------------------------------------------------------------------- */

static void seal_active(struct spool *s)
{
    struct segment *g = s->active;

    s->active = NULL;
    if (!g)
        return;
    g->sealed = true;
    retire(s, g);
}

/* The next segment becomes the active one: the spare, or one in memory, or none. */
static void roll(struct spool *s)
{
    seal_active(s);
    s->active = s->spare;
    s->spare = NULL;
    if (!s->active && s->memory_bytes + s->cfg.segment_bytes <= s->cfg.memory_bytes) {
        s->active = segment_create_in_memory(s->cfg.segment_bytes);
        s->memory_bytes += s->active ? s->active->size : 0;
    }
    if (s->active)
        TAILQ_INSERT_TAIL(&s->own, s->active, link);
}

bool spool_append(struct spool *s, struct slice record)
{
    struct segment *g = s->active;
    size_t before;

    if (record.n == 0 || record.n > SEGMENT_MAX_RECORD)
        return false;
    before = g ? g->end : SEGMENT_HEADER;
    if (!g || (s->spare && is_old(s, g)) || !segment_append(g, record.p, record.n)) {
        roll(s);
        g = s->active;
        before = SEGMENT_HEADER;
        if (!g || !segment_append(g, record.p, record.n))
            return false;
    }
    if (g->rows == 1)
        g->begun_us = loop_now_us();
    s->rows++;
    s->bytes += g->end - before;
    if (!s->err && needs_spare(s))
        prepare(s); /* while files cannot be made the tick tries */
    sync_later(s);
    return true;
}

/* --- files removed under us ------------------------------------------------------------------ */

/* What is unshipped of it goes on in memory, and from there to a file anew. */
static void file_lost(struct spool *s, struct segment *g)
{
    segment_forget_file(g);
    s->own_file_bytes -= g->size;
    s->memory_bytes += g->size;
    if (g == s->active)
        roll(s);
}

/* Somebody has cleared the directory: rows in files without a name would be lost with us. */
static void look_for_lost_files(struct spool *s)
{
    struct segment *g, *next;
    unsigned lost = 0;

    if (s->spare && segment_has_lost_its_file(s->spare)) {
        s->own_file_bytes -= s->spare->size;
        s->spare = segment_free(s->spare);
        lost++;
    }
    for (g = TAILQ_FIRST(&s->own); g; g = next) {
        next = TAILQ_NEXT(g, link);
        if (g->busy || !segment_has_lost_its_file(g))
            continue;
        file_lost(s, g);
        lost++;
    }
    if (lost && s->cfg.on.lost)
        s->cfg.on.lost(lost, s->cfg.on.arg);
}

/* --- shipping ------------------------------------------------------------------------------- */

static struct segment *first_unshipped(const struct segment_list *list)
{
    struct segment *g;

    TAILQ_FOREACH (g, list, link)
        if (is_unshipped(g))
            return g;
    return NULL;
}

struct segment *spool_first(const struct spool *s)
{
    struct segment *g = first_unshipped(&s->adopted);

    return g ? g : first_unshipped(&s->own);
}

static bool any_unsure(const struct segment_list *list)
{
    const struct segment *g;

    TAILQ_FOREACH (g, list, link)
        if (g->unsure)
            return true;
    return false;
}

bool spool_is_unsure(const struct spool *s)
{
    return any_unsure(&s->adopted) || any_unsure(&s->own);
}

static size_t bytes_behind(const struct segment *g, size_t pos)
{
    return g->end - (pos < SEGMENT_HEADER ? SEGMENT_HEADER : pos);
}

/* What a file holds may change under us, so that more can be read than was counted. */
static uint64_t at_most(uint64_t n, uint64_t max)
{
    return n < max ? n : max;
}

void spool_shipped(struct spool *s, const struct segment *cg, size_t pos, uint64_t rows)
{
    struct segment *g = (struct segment *)cg;

    assert(pos >= g->done && pos <= g->end);
    rows = at_most(rows, g->rows - g->shipped);
    s->bytes -= bytes_behind(g, g->done) - bytes_behind(g, pos);
    s->rows -= rows;
    g->done = pos;
    g->shipped += rows;
    retire(s, g);
}

uint64_t spool_move(struct spool *s, const struct segment *cg, size_t pos)
{
    struct segment *g = (struct segment *)cg;
    size_t at = 0;
    uint64_t rows = 0;

    while (at < pos && segment_next(g, &at).p && at <= pos)
        rows++;
    rows = at_most(rows, g->rows);
    pos = pos < g->end ? pos : g->end;
    s->bytes += bytes_behind(g, pos);
    s->bytes -= bytes_behind(g, g->done);
    s->rows += g->shipped;
    s->rows -= rows;
    g->done = pos;
    g->shipped = rows;
    retire(s, g);
    return rows;
}

void spool_give_up(struct spool *s, const struct segment *cg)
{
    struct segment *g = (struct segment *)cg;

    s->rows -= g->rows - g->shipped;
    s->bytes -= bytes_behind(g, g->done);
    g->rows = g->shipped;
    g->done = g->end;
    retire(s, g);
}

uint64_t spool_put_aside(struct spool *s, const struct segment *cg)
{
    struct segment *g = (struct segment *)cg;
    uint64_t rows = g->rows - g->shipped;

    assert(g->fd >= 0 && !g->refused);
    if (g == s->active)
        roll(s);
    s->bytes -= bytes_behind(g, g->done);
    s->rows -= rows;
    g->refused = true;
    retire(s, g);
    return rows;
}

/* --- files of the dead ---------------------------------------------------------------------- */

static bool is_candidate(const char *name)
{
    size_t n = strlen(name);

    return strncmp(name, "new-", 4) == 0 || (n > 6 && strcmp(name + n - 6, ".spool") == 0);
}

static void scan_work(void *arg)
{
    struct spool_job *j = arg;
    DIR *d = opendir(j->dir);
    const struct dirent *e;
    enum gw_err err;

    while (d && j->n < j->room && (e = readdir(d)) != NULL) {
        if (!is_candidate(e->d_name))
            continue;
        err = segment_adopt(j->dir, e->d_name, &j->list[j->n]);
        if (!err)
            j->n++;
        else if (err == GW_EBADREQ)
            snprintf(j->aside, sizeof(j->aside), "%.*s", (int)sizeof(j->aside) - 1, e->d_name);
    }
    if (d)
        closedir(d);
}

static void adopt(struct spool *s, struct segment *g)
{
    TAILQ_INSERT_TAIL(&s->adopted, g, link);
    s->n_adopted++;
    s->rows += g->rows;
    s->bytes += bytes_behind(g, 0);
    if (s->cfg.on.adopted)
        s->cfg.on.adopted(g, s->cfg.on.arg);
    retire(s, g); /* an empty one */
}

static void scan_done(void *arg)
{
    struct spool_job *j = arg;
    struct spool *s = j->s;
    unsigned i;

    s->scanning = false;
    if (j->aside[0] && s->cfg.on.set_aside)
        s->cfg.on.set_aside(j->aside, s->cfg.on.arg);
    for (i = 0; i < j->n; i++)
        adopt(s, j->list[i]);
    job_end(j);
}

static void scan(struct spool *s)
{
    struct spool_job *j;

    if (s->scanning || s->closing || s->n_adopted >= MAX_ADOPTED)
        return;
    j = job_new(s);
    if (j)
        j->room = MAX_ADOPTED - s->n_adopted;
    s->scanning = job_start(j, scan_work, scan_done);
    if (s->scanning)
        s->next_scan_us = loop_now_us() + s->cfg.scan_us;
    else
        free(j);
}

/* --- life ----------------------------------------------------------------------------------- */

static void on_tick(void *arg)
{
    struct spool *s = arg;

    loop_timer_set(&s->tick, loop_now_us() + (s->cfg.scan_us < TICK_US ? s->cfg.scan_us : TICK_US));
    look_for_lost_files(s);
    if (needs_spare(s))
        prepare(s);
    else
        try_save(s); /* nothing else may be there to find out that files can be made again */
    if (++s->ticks % STUCK_TICKS == 0)
        retry_stuck(s);
    if (loop_now_us() >= s->next_scan_us)
        scan(s);
}

/* The first segment, here and now. */
static void prepare_first(struct spool *s)
{
    struct spool_job j = {.s = s,
                          .dir = s->cfg.dir,
                          .size = s->cfg.segment_bytes,
                          .sync_dir = s->cfg.sync != SPOOL_NEVER};

    prepare_work(&j);
    s->err = j.err;
    if (!j.err) {
        s->spare = j.g;
        s->own_file_bytes += j.g->size;
    }
    roll(s);
}

struct spool *spool_open(const struct spool_config *cfg)
{
    struct spool *s = calloc(1, sizeof(*s));
    char *dir = strdup(cfg->dir);

    if (!s || !dir) {
        free(s);
        free(dir);
        return NULL;
    }
    s->cfg = *cfg;
    s->cfg.dir = dir;
    TAILQ_INIT(&s->adopted);
    TAILQ_INIT(&s->own);
    TAILQ_INIT(&s->stuck);
    loop_timer_init(&s->tick, on_tick, s);
    loop_timer_init(&s->sync_timer, sync_now, s);
    prepare_first(s);
    loop_timer_set(&s->tick, loop_now_us());
    return s;
}

/* Closes a segment: what is unshipped stays in its file, or gets one if that is possible. */
static void close_segment(struct spool *s, struct segment *g)
{
    int fd = -1;

    if (g->refused)
        (void)!segment_put_aside(g, s->cfg.dir);
    else if (g->shipped >= g->rows)
        (void)!segment_remove(g, s->cfg.dir);
    else if (g->fd < 0 && segment_save(g, s->cfg.dir, &fd) == GW_OK)
        g->fd = fd;
    if (is_dirty(g) && s->cfg.sync != SPOOL_NEVER)
        (void)!segment_sync(g->fd);
    segment_free(g);
}

static void close_list(struct spool *s, struct segment_list *list)
{
    struct segment *g;

    while ((g = TAILQ_FIRST(list)) != NULL) {
        TAILQ_REMOVE(list, g, link);
        close_segment(s, g);
    }
}

struct spool *spool_close(struct spool *s)
{
    if (!s)
        return NULL;
    s->closing = true;
    loop_undefer(&s->sync_soon);
    while (s->jobs)
        loop_turn();
    loop_timer_stop(&s->tick);
    loop_timer_stop(&s->sync_timer);
    close_list(s, &s->adopted);
    close_list(s, &s->own);
    close_list(s, &s->stuck);
    if (s->spare)
        close_segment(s, s->spare);
    free((char *)s->cfg.dir);
    free(s);
    return NULL;
}

static uint64_t total(const struct segment_list *list)
{
    const struct segment *g;
    uint64_t n = 0;

    TAILQ_FOREACH (g, list, link)
        n += g->size;
    return n;
}

void spool_stats(const struct spool *s, struct spool_stats *ret)
{
    *ret = (struct spool_stats){.rows = s->rows,
                                .bytes = s->bytes,
                                .memory_bytes = s->memory_bytes,
                                .file_bytes = s->own_file_bytes + total(&s->adopted),
                                .err = s->err,
                                .syncs = s->syncs,
                                .sync_errors = s->sync_errors};
}
