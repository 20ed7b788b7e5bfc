#include "core.h"

#include <stdio.h>
#include <string.h>

struct worker worker;

// Milliseconds that news may wait for other news. A worker that is called again and again is busy, then idle, in each
// call: told at once, each of them would wake the agent.
enum { NEWS_MS = 2 };

// A worker may be frozen when the runtime and all extensions wait for the next call, and none is under way.
bool worker_idle(int waiting, const char *late)
{
	return worker.phase == READY && !worker.resetting && places_wait(waiting) && call_first_waiting() == NULL && calls_running() == 0 &&
	       late == NULL;
}

void worker_news(void)
{
	worker.news = true;
}

void worker_news_soon(void)
{
	if (worker.news_by == 0)
		worker.news_by = now_ms() + NEWS_MS;
}

// Has next.c look at a call.
static void mark(struct call *call)
{
	struct call **place = &worker.marked;
	while (*place != NULL && *place != call)
		place = &(*place)->next_marked;
	*place = call;
}

static void call_changed(struct call *call)
{
	call->changed = true;
	worker_news();
}

// Has a call go of which nobody has to hear any more. A connection may still know it.
static void drop(struct call *call)
{
	call->stage = GONE;
	call->changed = false;
	mark(call);
}

// Ends a worker whose initialization failed. The init ends within a second.
void worker_fail(const char *type, const char *message, const char *body)
{
	if (worker.phase == FAILED || worker.phase == STOPPING)
		return;
	worker.phase = FAILED;
	worker.must_log_extensions = worker.init_due != 0;
	worker.must_log_init = true;
	set_text(&worker.fault_type, type, MAX_TEXT);
	set_text(&worker.fault_message, message, MAX_TEXT);
	set_text(&worker.fault_body, body, MAX_FAULT);
	worker.exit_code = 1;
	worker.finish_at = awake_ms() + 1000;
	for (struct call *call = worker.calls; call != NULL; call = call->next)
		worker_settle(call, call->stage == RUNNING ? "Exited" : "NotStarted", type, message);
	worker_news();
}

// Adds a call. A call whose id is known is not run again, but told again; one that was forgotten before it began is new.
void worker_take(struct call *call)
{
	struct call *known = call_find(call->id);
	if (known != NULL && known->forgotten && known->stage == ENDED) {
		drop(known);
	} else if (known != NULL) {
		// What of the answer was thrown away is gone.
		known->forgotten = known->forgotten && known->base > 0;
		known->changed = known->stage != ARRIVING;
		call_free(call);
		worker_news();
		return;
	}
	call->stage = ARRIVING;
	call->order = ++worker.orders;
	call->next = worker.calls;
	worker.calls = call;
	worker_arrive(call, NULL, 0);
}

// Adds bytes to the event of a call. The call begins to wait when the event is whole.
void worker_arrive(struct call *call, const char *bytes, size_t length)
{
	if (call->stage != ARRIVING)
		return;
	if (length > (size_t)call->size - call->event.length)
		length = (size_t)call->size - call->event.length;
	buffer_add(&call->event, bytes, length);
	if (call->event.length < (size_t)call->size)
		return;
	if (worker.phase == FAILED || worker.phase == STOPPING) {
		worker_settle(call, "NotStarted", NULL, "the worker is ending");
		return;
	}
	call->stage = WAITING;
}

// The agent has gone. Forgets calls whose event has not arrived in whole: no runtime has had them. Answers are kept for
// the next agent from now on. The time of a call that is being answered stands still: its runtime may wait for the agent.
void worker_agent_left(void)
{
	worker.agent_there = false;
	for (struct call *call = worker.calls, *next; call != NULL; call = next) {
		next = call->next;
		if (call->stage == ARRIVING)
			call_free(call);
		else if (call->stage == ENDED)
			call->forget_at = awake_ms() + worker.config.keep_answers_ms;
		else if (call->answering)
			call_stop_time(call);
	}
}

void worker_agent_came(void)
{
	worker.agent_there = true;
	for (struct call *call = worker.calls; call != NULL; call = call->next)
		call_go_on(call);
}

void worker_expire(struct call *call)
{
	if (call->stage != RUNNING && !call->returned) {
		worker_settle(call, "NotStarted", NULL, "no runtime took the call in time");
		return;
	}
	char text[80];
	bool had_runtime = call->stage == RUNNING;
	snprintf(text, sizeof text, "Task timed out after %.2f seconds", (double)call->timeout_ms / 1000);
	worker_settle(call, "Timeout", "Sandbox.Timedout", text);
	if (had_runtime && !places_hold())
		worker_restart("timeout");
}

// A runtime is to get a call now, for the first time. The caller has written its first line.
void worker_begin(struct call *call)
{
	call->started_us = now_us();
	call->deadline_at = now_ms() + call->timeout_ms;
	call->deadline_ms = wall_ms() + call->timeout_ms;
}

// Takes a call back whose request was gone before the call reached the runtime in whole. An event that ends two runtimes
// as they read it is that of an ended call.
void worker_return(struct call *call, bool begun)
{
	if (call->stage != RUNNING || worker.phase != READY || call->answering || (begun && call->returned))
		return;
	call->returned = call->returned || begun;
	call->stage = WAITING;
	call_changed(call);
}

void worker_waits(int waiting)
{
	places_seen(waiting);
	if (worker.init_ms == 0) {
		worker.init_ms = now_ms() - worker.began_ms;
		if (worker.init_ms == 0)
			worker.init_ms = 1;
	}
	worker_news_soon();
}

