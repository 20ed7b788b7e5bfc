#include "init.h"

#include <sys/epoll.h>

static int poll_fd;

// Events that are asked for, by descriptor, as far as they are noted: most changes are none.
static uint32_t asked[256];

static bool is_asked(int fd, uint32_t events)
{
	if (fd < 0 || fd >= (int)(sizeof asked / sizeof *asked))
		return false;
	bool same = asked[fd] == events;
	asked[fd] = events;
	return same;
}

void poll_start(void)
{
	poll_fd = epoll_create1(EPOLL_CLOEXEC);
}

void poll_add(int fd, uint32_t events)
{
	is_asked(fd, events);
	struct epoll_event event = {.events = events, .data.fd = fd};
	epoll_ctl(poll_fd, EPOLL_CTL_ADD, fd, &event);
}

void poll_change(int fd, uint32_t events)
{
	if (is_asked(fd, events))
		return;
	struct epoll_event event = {.events = events, .data.fd = fd};
	epoll_ctl(poll_fd, EPOLL_CTL_MOD, fd, &event);
}

void poll_remove(int fd)
{
	epoll_ctl(poll_fd, EPOLL_CTL_DEL, fd, NULL);
}

int poll_wait(struct epoll_event *events, int most, int timeout_ms)
{
	return epoll_wait(poll_fd, events, most, timeout_ms);
}
