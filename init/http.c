#include "init.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

// HTTP/1.1 as runtimes speak it, RFC 9112: one request at a time on each connection.

enum {
	// Of an answer: each read becomes a message to the agent, and one to the gateway.
	READ_OF_ANSWER = 60 * 1024,
	// A runtime is not to be further ahead of its caller than needed. What the kernel takes of an answer before the init
	// reads is bounded by this buffer, and by the runtime's own, which has room for ten segments and more.
	RECEIVE_BUFFER = 64 * 1024,
	SEGMENT = 32000,
	// Milliseconds before the end of the time for an early answer in which one that has read it has stopped to send.
	STOPPED_MS = 500,
	// Descriptors of the init itself: its log, pipes and signals, the agent, and a start of a process.
	OWN_FILES = 32,
};

static int listener = -1;
static int most_connections;
static char connections_bound[32];

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
	most_connections = places;
	snprintf(connections_bound, sizeof connections_bound, "%d connections", places);
	poll_add(listener, EPOLLIN);
}

bool http_owns(int fd)
{
	return fd == listener || connection_of(fd) != NULL;
}

static void process(struct connection *connection)
{
	request_read(connection);
	if (connection->dead)
		return;
	// The deadline of its call bounds an answer.
	if (connection->call != NULL)
		connection->due = 0;
	connection_watch(connection);
}

void http_resume(struct connection *connection)
{
	if (connection->dead || !connection->paused)
		return;
	connection->paused = false;
	process(connection);
}

void http_note_ends(void)
{
	for (struct connection *each; (each = connection_take_ended()) != NULL;) {
		if (each->act == NEXT_EVENT)
			extension_left(each);
		else if (each->act == NEXT)
			runtime_left(each);
		else if (each->call != NULL)
			runtime_broke_off(each);
		connection_free(each);
	}
}

void http_close_all(void)
{
	for (struct connection *each = connection_first(); each != NULL; each = each->next)
		connection_close(each);
	http_note_ends();
	for (int fd; (fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) >= 0;)
		close(fd);
}

static void accept_one(void)
{
	int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd < 0)
		return;
	// A client that keeps too many is refused; one that comes again and again ends the worker.
	if (connections_open() == most_connections) {
		close(fd);
		bounds_breach(SLIP, connections_bound);
		return;
	}
	connection_open(fd);
}

// Ends a worker by a sender who was told that its body is too large, and goes on.
static void endless(struct connection *connection)
{
	bounds_breach(FLOOD, "an end to a body that is too large, within 2 seconds and 200 MiB");
	connection_close(connection);
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
	connection_close(connection);
}

static void receive(struct connection *connection)
{
	static char bytes[READ_OF_ANSWER];
	ssize_t count = recv(connection->fd, bytes, connection->act == RESPONSE ? READ_OF_ANSWER : READ_AT_ONCE, 0);
	if (count < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (count <= 0) {
		connection_close(connection);
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
	struct connection *connection = connection_of(fd);
	if (connection == NULL)
		return;
	if (events & EPOLLOUT)
		connection_flush(connection);
	if (connection->dead)
		return;
	// A peer that has failed is not read on where reading has stopped.
	if ((events & (EPOLLHUP | EPOLLERR)) && (connection->paused || connection->in.length >= READ_AT_ONCE))
		connection_close(connection);
	else if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
		receive(connection);
}

int64_t http_tick(int64_t now)
{
	int64_t next = 0;
	int64_t awake = awake_ms();
	for (struct connection *each = connection_first(); each != NULL; each = each->next) {
		if (!each->dead && each->due != 0 && awake >= each->due)
			expire(each);
		if (!each->dead && each->judged_at != 0 && (awake >= each->judged_at || calls_running() == 0))
			runtime_next(each);
		// The next request may have come with the one before.
		if (!each->dead && each->again) {
			each->again = false;
			process(each);
		}
		if (!each->dead)
			earliest(&next, awake_at(now, each->judged_at != 0 ? each->judged_at : each->due));
	}
	http_note_ends();
	return next;
}
