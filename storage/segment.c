/*
 * segment.c - see segment.h.
 *
 *     new-NAME (locked, filled) --rename--> NAME.spool --owner done--> unlink
 *
 * The lock is taken before the file gets its real name, so nobody ever finds an unlocked file of a
 * living process. Who dies before the rename leaves new-NAME behind, which segment_adopt() removes.
 */
#include "storage/segment.h"

#include "gateway/core/rng.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#define MAGIC "PSTNSEG1"
#define SUFFIX ".spool"
#define RECORD_HEAD 8u
#define WINDOW (64u << 10) /* pages are asked for in steps of this */
#define MAX_SIZE (64u << 20)
#define PAGE_BYTES 4096u
#define PATH_BYTES 4224u

struct head {
    char magic[8];
    unsigned char id[UUID_BYTES];
    uint64_t size;
    uint32_t crc; /* of the fields above */
    char unused[28];
};

_Static_assert(sizeof(struct head) == SEGMENT_HEADER, "the head's layout is the file's format");

static uint32_t crc_of(const void *p, size_t n)
{
    return (uint32_t)crc32(0, p, (uInt)n);
}

static size_t round_up(size_t n)
{
    return (n + 7u) & ~(size_t)7u;
}

/* --- records -------------------------------------------------------------------------------- */

/* Makes sure that the pages of a record can be written to: what a full disk would otherwise turn
 * into SIGBUS is an error here. Kernels before 5.14 cannot tell; there posix_fallocate() has to do.
 */
static bool fault_in(struct segment *g, size_t upto)
{
    size_t n;

    while (g->faulted < upto) {
        n = g->size - g->faulted < WINDOW ? g->size - g->faulted : WINDOW;
        if (madvise(g->map + g->faulted, n, MADV_POPULATE_WRITE) != 0 && errno != EINVAL) {
            g->broken = true;
            return false;
        }
        g->faulted += n;
    }
    return true;
}

bool segment_append(struct segment *g, const char *p, size_t n)
{
    size_t need = RECORD_HEAD + round_up(n);
    unsigned char *to = g->map + g->end;
    uint32_t crc;

    if (n == 0 || n > SEGMENT_MAX_RECORD || g->sealed || g->broken || need > g->size - g->end ||
        !fault_in(g, g->end + need))
        return false;
    crc = crc_of(p, n);
    memcpy(to + RECORD_HEAD, p, n);
    memcpy(to + 4, &crc, sizeof(crc));
    __atomic_store_n((uint32_t *)(void *)to, (uint32_t)n, __ATOMIC_RELEASE);
    g->end += need;
    g->rows++;
    return true;
}

/* Is there a whole record at this offset? Its length, or 0. */
static size_t record_at(const unsigned char *map, size_t at, size_t limit)
{
    uint32_t n = __atomic_load_n((const uint32_t *)(const void *)(map + at), __ATOMIC_ACQUIRE);
    uint32_t crc;

    if (n == 0 || n > SEGMENT_MAX_RECORD || RECORD_HEAD + (size_t)n > limit - at)
        return 0;
    memcpy(&crc, map + at + 4, sizeof(crc));
    return crc == crc_of(map + at + RECORD_HEAD, n) ? n : 0;
}

struct slice segment_next(const struct segment *g, size_t *pos)
{
    size_t at = *pos < SEGMENT_HEADER ? SEGMENT_HEADER : round_up(*pos);
    size_t n;

    for (; at < g->end && g->end - at >= RECORD_HEAD; at += 8) {
        n = record_at(g->map, at, g->end);
        if (!n)
            continue;
        *pos = at + RECORD_HEAD + round_up(n);
        return slice_of((const char *)g->map + at + RECORD_HEAD, n);
    }
    return SLICE_NONE;
}

/* Counts the records of a file that was taken over, and finds its end. A length behind that
 * belonged to a record: the lengths of those that were never published are 0. */
static void count_records(struct segment *g)
{
    size_t pos = 0, before = SEGMENT_HEADER, last = SEGMENT_HEADER;
    struct slice r;
    uint32_t n;

    g->end = g->size & ~(size_t)7u;
    while ((r = segment_next(g, &pos)).p) {
        g->damaged += pos - RECORD_HEAD - round_up(r.n) - before;
        before = last = pos;
        g->rows++;
    }
    if (g->end - last >= RECORD_HEAD) {
        memcpy(&n, g->map + last, sizeof(n));
        g->damaged += n ? RECORD_HEAD : 0;
    }
    g->end = last;
}

/* --- making --------------------------------------------------------------------------------- */

static struct head *head_of(struct segment *g)
{
    return (struct head *)(void *)g->map;
}

static void write_head(struct segment *g)
{
    struct head *h = head_of(g);

    memcpy(h->magic, MAGIC, sizeof(h->magic));
    rng_uuid_bytes(h->id);
    h->size = g->size;
    h->crc = crc_of(h, offsetof(struct head, crc));
    uuid_write(g->name, h->id);
    g->end = SEGMENT_HEADER;
}

