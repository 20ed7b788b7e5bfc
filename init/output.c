#include "init.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <unistd.h>

// Most bytes that wait for a log which does not take them: what is in the pipe when a call ends, so that END follows them.
// A process that writes more waits, as it would without the init.
enum { MOST_WAITING = 64 * 1024 };

static struct stream {
	int read; // Pipe from the processes.
	int log;
	struct buffer waiting;
	bool polled; // The log tells when it takes more. A file does not.
} streams[2];

void output_start(int writes[2])
{
	for (int index = 0; index < 2; index++) {
		int ends[2];
		if (pipe2(ends, O_CLOEXEC) != 0) {
			perror("init: pipe");
			_exit(125);
		}
		fcntl(ends[0], F_SETFL, O_NONBLOCK);
		streams[index] = (struct stream){.read = ends[0], .log = index + 1};
		int flags = fcntl(index + 1, F_GETFL);
		fcntl(index + 1, F_SETFL, flags | O_NONBLOCK);
		writes[index] = ends[1];
		loop_add(ends[0], EPOLLIN);
	}
}

// Writes what waits. Says whether all of it is in the log.
static bool flush(struct stream *stream)
{
	while (stream->waiting.length > 0) {
		ssize_t written = write(stream->log, stream->waiting.bytes, stream->waiting.length);
		if (written > 0) {
			buffer_drop(&stream->waiting, (size_t)written);
		} else if (written < 0 && errno == EINTR) {
			continue;
		} else if (written < 0 && errno == EAGAIN) {
			if (!stream->polled) {
				stream->polled = true;
				loop_add(stream->log, EPOLLOUT);
				loop_change(stream->read, 0);
			}
			return false;
		} else {
			// The log is gone; what is written is lost, as it is without the init.
			buffer_free(&stream->waiting);
		}
	}
	if (stream->polled) {
		stream->polled = false;
		loop_remove(stream->log);
		loop_change(stream->read, EPOLLIN);
	}
	return true;
}

// Passes on what is in the pipe, as far as the log takes it and `most` bytes beyond. The bound of rounds keeps a program
// that writes without end from stopping the init.
static void copy(struct stream *stream, size_t most)
{
	static char bytes[4096];
	for (int round = 0; round < 32 && (flush(stream) || stream->waiting.length < most); round++) {
		ssize_t count = read(stream->read, bytes, sizeof bytes);
		if (count <= 0)
			return;
		buffer_add(&stream->waiting, bytes, (size_t)count);
	}
}

bool output_owns(int fd)
{
	return fd == 1 || fd == 2 || fd == streams[0].read || fd == streams[1].read;
}

void output_serve(int fd, uint32_t events)
{
	(void)events;
	for (int index = 0; index < 2; index++)
		if (fd == streams[index].read || fd == streams[index].log)
			copy(&streams[index], 0);
}

void output_drain(void)
{
	copy(&streams[0], MOST_WAITING);
	copy(&streams[1], MOST_WAITING);
}

void output_say(const char *format, ...)
{
	struct stream *stream = &streams[0];
	char text[512];
	va_list values;
	va_start(values, format);
	int length = vsnprintf(text, sizeof text, format, values);
	va_end(values);
	if (length <= 0 || stream->waiting.length > MOST_WAITING + 8 * 1024)
		return;
	buffer_add(&stream->waiting, text, (size_t)length < sizeof text ? (size_t)length : sizeof text - 1);
	flush(stream);
}
