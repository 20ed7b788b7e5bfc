#include "core.h"

// What is to be done for the worker and its calls, one thing at a time. Whoever does it comes back with what came of that,
// as one of the events of worker.c, before it asks for the next.

// The initialization ends when runtime and extensions wait.
static void become_ready(const char *late)
{
	if (worker.init_ms == 0 || late != NULL)
		return;
	worker.init_due = 0;
	if (worker.phase != STARTING)
		return;
	worker.phase = READY;
	worker.must_log_extensions = worker.must_log_init = true;
	worker_news();
}

// The call that a waiting runtime is to have; NULL for none. A frozen worker may read a call long after it was sent.
static struct call *call_to_give(int waiting)
{
	if (worker.phase != READY || worker.resetting || worker.init_due != 0 || waiting == 0)
		return NULL;
	struct call *call;
	while ((call = call_first_waiting()) != NULL && call_overdue(call, now_ms()))
		worker_expire(call);
	return call;
}

static bool taken(bool *mark)
{
	bool was_set = *mark;
	*mark = false;
	return was_set;
}

static enum effect_kind owed_to(struct call *call)
{
	if (taken(&call->must_log_end))
		return LOG_END;
	if (call->stage >= ENDED && call->answers != NULL)
		return call->answered ? ACCEPT_ANSWER : REFUSE_ANSWER;
	if (taken(&call->must_resume) && call->answers != NULL)
		return RESUME_ANSWER;
	return call->stage == GONE ? FREE_CALL : NOTHING;
}

// The call whose lines come next; NULL for none.
static struct call *call_to_log(void)
{
	struct call *call = worker.marked;
	while (call != NULL && !call->must_log_end)
		call = call->next_marked;
	return call;
}

static struct effect owed_to_calls(void)
{
	struct effect effect = {NOTHING, NULL};
	for (struct call *call; effect.kind == NOTHING && (call = worker.marked) != NULL;) {
		effect = (struct effect){owed_to(call), call};
		// An answer that is accepted has the agent hear of all calls, those included that have ended with it.
		struct call *ended = effect.kind == ACCEPT_ANSWER ? call_to_log() : NULL;
		if (ended != NULL)
			effect = (struct effect){owed_to(ended), ended};
		if (effect.kind == NOTHING || effect.kind == FREE_CALL) {
			worker.marked = call->next_marked;
			call->next_marked = NULL;
		}
	}
	return effect;
}

// Processes end after the lines of their calls, which say how much memory they took.
static enum effect_kind owed_to_processes(void)
{
	if (taken(&worker.must_tell_shutdown))
		return TELL_SHUTDOWN;
	if (taken(&worker.must_restart))
		return END_FOR_RESTART;
	if (taken(&worker.must_stop))
		return END_FOR_GOOD;
	return worker.resetting && worker.processes == 0 && worker.phase != STOPPING ? START_AGAIN : NOTHING;
}

struct effect next_effect(int waiting, const char *late)
{
	become_ready(late);
	struct call *given = call_to_give(waiting);
	if (taken(&worker.must_log_extensions))
		return (struct effect){LOG_EXTENSIONS, NULL};
	if (taken(&worker.must_log_init))
		return (struct effect){LOG_INIT_END, NULL};
	struct effect effect = owed_to_calls();
	if (effect.kind != NOTHING)
		return effect;
	enum effect_kind kind = owed_to_processes();
	if (kind != NOTHING || given == NULL)
		return (struct effect){kind, NULL};
	given->stage = RUNNING;
	given->changed = true;
	worker_news_soon();
	return (struct effect){GIVE_CALL, given};
}
