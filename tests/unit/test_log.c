/* Log lines, their sinks and rotation. Lines are read back with cJSON, a parser not our own. */
#include "gateway/core/log.c"

#include "gateway/core/log_sink.c"

#include <cjson/cJSON.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <cmocka.h>

#define FILE_BYTES (256u * 1024u)

struct scene {
    char dir[64];
    char file[128];
    int saved_stdout;
    char text[FILE_BYTES];
    struct loop_timer timer;
    void (*in_turn)(struct scene *s);
};

static const struct log_ctx ctx = {.component = "http", .request_id = {"req-1", 5}};

static int setup(void **state)
{
    struct scene *s = calloc(1, sizeof(*s));

    assert_non_null(s);
    strcpy(s->dir, "/tmp/postern-log-XXXXXX");
    assert_non_null(mkdtemp(s->dir));
    snprintf(s->file, sizeof(s->file), "%s/deep/logs/api.log", s->dir);
    s->saved_stdout = dup(STDOUT_FILENO);
    assert_int_equal(loop_init(), GW_OK);
    log_reset_levels();
    *state = s;
    return 0;
}

static int teardown(void **state)
{
    struct scene *s = *state;
    char command[128];

    log_deinit();
    loop_timer_stop(&s->timer);
    loop_deinit();
    dup2(s->saved_stdout, STDOUT_FILENO);
    close(s->saved_stdout);
    snprintf(command, sizeof(command), "rm -rf %s", s->dir);
    assert_int_equal(system(command), 0);
    free(s);
    return 0;
}

static struct log_options options(const struct scene *s)
{
    return (struct log_options){
        .level = LVL_INFO, .json = true, .file = s->file, .service = "postern", .version = "1.2.3"};
}

static void open_log(const struct scene *s)
{
    struct log_options opt = options(s);

    assert_int_equal(log_init(&opt), GW_OK);
}

static const char *read_path(struct scene *s, const char *path)
{
    FILE *f = fopen(path, "r");
    size_t n;

    assert_non_null(f);
    n = fread(s->text, 1, sizeof(s->text) - 1, f);
    s->text[n] = '\0';
    fclose(f);
    return s->text;
}

static const char *read_file(struct scene *s)
{
    return read_path(s, s->file);
}

/* The file's only line, parsed; the caller deletes it. */
static cJSON *only_line(struct scene *s)
{
    const char *text = read_file(s), *end;
    cJSON *line = cJSON_ParseWithOpts(text, &end, false);

    assert_non_null(line);
    assert_string_equal(end, "\n");
    return line;
}

static const char *text_of(const cJSON *line, const char *key)
{
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(line, key));

    return text ? text : "(none)";
}

/* --- JSON ----------------------------------------------------------------------------------- */

static void test_a_line_is_one_json_object_with_its_fields_in_order(void **state)
{
    struct scene *s = *state;
    const char *at,
        *keys[] = {"timestamp", "level", "service", "version", "component", "request_id",
                   "message",   "path",  "status",  "took_ms", "cached",    "delta"};
    cJSON *line, *item;
    size_t i = 0;

    open_log(s);
    log_info(&ctx, "Request completed", F_CSTR("path", "/v1/models"), F_INT("status", 200),
             F_MS("took_ms", 1234567), F_BOOL("cached", 0), F_INT("delta", INT64_MIN));
    line = only_line(s);
    cJSON_ArrayForEach(item, line)
    {
        assert_true(i < sizeof(keys) / sizeof(keys[0]));
        assert_string_equal(item->string, keys[i]);
        i++;
    }
    assert_int_equal(i, sizeof(keys) / sizeof(keys[0]));
    assert_string_equal(text_of(line, "level"), "info");
    assert_string_equal(text_of(line, "service"), "postern");
    assert_string_equal(text_of(line, "version"), "1.2.3");
    assert_string_equal(text_of(line, "component"), "http");
    assert_string_equal(text_of(line, "request_id"), "req-1");
    assert_string_equal(text_of(line, "message"), "Request completed");
    at = strstr(s->text, "\"path\"");
    assert_string_equal(at, "\"path\":\"/v1/models\",\"status\":200,\"took_ms\":1234.567,"
                            "\"cached\":false,\"delta\":-9223372036854775808}\n");
    cJSON_Delete(line);
}

