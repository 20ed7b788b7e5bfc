#include "init.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// https://docs.aws.amazon.com/lambda/latest/dg/runtimes-extensions-api.html

static struct extension *const first = worker.extensions;
static struct extension *const end = worker.extensions + MAX_EXTENSIONS;

struct extension *extension_add(const char *name)
{
	for (struct extension *each = first; each < end; each++) {
		if (each->used)
			continue;
		*each = (struct extension){.used = true, .name = copy_text(name), .state = "Started"};
		token(each->id);
		return each;
	}
	return NULL;
}

static struct extension *named(const char *name)
{
	for (struct extension *each = first; each < end; each++)
		if (each->used && strcmp(each->name, name) == 0)
			return each;
	return NULL;
}

struct extension *extension_of(pid_t pid)
{
	for (struct extension *each = first; each < end; each++)
		if (each->used && each->pid == pid && pid != 0)
			return each;
	return NULL;
}

static void drop(struct extension *extension)
{
	if (extension->waits != NULL)
		connection_close(extension->waits);
	while (extension->event_count > 0)
		free(extension->events[--extension->event_count]);
	free(extension->name);
	*extension = (struct extension){0};
}

void extension_clear(void)
{
	for (struct extension *each = first; each < end; each++)
		drop(each);
}

int64_t extensions_grace(void)
{
	int64_t grace_ms = 0;
	for (struct extension *each = first; each < end; each++) {
		if (each->pid != 0)
			return EXTERNAL_GRACE_MS;
		if (each->internal)
			grace_ms = INTERNAL_GRACE_MS;
	}
	return grace_ms;
}

void extensions_say(const char *error_type)
{
	for (struct extension *each = first; each < end; each++) {
		bool good = each->used && (strcmp(each->state, "Started") == 0 || strcmp(each->state, "Registered") == 0 || strcmp(each->state, "Ready") == 0);
		if (each->used)
			log_extension(each, good ? NULL : error_type);
	}
}

// Says whether an extension that lives wants to hear of the end.
bool extensions_heed_shutdown(void)
{
	for (struct extension *each = first; each < end; each++)
		if (each->pid != 0 && each->shutdown)
			return true;
	return false;
}

bool extensions_registered(void)
{
	for (struct extension *each = first; each < end; each++)
		if (each->used && !each->registered)
			return false;
	return true;
}

const char *extensions_late(void)
{
	for (struct extension *each = first; each < end; each++)
		if (each->used && each->waits == NULL)
			return each->name;
	return NULL;
}

static void deliver(struct extension *extension)
{
	if (extension->waits == NULL || extension->event_count == 0)
		return;
	char *event = extension->events[0];
	memmove(extension->events, extension->events + 1, sizeof extension->events - sizeof *extension->events);
	extension->event_count--;
	struct connection *connection = extension->waits;
	extension->waits = NULL;
	char id[37];
	token(id);
	char fields[128];
	snprintf(fields, sizeof fields, "Content-Type: application/json\r\nLambda-Extension-Event-Identifier: %s\r\n", id);
	answer_send(connection, 200, fields, event, strlen(event));
	free(event);
	worker_news();
}

static void send(struct extension *extension, struct buffer *event)
{
	if (extension->event_count == MAX_EXTENSION_EVENTS)
		free(extension->events[--extension->event_count]);
	buffer_add(event, "", 1);
	extension->events[extension->event_count++] = event->bytes;
	deliver(extension);
}

void extensions_invoke(const struct call *call)
{
	for (struct extension *each = first; each < end; each++) {
		if (!each->used || !each->invoke)
			continue;
		struct buffer event = {0};
		buffer_format(&event, "{\"eventType\":\"INVOKE\",\"deadlineMs\":%lld,\"requestId\":", (long long)call->deadline_ms);
		buffer_quote(&event, call->id);
		buffer_text(&event, ",\"invokedFunctionArn\":");
		buffer_quote(&event, call->function_arn == NULL ? "" : call->function_arn);
		buffer_text(&event, ",\"tracing\":{\"type\":\"X-Amzn-Trace-Id\",\"value\":");
		buffer_quote(&event, call->trace_id == NULL ? "" : call->trace_id);
		buffer_text(&event, "}}");
		send(each, &event);
	}
}

// Tells extensions of the end. Those that did not ask for it are ended.
void extensions_shutdown(const char *reason, int64_t deadline_ms)
{
	for (struct extension *each = first; each < end; each++) {
		if (each->pid == 0)
			continue;
		if (!each->shutdown) {
			kill(-each->pid, SIGKILL);
			continue;
		}
		struct buffer event = {0};
		buffer_text(&event, "{\"eventType\":\"SHUTDOWN\",\"shutdownReason\":");
		buffer_quote(&event, reason);
		buffer_format(&event, ",\"deadlineMs\":%lld}", (long long)deadline_ms);
		send(each, &event);
	}
}

