#include "init.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

// HTTP/1.1 as runtimes speak it, RFC 9112: one request at a time on each connection.

enum {
	MAX_LINE = 8 * 1024,
	// The header of a report of an error may be larger: the cause that X-Ray's libraries add is read and dropped.
	MAX_HEADER = 16 * 1024,
	MAX_ERROR_HEADER = 1024 * 1024,
	READ_AT_ONCE = 16 * 1024,
};

enum state { REQUEST_LINE, HEADER, SIZED, CHUNK_SIZE, CHUNK_DATA, CHUNK_END, TRAILER, ANSWERED };

// What a request asks for.
enum act { NEXT, RESPONSE, ERROR, INIT_ERROR, REGISTER, NEXT_EVENT, EXTENSION_INIT_ERROR, EXTENSION_EXIT_ERROR, LOGS, UNKNOWN, DISCARD };

#define RUNTIME "/2018-06-01/runtime/"
#define EXTENSION "/2020-01-01/extension/"

static const struct {
	const char *method;
	const char *path;
	enum act act;
} routes[] = {
	{"GET", RUNTIME "invocation/next", NEXT},
	{"POST", RUNTIME "init/error", INIT_ERROR},
	{"POST", EXTENSION "register", REGISTER},
	{"GET", EXTENSION "event/next", NEXT_EVENT},
	{"POST", EXTENSION "init/error", EXTENSION_INIT_ERROR},
	{"POST", EXTENSION "exit/error", EXTENSION_EXIT_ERROR},
	{"PUT", "/2020-08-15/logs", LOGS},
	{"PUT", "/2022-07-01/telemetry", LOGS},
};

static const struct {
	const char *name;
	enum field field;
} wanted[] = {
	{"content-length", CONTENT_LENGTH},
	{"transfer-encoding", TRANSFER_ENCODING},
	{"connection", CONNECTION},
	{"expect", EXPECT},
	{"content-type", CONTENT_TYPE},
	{"lambda-runtime-function-response-mode", RESPONSE_MODE},
	{"lambda-runtime-function-error-type", ERROR_TYPE},
	{"lambda-runtime-function-error-body", ERROR_BODY},
	{"lambda-runtime-invocation-id", INVOCATION_ID},
	{"lambda-extension-name", EXTENSION_FIELD},
	{"lambda-extension-identifier", EXTENSION_FIELD},
};

static struct connection *connections;
static int listener = -1;
static int free_places;

static struct connection *of(int fd)
{
	for (struct connection *each = connections; each != NULL; each = each->next)
		if (each->fd == fd && !each->dead)
			return each;
	return NULL;
}

void http_listen(const char *address, int port, int places)
{
	struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	inet_pton(AF_INET, address, &name.sin_addr);
	int yes = 1;
	listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
	if (listener < 0 || bind(listener, (struct sockaddr *)&name, sizeof name) != 0 || listen(listener, 16) != 0) {
		fprintf(stderr, "init: the Runtime API cannot listen on %s:%d: %s\n", address, port, strerror(errno));
		_exit(125);
	}
	free_places = places;
	loop_add(listener, EPOLLIN);
}

bool http_owns(int fd)
{
	return fd == listener || of(fd) != NULL;
}

// Requests that wait for a call, or for an event of an extension, the longest first.
struct connection *http_first_parked(bool extension)
{
	struct connection *first = NULL;
	for (struct connection *each = connections; each != NULL; each = each->next)
		if (!each->dead && each->parked && (each->act == NEXT_EVENT) == extension && (first == NULL || each->parked_order < first->parked_order))
			first = each;
	return first;
}

int runtime_waiters(void)
{
	int count = 0;
	for (struct connection *each = connections; each != NULL; each = each->next)
		count += !each->dead && each->parked && each->act == NEXT;
	return count;
}

static void watch(struct connection *connection)
{
	uint32_t events = 0;
	if (!connection->paused && connection->in.length < READ_AT_ONCE)
		events |= EPOLLIN;
	if (connection->out.length > connection->written)
		events |= EPOLLOUT;
	loop_change(connection->fd, events);
}