static void test_the_timestamp_is_rfc_3339_in_utc_with_milliseconds(void **state)
{
    struct scene *s = *state;
    time_t before = time(NULL);
    struct tm tm = {0};
    cJSON *line;
    const char *rest;

    open_log(s);
    log_info(NULL, "x");
    line = only_line(s);
    rest = strptime(text_of(line, "timestamp"), "%Y-%m-%dT%H:%M:%S", &tm);
    assert_non_null(rest);
    assert_int_equal(strlen(rest), 5);
    assert_int_equal(strspn(rest + 1, "0123456789"), 3);
    assert_int_equal(rest[0], '.');
    assert_int_equal(rest[4], 'Z');
    assert_true(timegm(&tm) >= before && timegm(&tm) <= time(NULL));
    assert_true(cJSON_IsNull(cJSON_GetObjectItemCaseSensitive(line, "request_id")));
    assert_null(cJSON_GetObjectItemCaseSensitive(line, "component"));
    cJSON_Delete(line);
}

static void test_hostile_bytes_never_reach_the_output_raw(void **state)
{
    static const char bad[] =
        "q\" b\\ n\n r\r t\t e\x1b[31m d\x7f nul\0 x\xff \xc0\xaf \xed\xa0\x80 "
        "\xe2\x82 c1\xc2\x9b ok\xc3\xa4\xf0\x9f\x98\x80";
    struct scene *s = *state;
    cJSON *line;

    open_log(s);
    log_info(&ctx, "bad\nmessage", F_STR("v", slice_of(bad, sizeof(bad) - 1)),
             F_CSTR("k\"\x01", "w"));
    line = only_line(s);
    for (const char *p = s->text; p[1]; p++)
        assert_true((unsigned char)*p >= 0x20 && *p != 0x7f);
    assert_null(strstr(s->text, "\xff"));
    assert_string_equal(text_of(line, "message"), "bad\nmessage");
    assert_non_null(
        strstr(s->text, "q\\\" b\\\\ n\\n r\\r t\\t e\\u001b[31m d\\u007f nul\\u0000 x"));
    assert_non_null(strstr(s->text, " x\xef\xbf\xbd \xef\xbf\xbd\xef\xbf\xbd "
                                    "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd \xef\xbf\xbd\xef\xbf\xbd "
                                    "c1\xef\xbf\xbd ok\xc3\xa4\xf0\x9f\x98\x80\""));
    assert_string_equal(text_of(line, "k\"\x01"), "w");
    cJSON_Delete(line);
}

static void test_a_long_line_is_cut_and_says_so(void **state)
{
    struct scene *s = *state;
    size_t n = 40000;
    char *big = malloc(n);
    cJSON *line;

    assert_non_null(big);
    for (size_t shift = 0; shift < 8; shift++) { /* the cut falls into every part of an escape */
        for (size_t i = 0; i < n; i++)
            big[i] = i % 3 ? '\x01' : 'a';
        open_log(s);
        log_info(&ctx, "x", F_STR("pad", slice_of("pppppppp", shift)),
                 F_STR("big", slice_of(big, n)), F_INT("after", 1));
        line = only_line(s);
        assert_true(strlen(s->text) <= LINE_BYTES);
        assert_true(strlen(s->text) > LINE_BYTES - 64);
        assert_true(cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(line, "truncated")));
        assert_null(cJSON_GetObjectItemCaseSensitive(line, "after"));
        cJSON_Delete(line);
        log_deinit();
        unlink(s->file);
    }
    free(big);
}

