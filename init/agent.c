#include "init.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

// Frames between the init and the agent: four bytes of length in network order, which count the rest, one byte of kind,
// and the payload. The payload of event and data begins with one byte of length and the request id. All others have lines of
// name=value, in which \n stands for the end of a line and \\ for a backslash.
enum frame {
	// From the agent.
	INVOKE = 'I', // A call begins; its event follows in event frames, size bytes in all.
	EVENT = 'E',  // Bytes of a call's event, in order.
	ACK = 'A',    // The agent has the answer up to an offset.
	FORGET = 'F', // No caller waits for a call any more.
	STOP = 'S',   // End extensions and runtime, then the init.
	// From the init.
	HELLO = 'H', // First frame of a connection. The calls that the init knows follow.
	PHASE = 'P', // The phase or the idleness of the worker has changed.
	CALL = 'C',  // A fact about a call has changed.
	DATA = 'D',  // Bytes of a call's answer, after eight bytes of offset.
};

enum {
	// An agent serves the versions that it knows.
	VERSION = 1,
	// Largest frame in bytes, in both directions.
	MAX_FRAME = 256 * 1024,
	MAX_DATA = 32 * 1024,
	// No more is put together while so many bytes wait for the agent.
	MAX_UNSENT = 64 * 1024,
	// Pauses in milliseconds between two attempts to reach an agent, which is away while it is replaced.
	FIRST_PAUSE = 10,
	LAST_PAUSE = 250,
};

static const char *socket_path;
static int agent = -1;
static bool connecting;
static int64_t again_at; // 0: connected.
static int64_t pause_ms = FIRST_PAUSE;
static struct buffer in;
static struct buffer out;
static size_t written;
static bool woken;
static struct {
	enum phase phase;
	bool idle;
	int restarts;
	int64_t init_ms;
} told;

static void number(struct buffer *lines, const char *name, int64_t value)
{
	buffer_format(lines, "%s=%lld\n", name, (long long)value);
}

static void text(struct buffer *lines, const char *name, const char *value)
{
	if (value == NULL || *value == 0)
		return;
	buffer_text(lines, name);
	buffer_text(lines, "=");
	for (const char *each = value; *each != 0; each++) {
		if (*each == '\n')
			buffer_text(lines, "\\n");
		else if (*each == '\\')
			buffer_text(lines, "\\\\");
		else
			buffer_add(lines, each, 1);
	}
	buffer_text(lines, "\n");
}

static void frame(enum frame kind, const struct buffer *head, const char *rest, size_t length)
{
	size_t all = 1 + head->length + length;
	unsigned char begin[5] = {(unsigned char)(all >> 24), (unsigned char)(all >> 16), (unsigned char)(all >> 8), (unsigned char)all,
	                          (unsigned char)kind};
	buffer_add(&out, begin, sizeof begin);
	buffer_add(&out, head->bytes, head->length);
	buffer_add(&out, rest, length);
}

static void lines_frame(enum frame kind, struct buffer *lines)
{
	frame(kind, lines, NULL, 0);
	buffer_free(lines);
}

static void say_phase(enum frame kind)
{
	struct buffer lines = {0};
	told.phase = worker.phase;
	told.idle = worker_idle();
	told.restarts = worker.restarts;
	told.init_ms = worker.init_ms;
	worker.told_changed = false;
	text(&lines, "phase", worker_phase());
	if (told.idle)
		text(&lines, "idle", "true");
	number(&lines, "initMs", worker.init_ms);
	number(&lines, "restarts", worker.restarts);
	text(&lines, "errorType", worker.fault_type);
	text(&lines, "message", worker.fault_message);
	text(&lines, "body", worker.fault_body);
	if (kind == HELLO)
		number(&lines, "version", VERSION);
	lines_frame(kind, &lines);
}

static void say_call(struct call *call, bool with_outcome)
{
	static const char *const stages[] = {"Arriving", "Waiting", "Running", "Ended"};
	struct buffer lines = {0};
	call->introduced = true;
	call->changed = !with_outcome && call->outcome != NULL;
	text(&lines, "id", call->id);
	text(&lines, "stage", stages[call->changed ? RUNNING : call->stage]);
	if (call->streaming)
		text(&lines, "streaming", "true");
	if (call->answering)
		text(&lines, "answering", "true");
	text(&lines, "contentType", call->answer_type);
	if (with_outcome && call->outcome != NULL) {
		text(&lines, "outcome", call->outcome);
		text(&lines, "errorType", call->error_type);
		text(&lines, "message", call->message);
		text(&lines, "errorBody", call->error_body);
		number(&lines, "size", call->base + (int64_t)call->held.length);
		number(&lines, "durationUs", call->duration_us);
	}
	lines_frame(CALL, &lines);
}

static void say_data(struct call *call)
{
	size_t from = (size_t)(call->sent - call->base);
	size_t length = call->held.length - from;
	if (length > MAX_DATA)
		length = MAX_DATA;
	struct buffer head = {0};
	unsigned char id_length = (unsigned char)strlen(call->id);
	buffer_add(&head, &id_length, 1);
	buffer_text(&head, call->id);
	unsigned char offset[8];
	for (int index = 0; index < 8; index++)
		offset[index] = (unsigned char)((uint64_t)call->sent >> (56 - 8 * index));
	buffer_add(&head, offset, sizeof offset);
	frame(DATA, &head, call->held.bytes + from, length);
	buffer_free(&head);
	call->sent += (int64_t)length;
}

static bool phase_changed(void)
{
	return worker.phase != told.phase || worker_idle() != told.idle || worker.restarts != told.restarts || worker.init_ms != told.init_ms;
}

