/* index.h - GET /api and GET /api/v1: what is here, for people and programs that look around. */
#pragma once

#include "gateway/http/request.h"

void index_get(struct request *req);
