/*
 * screen.h - what is done with text that looks like an injection attempt (detect.h): counted in
 * security_detections_total, logged without the text, and refused where the field or the
 * configuration (security.free_text: off, flag, reject) says so.
 *
 * Fields that are no prose - identifiers, addresses, file names, URLs - are refused always. Prose
 * may hold SQL, HTML or shell: people ask an assistant about such things.
 */
#pragma once

#include "gateway/core/detect.h"
#include "gateway/http/request.h"

/* Looks at a piece of prose, all of it at once, and adds to what was found in the request. True
 * when it is to be refused. */
bool screen_free(const struct conf *c, unsigned *kinds, struct slice text);

/* Looks at a field that is no prose. True when it is to be refused. */
bool screen_strict(unsigned *kinds, struct slice text);

/* Counts and logs what was found in all of the request's text; nothing when nothing was. `refused`
 * says what became of the request. */
void screen_tell(struct request *req, unsigned kinds, bool refused);

/* What a field that was refused is told. */
#define SCREEN_DETAIL "holds what looks like an injection attempt"
