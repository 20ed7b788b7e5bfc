#include "init.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

// https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html

// Ends the requests for a call of a runtime that is no more, or whose place another request takes.
void runtime_forsake(void)
{
	for (struct connection *each; (each = connection_first_parked()) != NULL;)
		connection_close(each);
}

// A request for the next call. With one call at a time it takes the place of an earlier one: a client asks again after a
// time limit of its own.
void runtime_next(struct connection *connection)
{
	bool judged = connection->judged_at != 0;
	connection->judged_at = 0;
	if (worker.phase == FAILED || worker.resetting) {
		connection_close(connection);
		return;
	}
	// A runtime that ends in good order waits for its end.
	if (worker.config.concurrency == 1 && worker.phase != STOPPING) {
		runtime_forsake();
		worker_end_broken(INT64_MAX);
		if (calls_running() > 0 && !judged) {
			connection->judged_at = awake_ms() + OVERTAKEN_MS;
			return;
		}
		if (calls_running() > 0) {
			worker_end(RUNNING, "Interrupted", "Runtime.InvalidStateTransition",
			           "the runtime asked for the next call without an answer to the one before");
			connection_close(connection);
			worker_restart("failure");
			return;
		}
	}
	connection->waited = true;
	connection_park(connection, true);
	worker_waits(connections_waiting());
}

static void field(struct buffer *fields, const char *name, const char *value)
{
	if (value == NULL || *value == 0)
		return;
	buffer_text(fields, name);
	buffer_text(fields, ": ");
	for (const char *each = value; *each != 0; each++)
		buffer_add(fields, *each == '\r' || *each == '\n' ? " " : each, 1);
	buffer_text(fields, "\r\n");
}

void runtime_give(struct call *call)
{
	struct connection *connection = connection_first_parked();
	struct buffer fields = {0};
	char deadline[32];
	snprintf(deadline, sizeof deadline, "%lld", (long long)call->deadline_ms);
	// awslambdaric reads an event of any other type as text.
	field(&fields, "Content-Type", call->content_type == NULL ? "application/json" : call->content_type);
	field(&fields, "Lambda-Runtime-Aws-Request-Id", call->id);
	field(&fields, "Lambda-Runtime-Invocation-Id", call->invocation);
	field(&fields, "Lambda-Runtime-Deadline-Ms", deadline);
	field(&fields, "Lambda-Runtime-Invoked-Function-Arn", call->function_arn);
	field(&fields, "Lambda-Runtime-Trace-Id", call->trace_id);
	field(&fields, "Lambda-Runtime-Client-Context", call->client_context);
	field(&fields, "Lambda-Runtime-Cognito-Identity", call->cognito_identity);
	field(&fields, "Lambda-Runtime-Aws-Tenant-Id", call->tenant_id);
	buffer_add(&fields, "", 1);
	connection->call = call;
	connection->waited = false;
	answer_send(connection, 200, fields.bytes, call->event.bytes, call->event.length);
	buffer_free(&fields);
}

// The connection of a request for a call has ended. A call that has not gone out in whole waits again.
void runtime_left(struct connection *connection)
{
	struct call *call = connection->call;
	connection->call = NULL;
	if (call != NULL)
		worker_return(call, connection->written > 0);
	else if (connection->waited && !worker.resetting && worker.runtime != 0) {
		places_lost();
		// The end of a runtime that waits for many calls ends as many requests.
		if (worker.config.concurrency == 1)
			bounds_breach(SLIP, "one request for the next call at a time");
	}
	worker_news();
}

struct call *runtime_answer(struct connection *connection, const char *id, bool error)
{
	struct call *call = call_find(id);
	const char *invocation = connection->fields[INVOCATION_ID];
	if (call == NULL) {
		answer_refuse(connection, 400, "InvalidRequestID", "Invalid request ID");
		return NULL;
	}
	if (call->stage == ENDED || (invocation != NULL && strcmp(invocation, call->invocation) != 0)) {
		answer_refuse(connection, 410, "InvocationEnded", "the call has ended");
		return NULL;
	}
	if (call->stage != RUNNING || call->answering) {
		answer_refuse(connection, 403, "InvalidStateTransition", "State transition is not allowed");
		return NULL;
	}
	const char *mode = connection->fields[RESPONSE_MODE];
	call->answering = true;
	if (!worker.agent_there)
		call_stop_time(call);
	// The agent hears of the kind of the answer before its first byte.
	call->introduced = false;
	call->answers = connection;
	call->streaming = !error && mode != NULL && strcasecmp(mode, "streaming") == 0;
	set_text(&call->answer_type, connection->fields[CONTENT_TYPE], MAX_TEXT);
	connection->limit = call->streaming ? MAX_STREAMED : MAX_BUFFERED;
	call->changed = true;
	worker_news();
	return call;
}

// The whole answer is here. The runtime is told so when the call has its outcome.
void runtime_answered(struct connection *connection)
{
	struct call *call = connection->call;
	const char *type = connection->fields[ERROR_TYPE];
	bool error = connection->act == ERROR;
	if (!error)
		set_text(&call->error_body, connection->fields[ERROR_BODY], MAX_FAULT);
	call->answered = true;
	worker_settle(call, error || (type != NULL && *type != 0) ? "Error" : "Answered", type, NULL);
}

static struct connection *take_connection(struct call *call)
{
	struct connection *connection = call->answers;
	call->answers = NULL;
	connection->call = NULL;
	return connection;
}

void runtime_accept(struct call *call)
{
	answer_accept(take_connection(call));
}

void runtime_refuse(struct call *call)
{
	if (strcmp(call->outcome, "TooLarge") == 0)
		answer_refuse(take_connection(call), 413, "RequestEntityTooLarge", call->message);
	else
		answer_refuse(take_connection(call), 410, "InvocationEnded", "the call has ended");
}

void runtime_too_large(struct connection *connection)
{
	char message[128];
	snprintf(message, sizeof message, "Response payload size exceeded maximum allowed payload size (%lld bytes).",
	         (long long)connection->limit);
	worker_settle(connection->call, "TooLarge", "Function.ResponseSizeTooLarge", message);
}

void runtime_broke_off(struct connection *connection)
{
	struct call *call = connection->call;
	connection->call = NULL;
	call->answers = NULL;
	if (call->stage != RUNNING)
		return;
	// A process that has ended is heard of a moment later, and its end is what the caller is told.
	call->broken_at = awake_ms() + EXIT_KNOWN_MS;
}

void runtime_init_error(struct connection *connection, const char *body)
{
	if (worker.init_ms != 0) {
		answer_refuse(connection, 403, "InvalidStateTransition", "State transition is not allowed");
		return;
	}
	const char *type = connection->fields[ERROR_TYPE];
	worker_fail(type == NULL ? "Runtime.Unknown" : type, "the runtime reported an error in its initialization", body);
	answer_accept(connection);
}