static void test_a_long_request_id_or_message_is_cut_too(void **state)
{
    struct scene *s = *state;
    size_t n = 2 * LINE_BYTES;
    char *big = malloc(n + 1);
    struct log_ctx long_ctx = {.component = "http"};
    cJSON *line;

    assert_non_null(big);
    memset(big, 'x', n);
    big[n] = '\0';
    for (int which = 0; which < 3; which++) {
        long_ctx.component = which == 0 ? big : "http";
        long_ctx.request_id = which == 1 ? slice_of(big, n) : SLICE_NONE;
        open_log(s);
        log_info(&long_ctx, which == 2 ? big : "m", F_INT("after", 1));
        line = only_line(s);
        assert_true(strlen(s->text) <= LINE_BYTES);
        assert_true(cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(line, "truncated")));
        cJSON_Delete(line);
        log_deinit();
        unlink(s->file);
    }
    free(big);
}

static void test_check_039_fields_named_like_secrets_are_redacted(void **state)
{
    static const char *const secret[] = {
        "key",        "api_key",        "X-Api-Key",     "apiKey",
        "token",      "accessToken",    "Authorization", "proxy_authorization_header",
        "password",   "db_passwd",      "client_secret", "secret_value",
        "Set-Cookie", "aws_credentials"};
    static const char *const plain_keys[] = {"input_tokens", "key_id", "path", "keys", "tokenizer"};
    struct scene *s = *state;

    for (size_t i = 0; i < sizeof(secret) / sizeof(secret[0]); i++)
        assert_true(names_a_secret(secret[i], strlen(secret[i])));
    for (size_t i = 0; i < sizeof(plain_keys) / sizeof(plain_keys[0]); i++)
        assert_false(names_a_secret(plain_keys[i], strlen(plain_keys[i])));
    open_log(s);
    log_info(&ctx, "x", F_CSTR("api_key", "hunter2"), F_INT("token", 4711), F_INT("tokens", 12));
    read_file(s);
    assert_null(strstr(s->text, "hunter2"));
    assert_null(strstr(s->text, "4711"));
    assert_non_null(strstr(s->text, "\"api_key\":\"[redacted]\",\"token\":\"[redacted]\","
                                    "\"tokens\":12}"));
}

/* --- levels --------------------------------------------------------------------------------- */

static void test_components_have_levels_of_their_own(void **state)
{
    static const struct log_ctx provider = {.component = "provider"};

    log_set_level(NULL, LVL_INFO);
    log_set_level("http", LVL_ERROR);
    log_set_level("provider", LVL_DEBUG);
    assert_false(log_enabled(LVL_WARN, &ctx));
    assert_true(log_enabled(LVL_ERROR, &ctx));
    assert_true(log_enabled(LVL_DEBUG, &provider));
    assert_false(log_enabled(LVL_DEBUG, NULL));
    assert_true(log_enabled(LVL_INFO, NULL));
    log_reset_levels();
    assert_true(log_enabled(LVL_WARN, &ctx));
    assert_false(log_enabled(LVL_DEBUG, &provider));
}

static void test_more_than_sixteen_component_levels_are_ignored(void **state)
{
    char name[16], too_long[40];
    struct log_ctx c = {.component = name};

    memset(too_long, 'x', sizeof(too_long) - 1);
    too_long[sizeof(too_long) - 1] = '\0';
    log_set_level(NULL, LVL_INFO);
    log_set_level(too_long, LVL_DEBUG);
    for (unsigned i = 0; i < 20; i++) {
        snprintf(name, sizeof(name), "part%u", i);
        log_set_level(name, LVL_DEBUG);
        assert_int_equal(log_enabled(LVL_DEBUG, &c), i < 16);
    }
    c.component = too_long;
    assert_false(log_enabled(LVL_DEBUG, &c));
}

