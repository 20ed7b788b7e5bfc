#include "init.h"

#include <stdlib.h>
#include <string.h>

// Kinds of frames from the agent.
enum order {
	INVOKE = 'I', // A call begins; its event follows in event frames, size bytes in all.
	EVENT = 'E',  // Bytes of a call's event, in order.
	ACK = 'A',    // The agent has the answer up to an offset.
	FORGET = 'F', // No caller waits for a call any more.
	TELL = 'T',   // Tell of a call once more, as to an agent that has just connected.
	ALONE = 'L',  // From now on the calls of this worker come to this container alone.
	OTHERS = 'O', // From now on calls of this worker may come to other containers as well.
	STOP = 'S',   // End extensions and runtime, then the init.
};

// Value of a line of a frame, allocated; NULL when there is none.
static char *value_of(const char *payload, size_t length, const char *name)
{
	size_t name_length = strlen(name);
	for (const char *line = payload, *end = payload + length; line < end;) {
		const char *last = memchr(line, '\n', (size_t)(end - line));
		if (last == NULL)
			last = end;
		if ((size_t)(last - line) > name_length && strncmp(line, name, name_length) == 0 && line[name_length] == '=') {
			char *value = allocate((size_t)(last - line));
			size_t count = 0;
			for (const char *each = line + name_length + 1; each < last; each++) {
				if (*each == '\\' && each + 1 < last) {
					each++;
					value[count++] = *each == 'n' ? '\n' : *each;
				} else {
					value[count++] = *each;
				}
			}
			return value;
		}
		line = last + 1;
	}
	return NULL;
}

static bool number_of(const char *payload, size_t length, const char *name, int64_t *into)
{
	char *value = value_of(payload, length, name);
	if (value == NULL)
		return false;
	char *end;
	*into = strtoll(value, &end, 10);
	// Sums of such numbers and of clocks stay within 64 bits.
	bool good = end != value && *end == 0 && *into >= 0 && *into < 1LL << 53;
	free(value);
	return good;
}

// Says whether headers, paths and frames can carry a text as the id of a call.
static bool is_id(const char *text)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";
	return text != NULL && *text != 0 && strlen(text) < 256 && text[strspn(text, letters)] == 0;
}

static bool take_invoke(const char *payload, size_t length)
{
	struct call *call = allocate(sizeof *call);
	call->id = value_of(payload, length, "id");
	call->version = value_of(payload, length, "version");
	call->function_arn = value_of(payload, length, "functionArn");
	call->trace_id = value_of(payload, length, "traceId");
	call->client_context = value_of(payload, length, "clientContext");
	call->cognito_identity = value_of(payload, length, "cognitoIdentity");
	call->tenant_id = value_of(payload, length, "tenantId");
	call->content_type = value_of(payload, length, "contentType");
	bool good = number_of(payload, length, "size", &call->size) && number_of(payload, length, "beginByMs", &call->begin_by) &&
	            number_of(payload, length, "timeoutMs", &call->timeout_ms) && is_id(call->id) && call->version != NULL && call->size <= MAX_BUFFERED;
	int64_t window;
	call->window = WINDOW;
	if (number_of(payload, length, "window", &window) && window > WINDOW)
		call->window = window > MAX_WINDOW ? MAX_WINDOW : window;
	token(call->invocation);
	if (good)
		worker_take(call);
	else
		call_free(call);
	return good;
}

static struct call *call_of(const char *payload, size_t length)
{
	char *id = value_of(payload, length, "id");
	struct call *call = id == NULL ? NULL : call_find(id);
	free(id);
	return call;
}

static bool take_event(const char *payload, size_t length)
{
	size_t id_length = length == 0 ? 0 : (unsigned char)payload[0];
	if (length < 1 + id_length)
		return false;
	char id[256];
	memcpy(id, payload + 1, id_length);
	id[id_length] = 0;
	struct call *call = call_find(id);
	if (call != NULL)
		worker_arrive(call, payload + 1 + id_length, length - 1 - id_length);
	return true;
}

bool order_obey(char kind, const char *payload, size_t length)
{
	int64_t value;
	struct call *call;
	switch ((enum order)kind) {
	case INVOKE:
		return take_invoke(payload, length);
	case EVENT:
		return take_event(payload, length);
	case ACK:
		if (!number_of(payload, length, "offset", &value))
			return false;
		if ((call = call_of(payload, length)) != NULL)
			worker_acknowledge(call, value);
		return true;
	case FORGET:
		if ((call = call_of(payload, length)) != NULL)
			worker_forget(call);
		return true;
	case TELL:
		if (!number_of(payload, length, "number", &value))
			return false;
		if ((call = call_of(payload, length)) != NULL)
			worker_tell_again(call, value);
		return true;
	case ALONE:
		history_begin();
		return true;
	case OTHERS:
		history_end();
		return true;
	case STOP: {
		if (!number_of(payload, length, "graceMs", &value))
			return false;
		char *reason = value_of(payload, length, "reason");
		worker_stop(reason == NULL ? "spindown" : reason, value);
		free(reason);
		return true;
	}
	default:
		// A later agent may say more.
		return true;
	}
}
