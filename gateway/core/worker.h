/*
 * worker.h - the supervisor: forks N workers that each run their own loop, replaces one that dies
 * (at once, then with a growing pause if it dies again within a second), passes SIGTERM, SIGINT,
 * SIGHUP and SIGUSR1 on, and ends when all workers have ended after SIGTERM or SIGINT. A second of
 * these kills them. It works as process 1: strangers left to it are reaped.
 */
#pragma once

#include "gateway/core/err.h"

/* A worker that ends with this status before it has ever been replaced found its configuration bad:
 * everything is stopped and the status returned, instead of starting it again and again. */
#define WORKER_EXIT_CONFIG 78

/*
 * Runs run(worker, arg) in n processes and supervises them until they have ended. Returns the exit
 * status for the whole: 0 when all workers ended with 0 after a stop, 78 as above, else 1. Called
 * before loop_init(): no loop, no threads yet. on_restart(arg) (or NULL) runs in the supervisor per
 * replacement.
 *
 * In a worker the signals above are still blocked when run() begins, so none is lost; loop_run()
 * unblocks them. What run() returns is the worker's exit status; it leaves through exit(). A worker
 * gets SIGTERM when the supervisor dies.
 *
 * With n == 1, and not as process 1, it simply returns run(0, arg) in this process.
 */
int worker_supervise(unsigned n, int (*run)(unsigned worker, void *arg),
                     void (*on_restart)(void *arg), void *arg);

/* In a worker, the process that supervises it; 0 where there is none. A signal sent there reaches
 * all workers. */
int worker_supervisor(void);
