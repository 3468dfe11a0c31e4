/*
 * generate.h - Google's surface: route handlers of generate.c, and what its files share.
 *
 *     generate.c         which method of which model; generateContent, countTokens
 *     generate_embed.c   embedContent and batchEmbedContents
 *     generate_models.c  the lists of models
 */
#pragma once

#include "gateway/http/request.h"

void generate_post(struct request *req);   /* POST /v1beta/models/{model...}, a method at its end */
void generate_models(struct request *req); /* GET /v1beta/models */
void generate_model(struct request *req);  /* GET /v1beta/models/{id...} */

/* What the URL asks for. */
struct generate_target {
    struct slice model; /* as the gateway knows it, without "models/" */
    struct slice method;
};

/* "openai/gpt-4o:generateContent" in two, at the last colon; method is empty without one. */
struct generate_target generate_target_of(const struct request *req);

void generate_embed_one(struct request *req);
void generate_embed_batch(struct request *req);
