/*
 * readfile.c - see readfile.h.
 *
 * Opened without blocking, so that a FIFO in place of a file cannot hang the start; the size that
 * is obeyed is what was read, not what stat() said.
 */
#include "gateway/core/readfile.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHUNK 16384u

static enum gw_err open_regular(const char *path, int *ret_fd, const char **ret_why)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    struct stat st;

    if (fd < 0) {
        *ret_why = strerrordesc_np(errno);
        return errno == ENOENT || errno == ENOTDIR ? GW_ENOTFOUND : GW_EIO;
    }
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        *ret_why = "not a regular file";
        close(fd);
        return GW_EIO;
    }
    *ret_fd = fd;
    return GW_OK;
}

/* One read; *ret_end at the end of the file. */
static enum gw_err read_chunk(int fd, struct buf *b, bool *ret_end, const char **ret_why)
{
    /* One byte past the ceiling is asked for, to tell "just fits" from "too big". */
    size_t room = b->max - b->n, want = room < CHUNK ? room + 1 : CHUNK;
    char chunk[CHUNK + 1];
    ssize_t got = read(fd, chunk, want);

    if (got < 0 && errno == EINTR)
        return GW_OK;
    if (got < 0) {
        *ret_why = strerrordesc_np(errno);
        return GW_EIO;
    }
    *ret_end = got == 0;
    if ((size_t)got > room) {
        *ret_why = "too big";
        return GW_ETOOBIG;
    }
    buf_add(b, chunk, (size_t)got);
    *ret_why = "out of memory";
    return buf_err(b);
}

enum gw_err readfile(const char *path, struct buf *ret, const char **ret_why)
{
    bool end = false;
    int fd = -1;
    enum gw_err err = open_regular(path, &fd, ret_why);

    if (err)
        return err;
    while (!err && !end)
        err = read_chunk(fd, ret, &end, ret_why);
    close(fd);
    return err;
}

enum gw_err readfile_probe(const char *path, const char **ret_why)
{
    int fd = -1;
    enum gw_err err = open_regular(path, &fd, ret_why);

    if (!err)
        close(fd);
    return err;
}
