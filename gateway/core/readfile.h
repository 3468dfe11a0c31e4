/*
 * readfile.h - reads one small regular file whole. Blocks: for start-up, reloads and the offload
 * pool.
 */
#pragma once

#include "gateway/core/buf.h"
#include "gateway/core/err.h"

/*
 * Appends the file's bytes to `ret`, an initialised buffer the caller deinitialises. Only regular
 * files (or links to them) are read, and never more than the buffer's ceiling. GW_ENOTFOUND when
 * there is no such file, GW_ETOOBIG, GW_EIO, GW_ENOMEM; on failure *ret_why is a phrase for the
 * operator.
 */
enum gw_err readfile(const char *path, struct buf *ret, const char **ret_why) MUST_CHECK;

/* Can it be opened for reading, and is it a regular file? Errors as above. */
enum gw_err readfile_probe(const char *path, const char **ret_why) MUST_CHECK;
