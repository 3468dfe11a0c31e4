/*
 * serve.h - the gateway's life: configuration, subsystems in order, signals, drain, reload.
 */
#pragma once

/* postern serve [--conf DIR] [--env-file FILE] */
int serve_command(int argc, char **argv);

/* postern check [--conf DIR] [--env-file FILE]: prints every problem; 78 when there is an error. */
int serve_check_command(int argc, char **argv);
