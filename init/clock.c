#include "core.h"

#include <time.h>

// Milliseconds that a turn of the loop counts at most in awake_ms(), and in which the loop turns while a peer is waited for.
enum { LONGEST_TURN_MS = 1000 };

static int64_t clock_us(clockid_t id)
{
	struct timespec time;
	clock_gettime(id, &time);
	return (int64_t)time.tv_sec * 1000000 + time.tv_nsec / 1000;
}

int64_t now_us(void)
{
	return clock_us(CLOCK_MONOTONIC);
}

int64_t now_ms(void)
{
	return now_us() / 1000;
}

int64_t wall_ms(void)
{
	return clock_us(CLOCK_REALTIME) / 1000;
}

static int64_t awake;

int64_t awake_ms(void)
{
	return awake;
}

void awake_turn(void)
{
	static int64_t last;
	int64_t now = now_ms();
	if (last == 0)
		last = now;
	awake += now - last > LONGEST_TURN_MS ? LONGEST_TURN_MS : now - last;
	last = now;
}

void earliest(int64_t *first, int64_t at)
{
	if (at != 0 && (*first == 0 || at < *first))
		*first = at;
}

int64_t awake_at(int64_t now, int64_t due)
{
	int64_t left = due - awake;
	return due == 0 ? 0 : now + (left < LONGEST_TURN_MS ? left : LONGEST_TURN_MS);
}