static void test_level_names_are_understood_without_case(void **state)
{
    enum log_level level = LVL_DEBUG;

    assert_true(log_level_parse(SLICE("WARNING"), &level));
    assert_int_equal(level, LVL_WARN);
    assert_true(log_level_parse(SLICE("warn"), &level));
    assert_int_equal(level, LVL_WARN);
    assert_true(log_level_parse(SLICE("error"), &level));
    assert_int_equal(level, LVL_ERROR);
    assert_false(log_level_parse(SLICE("fatal"), &level));
    assert_false(log_level_parse(SLICE_NONE, &level));
    assert_int_equal(level, LVL_ERROR);
}

static void test_what_is_below_the_level_is_not_written(void **state)
{
    struct scene *s = *state;

    open_log(s);
    log_debug(&ctx, "no");
    log_warn(&ctx, "yes");
    assert_null(strstr(read_file(s), "no\""));
    assert_non_null(strstr(s->text, "\"level\":\"warn\""));
}

/* --- when lines are written ----------------------------------------------------------------- */

static void on_timer_in_turn(void *arg)
{
    struct scene *s = arg;

    s->in_turn(s);
}

static void run_in_turn(struct scene *s, void (*fn)(struct scene *s))
{
    s->in_turn = fn;
    loop_timer_init(&s->timer, on_timer_in_turn, s);
    loop_timer_set(&s->timer, 1);
    loop_turn();
}

static void log_two_lines(struct scene *s)
{
    log_info(&ctx, "first");
    log_info(&ctx, "second");
    assert_string_equal(read_file(s), "");
}

static void log_an_error(struct scene *s)
{
    log_info(&ctx, "third");
    log_error(&ctx, "fourth");
    assert_non_null(strstr(read_file(s), "fourth"));
}

static void log_much(struct scene *s)
{
    for (unsigned i = 0; i < 400; i++)
        log_info(&ctx, "some line that is long enough to gather thirty-two KiB in four hundred");
    assert_true(strlen(read_file(s)) > EARLY_WRITE_BYTES);
}

static void test_lines_are_gathered_until_the_turn_ends(void **state)
{
    struct scene *s = *state;

    open_log(s);
    run_in_turn(s, log_two_lines);
    assert_non_null(strstr(read_file(s), "second"));
}

static void test_errors_are_written_at_once_after_what_was_gathered(void **state)
{
    struct scene *s = *state;

    open_log(s);
    run_in_turn(s, log_an_error);
    assert_true(strstr(read_file(s), "third") < strstr(s->text, "fourth"));
}

static void test_much_text_does_not_wait_for_the_end_of_the_turn(void **state)
{
    struct scene *s = *state;

    open_log(s);
    run_in_turn(s, log_much);
}

static void test_before_the_start_lines_go_to_standard_error(void **state)
{
    struct scene *s = *state;
    int saved = dup(STDERR_FILENO), fd = open(s->dir, O_TMPFILE | O_RDWR, 0600);
    char text[256] = "";

    assert_true(fd >= 0);
    dup2(fd, STDERR_FILENO);
    log_warn(&ctx, "early");
    dup2(saved, STDERR_FILENO);
    close(saved);
    assert_true(pread(fd, text, sizeof(text) - 1, 0) > 0);
    close(fd);
    assert_non_null(strstr(text, "WARN  http: early request_id=req-1\n"));
}

static void test_a_file_that_cannot_be_opened_is_an_error(void **state)
{
    struct scene *s = *state;
    struct log_options opt = options(s);

    opt.file = "/proc/no/such/file";
    assert_int_equal(log_init(&opt), GW_EIO);
    opt.file = s->dir; /* a directory */
    assert_int_equal(log_init(&opt), GW_EIO);
    opt.file = "";
    assert_int_equal(log_init(&opt), GW_EIO);
}

