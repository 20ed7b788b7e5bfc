#include "init.h"

#include <string.h>

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

void answer_send(struct connection *connection, int status, const char *fields, const void *body, size_t length)
{
	if (connection->dead)
		return;
	connection_park(connection, false);
	connection->paused = false;
	connection->due = 0;
	// An answer before the end of the body leaves bytes that are no request.
	if (connection->state != ANSWERED) {
		connection->state = ANSWERED;
		connection->close = connection->early = true;
	}
	buffer_format(&connection->out, "HTTP/1.1 %d %s\r\nContent-Length: %zu\r\n%s", status, status_text(status), length,
	              connection->close ? "Connection: close\r\n" : "");
	if (fields != NULL)
		buffer_text(&connection->out, fields);
	buffer_text(&connection->out, "\r\n");
	if (strcmp(connection->method, "HEAD") != 0)
		buffer_add(&connection->out, body, length);
	connection_flush(connection);
}

void answer_refuse(struct connection *connection, int status, const char *type, const char *message)
{
	struct buffer body = {0};
	buffer_text(&body, "{\"errorMessage\":");
	buffer_quote(&body, message);
	buffer_text(&body, ",\"errorType\":");
	buffer_quote(&body, type);
	buffer_text(&body, "}");
	answer_send(connection, status, "Content-Type: application/json\r\n", body.bytes, body.length);
	buffer_free(&body);
}

void answer_accept(struct connection *connection)
{
	static const char body[] = "{\"status\":\"OK\"}";
	answer_send(connection, 202, "Content-Type: application/json\r\n", body, sizeof body - 1);
}

// Has a sender who waits for a word send its body. Says whether it is still there.
bool answer_continue(struct connection *connection)
{
	buffer_text(&connection->out, "HTTP/1.1 100 Continue\r\n\r\n");
	connection_flush(connection);
	return !connection->dead;
}
