#include "init.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

// Milliseconds in which a peer reads an answer that came before the end of its request. A connection that is closed with
// bytes unread takes the answer from it.
enum { LINGER_MS = 2000 };

static struct connection *connections;
static int open_count;
static int waiting_count;
static bool ended; // One that is in the list has.

struct connection *connection_first(void)
{
	return connections;
}

int connections_open(void)
{
	return open_count;
}

struct connection *connection_of(int fd)
{
	for (struct connection *each = connections; each != NULL; each = each->next)
		if (each->fd == fd && !each->dead)
			return each;
	return NULL;
}

struct connection *connection_first_parked(void)
{
	struct connection *first = NULL;
	for (struct connection *each = connections; each != NULL; each = each->next)
		if (each->parked && each->act == NEXT && (first == NULL || each->parked_order < first->parked_order))
			first = each;
	return first;
}

int connections_waiting(void)
{
	return waiting_count;
}

void connection_park(struct connection *connection, bool parks)
{
	if (connection->act == NEXT)
		waiting_count += parks - connection->parked;
	connection->parked = parks;
}

void connection_watch(struct connection *connection)
{
	uint32_t events = 0;
	if (!connection->paused && connection->in.length < READ_AT_ONCE)
		events |= EPOLLIN;
	if (connection->out.length > connection->written)
		events |= EPOLLOUT;
	poll_change(connection->fd, events);
}

static void forget_request(struct connection *connection)
{
	for (size_t index = 0; index < sizeof connection->fields / sizeof *connection->fields; index++)
		set_text(&connection->fields[index], NULL, 0);
	buffer_free(&connection->body);
	connection_park(connection, false);
	connection->state = REQUEST_LINE;
	connection->waited = false;
	connection->paused = false;
	connection->skips = false;
	connection->header_bytes = 0;
	connection->left = 0;
	connection->framing = 0;
	connection->judged_at = 0;
	connection->blank = false;
	connection->total = 0;
	connection->limit = MAX_FAULT;
	connection->act = UNKNOWN;
	connection->chunked = false;
}

void connection_open(int fd)
{
	struct connection *connection = allocate(sizeof *connection);
	connection->fd = fd;
	forget_request(connection);
	connection->next = connections;
	connections = connection;
	open_count++;
	poll_add(fd, EPOLLIN);
}

void connection_close(struct connection *connection)
{
	if (connection->dead)
		return;
	connection->dead = true;
	connection_park(connection, false);
	poll_remove(connection->fd);
	close(connection->fd);
	open_count--;
	ended = true;
}

struct connection *connection_take_ended(void)
{
	for (struct connection **place = &connections; *place != NULL && ended; place = &(*place)->next) {
		struct connection *each = *place;
		if (each->dead) {
			*place = each->next;
			return each;
		}
	}
	ended = false;
	return NULL;
}

void connection_free(struct connection *connection)
{
	forget_request(connection);
	buffer_free(&connection->in);
	buffer_free(&connection->out);
	free(connection);
}

void connection_flush(struct connection *connection)
{
	while (!connection->dead && connection->written < connection->out.length) {
		ssize_t count = send(connection->fd, connection->out.bytes + connection->written, connection->out.length - connection->written,
		                     MSG_NOSIGNAL);
		if (count < 0 && errno == EINTR)
			continue;
		if (count < 0 && errno == EAGAIN)
			break;
		if (count < 0) {
			connection_close(connection);
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
			if (connection->call != NULL)
				buffer_free(&connection->call->event);
			connection->call = NULL;
			if (connection->early) {
				shutdown(connection->fd, SHUT_WR);
				connection->state = LINGERING;
				connection->due = awake_ms() + LINGER_MS;
				buffer_free(&connection->in);
			} else if (connection->close) {
				connection_close(connection);
				return;
			} else {
				forget_request(connection);
				connection->again = connection->in.length > 0;
			}
		}
	}
	connection_watch(connection);
}

void connections_let_go(const struct call *call)
{
	for (struct connection *each = connections; each != NULL; each = each->next)
		if (each->call == call)
			each->call = NULL;
}
