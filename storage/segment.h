/*
 * segment.h - one append-only file of the spool: its format, and what can be done with it.
 *
 *     byte 0   "PSTNSEG1", version, 16 bytes of random id, size, CRC of all that: 64 bytes
 *     then     records: [length u32][CRC-32 u32][bytes][zeros up to a multiple of 8]
 *     then     zeros
 *
 * The file has its full size from the beginning and is mapped shared: a record is copied in and
 * then published by its length, stored last. So a record costs no system call, and is in the
 * kernel's page cache when segment_append() returns: a process that is killed loses none. The file
 * is locked (flock) by its process for as long as that lives; one whose lock is free belongs to the
 * dead. A reader takes a record only when its CRC is right, and looks for the next one behind
 * damage (after a power cut pages may be missing). A file that was taken over is read into memory.
 *
 * A position is the offset behind a record; 0 stands before the first. Position and id name a
 * record for ever.
 *
 * segment_append() and segment_next() belong to the loop; the others make system calls that may
 * take their time: at start and in the offload pool.
 */
#pragma once

#include "gateway/core/err.h"
#include "gateway/core/slice.h"

#include <stdint.h>
#include <sys/queue.h>

#define SEGMENT_HEADER 64u
#define SEGMENT_MAX_RECORD 65535u
#define SEGMENT_NAME 37u /* an id as text: 36 characters and a NUL */

struct segment {
    TAILQ_ENTRY(segment) link;
    char name[SEGMENT_NAME]; /* its id; the file is NAME.spool */
    int fd;                  /* holds the lock; -1 = in memory only */
    unsigned char *map;      /* owned */
    size_t size;
    size_t end;        /* behind the last record */
    size_t faulted;    /* pages before this are there to be written to */
    size_t synced;     /* what lies before this has been forced to disk */
    size_t damaged;    /* of a file that was taken over: bytes that were a record; 0 = none known */
    uint64_t rows;     /* records in it */
    uint64_t shipped;  /* records before `done` */
    size_t done;       /* position up to which the owner needs nothing any more */
    bool sealed;       /* nothing is added any more */
    bool adopted;      /* another process began it */
    uint64_t begun_us; /* loop clock of its first record, if this process added it */
    unsigned busy;     /* jobs in the pool that use it */
    bool refused;      /* its owner will never ship it: the file is kept under another name */
    bool broken;       /* its pages cannot be had: nothing is added any more */
    bool unsure;       /* who ships it does not know how far it is; at first true if adopted */
};

/* A new file in `dir`, locked and mapped. GW_EFULL no room, GW_EIO (directory missing, read-only),
 * GW_ENOMEM. */
enum gw_err segment_create(const char *dir, size_t size, struct segment **ret) MUST_CHECK;

/* The same in memory alone, for when there is no room; NULL out of memory. */
struct segment *segment_create_in_memory(size_t size);

/* Writes a sealed one from memory into a file that is named and locked as if it had always been
 * there. Errors as above. Reads `g`; the file comes in *ret_fd and segment_settle() gives it to g.
 */
enum gw_err segment_save(const struct segment *g, const char *dir, int *ret_fd) MUST_CHECK;
void segment_settle(struct segment *g, int fd);

/* Takes over the file of a dead process and counts its records. GW_EAGAIN when its owner lives or
 * it is gone, GW_EBADREQ when it is no segment (then it is renamed to NAME.spool.bad). */
enum gw_err segment_adopt(const char *dir, const char *file, struct segment **ret) MUST_CHECK;

/* False when there is no room in it. n <= SEGMENT_MAX_RECORD. */
bool segment_append(struct segment *g, const char *p, size_t n);

/* The first record behind *pos, which moves behind it; p == NULL at the end. */
struct slice segment_next(const struct segment *g, size_t *pos);

/* Forces what was added to the disk; the other one the directory's entries. GW_EIO. */
enum gw_err segment_sync(int fd) MUST_CHECK;
enum gw_err segment_sync_dir(const char *dir) MUST_CHECK;

/* Removes the file, if there is one. GW_EIO. */
enum gw_err segment_remove(const struct segment *g, const char *dir) MUST_CHECK;

/* Renames the file to NAME.spool.old, which nobody takes over. GW_EIO. */
enum gw_err segment_put_aside(const struct segment *g, const char *dir) MUST_CHECK;

/* Was the file removed under its owner? Asks no disk: the file is open. */
bool segment_has_lost_its_file(const struct segment *g);

/* From now on it is in memory only; what is in it stays. */
void segment_forget_file(struct segment *g);

/* Unmaps, unlocks, frees; the file stays. NULL is fine; returns NULL. */
struct segment *segment_free(struct segment *g);

/* Makes the directory and those above it, when they are missing. GW_EIO. */
enum gw_err segment_make_dir(const char *dir) MUST_CHECK;
