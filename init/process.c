#include "init.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static int output_writes[2];

// Runs in the child. Says its error through a pipe that a successful exec closes.
static void become(char **argv, int failure)
{
	sigset_t none;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	setsid();
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	dup2(null, 0);
	dup2(output_writes[0], 1);
	dup2(output_writes[1], 2);
	execvp(argv[0], argv);
	int error = errno;
	ssize_t written = write(failure, &error, sizeof error);
	(void)written;
	_exit(127);
}

// Starts a program in a session of its own. Returns 0, with errno, when it cannot be started.
static pid_t start(char **argv)
{
	int failure[2];
	if (pipe2(failure, O_CLOEXEC) != 0)
		return 0;
	pid_t pid = fork();
	if (pid == 0)
		become(argv, failure[1]);
	int error = pid < 0 ? errno : 0;
	close(failure[1]);
	if (pid > 0) {
		ssize_t count = read(failure[0], &error, sizeof error);
		if (count != (ssize_t)sizeof error)
			error = 0;
	}
	close(failure[0]);
	if (error != 0) {
		errno = error;
		return 0;
	}
	worker.processes++;
	return pid;
}

// Words of Go for an error of exec, which Lambda passes on.
static const char *words_of(int error)
{
	switch (error) {
	case ENOENT: return "no such file or directory";
	case EACCES: return "permission denied";
	case ENOEXEC: return "exec format error";
	default: return strerror(error);
	}
}

static void start_extension(char *path, const char *name)
{
	char *argv[] = {path, NULL};
	char message[256] = "Extension limit (10) reached";
	struct extension *extension = extension_add(name);
	if (extension != NULL) {
		extension->pid = start(argv);
		if (extension->pid != 0)
			return;
		extension->state = "LaunchError";
		snprintf(message, sizeof message, "fork/exec %.150s: %s", path, words_of(errno));
	}
	worker_fail("Extension.LaunchError", message, NULL);
}

// The runtime and extensions of before have ended.
void process_boot(void)
{
	static bool begun;
	if (!begun) {
		begun = true;
		output_start(output_writes);
	}
	log_init_start();
	places_clear();
	worker.began_ms = now_ms();
	worker.init_ms = 0;
	worker.init_due = awake_ms() + worker.config.init_timeout_ms;
	struct dirent **entries;
	int count = scandir(worker.config.extensions, &entries, NULL, alphasort);
	for (int index = 0; index < count; index++) {
		char path[4096];
		const char *name = entries[index]->d_name;
		snprintf(path, sizeof path, "%s/%s", worker.config.extensions, name);
		struct stat about;
		if (stat(path, &about) == 0 && !S_ISDIR(about.st_mode) && worker.phase != FAILED)
			start_extension(path, name);
		free(entries[index]);
	}
	if (count >= 0)
		free(entries);
}

void process_start_runtime(void)
{
	if (worker.runtime != 0 || worker.resetting || worker.phase == FAILED || worker.phase == STOPPING || !extensions_registered())
		return;
	worker.runtime = start(worker.config.argv);
	if (worker.runtime == 0) {
		char message[512];
		const char *program = worker.config.argv[0];
		if (strchr(program, '/') != NULL)
			snprintf(message, sizeof message, "fork/exec %.200s: %s", program, words_of(errno));
		else
			snprintf(message, sizeof message, "exec: \"%.200s\": %s", program,
			         errno == ENOENT ? "executable file not found in $PATH" : words_of(errno));
		worker_fail("Runtime.InvalidEntrypoint", message, NULL);
	}
}

void process_start_again(void)
{
	// What the runtime and extensions have left behind. Process 1 is not among them.
	kill(-1, SIGKILL);
	worker.resetting = false;
	worker.kill_at = 0;
	worker.runtime_kill_at = 0;
	set_text(&worker.first_fault, NULL, 0);
	// A request that is still to be read is one of a process that is no more.
	http_close_all();
	extension_clear();
	process_boot();
}

void process_tell_extensions(void)
{
	extensions_shutdown(worker.stop_reason, wall_ms() + worker.kill_at - awake_ms());
}

// Ends the runtime by SIGTERM, then extensions by SHUTDOWN, and what is left after the grace by SIGKILL. The runtime has
// three tenths of the grace where extensions follow, as in Lambda.
void process_wind_down(int64_t grace_ms)
{
	worker.kill_at = awake_ms() + grace_ms;
	if (worker.runtime == 0) {
		process_tell_extensions();
		return;
	}
	kill(worker.runtime, SIGTERM);
	if (extensions_heed_shutdown())
		worker.runtime_kill_at = awake_ms() + grace_ms * 3 / 10;
}

void process_restart(void)
{
	int64_t grace_ms = extensions_grace();
	if (grace_ms == 0)
		kill(-1, SIGKILL);
	else
		process_wind_down(grace_ms);
}

static void ended(pid_t pid, int status)
{
	struct extension *extension = extension_of(pid);
	if (pid != worker.runtime && extension == NULL)
		return;
	worker.processes--;
	if (pid == worker.runtime) {
		worker.runtime = 0;
		runtime_forsake();
	}
	char how[64];
	if (WIFSIGNALED(status))
		snprintf(how, sizeof how, "signal: %s", WTERMSIG(status) == SIGKILL ? "killed" : strsignal(WTERMSIG(status)));
	else
		snprintf(how, sizeof how, "exit status %d", WEXITSTATUS(status));
	char message[256];
	if (extension != NULL) {
		extension->pid = 0;
		extension->state = worker.first_fault == NULL ? "Exited" : extension->state;
		snprintf(message, sizeof message, "%s", strcmp(how, "exit status 0") == 0 ? "exit code 0" : how);
	} else if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
		snprintf(message, sizeof message, "Runtime exited without providing a reason");
	} else {
		snprintf(message, sizeof message, "Runtime exited with error: %s", how);
	}
	const char *type = worker.first_fault != NULL ? worker.first_fault : extension != NULL ? "Extension.Crash" : "Runtime.ExitError";
	if (worker.init_due != 0)
		worker_fail(type, message, NULL);
	if (extension == NULL || worker.phase != STOPPING)
		worker_end(RUNNING, "Exited", type, message);
	if ((worker.phase == STOPPING || worker.resetting) && extension == NULL)
		worker.must_tell_shutdown = true;
	if (worker.phase == STOPPING && worker.processes == 0)
		worker.finish_at = awake_ms() + 1000;
	worker_restart("failure");
}

bool process_reap(void)
{
	int status;
	struct rusage usage;
	pid_t pid = wait4(-1, &status, WNOHANG, &usage);
	if (pid <= 0)
		return false;
	log_memory(usage.ru_maxrss);
	ended(pid, status);
	return true;
}

int64_t process_tick(int64_t now)
{
	int64_t awake = awake_ms();
	if (worker.runtime_kill_at != 0 && awake >= worker.runtime_kill_at) {
		worker.runtime_kill_at = 0;
		if (worker.runtime != 0)
			kill(worker.runtime, SIGKILL);
	}
	if (worker.kill_at != 0 && awake >= worker.kill_at) {
		worker.kill_at = 0;
		if (worker.phase == STOPPING)
			worker.finish_at = awake + 1000;
		kill(-1, SIGKILL);
	}
	int64_t next = 0;
	earliest(&next, awake_at(now, worker.runtime_kill_at));
	earliest(&next, awake_at(now, worker.kill_at));
	earliest(&next, awake_at(now, worker.finish_at));
	return next;
}
