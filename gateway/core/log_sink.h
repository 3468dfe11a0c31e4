/*
 * log_sink.h - where log lines go: standard output, or a file that is rotated. Used by log.c alone.
 *
 * A sink gathers whole lines and writes them without ever waiting. What the descriptor does not
 * take stays gathered; lines that find no room are dropped and counted.
 */
#pragma once

#include "gateway/core/err.h"

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define LOG_SINK_BYTES (128u * 1024u) /* most that is held */

enum log_sink_kind {
    SINK_FILE,   /* regular file: write() */
    SINK_OWN,    /* pipe or terminal reopened with O_NONBLOCK, not shared with other programs */
    SINK_POLLED, /* the same, not reopenable: poll(), then small writes */
    SINK_SOCKET, /* send() with MSG_DONTWAIT */
};

struct log_sink {
    enum log_sink_kind kind;
    int fd;
    bool owns_fd;
    bool stuck;         /* the last write failed; only log_sink_flush() tries again */
    char *p;            /* gathered bytes, LOG_SINK_BYTES long; may begin inside a line */
    size_t n;           /* bytes gathered */
    uint64_t dropped;   /* lines */
    char *path;         /* of a file that may be rotated, else NULL */
    uint64_t max_bytes; /* rotate past this; 0 = never */
    unsigned keep;      /* PATH.1 ... PATH.keep */
    dev_t dev;
    ino_t ino;           /* of fd, to notice that another process has rotated */
    uint64_t unchecked;  /* bytes written since size and inode were looked up */
    uint64_t checked_us; /* when that was */
};

/* Opens (or makes, with its directories) the file at path for appending. GW_EIO, GW_ENOMEM. */
enum gw_err log_sink_open_file(struct log_sink *s, const char *path, uint64_t max_bytes,
                               unsigned keep) MUST_CHECK;

/* Writes to a descriptor that stays the caller's. GW_ENOMEM. */
enum gw_err log_sink_open_fd(struct log_sink *s, int fd) MUST_CHECK;

/* Takes one line, its newline included; writes by itself when more than 32 KiB are gathered. */
void log_sink_add(struct log_sink *s, const char *line, size_t n, uint64_t now_us);

/* Writes what the descriptor takes; checks whether the file must be rotated or has been. */
void log_sink_flush(struct log_sink *s, uint64_t now_us);

/* Writes what it can within 200 ms, counts the rest as dropped, closes. */
void log_sink_close(struct log_sink *s);