static void forget_request(struct connection *connection)
{
	for (size_t index = 0; index < sizeof connection->fields / sizeof *connection->fields; index++)
		set_text(&connection->fields[index], NULL, 0);
	buffer_free(&connection->body);
	connection->state = REQUEST_LINE;
	connection->parked = false;
	connection->skips = false;
	connection->header_bytes = 0;
	connection->left = 0;
	connection->total = 0;
	connection->limit = MAX_FAULT;
	connection->act = UNKNOWN;
	connection->chunked = false;
}

void http_close(struct connection *connection)
{
	if (connection->dead)
		return;
	connection->dead = true;
	connection->parked = false;
	loop_remove(connection->fd);
	close(connection->fd);
	if (free_places++ == 0)
		loop_change(listener, EPOLLIN);
	if (connection->act == NEXT_EVENT)
		extension_left(connection);
	else if (connection->act == NEXT)
		runtime_left(connection);
	else if (connection->call != NULL)
		runtime_broke_off(connection);
}

static void flush(struct connection *connection)
{
	while (!connection->dead && connection->written < connection->out.length) {
		ssize_t count = send(connection->fd, connection->out.bytes + connection->written, connection->out.length - connection->written,
		                     MSG_NOSIGNAL);
		if (count < 0 && errno == EINTR)
			continue;
		if (count < 0 && errno == EAGAIN)
			break;
		if (count < 0) {
			http_close(connection);
			return;
		}
		connection->written += (size_t)count;
	}
	if (connection->dead)
		return;
	if (connection->written == connection->out.length) {
		buffer_free(&connection->out);
		connection->written = 0;
		if (connection->state == ANSWERED) {
			if (connection->act == NEXT && connection->call != NULL) {
				buffer_free(&connection->call->event);
				connection->call = NULL;
			}
			if (connection->close) {
				http_close(connection);
				return;
			}
			forget_request(connection);
		}
	}
	watch(connection);
}

static const char *status_text(int status)
{
	switch (status) {
	case 200: return "OK";
	case 202: return "Accepted";
	case 400: return "Bad Request";
	case 403: return "Forbidden";
	case 404: return "Not Found";
	case 410: return "Gone";
	case 413: return "Content Too Large";
	default: return "Request Header Fields Too Large";
	}
}

void http_answer(struct connection *connection, int status, const char *fields, const void *body, size_t length)
{
	if (connection->dead)
		return;
	buffer_format(&connection->out, "HTTP/1.1 %d %s\r\nContent-Length: %zu\r\n", status, status_text(status), length);
	if (fields != NULL)
		buffer_text(&connection->out, fields);
	buffer_text(&connection->out, "\r\n");
	buffer_add(&connection->out, body, length);
	connection->parked = false;
	connection->due = 0;
	// An answer before the end of the body leaves bytes that are no request.
	if (connection->state != ANSWERED) {
		connection->state = ANSWERED;
		connection->close = true;
	}
	flush(connection);
}

void http_refuse(struct connection *connection, int status, const char *type, const char *message)
{
	struct buffer body = {0};
	buffer_text(&body, "{\"errorMessage\":");
	buffer_quote(&body, message);
	buffer_text(&body, ",\"errorType\":");
	buffer_quote(&body, type);
	buffer_text(&body, "}");
	http_answer(connection, status, "Content-Type: application/json\r\n", body.bytes, body.length);
	buffer_free(&body);
}

void http_accept(struct connection *connection)
{
	static const char body[] = "{\"status\":\"OK\"}";
	http_answer(connection, 202, "Content-Type: application/json\r\n", body, sizeof body - 1);
}

// Refuses what is not HTTP/1.1, without a word: an answer could be taken for that of another request.
static void bad(struct connection *connection)
{
	http_close(connection);
}

