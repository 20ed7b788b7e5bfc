#include "core.h"

// A runtime that takes several calls at once has as many requests for the next call waiting as it takes, or it asks for
// the next one as soon as it has one. How many it takes shows only so.

// Requests that waited at one time. As many wait again once all calls have ended.
static int most_waiting;
// The same with the calls under way.
static int most;
// Of these, those that calls hold whose time is over, or that did not come back.
static int held;

void places_clear(void)
{
	most_waiting = most = held = 0;
}

// A request for the next call waits.
void places_seen(int waiting)
{
	int taken = waiting + calls_running();
	if (waiting > most_waiting)
		most_waiting = waiting;
	if (taken > most)
		most = taken;
	// What was held has come back.
	if (held > most - taken)
		held = most - taken;
}

// A request that waited for a call is gone.
void places_lost(void)
{
	most_waiting -= most_waiting > 1;
	most -= most > 1;
	if (held > most)
		held = most;
}

// The time of a call is over. Says whether the runtime goes on without the place of the call.
bool places_hold(void)
{
	if (worker.config.concurrency == 1 || most < 2)
		return false;
	held += held < most;
	return true;
}

// No call is under way, and the time of the last one is over: what does not wait by then is held.
void places_settle(int waiting)
{
	if (most_waiting - held > waiting)
		held = most_waiting - waiting;
}

bool places_wait(int waiting)
{
	return waiting > 0 && waiting >= most_waiting - held;
}

static int within(int places)
{
	return places > worker.config.concurrency ? worker.config.concurrency : places;
}

int places_shown(void)
{
	return most < 1 ? 1 : within(most);
}

int places_held(void)
{
	return within(most) - within(most - held);
}
