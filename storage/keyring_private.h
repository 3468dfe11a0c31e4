/*
 * keyring_private.h - what keyring.c (what is remembered, who waits), keyring_fetch.c (statements
 * and their rows) and keyring_watch.c (version, revoked tokens, last use) know of each other.
 */
#pragma once

#include "storage/keyring.h"
#include "storage/keytext.h"
#include "storage/pg.h"

#define HASH_NONFATAL_OOM 1 /* else uthash ends the process when it cannot grow */
#include <sys/queue.h>
#include <uthash.h>

enum ring_kind { RING_KEY, RING_USER, RING_KINDS };
enum ring_state { RING_NEW, RING_KNOWN, RING_UNKNOWN };
/* Where an entry is: in the list of what rests (by state), queued for a look-up, or part of one. */
enum ring_place { RING_RESTING, RING_QUEUED, RING_SENT };

struct ring_waiter;
TAILQ_HEAD(ring_waiters, ring_waiter);

struct ring_id {
    unsigned char sha[KEYTEXT_SHA_BYTES]; /* of the key; of "user:" and the user's name */
};

/* What is known of one key or user. Belongs to the table; in exactly one list, which `place` and
 * `state` tell. */
struct ring_entry {
    struct ring_id id;
    enum ring_kind kind;
    enum ring_state state;
    enum ring_place place;
    bool again; /* asked after the version moved behind the statement under way: look once more */
    const struct principal *p;    /* KNOWN: counted; else NULL */
    int64_t tokens_valid_from_us; /* RING_USER: wall clock, 0 = no limit */
    uint64_t verified_us;         /* loop clock at which the look-up that says so began */
    uint64_t retry_us;            /* not looked up in the background before this */
    uint64_t touched_us;          /* RING_KEY: its use was noted then, 0 = never */
    int64_t version;              /* that was known when that look-up began */
    int64_t sent_version;         /* SENT: likewise of the one under way */
    unsigned slot;                /* SENT: its place in the batch */
    struct ring_waiters waiters;
    TAILQ_ENTRY(ring_entry) link;
    UT_hash_handle hh;
    char name[JWT_MAX_SUB + 1]; /* RING_USER: what is asked for */
};

TAILQ_HEAD(ring_list, ring_entry);

/* --- keyring.c ------------------------------------------------------------------------------ */

/* The entry of an id, or NULL. */
struct ring_entry *ring_find(const struct ring_id *id);
/* The id of a user's name. False out of memory, or when the name is too long for a token. */
bool ring_user_id(struct slice name, struct ring_id *ret);

/* The look-up of a SENT entry is over: p (the caller's reference, now the entry's) or NULL for
 * nobody. Answers all who wait, unless it must be asked once more. */
void ring_settle(struct ring_entry *e, const struct principal *p, int64_t tokens_valid_from_us,
                 uint64_t began_us, int64_t version);

/* The look-up of a QUEUED or SENT entry has failed. May free it. */
void ring_fail(struct ring_entry *e);

/* --- keyring_fetch.c ------------------------------------------------------------------------ */

/* Puts an entry, taken out of its list, in the queue; known ones go before unknown ones. */
void fetch_queue(struct ring_entry *e);
unsigned fetch_new_queued(void); /* unknown ones waiting to be sent */
unsigned fetch_pending(void);    /* all that are queued or sent */
/* Fails what is queued of a kind. */
void fetch_fail_queued(enum ring_kind kind);
/* Sends what may be sent, at the end of this turn. */
void fetch_pump(void);
void fetch_deinit(void);

/* --- keyring_watch.c ------------------------------------------------------------------------ */

void watch_init(void);
void watch_deinit(void);
void watch_now(void);
int64_t watch_version(void); /* 0 = not read yet */
bool watch_is_good(void);    /* read within the last moments */
/* The revoked tokens of watch_version() are here. */
bool watch_has_revoked(void);
bool watch_is_revoked(const char *jti);
unsigned watch_revoked(void);
/* The key was used: written down some seconds later, with others. False when there is no room. */
bool watch_touch(const char *key_id);