static bool take_request_line(struct connection *connection, char *line)
{
	char *path = strchr(line, ' ');
	char *version = path == NULL ? NULL : strchr(path + 1, ' ');
	if (version == NULL || strncmp(version + 1, "HTTP/1.", 7) != 0 || path[1] != '/')
		return false;
	*path++ = 0;
	*version++ = 0;
	path[strcspn(path, "?")] = 0;
	if (strlen(line) >= sizeof connection->method || strlen(path) >= sizeof connection->path)
		return false;
	strcpy(connection->method, line);
	strcpy(connection->path, path);
	connection->close = strcmp(version, "HTTP/1.0") == 0;
	connection->state = HEADER;
	return true;
}

static enum field *known_field(const char *line, size_t length)
{
	static enum field found;
	for (size_t index = 0; index < sizeof wanted / sizeof *wanted; index++) {
		if (strlen(wanted[index].name) == length && strncasecmp(wanted[index].name, line, length) == 0) {
			found = wanted[index].field;
			return &found;
		}
	}
	return NULL;
}

static bool take_field(struct connection *connection, char *line)
{
	char *value = strchr(line, ':');
	if (value == NULL)
		return false;
	enum field *field = known_field(line, (size_t)(value - line));
	if (field == NULL)
		return true;
	value += 1 + strspn(value + 1, " \t");
	size_t length = strlen(value);
	while (length > 0 && (value[length - 1] == ' ' || value[length - 1] == '\t'))
		value[--length] = 0;
	char **place = &connection->fields[*field];
	// Two lengths are an attempt to have two parties read different requests.
	if (*place != NULL && strcmp(*place, value) != 0)
		return false;
	set_text(place, value, MAX_FAULT);
	return true;
}

static bool decimal(const char *text, int base, int64_t *into)
{
	char *end;
	errno = 0;
	long long value = strtoll(text, &end, base);
	end += strspn(end, " \t");
	if (end == text || (*end != 0 && *end != ';') || value < 0 || errno != 0 || text[0] == '-' || text[0] == '+')
		return false;
	*into = value;
	return true;
}

// The body of a request is here in whole.
static void act(struct connection *connection)
{
	connection->state = ANSWERED;
	connection->due = 0;
	if (connection->call != NULL && (connection->act == RESPONSE || connection->act == ERROR)) {
		runtime_answered(connection);
		return;
	}
	buffer_add(&connection->body, "", 1);
	const char *body = connection->body.bytes;
	switch ((enum act)connection->act) {
	case NEXT: {
		static uint64_t orders;
		connection->parked_order = ++orders;
		runtime_next(connection);
		break;
	}
	case NEXT_EVENT:
		extension_next(connection);
		break;
	case INIT_ERROR:
		runtime_init_error(connection, body);
		break;
	case REGISTER:
		extension_register(connection, body);
		break;
	case EXTENSION_INIT_ERROR:
		extension_fault(connection, "Extension.InitError");
		break;
	case EXTENSION_EXIT_ERROR:
		extension_fault(connection, "Extension.ExitError");
		break;
	case LOGS:
		http_refuse(connection, 202, "Telemetry.NotSupported", "Telemetry API is not supported");
		break;
	default:
		http_refuse(connection, 404, "NotFound", "there is no such path");
	}
}

static void find_act(struct connection *connection)
{
	connection->act = UNKNOWN;
	for (size_t index = 0; index < sizeof routes / sizeof *routes; index++)
		if (strcmp(routes[index].method, connection->method) == 0 && strcmp(routes[index].path, connection->path) == 0)
			connection->act = routes[index].act;
	static const char invocation[] = RUNTIME "invocation/";
	if (connection->act != UNKNOWN || strcmp(connection->method, "POST") != 0 ||
	    strncmp(connection->path, invocation, sizeof invocation - 1) != 0)
		return;
	char id[256];
	const char *rest = connection->path + sizeof invocation - 1;
	size_t length = strcspn(rest, "/");
	bool error = strcmp(rest + length, "/error") == 0;
	if (length >= sizeof id || (!error && strcmp(rest + length, "/response") != 0))
		return;
	memcpy(id, rest, length);
	id[length] = 0;
	connection->act = error ? ERROR : RESPONSE;
	connection->call = runtime_answer(connection, id, error);
}