static void test_libevents_own_messages_become_warnings_once_a_second(void **state)
{
    struct scene *s = *state;

    open_log(s);
    lg.foreign_us = 0;
    on_libevent(EVENT_LOG_WARN, "Error from accept() call");
    for (unsigned i = 0; i < 1000; i++)
        on_libevent(EVENT_LOG_WARN, "Error from accept() call again");
    on_libevent(EVENT_LOG_MSG, "chatter");
    read_file(s);
    assert_non_null(strstr(s->text, "\"level\":\"warn\""));
    assert_non_null(strstr(s->text, "\"message\":\"Error from accept() call\",\"left_out\":0}"));
    assert_null(strstr(s->text, "chatter"));
    assert_true(count_lines(s->text, strlen(s->text)) < 1000);
    lg.foreign_us = 1; /* long ago */
    s->text[0] = '\0';
    on_libevent(EVENT_LOG_WARN, "third");
    assert_non_null(strstr(read_file(s), "\"message\":\"third\",\"left_out\":"));
}

/* --- console -------------------------------------------------------------------------------- */

static void test_the_console_shows_key_value_pairs(void **state)
{
    struct scene *s = *state;
    struct log_options opt = options(s);

    opt.json = false;
    assert_int_equal(log_init(&opt), GW_OK);
    log_info(&ctx, "Request completed", F_CSTR("path", "/v1"), F_CSTR("why", "two words"),
             F_CSTR("none", ""), F_CSTR("esc", "a\x1b[31m"), F_MS("ms", -1500),
             F_CSTR("token", "t"));
    read_file(s);
    assert_int_equal(s->text[2], ':');
    assert_int_equal(s->text[8], '.');
    assert_string_equal(
        s->text + 12, " INFO  http: Request completed request_id=req-1 path=/v1 why=\"two words\" "
                      "none=\"\" esc=\"a\\u001b[31m\" ms=-1.500 token=[redacted]\n");
}

static void test_a_long_console_line_is_cut_and_says_so(void **state)
{
    struct scene *s = *state;
    struct log_options opt = options(s);
    static char big[2 * LINE_BYTES];
    static const char mark[] = " truncated=true\n";

    memset(big, 'x', sizeof(big) - 1);
    opt.json = false;
    assert_int_equal(log_init(&opt), GW_OK);
    log_info(&ctx, big, F_CSTR("a", "b"));
    log_info(&ctx, "m", F_CSTR("a", big));
    read_file(s);
    assert_int_equal(count_lines(s->text, strlen(s->text)), 2);
    assert_true(strlen(s->text) <= 2 * LINE_BYTES);
    assert_string_equal(s->text + strlen(s->text) - strlen(mark), mark);
}

/* --- standard output ------------------------------------------------------------------------ */

static void log_to_stdout(void)
{
    struct log_options opt = {.level = LVL_INFO, .json = true, .service = "postern"};

    assert_int_equal(log_init(&opt), GW_OK);
}

static void write_many(unsigned lines)
{
    for (unsigned i = 0; i < lines; i++)
        log_info(&ctx, "a line among many", F_INT("i", i),
                 F_CSTR("pad", "................................................................"));
}

/* Reads all there is; every line must be whole. Returns their number. */
static unsigned read_whole_lines(int fd)
{
    FILE *f = fdopen(fd, "r");
    char line[LINE_BYTES];
    unsigned n = 0;

    assert_non_null(f);
    while (fgets(line, sizeof(line), f)) {
        assert_true(strncmp(line, "{\"timestamp\":", 13) == 0);
        assert_true(strlen(line) > 3 && strcmp(line + strlen(line) - 3, "\"}\n") == 0);
        n++;
    }
    fclose(f);
    return n;
}

static void test_a_reader_that_stops_costs_whole_lines_and_never_blocks(void **state)
{
    uint64_t before = log_dropped();
    int fds[2];

    assert_int_equal(pipe(fds), 0);
    assert_int_equal(fcntl(fds[1], F_GETFL) & O_NONBLOCK, 0);
    dup2(fds[1], STDOUT_FILENO);
    log_to_stdout();
    write_many(5000); /* a megabyte; the pipe holds 64 KiB */
    assert_true(log_dropped() > before);
    assert_int_equal(fcntl(fds[1], F_GETFL) & O_NONBLOCK, 0); /* others write there too */
    log_deinit();
    close(fds[1]);
    dup2(STDERR_FILENO, STDOUT_FILENO);
    assert_true(read_whole_lines(fds[0]) > 100);
}

