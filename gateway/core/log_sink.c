/*
 * log_sink.c - see log_sink.h.
 *
 * Pipes and terminals are shared with other processes, so O_NONBLOCK must not be set on the
 * descriptor we were given: it is opened a second time through /proc, which makes a description of
 * our own. Writes to them are at most PIPE_BUF bytes of whole lines, which a pipe takes entirely or
 * not at all, so lines of several workers never mix.
 *
 * Rotation: the process that finds the file too long takes PATH.lock (without waiting), looks
 * again, renames the chain and opens a new file. The others notice that the path has another inode.
 */
#include "gateway/core/log_sink.h"

#include "gateway/core/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define EARLY_WRITE_BYTES                                                                          \
    (32u * 1024u) /* gathered bytes that do not wait for the end of the turn */
#define CHECK_BYTES (256u * 1024u)
#define CHECK_US 1000000u
#define CLOSE_WAIT_US 200000u
#define FILE_MODE 0640
#define DIR_MODE 0750

static uint64_t count_lines(const char *p, size_t n)
{
    uint64_t lines = 0;

    for (const char *end = p + n; (p = memchr(p, '\n', (size_t)(end - p))) != NULL; p++)
        lines++;
    return lines;
}

/* --- opening -------------------------------------------------------------------------------- */

static void make_parents(char *path)
{
    for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        (void)mkdir(path, DIR_MODE); /* what matters is whether the file opens */
        *slash = '/';
    }
}

/* Opens s->path and takes it over from the descriptor in use, if any. */
static bool open_path(struct log_sink *s)
{
    const int flags = O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
    int fd = open(s->path, flags, FILE_MODE);
    struct stat st;

    if (fd < 0 && errno == ENOENT) {
        make_parents(s->path);
        fd = open(s->path, flags, FILE_MODE);
    }
    if (fd < 0)
        return false;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        close(fd);
        return false;
    }
    if (s->fd >= 0)
        close(s->fd);
    s->fd = fd;
    s->dev = st.st_dev;
    s->ino = st.st_ino;
    s->unchecked = 0;
    return true;
}

static bool sink_init(struct log_sink *s, int fd, bool owns_fd)
{
    *s = (struct log_sink){.fd = fd, .owns_fd = owns_fd};
    s->p = malloc(LOG_SINK_BYTES);
    return s->p != NULL;
}

enum gw_err log_sink_open_file(struct log_sink *s, const char *path, uint64_t max_bytes,
                               unsigned keep)
{
    bool opened;

    if (sink_init(s, -1, true)) {
        s->max_bytes = max_bytes;
        s->keep = keep;
        s->path = strdup(path);
    }
    if (!s->path) {
        log_sink_close(s);
        return GW_ENOMEM;
    }
    opened = *s->path && open_path(s);
    if (!opened)
        log_sink_close(s);
    return opened ? GW_OK : GW_EIO;
}

enum gw_err log_sink_open_fd(struct log_sink *s, int fd)
{
    char path[32];
    struct stat st = {0};
    int own;

    if (!sink_init(s, fd, false))
        return GW_ENOMEM;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode)) {
        s->kind = SINK_FILE;
        return GW_OK;
    }
    if (S_ISSOCK(st.st_mode)) {
        s->kind = SINK_SOCKET;
        return GW_OK;
    }
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    own = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
    s->kind = own >= 0 ? SINK_OWN : SINK_POLLED;
    s->owns_fd = own >= 0;
    s->fd = own >= 0 ? own : fd;
    return GW_OK;
}

/* --- rotation ------------------------------------------------------------------------------- */

static void rename_chain(const struct log_sink *s)
{
    char from[PATH_MAX], to[PATH_MAX];

    if (!s->keep)
        (void)unlink(s->path);
    for (unsigned i = s->keep; i >= 1; i--) {
        int n = snprintf(to, sizeof(to), "%s.%u", s->path, i);
        int m = i > 1 ? snprintf(from, sizeof(from), "%s.%u", s->path, i - 1)
                      : snprintf(from, sizeof(from), "%s", s->path);

        if (n < 0 || m < 0 || (size_t)n >= sizeof(to) || (size_t)m >= sizeof(from))
            return;
        (void)rename(from, to); /* a missing link of the chain is no matter */
    }
}

/* True when the path still names our file; false when it was renamed or removed. */
static bool path_is_ours(const struct log_sink *s, struct stat *ret_st)
{
    return stat(s->path, ret_st) == 0 && ret_st->st_dev == s->dev && ret_st->st_ino == s->ino;
}

/* The file is too long. If another process is at it, or anything fails, we go on writing to the
 * file we have and look again at the next check. */