// The header of a request is here.
static void begin_body(struct connection *connection)
{
	const char *encoding = connection->fields[TRANSFER_ENCODING];
	const char *length = connection->fields[CONTENT_LENGTH];
	const char *expect = connection->fields[EXPECT];
	if (connection->fields[CONNECTION] != NULL && strcasecmp(connection->fields[CONNECTION], "close") == 0)
		connection->close = true;
	connection->chunked = encoding != NULL;
	if ((encoding != NULL && (strcasecmp(encoding, "chunked") != 0 || length != NULL)) ||
	    (length != NULL && !decimal(length, 10, &connection->left))) {
		bad(connection);
		return;
	}
	connection->state = connection->chunked ? CHUNK_SIZE : SIZED;
	find_act(connection);
	if (connection->state == ANSWERED || connection->dead)
		return;
	if (expect != NULL && strcasecmp(expect, "100-continue") == 0) {
		buffer_text(&connection->out, "HTTP/1.1 100 Continue\r\n\r\n");
		flush(connection);
	}
	if (connection->state == SIZED && connection->left == 0)
		act(connection);
}

static void take_line(struct connection *connection, char *line)
{
	switch ((enum state)connection->state) {
	case REQUEST_LINE:
		// An empty line before a request is allowed, RFC 9112 section 2.2.
		if (*line != 0 && !take_request_line(connection, line))
			bad(connection);
		break;
	case HEADER:
		if (*line == 0)
			begin_body(connection);
		else if (!take_field(connection, line))
			bad(connection);
		break;
	case CHUNK_SIZE:
		if (!decimal(line, 16, &connection->left)) {
			bad(connection);
		} else if (connection->left == 0) {
			connection->state = TRAILER;
			connection->header_bytes = 0;
		} else {
			connection->state = CHUNK_DATA;
		}
		break;
	case CHUNK_END:
		connection->state = CHUNK_SIZE;
		if (*line != 0)
			bad(connection);
		break;
	case TRAILER:
		if (*line == 0)
			act(connection);
		else if (!take_field(connection, line))
			bad(connection);
		break;
	default:
		break;
	}
}

// Takes a line out of what has arrived. Says whether there may be more to do.
static bool line(struct connection *connection)
{
	struct buffer *in = &connection->in;
	bool fields = connection->state == HEADER || connection->state == TRAILER;
	size_t most = connection->state == TRAILER ? MAX_FAULT + 256 : MAX_LINE;
	char *end = in->length == 0 ? NULL : memchr(in->bytes, '\n', in->length);
	size_t length = end == NULL ? in->length : (size_t)(end - in->bytes) + 1;
	if (fields && connection->header_bytes + length >
	    (size_t)(connection->state == TRAILER ? MAX_FAULT + MAX_LINE : strstr(connection->path, "/error") != NULL ? MAX_ERROR_HEADER : MAX_HEADER)) {
		http_refuse(connection, 431, "RequestHeaderFieldsTooLarge", "the header is larger than this server takes");
		return false;
	}
	if (end == NULL && length < most && !connection->skips)
		return false;
	bool drops = connection->skips;
	if (end == NULL && !connection->skips) {
		// A field that is not read is dropped as it comes.
		char *colon = memchr(in->bytes, ':', in->length);
		if (!fields || colon == NULL || known_field(in->bytes, (size_t)(colon - in->bytes)) != NULL) {
			http_refuse(connection, 431, "RequestHeaderFieldsTooLarge", "a line is larger than this server takes");
			return false;
		}
		connection->skips = true;
		drops = true;
	}
	if (fields)
		connection->header_bytes += length;
	if (drops) {
		connection->skips = end == NULL;
		buffer_drop(in, length);
		return end != NULL;
	}
	char *text = allocate(length + 1);
	memcpy(text, in->bytes, length);
	text[strcspn(text, "\r\n")] = 0;
	buffer_drop(in, length);
	take_line(connection, text);
	free(text);
	return true;
}

