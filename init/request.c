#include "init.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum {
	MAX_LINE = 8 * 1024,
	// The header of a report of an error may be larger: the cause that X-Ray's libraries add is read and dropped.
	MAX_HEADER = 16 * 1024,
	MAX_ERROR_HEADER = 1024 * 1024,
};

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
	{"PUT", "/2022-07-01/telemetry", TELEMETRY},
};

static const char *const wanted[FIELDS] = {
	[CONTENT_LENGTH] = "content-length",
	[TRANSFER_ENCODING] = "transfer-encoding",
	[CONNECTION] = "connection",
	[EXPECT] = "expect",
	[CONTENT_TYPE] = "content-type",
	[RESPONSE_MODE] = "lambda-runtime-function-response-mode",
	[ERROR_TYPE] = "lambda-runtime-function-error-type",
	[ERROR_BODY] = "lambda-runtime-function-error-body",
	[INVOCATION_ID] = "lambda-runtime-invocation-id",
	[EXTENSION_NAME] = "lambda-extension-name",
	[EXTENSION_ID] = "lambda-extension-identifier",
	[EXTENSION_ERROR_TYPE] = "lambda-extension-function-error-type",
};

// Refuses what is not HTTP/1.1, without a word: an answer could be taken for that of another request.
static void bad(struct connection *connection)
{
	bounds_breach(SLIP, "HTTP/1.1");
	connection_close(connection);
}

static void too_large(struct connection *connection, const char *what)
{
	bounds_breach(SLIP, "16 KiB of header, 1 MiB in a report of an error, 8 KiB in a line");
	if (connection->call != NULL)
		runtime_broke_off(connection);
	answer_refuse(connection, 431, "RequestHeaderFieldsTooLarge", what);
}

// Ends a worker by the sender of what no client sends.
static void flood(struct connection *connection, const char *bound)
{
	bounds_breach(FLOOD, bound);
	connection_close(connection);
}

static bool take_request_line(struct connection *connection, char *line)
{
	char *path = strchr(line, ' ');
	char *version = path == NULL ? NULL : strchr(path + 1, ' ');
	if (version == NULL || strncmp(version + 1, "HTTP/1.", 7) != 0)
		return false;
	*path++ = 0;
	*version++ = 0;
	path[strcspn(path, "?")] = 0;
	if (strncasecmp(path, "http://", 7) == 0)
		path = strchr(path + 7, '/');
	if (path == NULL || *path != '/' || strlen(line) >= sizeof connection->method || strlen(path) >= sizeof connection->path)
		return false;
	strcpy(connection->method, line);
	strcpy(connection->path, path);
	connection->close = strcmp(version, "HTTP/1.0") == 0;
	connection->state = HEADER;
	return true;
}

static enum field known_field(const char *line, size_t length)
{
	enum field field = 0;
	while (field < FIELDS && (strlen(wanted[field]) != length || strncasecmp(wanted[field], line, length) != 0))
		field++;
	return field;
}

