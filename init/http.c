#include "init.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

// HTTP/1.1 as runtimes speak it, RFC 9112: one request at a time on each connection.

enum {
	READ_AT_ONCE = 16 * 1024,
	// Of an answer: each read becomes a message to the agent, and one to the gateway.
	READ_OF_ANSWER = 60 * 1024,
	// A runtime is not to be further ahead of its caller than needed. What the kernel takes of an answer before the init
	// reads is bounded by this buffer, and by the runtime's own, which has room for ten segments and more.
	RECEIVE_BUFFER = 64 * 1024,
	SEGMENT = 32000,
	// Milliseconds in which a peer reads an answer that came before the end of its request. A connection that is closed
	// with bytes unread takes the answer from it.
	LINGER_MS = 2000,
	// Milliseconds before the end of these in which one that has read the answer has stopped to send.
	STOPPED_MS = 500,
	// Descriptors of the init itself: its log, pipes and signals, the agent, and a start of a process.
	OWN_FILES = 32,
};

static struct connection *connections;
static int listener = -1;
static int free_places;
static char connections_bound[32];

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
	int yes = 1, buffer = RECEIVE_BUFFER, segment = SEGMENT;
	listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
	// Those of each connection that is accepted.
	setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer);
	setsockopt(listener, IPPROTO_TCP, TCP_MAXSEG, &segment, sizeof segment);
	setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
	if (listener < 0 || bind(listener, (struct sockaddr *)&name, sizeof name) != 0 || listen(listener, places) != 0) {
		fprintf(stderr, "init: the Runtime API cannot listen on %s:%d: %s\n", address, port, strerror(errno));
		_exit(125);
	}
	// A connection that cannot be accepted would keep the loop busy.
	struct rlimit files;
	if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < (rlim_t)places + OWN_FILES)
		places = files.rlim_cur > OWN_FILES ? (int)files.rlim_cur - OWN_FILES : 1;
	free_places = places;
	snprintf(connections_bound, sizeof connections_bound, "%d connections", places);
	poll_add(listener, EPOLLIN);
}

bool http_owns(int fd)
{
	return fd == listener || of(fd) != NULL;
}

struct connection *http_first_parked(void)
{
	struct connection *first = NULL;
	for (struct connection *each = connections; each != NULL; each = each->next)
		if (!each->dead && each->parked && each->act == NEXT && (first == NULL || each->parked_order < first->parked_order))
			first = each;
	return first;
}

int http_waiters(void)
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
	poll_change(connection->fd, events);
}

static void forget_request(struct connection *connection)
{
	for (size_t index = 0; index < sizeof connection->fields / sizeof *connection->fields; index++)
		set_text(&connection->fields[index], NULL, 0);
	buffer_free(&connection->body);
	connection->state = REQUEST_LINE;
	connection->parked = false;
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

void http_close(struct connection *connection)
{
	if (connection->dead)
		return;
	connection->dead = true;
	connection->parked = false;
	poll_remove(connection->fd);
	close(connection->fd);
	free_places++;
	if (connection->act == NEXT_EVENT)
		extension_left(connection);
	else if (connection->act == NEXT)
		runtime_left(connection);
	else if (connection->call != NULL)
		runtime_broke_off(connection);
}

void http_flush(struct connection *connection)
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
			if (connection->call != NULL)
				buffer_free(&connection->call->event);
			connection->call = NULL;
			if (connection->early) {
				shutdown(connection->fd, SHUT_WR);
				connection->state = LINGERING;
				connection->due = awake_ms() + LINGER_MS;
				buffer_free(&connection->in);
			} else if (connection->close) {
				http_close(connection);
				return;
			} else {
				forget_request(connection);
				connection->again = connection->in.length > 0;
			}
		}
	}
	watch(connection);
}