// Puts together what the agent does not know yet, as long as it takes it.
static void say_all(void)
{
	if (phase_changed())
		say_phase(PHASE);
	for (struct call *call = worker.calls; call != NULL; call = call->next) {
		// The outcome comes after the last byte of the answer.
		while (out.length - written < MAX_UNSENT && call->stage != ARRIVING && (call->changed || call->sent < call->base + (int64_t)call->held.length)) {
			bool data = call->sent < call->base + (int64_t)call->held.length;
			if (call->changed && (!data || !call->introduced || call->outcome == NULL))
				say_call(call, !data);
			else
				say_data(call);
		}
	}
}

bool agent_knows_all(void)
{
	if (agent < 0 || connecting)
		return false;
	bool all = !phase_changed() && out.length == written;
	for (struct call *call = worker.calls; call != NULL; call = call->next)
		all = all && !call->changed && call->sent == call->base + (int64_t)call->held.length;
	return all;
}

static void disconnect(void)
{
	if (agent >= 0) {
		loop_remove(agent);
		close(agent);
	}
	agent = -1;
	connecting = false;
	buffer_free(&in);
	buffer_free(&out);
	written = 0;
	worker_drop_arriving();
	again_at = now_ms() + pause_ms;
	pause_ms = pause_ms * 2 > LAST_PAUSE ? LAST_PAUSE : pause_ms * 2;
}

static void flush(void)
{
	while (agent >= 0 && !connecting) {
		if (out.length - written < MAX_UNSENT)
			say_all();
		if (written == out.length)
			break;
		ssize_t count = send(agent, out.bytes + written, out.length - written, MSG_NOSIGNAL);
		if (count < 0 && errno == EINTR)
			continue;
		if (count < 0 && errno == EAGAIN)
			break;
		if (count < 0) {
			disconnect();
			return;
		}
		written += (size_t)count;
		if (written == out.length) {
			buffer_free(&out);
			written = 0;
		}
	}
	if (agent >= 0)
		loop_change(agent, written < out.length || connecting ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

static void hello(void)
{
	connecting = false;
	pause_ms = FIRST_PAUSE;
	for (struct call *call = worker.calls; call != NULL; call = call->next) {
		call->changed = call->stage != ARRIVING;
		call->introduced = false;
		call->sent = call->base;
	}
	say_phase(HELLO);
	flush();
}

static void connect_agent(void)
{
	struct sockaddr_un name = {.sun_family = AF_UNIX};
	if (strlen(socket_path) >= sizeof name.sun_path) {
		fprintf(stderr, "init: the path of the agent's socket is too long\n");
		_exit(125);
	}
	strcpy(name.sun_path, socket_path);
	again_at = 0;
	agent = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (agent >= 0)
		loop_add(agent, EPOLLIN | EPOLLOUT);
	if (agent < 0 || connect(agent, (struct sockaddr *)&name, sizeof name) != 0) {
		disconnect();
		return;
	}
	hello();
}

void agent_start(const char *path)
{
	socket_path = path;
	connect_agent();
}

bool agent_owns(int fd)
{
	return fd == agent && fd >= 0;
}

void agent_wake(void)
{
	woken = true;
}

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
	bool good = end != value && *end == 0 && *into >= 0;
	free(value);
	return good;
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
	bool good = number_of(payload, length, "size", &call->size) && number_of(payload, length, "deadlineMs", &call->deadline_ms) &&
	            number_of(payload, length, "timeoutMs", &call->timeout_ms) && call->id != NULL && *call->id != 0 &&
	            strlen(call->id) < 256 && call->version != NULL && call->size <= MAX_BUFFERED;
	// An order that is not understood ends the connection; the few bytes of it are the price.
	if (good)
		worker_take(call);
	return good;
}

static struct call *call_of(const char *payload, size_t length)
{
	char *id = value_of(payload, length, "id");
	struct call *call = id == NULL ? NULL : worker_call(id);
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
	struct call *call = worker_call(id);
	if (call != NULL)
		worker_arrive(call, payload + 1 + id_length, length - 1 - id_length);
	return true;
}

// Does what a frame says. A frame that is not understood ends the connection.
static bool obey(char kind, const char *payload, size_t length)
{
	int64_t value;
	struct call *call;
	switch ((enum frame)kind) {
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
	case STOP: {
		if (!number_of(payload, length, "graceMs", &value))
			return false;
		char *reason = value_of(payload, length, "reason");
		process_stop(reason == NULL ? "spindown" : reason, value);
		free(reason);
		return true;
	}
	default:
		// A later agent may say more.
		return true;
	}
}

static void receive(void)
{
	static char bytes[16 * 1024];
	ssize_t count = recv(agent, bytes, sizeof bytes, 0);
	if (count < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (count <= 0) {
		disconnect();
		return;
	}
	buffer_add(&in, bytes, (size_t)count);
	size_t done = 0;
	while (in.length - done >= 5) {
		const unsigned char *head = (const unsigned char *)in.bytes + done;
		size_t length = (size_t)head[0] << 24 | (size_t)head[1] << 16 | (size_t)head[2] << 8 | head[3];
		if (length == 0 || length > MAX_FRAME) {
			disconnect();
			return;
		}
		if (in.length - done < 4 + length)
			break;
		if (!obey((char)head[4], in.bytes + done + 5, length - 1)) {
			disconnect();
			return;
		}
		done += 4 + length;
	}
	buffer_drop(&in, done);
}

void agent_serve(uint32_t events)
{
	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
		receive();
	if (agent >= 0)
		flush();
}

int64_t agent_tick(int64_t now)
{
	if (again_at != 0 && now >= again_at)
		connect_agent();
	if (woken) {
		woken = false;
		flush();
	}
	return again_at;
}