static enum gw_err error_of(int e)
{
    if (e == ENOSPC || e == EDQUOT || e == EFBIG)
        return GW_EFULL;
    return e == ENOMEM || e == EMFILE || e == ENFILE ? GW_ENOMEM : GW_EIO;
}

static bool path_in(char *to, const char *dir, const char *before, const char *name,
                    const char *after)
{
    int n = snprintf(to, PATH_BYTES, "%s/%s%s%s", dir, before, name, after);

    return n > 0 && n < (int)PATH_BYTES;
}

static struct segment *blank(size_t size)
{
    struct segment *g = calloc(1, sizeof(*g));

    if (!g)
        return NULL;
    g->fd = -1;
    g->size = size;
    return g;
}

struct segment *segment_create_in_memory(size_t size)
{
    struct segment *g = blank(size);
    void *map =
        g ? mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) : NULL;

    if (!g || map == MAP_FAILED) {
        free(g);
        return NULL;
    }
    g->map = map;
    g->faulted = size;
    write_head(g);
    return g;
}

/* Between its creation and its lock a new file looks like one of the dead: another process that
 * scans just then takes it away. So it is tried again. */
#define TRIES 4u

/* A new file of this size under the name new-NAME, locked; -1 and errno. */
static int open_new(const char *path, size_t size)
{
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    int e;

    if (fd < 0)
        return -1;
    e = flock(fd, LOCK_EX | LOCK_NB) != 0 ? errno : posix_fallocate(fd, 0, (off_t)size);
    if (!e)
        return fd;
    unlink(path);
    close(fd);
    errno = e;
    return -1;
}

/* Moves new-NAME to NAME.spool and closes what failed. */
static enum gw_err publish(const char *dir, const char *name, const char *from)
{
    char path[PATH_BYTES];

    if (!path_in(path, dir, "", name, SUFFIX))
        return GW_EIO;
    return rename(from, path) == 0 ? GW_OK : error_of(errno);
}

static enum gw_err map_file(struct segment *g)
{
    void *map = mmap(NULL, g->size, PROT_READ | PROT_WRITE, MAP_SHARED, g->fd, 0);

    if (map == MAP_FAILED)
        return error_of(errno);
    g->map = map;
    return GW_OK;
}

static enum gw_err create_once(const char *dir, size_t size, struct segment **ret)
{
    struct segment *g = blank(size);
    char path[PATH_BYTES], tag[33] = "";
    enum gw_err err = GW_OK;

    if (!g)
        return GW_ENOMEM;
    rng_hex(tag, 16);
    if (!path_in(path, dir, "new-", tag, ""))
        err = GW_EIO;
    if (!err) {
        g->fd = open_new(path, size);
        err = g->fd < 0 ? error_of(errno) : map_file(g);
    }
    if (!err && !fault_in(g, SEGMENT_HEADER))
        err = GW_EFULL;
    if (!err) {
        write_head(g);
        err = publish(dir, g->name, path);
    }
    if (!err) {
        *ret = g;
        return GW_OK;
    }
    if (g->fd >= 0)
        unlink(path);
    segment_free(g);
    return err;
}

enum gw_err segment_create(const char *dir, size_t size, struct segment **ret)
{
    enum gw_err err = GW_EIO;

    for (unsigned i = 0; i < TRIES && err == GW_EIO; i++)
        err = create_once(dir, size, ret);
    return err;
}

static bool write_all(int fd, const unsigned char *p, size_t n)
{
    ssize_t w;

    while (n) {
        w = write(fd, p, n);
        if (w < 0 && errno == EINTR)
            continue;
        if (w <= 0)
            return false;
        p += w;
        n -= (size_t)w;
    }
    return true;
}

static enum gw_err save_once(const struct segment *g, const char *dir, int *ret_fd)
{
    char path[PATH_BYTES];
    enum gw_err err;
    int fd;

    if (!path_in(path, dir, "new-", g->name, ""))
        return GW_EIO;
    fd = open_new(path, g->size);
    if (fd < 0)
        return error_of(errno);
    err = write_all(fd, g->map, g->end) ? publish(dir, g->name, path) : error_of(errno);
    if (!err) {
        *ret_fd = fd;
        return GW_OK;
    }
    unlink(path);
    close(fd);
    return err;
}

enum gw_err segment_save(const struct segment *g, const char *dir, int *ret_fd)
{
    enum gw_err err = GW_EIO;

    for (unsigned i = 0; i < TRIES && err == GW_EIO; i++)
        err = save_once(g, dir, ret_fd);
    return err;
}

void segment_settle(struct segment *g, int fd)
{
    void *map = mmap(NULL, g->size, PROT_READ, MAP_SHARED, fd, 0);

    g->fd = fd;
    if (map == MAP_FAILED)
        return; /* what is in memory says the same */
    munmap(g->map, g->size);
    g->map = map;
}

/* --- taking over ---------------------------------------------------------------------------- */

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);

    return n > m && strcmp(s + n - m, end) == 0;
}