// Takes a piece of a body out of what has arrived. Says whether there may be more to do.
static bool piece(struct connection *connection)
{
	size_t length = connection->in.length;
	if (length > (size_t)connection->left)
		length = (size_t)connection->left;
	struct call *call = connection->act == RESPONSE || connection->act == ERROR ? connection->call : NULL;
	if (call != NULL && call->stage == ENDED) {
		connection->call = NULL;
		call->answers = NULL;
		http_refuse(connection, 410, "InvocationEnded", "the call has ended");
		return false;
	}
	if (call != NULL && !call->forgotten) {
		size_t room = WINDOW - call->held.length;
		if (room == 0) {
			connection->paused = true;
			connection->due = 0;
			watch(connection);
			return false;
		}
		if (length > room)
			length = room;
	}
	if (length == 0)
		return false;
	connection->total += (int64_t)length;
	if (connection->total > connection->limit) {
		if (call != NULL)
			runtime_broke_off(connection);
		else
			http_refuse(connection, 413, "RequestEntityTooLarge", "the request is larger than this server takes");
		return false;
	}
	if (call == NULL) {
		buffer_add(&connection->body, connection->in.bytes, length);
	} else if (call->forgotten) {
		call->base += (int64_t)length;
		call->sent = call->base;
	} else {
		buffer_add(&call->held, connection->in.bytes, length);
		agent_wake();
	}
	buffer_drop(&connection->in, length);
	connection->left -= (int64_t)length;
	if (connection->left == 0) {
		if (connection->chunked)
			connection->state = CHUNK_END;
		else
			act(connection);
	}
	return true;
}

static void process(struct connection *connection)
{
	bool more = true;
	while (more && !connection->dead && connection->state != ANSWERED) {
		if (connection->state == SIZED || connection->state == CHUNK_DATA)
			more = piece(connection);
		else
			more = line(connection);
	}
	if (!connection->dead)
		watch(connection);
}

void http_resume(struct connection *connection)
{
	if (connection->dead || !connection->paused)
		return;
	connection->paused = false;
	connection->due = now_ms() + BODY_PATIENCE_MS;
	process(connection);
}

static void accept_one(void)
{
	int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd < 0)
		return;
	struct connection *connection = allocate(sizeof *connection);
	connection->fd = fd;
	forget_request(connection);
	connection->next = connections;
	connections = connection;
	loop_add(fd, EPOLLIN);
	if (--free_places == 0)
		loop_change(listener, 0);
}

static void receive(struct connection *connection)
{
	static char bytes[READ_AT_ONCE];
	ssize_t count = recv(connection->fd, bytes, sizeof bytes, 0);
	if (count < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (count <= 0) {
		http_close(connection);
		return;
	}
	buffer_add(&connection->in, bytes, (size_t)count);
	// A request that has begun has to go on.
	if (connection->state != ANSWERED)
		connection->due = now_ms() + BODY_PATIENCE_MS;
	process(connection);
}

void http_serve(int fd, uint32_t events)
{
	if (fd == listener) {
		accept_one();
		return;
	}
	struct connection *connection = of(fd);
	if (connection == NULL)
		return;
	if (events & EPOLLOUT)
		flush(connection);
	if (!connection->dead && (events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
		receive(connection);
	// The next request may have come with the one before.
	while (!connection->dead && connection->state == REQUEST_LINE && connection->in.length > 0) {
		size_t before = connection->in.length;
		process(connection);
		if (connection->dead || connection->in.length == before)
			break;
	}
}

int64_t http_tick(int64_t now)
{
	int64_t next = 0;
	for (struct connection **place = &connections; *place != NULL;) {
		struct connection *each = *place;
		if (!each->dead && each->due != 0 && now >= each->due)
			http_close(each);
		if (each->dead) {
			*place = each->next;
			forget_request(each);
			buffer_free(&each->in);
			buffer_free(&each->out);
			free(each);
			continue;
		}
		if (each->due != 0 && (next == 0 || each->due < next))
			next = each->due;
		place = &each->next;
	}
	return next;
}
