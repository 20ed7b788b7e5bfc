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
	// From the init. Those from the agent are in order.c.
	HELLO = 'H', // First frame of a connection, with the number of calls that the init knows. A frame of each follows.
	PHASE = 'P', // The phase or the idleness of the worker has changed.
	CALL = 'C',  // A fact about a call has changed.
	DATA = 'D',  // Bytes of a call's answer, after eight bytes of offset.
};

enum {
	// An agent serves the versions that it knows.
	VERSION = 1,
	// Largest frame in bytes, in both directions.
	MAX_FRAME = 256 * 1024,
	MAX_DATA = 60 * 1024,
	// No more is put together while so many bytes wait for the agent.
	MAX_UNSENT = 64 * 1024,
	// Pauses in milliseconds between two attempts to reach an agent, which is away while it is replaced.
	FIRST_PAUSE = 10,
	LAST_PAUSE = 250,
};

static const char *socket_path;
static int agent = -1;
static int64_t again_at; // 0: connected.
static int64_t pause_ms = FIRST_PAUSE;
static struct buffer in;
static struct buffer out;
static struct {
	enum phase phase;
	bool idle;
	int restarts;
	int64_t init_ms;
	int places;
	int held;
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
	static const char *const phases[] = {"Starting", "Ready", "Failed", "Stopping"};
	struct buffer lines = {0};
	told.phase = worker.phase;
	told.idle = worker_idle(connections_waiting(), extensions_late());
	told.restarts = worker.restarts;
	told.init_ms = worker.init_ms;
	told.places = places_shown();
	told.held = places_held();
	text(&lines, "phase", phases[worker.phase]);
	if (told.idle)
		text(&lines, "idle", "true");
	number(&lines, "initMs", worker.init_ms);
	number(&lines, "restarts", worker.restarts);
	if (worker.config.concurrency > 1) {
		number(&lines, "places", told.places);
		number(&lines, "held", told.held);
	}
	text(&lines, "errorType", worker.fault_type);
	text(&lines, "message", worker.fault_message);
	text(&lines, "body", worker.fault_body);
	text(&lines, "bound", worker.fault_bound);
	if (kind == HELLO) {
		static char session[37];
		if (*session == 0)
			token(session);
		int calls = 0;
		for (struct call *call = worker.calls; call != NULL; call = call->next)
			calls++;
		number(&lines, "version", VERSION);
		text(&lines, "session", session);
		number(&lines, "calls", calls);
		history_say(&lines);
	}
	lines_frame(kind, &lines);
}

static void say_call(struct call *call, bool with_outcome)
{
	static const char *const stages[] = {"Arriving", "Waiting", "Running", "Ended"};
	struct buffer lines = {0};
	text(&lines, "id", call->id);
	// What was told before may still be on its way.
	if (!call->introduced && call->again != 0)
		number(&lines, "again", call->again);
	call->introduced = true;
	call->changed = !with_outcome && call->outcome != NULL;
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

// Bytes of an answer that the agent has not been sent.
static size_t unsent(const struct call *call)
{
	return call->held.length - (size_t)(call->sent - call->base);
}

// As many of them as the agent takes now.
static size_t sendable(const struct call *call)
{
	size_t beyond = call->held.length > (size_t)call->window ? call->held.length - (size_t)call->window : 0;
	return unsent(call) > beyond ? unsent(call) - beyond : 0;
}

static void say_data(struct call *call)
{
	size_t from = (size_t)(call->sent - call->base);
	size_t length = sendable(call);
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
	bool idle = worker_idle(connections_waiting(), extensions_late());
	return worker.phase != told.phase || idle != told.idle || worker.restarts != told.restarts || worker.init_ms != told.init_ms ||
	       places_shown() != told.places || places_held() != told.held;
}

// Puts together what the agent does not know yet, as long as it takes it.
static void say_all(void)
{
	if (phase_changed())
		say_phase(PHASE);
	for (struct call *call = worker.calls; call != NULL; call = call->next) {
		// The outcome comes after the last byte of the answer.
		while (out.length < MAX_UNSENT && call->stage != ARRIVING && (call->changed || unsent(call) > 0)) {
			bool data = unsent(call) > 0;
			if (call->changed && (!data || !call->introduced || call->outcome == NULL))
				say_call(call, !data);
			else if (sendable(call) > 0)
				say_data(call);
			else
				break;
		}
	}
}

bool agent_knows_all(void)
{
	if (agent < 0)
		return false;
	bool all = !phase_changed() && out.length == 0;
	for (struct call *call = worker.calls; call != NULL; call = call->next)
		all = all && !call->changed && unsent(call) == 0;
	return all;
}

static void disconnect(void)
{
	if (agent >= 0) {
		poll_remove(agent);
		close(agent);
	}
	agent = -1;
	buffer_free(&in);
	buffer_free(&out);
	if (worker.agent_there)
		worker_agent_left();
	again_at = now_ms() + pause_ms;
	pause_ms = pause_ms * 2 > LAST_PAUSE ? LAST_PAUSE : pause_ms * 2;
}

static void flush(void)
{
	while (agent >= 0) {
		if (out.length < MAX_UNSENT)
			say_all();
		if (out.length == 0) {
			worker.news_by = 0;
			break;
		}
		ssize_t count = send(agent, out.bytes, out.length, MSG_NOSIGNAL);
		if (count < 0 && errno == EINTR)
			continue;
		if (count < 0 && errno == EAGAIN)
			break;
		if (count < 0) {
			disconnect();
			return;
		}
		buffer_drop(&out, (size_t)count);
	}
	if (agent >= 0)
		poll_change(agent, out.length > 0 ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

static void hello(void)
{
	for (struct call *call = worker.calls; call != NULL; call = call->next) {
		call->changed = true;
		call->introduced = false;
		call->again = 0;
		call->sent = call->base;
		// The next agent takes no more than that of a call that it finds.
		call->window = WINDOW;
	}
	worker_agent_came();
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
		poll_add(agent, EPOLLIN);
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

void agent_tell(void)
{
	worker.news = false;
	flush();
}

void agent_read(uint32_t events)
{
	static char bytes[16 * 1024];
	if (!(events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
		return;
	ssize_t count = recv(agent, bytes, sizeof bytes, 0);
	if (count < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (count <= 0) {
		disconnect();
		return;
	}
	// One that says nothing may hang up again at once.
	pause_ms = FIRST_PAUSE;
	buffer_add(&in, bytes, (size_t)count);
}

bool agent_obey(void)
{
	if (in.length < 5)
		return false;
	const unsigned char *head = (const unsigned char *)in.bytes;
	size_t length = (size_t)head[0] << 24 | (size_t)head[1] << 16 | (size_t)head[2] << 8 | head[3];
	if (length > 0 && length <= MAX_FRAME && in.length < 4 + length)
		return false;
	if (length == 0 || length > MAX_FRAME || !order_obey((char)head[4], in.bytes + 5, length - 1)) {
		disconnect();
		return false;
	}
	buffer_drop(&in, 4 + length);
	return true;
}

void agent_write(uint32_t events)
{
	if (agent >= 0 && (worker.news || (events & EPOLLOUT)))
		agent_tell();
}

int64_t agent_tick(int64_t now)
{
	if (again_at != 0 && now >= again_at)
		connect_agent();
	if (worker.news || (worker.news_by != 0 && now >= worker.news_by))
		agent_tell();
	// An agent that is away or takes nothing hears the news with all others.
	if (worker.news_by != 0 && now >= worker.news_by)
		worker.news_by = 0;
	return again_at == 0 || (worker.news_by != 0 && worker.news_by < again_at) ? worker.news_by : again_at;
}
