/*
 * fuzz_segment.c - a file of the ledger's spool that was damaged: what is read back lies inside it,
 * is counted rightly, and is all that was written when nothing was changed; lines of the ledger are
 * read within their bounds.
 *
 * The input is a list of records (a byte for the length, the bytes), ended by an empty one; then
 * pairs of two bytes: an offset and what is put there.
 */
#include "storage/ledger_private.h"
#include "storage/segment.h"

#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define SIZE 8192u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char dir[] = "/tmp/postern-fuzz-XXXXXX";

static void remove_dir(void)
{
    rmdir(dir);
}

static void check_line(struct slice record)
{
    struct ledger_line l;
    const char *end = record.p + record.n;

    if (!ledger_line_read(record, &l))
        return;
    assert(!l.columns.n || l.columns.p + l.columns.n == end);
    assert(l.columns.n >= l.raw.n);
    assert(!l.raw.n || (l.raw.p >= l.columns.p && l.raw.p + l.raw.n == end));
    assert(l.at.p >= record.p && l.at.p + l.at.n <= end);
    assert(l.cost_nano_usd >= 0);
    ledger_due_add(&l);
    ledger_due_take(&l);
}

/* Appends the input's records; returns what is left of it. */
static struct slice fill(struct segment *g, struct slice in)
{
    while (in.n) {
        size_t n = (unsigned char)in.p[0];

        in = slice_from(in, 1);
        if (n == 0)
            break;
        n = n < in.n ? n : in.n;
        if (n == 0 || !segment_append(g, in.p, n))
            break;
        in = slice_from(in, n);
    }
    return in;
}

static bool damage(const char *path, struct slice in)
{
    int fd = open(path, O_RDWR);
    bool changed = false;

    assert(fd >= 0);
    for (; in.n >= 3; in = slice_from(in, 3)) {
        off_t at = (((unsigned char)in.p[0] << 8 | (unsigned char)in.p[1]) * 8u + 3) % SIZE;

        assert(pwrite(fd, in.p + 2, 1, at) == 1);
        changed = true;
    }
    if (in.n == 2) {
        assert(ftruncate(fd, (unsigned char)in.p[0] << 8 | (unsigned char)in.p[1]) == 0);
        changed = true;
    }
    close(fd);
    return changed;
}

/* Every record, in bounds and in order; how many. */
static uint64_t walk(const struct segment *g)
{
    size_t pos = 0, before = 0;
    struct slice r;
    uint64_t n = 0;

    while ((r = segment_next(g, &pos)).p) {
        assert(r.n && (const unsigned char *)r.p >= g->map + SEGMENT_HEADER);
        assert((const unsigned char *)r.p + r.n <= g->map + g->size);
        assert(pos > before && pos <= g->end);
        before = pos;
        check_line(r);
        n++;
    }
    return n;
}

static void adopt(const char *path, const char *file, uint64_t written, bool changed)
{
    struct segment *g;
    enum gw_err err = segment_adopt(dir, file, &g);
    char bad[256];

    if (err) {
        assert(changed && (err == GW_EBADREQ || err == GW_EAGAIN));
        snprintf(bad, sizeof(bad), "%s.bad", path);
        unlink(bad);
    } else {
        assert(walk(g) == g->rows && g->end <= g->size);
        assert(changed || (g->rows == written && g->damaged == 0));
        segment_free(g);
    }
    unlink(path);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice in = slice_of((const char *)data, size);
    static bool made;
    struct segment *g;
    char path[128], file[64];
    uint64_t written;
    bool changed;

    if (!made) {
        assert(mkdtemp(dir));
        atexit(remove_dir);
        made = true;
    }
    check_line(in);
    assert(segment_create(dir, SIZE, &g) == GW_OK);
    in = fill(g, in);
    written = g->rows;
    assert(walk(g) == written);
    snprintf(file, sizeof(file), "%s.spool", g->name);
    snprintf(path, sizeof(path), "%s/%s", dir, file);
    segment_free(g);
    changed = damage(path, in);
    adopt(path, file, written, changed);
    return 0;
}
