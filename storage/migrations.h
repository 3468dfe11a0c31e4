/*
 * migrations.h - the schema's steps, embedded in the program at build time from
 * storage/migrations/NNN_name.up.sql and .down.sql (embed.py).
 */
#pragma once

struct migration {
    int version; /* 1, 2, 3, ... without a hole */
    const char *name;
    const char *checksum; /* SHA-256 of the up file, as 64 hexadecimal digits */
    const char *up, *down;
};

extern const struct migration migrations[];
extern const unsigned n_migrations; /* = the version the program is made for */
