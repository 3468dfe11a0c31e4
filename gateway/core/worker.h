/*
 * worker.h - the supervisor: forks N workers that each run their own loop, replaces one that dies
 * (at once, then with a growing pause if it dies again within a second), passes SIGTERM, SIGHUP and
 * SIGUSR1 on, and ends when all workers have ended after SIGTERM. A second SIGTERM kills them.
 */
#pragma once

#include "gateway/core/err.h"

/* Runs run(worker, arg) in n processes and supervises them until they have ended. Returns the exit
 * status for the whole. Called before loop_init(): no loop, no threads yet. With n == 1 it simply
 * returns run(0, arg) in this process. on_restart(arg) runs in the supervisor per replacement. */
int worker_supervise(unsigned n, int (*run)(unsigned worker, void *arg),
                     void (*on_restart)(void *arg), void *arg);
