#include "init.h"

#include <stdio.h>

// Bounds on what the programs of a worker may send. Each is a debt that time pays: one that grows too large ends the
// worker.

void bounds_breach(enum weight weight, const char *bound)
{
	int64_t now = now_ms();
	if (worker.breaches_until < now)
		worker.breaches_until = now;
	worker.breaches_until += weight * 1000LL;
	if (worker.breaches_until > now + MAX_BREACHES * 1000LL)
		worker.broken = bound;
}

bool bounds_piece(void)
{
	int64_t now = now_us() * 1000;
	if (worker.pieces_until < now)
		worker.pieces_until = now;
	// Of a worker that takes a thousand calls at once, a piece takes less than a microsecond.
	int64_t each = 1000 * 1000 * 1000 / ((int64_t)PIECES_PER_SECOND * worker.config.concurrency);
	worker.pieces_until += each;
	return worker.pieces_until > now + each * MAX_PIECES;
}

void bounds_enforce(void)
{
	if (worker.broken == NULL || worker.phase == FAILED || worker.phase == STOPPING)
		return;
	worker.fault_bound = worker.broken;
	char text[128];
	snprintf(text, sizeof text, "the worker broke a bound of the Runtime API: %s", worker.broken);
	worker_fail("Runtime.Unknown", text, NULL);
}
