/* embeddings.h - embeddings, whatever surface they are asked for on. */
#pragma once

#include "gateway/core/json.h"
#include "gateway/http/request.h"
#include "providers/dialect.h"

/* A surface: how its body becomes a request for vectors and how the vectors are written. */
struct embed_form {
    /* Fills in *ask. Errors as a dialect's decode_request(). */
    enum gw_err (*decode)(struct request *req, struct json body, struct dialect_embed_request *ask,
                          struct convo_report *rep);
    /* Writes the members of the answer's object. `ans` has one vector for each input, `cached` says
     * which were there already. */
    void (*write)(struct json_writer *w, struct request *req,
                  const struct dialect_embed_request *ask, const struct dialect_embed_answer *ans,
                  const bool *cached);
};

/* Begins; the request is answered later, or right away when it is refused. */
void embeddings_begin(struct request *req, const struct embed_form *form);

/* embed_forms.c */
void embeddings_openai(struct request *req); /* POST /v1/embeddings */
void embeddings_native(struct request *req); /* POST /api/v1/embeddings */
extern const struct form embeddings_native_form;