static void test_every_line_is_either_written_or_counted(void **state)
{
    uint64_t before = log_dropped();
    int fds[2];

    assert_int_equal(pipe(fds), 0);
    dup2(fds[1], STDOUT_FILENO);
    close(fds[1]);
    log_to_stdout();
    write_many(3000);
    log_deinit();
    dup2(STDERR_FILENO, STDOUT_FILENO);
    assert_int_equal(read_whole_lines(fds[0]) + (log_dropped() - before), 3000);
}

static void test_a_closed_pipe_counts_and_goes_on(void **state)
{
    uint64_t before = log_dropped();
    int fds[2];

    assert_int_equal(pipe(fds), 0);
    dup2(fds[1], STDOUT_FILENO);
    close(fds[1]);
    close(fds[0]);
    log_to_stdout();
    write_many(10);
    assert_int_equal(log_dropped() - before, 10);
}

static void test_lines_of_several_workers_on_one_pipe_do_not_mix(void **state)
{
    unsigned got;
    int fds[2];

    assert_int_equal(pipe(fds), 0);
    assert_true(fcntl(fds[1], F_SETPIPE_SZ, 1 << 20) >= 1 << 20); /* room for all of it */
    dup2(fds[1], STDOUT_FILENO);
    close(fds[1]);
    for (int i = 0; i < 3; i++) {
        if (fork() == 0) {
            close(fds[0]);
            log_to_stdout();
            write_many(600);
            log_deinit();
            _exit(0);
        }
    }
    for (int i = 0; i < 3; i++)
        wait(NULL);
    dup2(STDERR_FILENO, STDOUT_FILENO);
    got = read_whole_lines(fds[0]);
    assert_int_equal(got, 1800);
}

static void test_check_092_a_full_disk_costs_lines_and_nothing_else(void **state)
{
    struct scene *s = *state;
    uint64_t before = log_dropped();
    struct rlimit old, small;
    unsigned kept;
    int fd;

    signal(SIGXFSZ, SIG_IGN);
    open_log(s);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small = (struct rlimit){.rlim_cur = 1000, .rlim_max = old.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0); /* the file cannot grow past this */
    write_many(2000);
    assert_true(log_dropped() > before);
    assert_int_equal(strlen(read_file(s)), 1000);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0); /* and now there is room again */
    log_flush();
    fd = open(s->file, O_RDONLY);
    kept = read_whole_lines(fd);
    assert_true(kept > 100);
    assert_int_equal(kept + (log_dropped() - before), 2000);
    signal(SIGXFSZ, SIG_DFL);
}

static void test_check_092_standard_output_on_a_full_device_goes_on(void **state)
{
    uint64_t before = log_dropped();
    int fd = open("/dev/full", O_WRONLY);

    dup2(fd, STDOUT_FILENO);
    close(fd);
    log_to_stdout();
    write_many(2000);
    log_deinit();
    dup2(STDERR_FILENO, STDOUT_FILENO);
    assert_int_equal(log_dropped() - before, 2000);
}

static void test_both_sinks_get_every_line(void **state)
{
    struct scene *s = *state;
    struct log_options opt = options(s);
    char path[128];
    int fd;

    snprintf(path, sizeof(path), "%s/stdout", s->dir);
    fd = open(path, O_CREAT | O_RDWR, 0600);
    dup2(fd, STDOUT_FILENO);
    close(fd);
    opt.stdout_too = true;
    assert_int_equal(log_init(&opt), GW_OK);
    write_many(3);
    log_deinit();
    dup2(STDERR_FILENO, STDOUT_FILENO);
    assert_int_equal(read_whole_lines(open(path, O_RDONLY)), 3);
    assert_int_equal(read_whole_lines(open(s->file, O_RDONLY)), 3);
}

/* --- rotation ------------------------------------------------------------------------------- */