// Gives an outcome to each call at a stage.
void worker_end(enum stage stage, const char *outcome, const char *type, const char *message)
{
	for (struct call *call = worker.calls; call != NULL; call = call->next)
		if (call->stage == stage)
			worker_settle(call, outcome, type, message);
}

void worker_end_broken(int64_t awake)
{
	for (struct call *call = worker.calls; call != NULL; call = call->next)
		if (call->stage == RUNNING && call->answering && (awake == INT64_MAX || (call->broken_at != 0 && awake >= call->broken_at)))
			worker_settle(call, "Interrupted", "Runtime.TruncatedResponse", "the runtime broke its answer off");
}

// Gives a call its outcome.
void worker_settle(struct call *call, const char *outcome, const char *type, const char *message)
{
	if (call->stage >= ENDED)
		return;
	bool started = call->started_us != 0;
	call->stage = ENDED;
	// A runtime that had a part of the event may have begun.
	call->outcome = call->returned && strcmp(outcome, "NotStarted") == 0 ? "Exited" : outcome;
	set_text(&call->error_type, type, MAX_TEXT);
	set_text(&call->message, message, MAX_TEXT);
	// A runtime that is reading the event goes on; what it says of the call is refused.
	buffer_free(&call->event);
	if (started) {
		call->duration_us = now_us() - call->started_us;
		call->must_log_end = true;
		call_go_on(call);
		int64_t left = call->deadline_at - now_ms();
		worker.linger_at = awake_ms() + (left > 0 ? left : 0);
	}
	call->forget_at = awake_ms() + worker.config.keep_answers_ms;
	mark(call);
	call_changed(call);
}

// Drops what the agent has of an answer. An offset beyond the end is the agent's mistake, and is taken for the end.
void worker_acknowledge(struct call *call, int64_t offset)
{
	int64_t end = call->base + (int64_t)call->held.length;
	if (offset > end)
		offset = end;
	if (offset <= call->base)
		return;
	buffer_drop(&call->held, (size_t)(offset - call->base));
	call->base = offset;
	if (call->sent < offset)
		call->sent = offset;
	call->must_resume = true;
	mark(call);
	// There may be more of it than an agent takes at once.
	worker_news();
}

// Forgets a call. One that a runtime has goes on, its answer is thrown away, and its outcome is told.
void worker_forget(struct call *call)
{
	call->forgotten = true;
	worker_acknowledge(call, INT64_MAX);
	if (call->stage != RUNNING)
		worker_settle(call, "NotStarted", NULL, "the agent forgot the call");
	worker_news();
}

void worker_tell_again(struct call *call, int64_t number)
{
	if (call->forgotten)
		return;
	call->again = number;
	call->introduced = false;
	call->sent = call->base;
	call->window = WINDOW;
	call_changed(call);
}

int64_t worker_tick(int64_t now, int waiting, const char *late)
{
	int64_t next = 0;
	int64_t awake = awake_ms();
	if (worker.init_due != 0 && awake >= worker.init_due && (worker.init_ms == 0 || late != NULL)) {
		char text[256];
		snprintf(text, sizeof text, "Task timed out after %.2f seconds%s%.128s%s", (double)worker.config.init_timeout_ms / 1000,
		         late == NULL ? "" : ": extension ", late == NULL ? "" : late, late == NULL ? "" : " has not asked for an event");
		worker_fail("Sandbox.Timedout", text, NULL);
		worker.init_due = 0;
	}
	worker_end_broken(awake);
	for (struct call *call = worker.calls, *after; call != NULL; call = after) {
		after = call->next;
		if (call_overdue(call, now))
			worker_expire(call);
		if (call_forgettable(call, worker.agent_there)) {
			if (strcmp(call->outcome, "NotStarted") != 0)
				history_add(call->id);
			drop(call);
		} else if (call->stage != ENDED) {
			earliest(&next, call_due(call, now));
			earliest(&next, awake_at(now, call->broken_at));
		} else if (!worker.agent_there) {
			earliest(&next, awake_at(now, call->forget_at));
		}
	}
	if (worker.linger_at != 0 && awake >= worker.linger_at) {
		worker.linger_at = 0;
		// A runtime or an extension that does not ask for the next call by then is ended as after a timeout.
		if (worker.phase == READY && worker.init_ms != 0 && calls_running() == 0) {
			if (waiting == 0 || late != NULL)
				worker_restart("timeout");
			else
				places_settle(waiting);
			worker_news();
		}
	}
	earliest(&next, awake_at(now, worker.init_due));
	// Nothing is lingered for while all wait, for up to 15 minutes, or while another call is under way.
	if (calls_running() == 0 && !worker_idle(waiting, late))
		earliest(&next, awake_at(now, worker.linger_at));
	return next;
}

// Ends all processes, and starts extensions and runtime again. Container, network and files stay. Extensions hear why
// their end comes.
void worker_restart(const char *reason)
{
	if (worker.resetting || worker.phase != READY)
		return;
	worker.resetting = true;
	worker.phase = STARTING;
	worker.init_ms = 0;
	worker.init_due = 0;
	worker.linger_at = 0;
	worker.restarts++;
	set_text(&worker.stop_reason, reason, MAX_TEXT);
	worker.must_restart = true;
	worker_news();
}

// Ends all processes, and then the init.
void worker_stop(const char *reason, int64_t grace_ms)
{
	if (worker.phase == STOPPING)
		return;
	worker.phase = STOPPING;
	worker_end(WAITING, "NotStarted", NULL, "the worker is ending");
	set_text(&worker.stop_reason, reason, MAX_TEXT);
	worker.stop_grace_ms = grace_ms;
	worker.must_stop = true;
	if (worker.processes == 0)
		worker.finish_at = awake_ms() + 1000;
	worker_news();
}
