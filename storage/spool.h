/*
 * spool.h - records that outlive this process: kept in segments (segment.h), read back in order by
 * who ships them, removed when shipped.
 *
 *     append --> active segment --full--> sealed --> shipped --> file removed
 *                                  ^
 *     files of dead processes -----'  (looked for at start and every few seconds)
 *
 * The next segment is made in the offload pool while the present one fills. When none can be made
 * (disk full, read-only, directory missing, more than max_bytes), records go to segments in memory;
 * those are written to files as soon as files can be made again, unless they were shipped first. So
 * are those whose file somebody removes.
 * Past memory_bytes records are refused. Everything here belongs to the loop.
 *
 * What `sync` promises: SPOOL_NEVER - a killed process loses nothing, a power cut what the kernel
 * had not written yet (usually the last 30 s). SPOOL_INTERVAL - a power cut loses at most the last
 * sync_us, and how long the disk then took. SPOOL_ALWAYS - the same with no pause: a sync begins
 * right after the turn that added a record, and the next when that is through. The caller does not
 * wait for it, so even then a power cut may take what was added within the last sync or two.
 */
#pragma once

#include "storage/segment.h"

enum spool_sync { SPOOL_NEVER, SPOOL_INTERVAL, SPOOL_ALWAYS };

/* What its owner is told, on the loop, never inside spool_open(). Each may be NULL. */
struct spool_events {
    void (*adopted)(const struct segment *g, void *arg); /* before spool_first() may return it */
    void (*set_aside)(const char *file, void *arg);      /* a file that is no segment */
    void (*lost)(unsigned files, void *arg);             /* removed by somebody else */
    void (*state)(enum gw_err err, void *arg); /* why no file can be made; or GW_OK again */
    void *arg;
};

struct spool_config {
    const char *dir;      /* copied; made when missing */
    size_t segment_bytes; /* a multiple of 4096 */
    size_t memory_bytes;  /* at most this in memory; at least one segment */
    uint64_t max_bytes;   /* at most this in files of this spool's own */
    enum spool_sync sync;
    uint64_t sync_us; /* with SPOOL_INTERVAL */
    uint64_t scan_us; /* how often files of the dead are looked for */
    uint64_t fill_us; /* a segment that was begun so long ago takes no more records; 0 = any age */
    struct spool_events on;
};

struct spool;

/* Opens it and makes its first segment: waits for the disk, so only at start. What is wrong with
 * the directory is no error (spool_stats). NULL out of memory. The offload pool must run. */
struct spool *spool_open(const struct spool_config *cfg);

/* Files with something unshipped stay, the others are removed. Waits for the disk. Returns NULL. */
struct spool *spool_close(struct spool *s);

/* Adds a record of 1 ... SEGMENT_MAX_RECORD bytes. False: it was not taken. */
bool spool_append(struct spool *s, struct slice record);

/* The segment whose records should be shipped first, or NULL when all are: files of the dead, then
 * ours from the oldest on. It lives until spool_shipped() said that all of it is. The caller may
 * write `unsure` in it, nothing else. */
struct segment *spool_first(const struct spool *s);

/* Is there a segment of which its shipper does not know how far it is? */
bool spool_is_unsure(const struct spool *s);

/* Records up to position `pos`, `rows` of them since the last call, are safe elsewhere. A sealed
 * segment that is wholly shipped is gone afterwards. */
void spool_shipped(struct spool *s, const struct segment *g, size_t pos, uint64_t rows);

/* Whoever stores them says that it has all up to `pos`, be that more or less than was known here.
 * Returns how many records of the segment that is; the segment may be gone afterwards. */
uint64_t spool_move(struct spool *s, const struct segment *g, size_t pos);

/* What is left of the segment cannot be read any more (its disk or memory has changed under us): it
 * counts no longer. The segment may be gone afterwards. */
void spool_give_up(struct spool *s, const struct segment *g);

/* What is unshipped of it will never be: its file is kept under another name (segment.h). Returns
 * how many records that are; the segment, which has a file, is gone afterwards. */
uint64_t spool_put_aside(struct spool *s, const struct segment *g);

struct spool_stats {
    uint64_t rows, bytes;  /* not shipped yet */
    uint64_t memory_bytes; /* held by segments in memory */
    uint64_t file_bytes;   /* held by files of this spool, adopted ones included */
    enum gw_err err;       /* why no file can be made, or GW_OK */
    uint64_t syncs, sync_errors;
};
void spool_stats(const struct spool *s, struct spool_stats *ret);
