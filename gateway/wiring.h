/*
 * wiring.h - what joins layers that do not know each other: providers and storage. Subsystems for
 * serve.c's table.
 */
#pragma once

#include "gateway/core/conf.h"
#include "gateway/core/err.h"

/* Circuits are shared through Redis. After provider_init() and redis_init(). */
enum gw_err wiring_start_circuits(const struct conf *c) MUST_CHECK;
void wiring_stop_circuits(void);
