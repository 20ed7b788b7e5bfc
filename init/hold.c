// The program of the Pods that stand for the workers of a node: does nothing but wait.
#include "init.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

static void end(int number)
{
	(void)number;
	_exit(0);
}

bool hold(int count, char **arguments)
{
	bool guards = count == 2 && strcmp(arguments[1], "guard") == 0;
	if (!guards && (count != 2 || strcmp(arguments[1], "reserve") != 0))
		return false;
	// A guard is there for all of its grace: whoever drains the node waits for it, by the grace of the Pod.
	struct sigaction action = {.sa_handler = guards ? SIG_IGN : end};
	sigaction(SIGTERM, &action, NULL);
	for (;;)
		pause();
}