static unsigned count_path(const char *path, unsigned number)
{
    char name[160];
    int fd;

    if (number)
        snprintf(name, sizeof(name), "%s.%u", path, number);
    else
        snprintf(name, sizeof(name), "%s", path);
    fd = open(name, O_RDONLY);
    return fd < 0 ? 0 : read_whole_lines(fd);
}

static void test_a_long_file_is_renamed_and_old_ones_go(void **state)
{
    struct scene *s = *state;
    struct log_options opt = options(s);
    struct stat st;
    char name[160];

    opt.file_max_bytes = 4096;
    opt.file_keep = 2;
    assert_int_equal(log_init(&opt), GW_OK);
    write_many(200);
    log_deinit();
    assert_true(count_path(s->file, 0) > 0);
    assert_true(count_path(s->file, 1) > 10);
    assert_true(count_path(s->file, 2) > 10);
    assert_int_equal(count_path(s->file, 3), 0);
    for (unsigned i = 1; i <= 2; i++) {
        snprintf(name, sizeof(name), "%s.%u", s->file, i);
        assert_int_equal(stat(name, &st), 0);
        assert_true(st.st_size >= 4096 && st.st_size < 2 * 4096);
    }
}

static void test_several_workers_rotate_one_file_and_lose_nothing(void **state)
{
    struct scene *s = *state;
    struct log_options opt = options(s);
    uint64_t before = log_dropped();
    unsigned total = 0;
    int status;

    opt.file_max_bytes = 32 * 1024;
    opt.file_keep = 100;
    for (int i = 0; i < 4; i++) {
        if (fork() == 0) {
            if (log_init(&opt))
                _exit(1);
            write_many(1000);
            log_deinit();
            _exit(log_dropped() == before ? 0 : 2);
        }
    }
    for (int i = 0; i < 4; i++) {
        wait(&status);
        assert_int_equal(status, 0);
    }
    for (unsigned i = 0; i <= 100; i++)
        total += count_path(s->file, i);
    assert_int_equal(total, 4000);
    assert_true(count_path(s->file, 5) > 0); /* it was rotated often */
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_line_is_one_json_object_with_its_fields_in_order),
        TEST(test_the_timestamp_is_rfc_3339_in_utc_with_milliseconds),
        TEST(test_hostile_bytes_never_reach_the_output_raw),
        TEST(test_a_long_line_is_cut_and_says_so),
        TEST(test_a_long_request_id_or_message_is_cut_too),
        TEST(test_check_039_fields_named_like_secrets_are_redacted),
        TEST(test_components_have_levels_of_their_own),
        TEST(test_more_than_sixteen_component_levels_are_ignored),
        TEST(test_level_names_are_understood_without_case),
        TEST(test_what_is_below_the_level_is_not_written),
        TEST(test_lines_are_gathered_until_the_turn_ends),
        TEST(test_errors_are_written_at_once_after_what_was_gathered),
        TEST(test_much_text_does_not_wait_for_the_end_of_the_turn),
        TEST(test_before_the_start_lines_go_to_standard_error),
        TEST(test_a_file_that_cannot_be_opened_is_an_error),
        TEST(test_libevents_own_messages_become_warnings_once_a_second),
        TEST(test_the_console_shows_key_value_pairs),
        TEST(test_a_long_console_line_is_cut_and_says_so),
        TEST(test_a_reader_that_stops_costs_whole_lines_and_never_blocks),
        TEST(test_every_line_is_either_written_or_counted),
        TEST(test_a_closed_pipe_counts_and_goes_on),
        TEST(test_lines_of_several_workers_on_one_pipe_do_not_mix),
        TEST(test_check_092_a_full_disk_costs_lines_and_nothing_else),
        TEST(test_check_092_standard_output_on_a_full_device_goes_on),
        TEST(test_both_sinks_get_every_line),
        TEST(test_a_long_file_is_renamed_and_old_ones_go),
        TEST(test_several_workers_rotate_one_file_and_lose_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