/* Locks a file whose owner is dead; -1 when it lives, or the file is gone. */
static int open_orphan(const char *path, struct stat *ret)
{
    int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);

    if (fd < 0 && (errno == EROFS || errno == EACCES))
        fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return -1;
    if (flock(fd, LOCK_EX | LOCK_NB) == 0 && fstat(fd, ret) == 0 && ret->st_nlink > 0 &&
        S_ISREG(ret->st_mode))
        return fd;
    close(fd);
    return -1;
}

/* A copy in memory: what the disk cannot read any more, and a file that somebody cuts short, would
 * be SIGBUS in a map. Pages that cannot be read are zeros, which is damage like any other. */
static enum gw_err read_file(struct segment *g)
{
    void *map = mmap(NULL, g->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    size_t at, n;

    if (map == MAP_FAILED)
        return error_of(errno);
    g->map = map;
    for (at = 0; at < g->size; at += n) {
        n = g->size - at < PAGE_BYTES ? g->size - at : PAGE_BYTES;
        if (pread(g->fd, g->map + at, n, (off_t)at) < 0)
            memset(g->map + at, 0, n);
    }
    return GW_OK;
}

static bool head_is_good(struct segment *g, const char *file)
{
    const struct head *h = head_of(g);

    if (memcmp(h->magic, MAGIC, sizeof(h->magic)) != 0 ||
        h->crc != crc_of(h, offsetof(struct head, crc)))
        return false;
    uuid_write(g->name, h->id);
    return strncmp(file, g->name, SEGMENT_NAME - 1) == 0;
}

static enum gw_err set_aside(const char *path)
{
    char bad[PATH_BYTES + 8];

    snprintf(bad, sizeof(bad), "%s.bad", path);
    return rename(path, bad) == 0 ? GW_EBADREQ : GW_EAGAIN;
}

enum gw_err segment_adopt(const char *dir, const char *file, struct segment **ret)
{
    struct segment *g;
    struct stat st;
    char path[PATH_BYTES];
    enum gw_err err;
    int fd = path_in(path, dir, "", file, "") ? open_orphan(path, &st) : -1;

    if (fd < 0)
        return GW_EAGAIN;
    if (!ends_with(file, SUFFIX)) {
        unlink(path); /* new-NAME: it was never used */
        close(fd);
        return GW_EAGAIN;
    }
    g = blank((size_t)st.st_size);
    if (!g) {
        close(fd);
        return GW_ENOMEM;
    }
    g->fd = fd;
    g->sealed = g->adopted = g->unsure = true;
    err = g->size < SEGMENT_HEADER || g->size > MAX_SIZE ? GW_EBADREQ : read_file(g);
    if (!err && !head_is_good(g, file))
        err = GW_EBADREQ;
    if (err) {
        segment_free(g);
        return err == GW_EBADREQ ? set_aside(path) : err;
    }
    count_records(g);
    *ret = g;
    return GW_OK;
}

/* --- the rest ------------------------------------------------------------------------------- */

enum gw_err segment_sync(int fd)
{
    return fdatasync(fd) == 0 ? GW_OK : GW_EIO;
}

enum gw_err segment_sync_dir(const char *dir)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int rc = fd < 0 ? -1 : fsync(fd);

    if (fd >= 0)
        close(fd);
    return rc == 0 ? GW_OK : GW_EIO;
}

enum gw_err segment_remove(const struct segment *g, const char *dir)
{
    char path[PATH_BYTES];

    if (g->fd < 0)
        return GW_OK;
    if (!path_in(path, dir, "", g->name, SUFFIX))
        return GW_EIO;
    return unlink(path) == 0 || errno == ENOENT ? GW_OK : GW_EIO;
}

enum gw_err segment_put_aside(const struct segment *g, const char *dir)
{
    char from[PATH_BYTES], to[PATH_BYTES];

    if (!path_in(from, dir, "", g->name, SUFFIX) || !path_in(to, dir, "", g->name, SUFFIX ".old"))
        return GW_EIO;
    return rename(from, to) == 0 || errno == ENOENT ? GW_OK : GW_EIO;
}

bool segment_has_lost_its_file(const struct segment *g)
{
    struct stat st;

    return g->fd >= 0 && fstat(g->fd, &st) == 0 && st.st_nlink == 0;
}

void segment_forget_file(struct segment *g)
{
    close(g->fd);
    g->fd = -1;
    g->synced = 0;
}

struct segment *segment_free(struct segment *g)
{
    if (!g)
        return NULL;
    if (g->map)
        munmap(g->map, g->size);
    if (g->fd >= 0)
        close(g->fd);
    free(g);
    return NULL;
}

enum gw_err segment_make_dir(const char *dir)
{
    char path[PATH_BYTES];
    size_t n = strlen(dir), i;

    if (n == 0 || n >= sizeof(path))
        return GW_EIO;
    memcpy(path, dir, n + 1);
    for (i = 1; i <= n; i++) {
        if (path[i] != '/' && path[i] != '\0')
            continue;
        path[i] = '\0';
        if (mkdir(path, 0750) != 0 && errno != EEXIST)
            return GW_EIO;
        path[i] = dir[i];
    }
    return GW_OK;
}
