/* chat_screen.h - looks at the prose of a conversation before it is answered (screen.h). */
#pragma once

#include "gateway/http/request.h"
#include "providers/convo.h"

/* False when the request has been refused. The newest DETECT_MAX_BYTES of what user and system say
 * are looked at. */
bool chat_screen(struct request *req, const struct convo *convo);