static void process(struct connection *connection)
{
	request_read(connection);
	if (connection->dead)
		return;
	// The deadline of its call bounds an answer.
	if (connection->call != NULL)
		connection->due = 0;
	watch(connection);
}

void http_resume(struct connection *connection)
{
	if (connection->dead || !connection->paused)
		return;
	connection->paused = false;
	process(connection);
}

void http_let_go(const struct call *call)
{
	for (struct connection *each = connections; each != NULL; each = each->next)
		if (each->call == call)
			each->call = NULL;
}

void http_close_all(void)
{
	for (struct connection *each = connections; each != NULL; each = each->next)
		http_close(each);
	for (int fd; (fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) >= 0;)
		close(fd);
}

static void accept_one(void)
{
	int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd < 0)
		return;
	// A client that keeps too many is refused; one that comes again and again ends the worker.
	if (free_places == 0) {
		close(fd);
		bounds_breach(SLIP, connections_bound);
		return;
	}
	free_places--;
	struct connection *connection = allocate(sizeof *connection);
	connection->fd = fd;
	forget_request(connection);
	connection->next = connections;
	connections = connection;
	poll_add(fd, EPOLLIN);
}

// Ends a worker by a sender who was told that its body is too large, and goes on.
static void endless(struct connection *connection)
{
	bounds_breach(FLOOD, "an end to a body that is too large, within 2 seconds and 200 MiB");
	http_close(connection);
}

// Drops what comes after an answer.
static void drop(struct connection *connection, ssize_t count)
{
	connection->heard = awake_ms();
	if (connection->total <= connection->limit)
		return;
	connection->total += count;
	if (connection->total > connection->limit + MAX_STREAMED)
		endless(connection);
}

// The time of a connection is over.
static void expire(struct connection *connection)
{
	bool lingers = connection->state == LINGERING;
	// A body whose length was said has an end.
	if (lingers && connection->chunked && connection->total > connection->limit && connection->heard > connection->due - STOPPED_MS)
		endless(connection);
	else if (!lingers && connection->state <= HEADER)
		bounds_breach(ODD, "10 seconds for the header of a request");
	else if (!lingers)
		bounds_breach(FLOOD, "60 seconds for the body of a request");
	http_close(connection);
}

static void receive(struct connection *connection)
{
	static char bytes[READ_OF_ANSWER];
	ssize_t count = recv(connection->fd, bytes, connection->act == RESPONSE ? READ_OF_ANSWER : READ_AT_ONCE, 0);
	if (count < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (count <= 0) {
		http_close(connection);
		return;
	}
	if (connection->state == LINGERING) {
		drop(connection, count);
		return;
	}
	buffer_add(&connection->in, bytes, (size_t)count);
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
		http_flush(connection);
	if (connection->dead)
		return;
	// A peer that has failed is not read on where reading has stopped.
	if ((events & (EPOLLHUP | EPOLLERR)) && (connection->paused || connection->in.length >= READ_AT_ONCE))
		http_close(connection);
	else if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
		receive(connection);
}

int64_t http_tick(int64_t now)
{
	int64_t next = 0;
	int64_t awake = awake_ms();
	for (struct connection **place = &connections; *place != NULL;) {
		struct connection *each = *place;
		if (!each->dead && each->due != 0 && awake >= each->due)
			expire(each);
		if (!each->dead && each->judged_at != 0 && (awake >= each->judged_at || calls_running() == 0))
			runtime_next(each);
		// The next request may have come with the one before.
		if (!each->dead && each->again) {
			each->again = false;
			process(each);
		}
		if (each->dead) {
			*place = each->next;
			forget_request(each);
			buffer_free(&each->in);
			buffer_free(&each->out);
			free(each);
			continue;
		}
		int64_t due = each->judged_at != 0 ? each->judged_at : each->due;
		if (due != 0) {
			int64_t at = awake_at(now, due);
			next = next == 0 || at < next ? at : next;
		}
		place = &each->next;
	}
	return next;
}
