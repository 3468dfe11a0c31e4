/* teams.h - teams: whose members' keys share a budget, rates and a list of models. */
#pragma once

#include "storage/pg.h"

struct team {
    struct slice id, name, models; /* models: a JSON array of patterns */
    int64_t budget_nano_usd;       /* -1 = none */
    struct slice budget_period;
    int64_t requests_per_minute, tokens_per_minute; /* 0 = none */
    struct slice created_at;
    int64_t members;
    int64_t total; /* of a page */
};
bool team_read(const struct pg_rows *rows, unsigned row, struct team *ret);

struct team_new {
    struct slice id, name, models;
    int64_t budget_nano_usd; /* -1 = none */
    const char *budget_period;
    int64_t requests_per_minute, tokens_per_minute; /* 0 = none */
};
/* GW_ECONFLICT when the name is taken. */
struct op *teams_add(const struct team_new *t, uint64_t deadline_us, pg_done done, void *arg);
/* Replaces everything but the id; no row when there is no such team. */
struct op *teams_change(const struct team_new *t, uint64_t deadline_us, pg_done done, void *arg);
struct op *teams_page(int64_t limit, int64_t offset, uint64_t deadline_us, pg_done done, void *arg);
struct op *teams_by_id(struct slice id, uint64_t deadline_us, pg_done done, void *arg);
struct op *teams_by_name(struct slice name, uint64_t deadline_us, pg_done done, void *arg);
/* Its members stay, without a team. No row when there is no such team, or when it has keys that are
 * valid, which would lose its limits: teams_by_id() tells which. */
struct op *teams_remove(struct slice id, uint64_t deadline_us, pg_done done, void *arg);
