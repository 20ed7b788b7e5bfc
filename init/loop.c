#include "init.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

static int signals(void)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	return signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
}

static void serve_signals(int fd)
{
	struct signalfd_siginfo info;
	while (read(fd, &info, sizeof info) == sizeof info) {
		if (info.ssi_signo != SIGCHLD)
			worker_stop("spindown", worker.config.grace_ms);
	}
	effects_run();
	while (process_reap())
		effects_run();
}

static void serve_agent(uint32_t events)
{
	agent_read(events);
	while (agent_obey())
		effects_run();
	agent_write(events);
}

// Does all that is due. Returns the milliseconds until something else is; -1 for never.
static int tick(void)
{
	int64_t now = now_ms();
	int64_t next;
	do {
		next = http_tick(now);
		bounds_enforce();
		earliest(&next, worker_tick(now, connections_waiting(), extensions_late()));
		earliest(&next, process_tick(now));
	} while (effects_run());
	earliest(&next, agent_tick(now));
	// The init ends when the agent knows, or when it has had the time.
	bool ended = worker.phase == FAILED || worker.processes == 0;
	if (worker.finish_at != 0 && (awake_ms() >= worker.finish_at || (ended && agent_knows_all())))
		worker.finished = true;
	if (next == 0)
		return worker.finished ? 0 : -1;
	int64_t left = worker.finished ? 0 : next - now_ms();
	return left < 0 ? 0 : left > 60000 ? 60000 : (int)left;
}

// Turns of the loop for which signals wait while there is anything else to do.
enum { MAX_PUT_OFF = 8 };

static void run(int signal_fd)
{
	int put_off = 0;
	while (!worker.finished) {
		struct epoll_event events[32];
		int count = poll_wait(events, 32, tick());
		awake_turn();
		bool signalled = false;
		for (int index = 0; index < count; index++) {
			int fd = events[index].data.fd;
			if (fd == signal_fd)
				signalled = true;
			else if (output_owns(fd))
				output_serve(fd, events[index].events);
			else if (agent_owns(fd))
				serve_agent(events[index].events);
			else if (http_owns(fd))
				http_serve(fd, events[index].events);
			effects_run();
		}
		// What a process wrote before it ended is read before its end counts: a new connection takes two turns.
		if (signalled && (count == 1 || ++put_off == MAX_PUT_OFF)) {
			put_off = 0;
			serve_signals(signal_fd);
		}
	}
	output_drain();
}

_Noreturn static void usage(const char *text)
{
	fprintf(stderr, "init: %s\nusage: init --socket PATH [--concurrency N] [--init-timeout-ms N] [--grace-ms N] "
	                "[--keep-answers-ms N] [--system-log-level DEBUG|INFO|WARN] [--extensions FOLDER] [--port N] -- PROGRAM [ARGUMENT...]\n", text);
	exit(125);
}

static int64_t number(const char *flag, const char *text)
{
	char *end;
	long long value = strtoll(text, &end, 10);
	if (end == text || *end != 0 || value < 1 || value > 86400000) {
		fprintf(stderr, "init: %s takes a whole number from 1 to 86400000, not %s\n", flag, text);
		exit(125);
	}
	return value;
}

static enum level level_of(const char *text)
{
	static const char *const names[] = {"DEBUG", "INFO", "WARN"};
	for (int index = LEVEL_DEBUG; index <= LEVEL_WARN; index++)
		if (strcmp(text, names[index]) == 0)
			return index;
	usage("there is no such level of the log");
}

static void configure(int count, char **arguments)
{
	struct config *config = &worker.config;
	*config = (struct config){.address = "127.0.0.1", .extensions = "/opt/extensions", .port = 9001, .concurrency = 1,
	                          .init_timeout_ms = 60000, .grace_ms = 2000, .keep_answers_ms = 60000,
	                          .system_level = LEVEL_INFO};
	int index = 1;
	for (; index < count && strcmp(arguments[index], "--") != 0; index += 2) {
		const char *flag = arguments[index];
		const char *value = index + 1 < count ? arguments[index + 1] : NULL;
		if (value == NULL)
			usage("a flag has no value");
		if (strcmp(flag, "--socket") == 0)
			config->socket = value;
		else if (strcmp(flag, "--extensions") == 0)
			config->extensions = value;
		else if (strcmp(flag, "--port") == 0)
			config->port = (int)number(flag, value);
		else if (strcmp(flag, "--concurrency") == 0)
			config->concurrency = (int)number(flag, value);
		else if (strcmp(flag, "--init-timeout-ms") == 0)
			config->init_timeout_ms = number(flag, value);
		else if (strcmp(flag, "--grace-ms") == 0)
			config->grace_ms = number(flag, value);
		else if (strcmp(flag, "--keep-answers-ms") == 0)
			config->keep_answers_ms = number(flag, value);
		else if (strcmp(flag, "--system-log-level") == 0)
			config->system_level = level_of(value);
		else
			usage("unknown flag");
	}
	config->argv = arguments + index + 1;
	if (config->socket == NULL || index + 1 >= count)
		usage("the socket or the program is missing");
}

int main(int count, char **arguments)
{
	// Keeps the memory and the descriptors of the init from processes of its own user, which the kernel would let read and
	// write them in /proc/1 or trace the init. A program that the init starts is dumpable again.
	prctl(PR_SET_DUMPABLE, 0);
	if (hold(count, arguments))
		return 0;
	configure(count, arguments);
	if (getpid() != 1) {
		fprintf(stderr, "init: not process 1 of a container: a restart of the runtime kills every process\n");
		return 125;
	}
	char api[32];
	snprintf(api, sizeof api, "%s:%d", worker.config.address, worker.config.port);
	setenv("AWS_LAMBDA_RUNTIME_API", api, 1);
	poll_start();
	int signal_fd = signals();
	poll_add(signal_fd, EPOLLIN);
	http_listen(worker.config.address, worker.config.port, 16 + 4 * worker.config.concurrency + 4 * MAX_EXTENSIONS);
	awake_turn();
	agent_start(worker.config.socket);
	process_boot();
	run(signal_fd);
	return worker.exit_code;
}
