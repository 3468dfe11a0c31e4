/*
 * replay.c - runs a fuzz target over every file of its corpus, as an ordinary test.
 *
 *     replay_<stem> DIRECTORY
 *
 * Each input is handed over in an exactly sized heap copy, so that a sanitizer sees one byte too
 * far.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    long size;
    uint8_t *copy;

    if (!f)
        return -1;
    fseek(f, 0, SEEK_END);
    size = ftell(f);
    rewind(f);
    copy = malloc(size > 0 ? (size_t)size : 1);
    if (!copy || size < 0 || fread(copy, 1, (size_t)size, f) != (size_t)size) {
        free(copy);
        fclose(f);
        return -1;
    }
    fclose(f);
    LLVMFuzzerTestOneInput(copy, (size_t)size);
    free(copy);
    return 0;
}

int main(int argc, char **argv)
{
    DIR *dir = argc == 2 ? opendir(argv[1]) : NULL;
    struct dirent *e;
    char path[4096];
    unsigned n = 0;

    if (!dir) {
        fprintf(stderr, "usage: %s CORPUS-DIRECTORY\n", argv[0]);
        return 2;
    }
    while ((e = readdir(dir)) != NULL) {
        if (e->d_name[0] == '.')
            continue;
        snprintf(path, sizeof(path), "%s/%s", argv[1], e->d_name);
        if (replay_file(path) != 0) {
            fprintf(stderr, "cannot read %s\n", path);
            return 1;
        }
        n++;
    }
    closedir(dir);
    printf("%u inputs\n", n);
    return n ? 0 : 1;
}
