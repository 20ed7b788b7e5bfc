#include "init.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <unistd.h>

// Most bytes that wait for a log which does not take them: what is in the pipe when a call ends, so that END follows them.
// A process that writes more waits, as it would without the init.
enum { MOST_WAITING = 64 * 1024 };

// Pipes from the processes: what they write to their first and their second output. Both go to the one log, in the order
// in which they come: with logs of their own, what was written to the second could come after the END of its call.
static int pipes[2];
static struct buffer waiting;
static char last = '\n'; // What was added last.
static bool polled; // The log tells when it takes more. A file does not.

enum { LOG = 1 };

void output_start(int writes[2])
{
	for (int index = 0; index < 2; index++) {
		int ends[2];
		if (pipe2(ends, O_CLOEXEC) != 0) {
			perror("init: pipe");
			_exit(125);
		}
		fcntl(ends[0], F_SETFL, O_NONBLOCK);
		pipes[index] = ends[0];
		writes[index] = ends[1];
		poll_add(ends[0], EPOLLIN);
	}
	fcntl(LOG, F_SETFL, fcntl(LOG, F_GETFL) | O_NONBLOCK);
}

static void listen_for(uint32_t events)
{
	for (int index = 0; index < 2; index++)
		poll_change(pipes[index], events);
}

// Writes what waits. Says whether all of it is in the log.
static bool flush(void)
{
	while (waiting.length > 0) {
		ssize_t written = write(LOG, waiting.bytes, waiting.length);
		if (written > 0) {
			buffer_drop(&waiting, (size_t)written);
		} else if (written < 0 && errno == EINTR) {
			continue;
		} else if (written < 0 && errno == EAGAIN) {
			if (!polled) {
				polled = true;
				poll_add(LOG, EPOLLOUT);
				listen_for(0);
			}
			return false;
		} else {
			// The log is gone; what is written is lost, as it is without the init.
			buffer_free(&waiting);
		}
	}
	if (polled) {
		polled = false;
		poll_remove(LOG);
		listen_for(EPOLLIN);
	}
	return true;
}

// Passes on what is in a pipe, as far as the log takes it and `most` bytes beyond. The bound of rounds keeps a program
// that writes without end from stopping the init.
static void copy(int from, size_t most)
{
	static char bytes[4096];
	for (int round = 0; round < 32 && (flush() || waiting.length < most); round++) {
		ssize_t count = read(from, bytes, sizeof bytes);
		if (count <= 0)
			return;
		buffer_add(&waiting, bytes, (size_t)count);
		last = bytes[count - 1];
	}
}

bool output_owns(int fd)
{
	return fd == LOG || fd == pipes[0] || fd == pipes[1];
}

void output_serve(int fd, uint32_t events)
{
	(void)events;
	for (int index = 0; index < 2; index++)
		if (fd == pipes[index] || fd == LOG)
			copy(pipes[index], 0);
}

void output_drain(void)
{
	copy(pipes[0], MOST_WAITING);
	copy(pipes[1], 2 * MOST_WAITING);
}

// A line that a process has not ended ends here.
void output_add(const char *lines, size_t length)
{
	if (waiting.length > 2 * MOST_WAITING + 8 * 1024)
		return;
	if (last != '\n')
		buffer_text(&waiting, "\n");
	buffer_add(&waiting, lines, length);
	last = '\n';
	flush();
}