static bool take_field(struct connection *connection, char *line)
{
	char *value = strchr(line, ':');
	if (value == NULL)
		return false;
	enum field field = known_field(line, (size_t)(value - line));
	if (field == FIELDS)
		return true;
	value += 1 + strspn(value + 1, " \t");
	size_t length = strlen(value);
	while (length > 0 && (value[length - 1] == ' ' || value[length - 1] == '\t'))
		value[--length] = 0;
	if (field == CONNECTION)
		connection->close = connection->close || strcasestr(value, "close") != NULL;
	char **place = &connection->fields[field];
	// Two lengths are an attempt to have two parties read different requests.
	if ((field == CONTENT_LENGTH || field == TRANSFER_ENCODING) && *place != NULL && strcmp(*place, value) != 0)
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
		extension_fault(connection, true);
		break;
	case EXTENSION_EXIT_ERROR:
		extension_fault(connection, false);
		break;
	// As Lambda's local emulator answers where there is no service behind it: extensions go on without.
	case LOGS:
		answer_refuse(connection, 202, "Logs.NotSupported", "Logs API is not supported");
		break;
	case TELEMETRY:
		answer_refuse(connection, 202, "Telemetry.NotSupported", "Telemetry API is not supported");
		break;
	default:
		answer_refuse(connection, 404, "NotFound", "there is no such path");
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
	connection->chunked = encoding != NULL;
	if ((encoding != NULL && (strcasecmp(encoding, "chunked") != 0 || length != NULL)) ||
	    (length != NULL && !decimal(length, 10, &connection->left))) {
		bad(connection);
		return;
	}
	connection->state = connection->chunked ? CHUNK_SIZE : SIZED;
	connection->due = awake_ms() + BODY_PATIENCE_MS;
	find_act(connection);
	bool waits = expect != NULL && strcasecmp(expect, "100-continue") == 0;
	if (connection->dead || connection->state >= ANSWERED || (waits && !answer_continue(connection)))
		return;
	if (connection->state == SIZED && connection->left == 0)
		act(connection);
}

// A chunk begins whose line has so many bytes. Its data are to be in a proportion to the work, RFC 9112 section 7.1.1.
static void begin_chunk(struct connection *connection, size_t length)
{
	connection->state = CHUNK_DATA;
	connection->framing += (int64_t)length + 2 - 16 - (connection->left < MAX_FRAMING ? 2 * connection->left : 2 * MAX_FRAMING);
	if (connection->framing < 0)
		connection->framing = 0;
	if (connection->framing > MAX_FRAMING)
		flood(connection, "lines of chunks in proportion to their data");
	else if (connection->left < SMALL_PIECE && bounds_piece())
		flood(connection, "10,000 pieces below 16 bytes in a second, 1,000,000 at once");
}

static void take_line(struct connection *connection, char *line, size_t length)
{
	switch ((enum state)connection->state) {
	case REQUEST_LINE:
		// One empty line before a request is allowed, RFC 9112 section 2.2.
		if (*line == 0 ? connection->blank : !take_request_line(connection, line))
			bad(connection);
		connection->blank = true;
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
			begin_chunk(connection, length);
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
		too_large(connection, "the header is larger than this server takes");
		return false;
	}
	if (end == NULL && length < most && !connection->skips)
		return false;
	bool drops = connection->skips;
	if (end == NULL && !connection->skips) {
		// A field that is not read is dropped as it comes.
		char *colon = memchr(in->bytes, ':', in->length);
		if (!fields || colon == NULL || known_field(in->bytes, (size_t)(colon - in->bytes)) != FIELDS) {
			too_large(connection, "a line is larger than this server takes");
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
	take_line(connection, text, length);
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
	if (call != NULL && !call->forgotten) {
		// An agent before may have taken more than this one does.
		size_t room = call->held.length < (size_t)call->window ? (size_t)call->window - call->held.length : 0;
		if (room == 0) {
			connection->paused = true;
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
			runtime_too_large(connection);
		else
			answer_refuse(connection, 413, "RequestEntityTooLarge", "the request is larger than this server takes");
		return false;
	}
	if (call == NULL) {
		buffer_add(&connection->body, connection->in.bytes, length);
	} else if (call->forgotten) {
		call->base += (int64_t)length;
		call->sent = call->base;
	} else {
		buffer_add(&call->held, connection->in.bytes, length);
		worker_news();
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

void request_read(struct connection *connection)
{
	bool more = true;
	if (connection->state == REQUEST_LINE && connection->due == 0)
		connection->due = awake_ms() + HEAD_PATIENCE_MS;
	while (more && !connection->dead && connection->state < ANSWERED) {
		if (connection->state == SIZED || connection->state == CHUNK_DATA)
			more = piece(connection);
		else
			more = line(connection);
	}
	// Nothing of a request is here yet.
	if (connection->state == REQUEST_LINE && connection->in.length == 0)
		connection->due = 0;
}
