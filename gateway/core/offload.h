/*
 * offload.h - a small pool of threads for system calls and hashing that would stall the loop.
 *
 * work() runs on a pool thread and may touch only what it was given; done() runs on the loop.
 */
#pragma once

#include "gateway/core/err.h"
#include "gateway/core/op.h"

/* Starts n threads (1..8) with at most max_queued jobs waiting. After loop_init() and any fork.
 * GW_ENOMEM when threads, descriptors or memory are out. */
enum gw_err offload_init(unsigned n_threads, unsigned max_queued) MUST_CHECK;

/* Waits for running jobs and joins the threads; drop() runs, here and now, for every job whose
 * done() has not run: the operations are dead and must not be cancelled any more. Before
 * loop_deinit(). */
void offload_deinit(void);

/*
 * Queues work(arg). done(arg) runs on the loop when it has finished. If the operation is cancelled
 * drop(arg) runs instead, on the loop, once no thread uses arg any more and never inside
 * op_cancel(); so exactly one of the two frees arg. A job cancelled before a thread took it is not
 * worked on. done and drop may start further jobs. Returns NULL when the queue is full or memory is
 * out: nothing was taken over.
 */
struct op *offload_run(void (*work)(void *), void (*done)(void *), void (*drop)(void *), void *arg);

/*
 * The same for work that keeps a processor busy for long, as hashing a password does. Such jobs
 * leave one thread (if there are two) to the others, and no more than OFFLOAD_MAX_LONG wait:
 * further ones are refused, since nobody would wait that long.
 */
#define OFFLOAD_MAX_LONG 32u
struct op *offload_run_long(void (*work)(void *), void (*done)(void *), void (*drop)(void *),
                            void *arg);

/* Jobs waiting, of both kinds. */
unsigned offload_queued(void);
