/* semantic.c - see semantic.h. A list, newest first; a hundred entries need no index. */
#include "storage/semantic.h"

#include <math.h>
#include <stdlib.h>
#include <sys/queue.h>

#define MAX_DIMENSION 8192u
#define DEFAULT_LIMIT 100u

struct question {
    struct lru_key partition, answer;
    uint64_t dies_us;
    TAILQ_ENTRY(question) link;
    unsigned n;
    float unit[]; /* of length 1 */
};

static TAILQ_HEAD(question_list, question) questions = TAILQ_HEAD_INITIALIZER(questions);
static unsigned n_questions, limit = DEFAULT_LIMIT;

static double dot(const float *a, const float *b, unsigned n)
{
    double sum = 0;

    for (unsigned i = 0; i < n; i++)
        sum += (double)a[i] * b[i];
    return sum;
}

static void forget(struct question *q)
{
    TAILQ_REMOVE(&questions, q, link);
    n_questions--;
    free(q);
}

void semantic_set_limit(unsigned max_entries)
{
    limit = max_entries;
    while (n_questions > limit)
        forget(TAILQ_LAST(&questions, question_list));
}

unsigned semantic_clear(void)
{
    unsigned had = n_questions;

    while (!TAILQ_EMPTY(&questions))
        forget(TAILQ_FIRST(&questions));
    return had;
}

void semantic_deinit(void)
{
    semantic_clear();
    limit = DEFAULT_LIMIT;
}

unsigned semantic_entries(void)
{
    return n_questions;
}

/* Writes v at length 1; false when it has no length, or an infinite one. */
static bool normalise(const float *v, unsigned n, float *to)
{
    double length = sqrt(dot(v, v, n));

    if (!isfinite(length) || length <= 0)
        return false;
    for (unsigned i = 0; i < n; i++)
        to[i] = (float)(v[i] / length);
    return true;
}

void semantic_add(const struct lru_key *partition, const float *vector, unsigned n,
                  const struct lru_key *answer, uint64_t dies_us)
{
    struct question *q;

    if (n == 0 || n > MAX_DIMENSION || limit == 0)
        return;
    q = calloc(1, sizeof(*q) + n * sizeof(float));
    if (!q)
        return;
    if (!normalise(vector, n, q->unit)) {
        free(q);
        return;
    }
    q->partition = *partition;
    q->answer = *answer;
    q->dies_us = dies_us;
    q->n = n;
    TAILQ_INSERT_HEAD(&questions, q, link);
    n_questions++;
    semantic_set_limit(limit);
}

static bool is_of(const struct question *q, const struct lru_key *partition, unsigned n)
{
    return q->n == n && memcmp(&q->partition, partition, sizeof(*partition)) == 0;
}

bool semantic_find(const struct lru_key *partition, const float *vector, unsigned n, double least,
                   uint64_t now_us, struct lru_key *ret_answer, double *ret_similarity)
{
    double length = sqrt(dot(vector, vector, n)), best = least;
    struct question *q, *next, *found = NULL;

    for (q = TAILQ_FIRST(&questions); q && length > 0 && isfinite(length); q = next) {
        double s;

        next = TAILQ_NEXT(q, link);
        if (q->dies_us <= now_us) {
            forget(q);
            continue;
        }
        s = is_of(q, partition, n) ? dot(q->unit, vector, n) / length : -2;
        if (s >= best) {
            best = s;
            found = q;
        }
    }
    if (!found)
        return false;
    *ret_answer = found->answer;
    *ret_similarity = best < 1 ? best : 1;
    return true;
}

float *semantic_parse(struct slice text, unsigned *ret_n)
{
    float *v = malloc(MAX_DIMENSION * sizeof(*v));
    char *copy = strndup(text.p ? text.p : "", text.n), *at = copy, *end;
    unsigned n = 0;
    bool good = v && copy && *at++ == '[';

    while (good && n < MAX_DIMENSION) {
        v[n] = strtof(at, &end);
        good = end != at;
        n += good;
        at = end + strspn(end, " \t\r\n");
        if (!good || *at != ',')
            break;
        at++;
    }
    good = good && *at == ']';
    free(copy);
    if (!good) {
        free(v);
        return NULL;
    }
    *ret_n = n;
    return v;
}