static void rotate(struct log_sink *s)
{
    char lock_path[PATH_MAX];
    struct stat st;
    int n = snprintf(lock_path, sizeof(lock_path), "%s.lock", s->path);
    int fd;

    if (n < 0 || (size_t)n >= sizeof(lock_path))
        return;
    fd = open(lock_path, O_RDWR | O_CREAT | O_CLOEXEC, FILE_MODE);
    if (fd < 0)
        return;
    if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
        if (path_is_ours(s, &st) && (uint64_t)st.st_size >= s->max_bytes)
            rename_chain(s);
        (void)open_path(s);
    }
    close(fd);
}

static void check_file(struct log_sink *s, uint64_t now_us)
{
    uint64_t every =
        s->max_bytes && s->max_bytes / 8 < CHECK_BYTES ? s->max_bytes / 8 : CHECK_BYTES;
    struct stat st;

    if (s->unchecked < every && now_us - s->checked_us < CHECK_US)
        return;
    s->checked_us = now_us;
    s->unchecked = 0;
    if (!path_is_ours(s, &st)) {
        (void)open_path(s);
        return;
    }
    if (s->max_bytes && (uint64_t)st.st_size >= s->max_bytes)
        rotate(s);
}

/* --- writing -------------------------------------------------------------------------------- */

/* How much to hand over at once: whole lines of at most PIPE_BUF bytes, or one longer line. */
static size_t chunk(const struct log_sink *s)
{
    const char *nl;

    if (s->kind == SINK_FILE)
        return s->n;
    if (s->n <= PIPE_BUF)
        return s->n;
    nl = memrchr(s->p, '\n', PIPE_BUF);
    if (nl)
        return (size_t)(nl - s->p) + 1;
    if (s->kind == SINK_POLLED)
        return PIPE_BUF;
    nl = memchr(s->p, '\n', s->n);
    return nl ? (size_t)(nl - s->p) + 1 : s->n;
}

static ssize_t write_some(const struct log_sink *s, const char *p, size_t n)
{
    struct pollfd pfd = {.fd = s->fd, .events = POLLOUT};

    if (s->kind == SINK_SOCKET)
        return send(s->fd, p, n, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (s->kind == SINK_POLLED && poll(&pfd, 1, 0) <= 0) {
        errno = EAGAIN;
        return -1;
    }
    return write(s->fd, p, n);
}

static void consume(struct log_sink *s, size_t n)
{
    s->n -= n;
    if (s->n)
        memmove(s->p, s->p + n, s->n);
}

/* Nobody will ever read these. */
static void drop_gathered(struct log_sink *s)
{
    s->dropped += count_lines(s->p, s->n);
    s->n = 0;
}

static void write_gathered(struct log_sink *s)
{
    size_t done = 0, all = s->n;
    char *start = s->p;
    ssize_t n = 0;
    int err = 0;

    while (s->n && !err) {
        n = write_some(s, s->p, chunk(s));
        if (n > 0) {
            s->p += n;
            s->n -= (size_t)n;
            done += (size_t)n;
        } else if (n == 0 || errno != EINTR) {
            err = n == 0 ? EIO : errno;
        }
    }
    s->p = start;
    s->n = all;
    consume(s, done);
    s->unchecked += done;
    s->stuck = err != 0;
    if (err == EPIPE || err == ECONNRESET || err == EBADF)
        drop_gathered(s);
}

void log_sink_add(struct log_sink *s, const char *line, size_t n, uint64_t now_us)
{
    if (n > LOG_SINK_BYTES - s->n) {
        s->dropped++;
        return;
    }
    memcpy(s->p + s->n, line, n);
    s->n += n;
    if (s->n > EARLY_WRITE_BYTES && !s->stuck)
        log_sink_flush(s, now_us);
}

void log_sink_flush(struct log_sink *s, uint64_t now_us)
{
    if (!s->n)
        return;
    if (s->path)
        check_file(s, now_us);
    write_gathered(s);
}

static void write_last(struct log_sink *s)
{
    uint64_t now = loop_clock_us(), deadline = now + CLOSE_WAIT_US;
    struct pollfd pfd = {.fd = s->fd, .events = POLLOUT};

    write_gathered(s);
    while (s->n && s->kind != SINK_FILE && now < deadline &&
           poll(&pfd, 1, (int)((deadline - now) / 1000u)) > 0) {
        write_gathered(s);
        now = loop_clock_us();
    }
    if (s->n)
        drop_gathered(s);
}

void log_sink_close(struct log_sink *s)
{
    if (s->n)
        write_last(s);
    if (s->owns_fd && s->fd >= 0)
        close(s->fd);
    s->fd = -1;
    free(s->p);
    free(s->path);
    s->p = s->path = NULL;
}