void extension_left(struct connection *connection)
{
	for (struct extension *each = first; each < end; each++) {
		if (each->waits == connection) {
			each->waits = NULL;
			worker_news();
		}
	}
}

// While the runtime initializes, parts of its process may register under names of their own. NULL after a refusal.
static struct extension *internal(struct connection *connection, const char *name)
{
	if (worker.runtime == 0 || worker.init_ms != 0) {
		answer_refuse(connection, 403, "Extension.RegistrationClosed", "Extension registration closed already");
		return NULL;
	}
	struct extension *extension = extension_add(name);
	if (extension == NULL)
		answer_refuse(connection, 403, "Extension.TooManyExtensions", "Extension limit (10) reached");
	else
		extension->internal = true;
	return extension;
}

// Takes the names of {"events": ["INVOKE", …]}. Says whether the extension may have all of them.
static bool take_events(struct extension *extension, const char *body)
{
	extension->invoke = extension->shutdown = false;
	const char *place = strchr(body, '[');
	const char *last = place == NULL ? NULL : strchr(place, ']');
	while (last != NULL && (place = strchr(place, '"')) != NULL && place < last) {
		const char *close = strchr(place + 1, '"');
		if (close == NULL)
			return false;
		size_t length = (size_t)(close - place - 1);
		if (length == 6 && strncmp(place + 1, "INVOKE", length) == 0)
			extension->invoke = true;
		else if (length == 8 && strncmp(place + 1, "SHUTDOWN", length) == 0 && !extension->internal)
			extension->shutdown = true;
		else
			return false;
		place = close + 1;
	}
	return true;
}

void extension_register(struct connection *connection, const char *body)
{
	const char *name = connection->fields[EXTENSION_NAME];
	if (name == NULL || *name == 0 || strlen(name) > 128) {
		answer_refuse(connection, 403, "Extension.InvalidExtensionName", "the header Lambda-Extension-Name is missing or too long");
		return;
	}
	struct extension *extension = named(name);
	if (extension == NULL && (extension = internal(connection, name)) == NULL)
		return;
	if (extension->registered) {
		answer_refuse(connection, 403, "Extension.InvalidExtensionState", "the extension has registered before");
		return;
	}
	if (!take_events(extension, body)) {
		answer_refuse(connection, 403, "Extension.InvalidEventType", "there is no such event for this extension");
		if (extension->internal)
			drop(extension);
		return;
	}
	extension->registered = true;
	extension->state = "Registered";
	char identifier[128];
	snprintf(identifier, sizeof identifier, "Content-Type: application/json\r\nLambda-Extension-Identifier: %s\r\n", extension->id);
	struct buffer about = {0};
	buffer_text(&about, "{\"functionName\":");
	buffer_quote(&about, environment("AWS_LAMBDA_FUNCTION_NAME"));
	buffer_text(&about, ",\"functionVersion\":");
	buffer_quote(&about, environment("AWS_LAMBDA_FUNCTION_VERSION"));
	buffer_text(&about, ",\"handler\":");
	buffer_quote(&about, environment("_HANDLER"));
	buffer_text(&about, "}");
	answer_send(connection, 200, identifier, about.bytes, about.length);
	buffer_free(&about);
}

// Finds the extension that asks. Where there is none it refuses, and returns NULL.
static struct extension *identified(struct connection *connection)
{
	const char *id = connection->fields[EXTENSION_ID];
	for (struct extension *each = first; id != NULL && each < end; each++)
		if (each->used && each->registered && strcmp(each->id, id) == 0)
			return each;
	if (id == NULL)
		answer_refuse(connection, 403, "Extension.MissingExtensionIdentifier", "the header Lambda-Extension-Identifier is missing");
	else
		answer_refuse(connection, 403, "Extension.UnknownExtensionIdentifier", "there is no extension of that identifier");
	return NULL;
}

void extension_next(struct connection *connection)
{
	struct extension *extension = identified(connection);
	if (extension == NULL)
		return;
	if (extension->waits != NULL) {
		bounds_breach(SLIP, "one request for the next event at a time");
		connection_close(extension->waits);
	}
	extension->waits = connection;
	extension->state = "Ready";
	connection_park(connection, true);
	deliver(extension);
	worker_news();
}

void extension_fault(struct connection *connection, bool init)
{
	struct extension *extension = identified(connection);
	if (extension == NULL)
		return;
	if (connection->fields[EXTENSION_ERROR_TYPE] == NULL) {
		answer_refuse(connection, 403, "Extension.MissingHeader", "Lambda-Extension-Function-Error-Type not found");
		return;
	}
	if (init && worker.init_due == 0) {
		answer_refuse(connection, 403, "Extension.InvalidExtensionState", "the initialization is over");
		return;
	}
	extension->state = init ? "InitError" : "ExitError";
	if (worker.first_fault == NULL)
		set_text(&worker.first_fault, init ? "Extension.InitError" : "Extension.ExitError", MAX_TEXT);
	answer_accept(connection);
}
