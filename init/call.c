#include "core.h"

#include <stdlib.h>
#include <string.h>

struct call *call_first_waiting(void)
{
	struct call *first = NULL;
	for (struct call *call = worker.calls; call != NULL; call = call->next)
		if (call->stage == WAITING && (first == NULL || call->order < first->order))
			first = call;
	return first;
}

int calls_running(void)
{
	int count = 0;
	for (struct call *call = worker.calls; call != NULL; call = call->next)
		count += call->stage == RUNNING;
	return count;
}

struct call *call_find(const char *id)
{
	for (struct call *call = worker.calls; call != NULL; call = call->next)
		if (call->stage != GONE && strcmp(call->id, id) == 0)
			return call;
	return NULL;
}

void call_free(struct call *call)
{
	for (struct call **place = &worker.calls; *place != NULL; place = &(*place)->next) {
		if (*place == call) {
			*place = call->next;
			break;
		}
	}
	char *texts[] = {call->id, call->version, call->function_arn, call->trace_id, call->client_context, call->cognito_identity,
	                 call->tenant_id, call->content_type, call->answer_type, call->error_type, call->message, call->error_body};
	for (size_t index = 0; index < sizeof texts / sizeof *texts; index++)
		free(texts[index]);
	buffer_free(&call->event);
	buffer_free(&call->held);
	free(call);
}

void call_stop_time(struct call *call)
{
	call->stopped_at = now_ms();
	call->stopped_until = awake_ms() + worker.config.keep_answers_ms;
}

void call_go_on(struct call *call)
{
	if (call->stopped_at != 0)
		call->deadline_at += now_ms() - call->stopped_at;
	call->stopped_at = 0;
}

// When the time of a call is over that has not ended. An agent that stays away holds up no runtime for ever.
int64_t call_due(const struct call *call, int64_t now)
{
	if (call->started_us == 0)
		return call->begin_by;
	bool stopped = call->stopped_at != 0 && awake_ms() < call->stopped_until;
	int64_t kept = stopped ? awake_at(now, call->stopped_until) : 0;
	return kept > call->deadline_at ? kept : call->deadline_at;
}

bool call_overdue(const struct call *call, int64_t now)
{
	return call->stage < ENDED && now >= call_due(call, now);
}

// Says whether nobody has to hear of a call any more. An agent that is there says itself when it has heard enough.
bool call_forgettable(const struct call *call, bool agent_there)
{
	if (call->stage != ENDED)
		return false;
	return agent_there ? call->forgotten && !call->changed : call->forgotten || awake_ms() >= call->forget_at;
}
