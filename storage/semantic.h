/*
 * semantic.h - questions that mean the same: vectors of questions that have kept answers.
 *
 * Searched within a partition only: everything of a request but its last question (tenant, model,
 * parameters, tools, the conversation before) makes the partition's key, so two questions are
 * compared only where a different wording is all that differs. In this process alone, exact, small.
 * Pure: time is an argument.
 */
#pragma once

#include "storage/lru.h"

/* Takes over bounds; the oldest questions go first. */
void semantic_set_limit(unsigned max_entries);
void semantic_deinit(void);

/* Remembers that the question with this vector was answered under `answer`. The vector is copied
 * and normalised; one of no length, or memory that is short, is not remembered. */
void semantic_add(const struct lru_key *partition, const float *vector, unsigned n,
                  const struct lru_key *answer, uint64_t dies_us);

/* The most similar live question of the partition, if its cosine similarity is at least `least`. */
bool semantic_find(const struct lru_key *partition, const float *vector, unsigned n, double least,
                   uint64_t now_us, struct lru_key *ret_answer, double *ret_similarity);

/* Forgets everything; how many there were. */
unsigned semantic_clear(void);
unsigned semantic_entries(void);

/* A JSON array of numbers as floats; the caller frees. NULL when it is none, or out of memory. */
float *semantic_parse(struct slice json_array, unsigned *ret_n);
