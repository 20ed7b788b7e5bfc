// What the core of the init knows and decides: the files up to next.c in the list of init.h. They touch nothing but
// memory and the clocks. test/unit/init/core.test.ts builds them by themselves, with clocks of its own.
#ifndef CORE_H
#define CORE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "buffer.h"

enum {
	// Most bytes of an answer that the agent has not acknowledged: as many as it takes, and where it does not say.
	MAX_WINDOW = 256 * 1024,
	WINDOW = 64 * 1024,
	// Largest report of an error in initialization, and largest error in a trailer, in bytes.
	MAX_FAULT = 64 * 1024,
	// Longest text of a header that is told on.
	MAX_TEXT = 1024,
	// Extensions of a worker, those within the runtime's process included. Lambda's limit.
	MAX_EXTENSIONS = 10,
	// Events that an extension has not asked for yet. Later ones take the place of the last.
	MAX_EXTENSION_EVENTS = 16,
};

// Levels of Lambda's own lines.
enum level { LEVEL_DEBUG, LEVEL_INFO, LEVEL_WARN };

struct config {
	char **argv;
	const char *socket;
	const char *address;
	const char *extensions;
	int port;
	int concurrency;
	int64_t init_timeout_ms;
	int64_t grace_ms;
	int64_t keep_answers_ms;
	enum level system_level; // Of lines as JSON.
};

enum phase { STARTING, READY, FAILED, STOPPING };
// A call that is GONE is no more than memory that a connection may know.
enum stage { ARRIVING, WAITING, RUNNING, ENDED, GONE };

// What is to be done next.
enum effect_kind {
	NOTHING,
	LOG_EXTENSIONS, // A line for each extension, at the end of an initialization.
	LOG_INIT_END,
	LOG_END,
	ACCEPT_ANSWER, // Tell the runtime that its answer is here, once the agent knows.
	REFUSE_ANSWER, // Tell the runtime that the call has ended before its answer.
	RESUME_ANSWER, // Read on.
	FREE_CALL,
	TELL_SHUTDOWN,   // The runtime has ended: extensions are to end.
	END_FOR_RESTART, // End all processes.
	END_FOR_GOOD,
	START_AGAIN,
	GIVE_CALL, // Hand a call to the runtime that has waited longest.
};

struct effect {
	enum effect_kind kind;
	struct call *call;
};

struct connection;

// One call of this worker.
struct call {
	struct call *next;
	char *id;
	char *version;
	char *function_arn;
	char *trace_id;
	char *client_context;
	char *cognito_identity;
	char *tenant_id;
	char *content_type;
	char invocation[37]; // Value of Lambda-Runtime-Invocation-Id.
	int64_t size;
	int64_t window; // Bytes of the answer that this agent takes beyond those that it has acknowledged.
	int64_t deadline_ms; // Of the wall clock, since 1970, from its start on: when it has to have ended.
	int64_t timeout_ms; // From the moment at which a runtime gets it.
	enum stage stage;
	uint64_t order; // Of arrival.
	struct buffer event;
	int64_t started_us; // Monotonic; 0: not yet.
	bool returned; // A runtime has had a part of the event.
	int64_t begin_by; // Monotonic milliseconds: when a runtime has to have it. The agent's clock: the container has no time namespace.
	int64_t deadline_at; // Monotonic milliseconds, once it has started.
	int64_t stopped_at; // Monotonic milliseconds: since when its time stands still, as its answer waits for an agent. 0: not.
	int64_t stopped_until; // By awake_ms(): for how long at most.
	int64_t broken_at; // By awake_ms(), once the runtime has broken its answer off: when that is told. 0: none.
	int64_t forget_at; // By awake_ms(), once it has ended: when no agent is there that takes the answer.

	// Told to the agent.
	bool changed;
	bool introduced; // Bytes of the answer may follow.
	int64_t again;   // Number under which the agent has asked to be told once more; 0: it has not.
	bool streaming;
	bool answering;
	bool answered; // The whole answer is here.
	char *answer_type;
	const char *outcome; // NULL: none yet.
	char *error_type;
	char *message;
	char *error_body;
	int64_t duration_us;

	// Bytes of the answer from base on which the agent has not acknowledged.
	struct buffer held;
	int64_t base;
	int64_t sent;
	bool forgotten; // The answer is thrown away.
	struct connection *answers; // The request in which the runtime answers.

	// What next.c has to say of it.
	struct call *next_marked;
	bool must_log_end;
	bool must_resume;
};

struct extension {
	bool used;
	bool internal; // A part of the runtime's process.
	bool registered;
	bool invoke;
	bool shutdown;
	pid_t pid;
	char id[37];
	char *name;
	const char *state; // As Lambda names them.
	char *events[MAX_EXTENSION_EVENTS];
	int event_count;
	struct connection *waits; // The request for the next event.
};

struct worker {
	struct config config;
	enum phase phase;
	// Why the worker did not become ready, in Lambda's words.
	char *fault_type;
	char *fault_message;
	char *fault_body;
	const char *fault_bound; // The bound for which the worker is ended; NULL: another fault.
	int64_t began_ms;
	int64_t init_ms; // 0: the runtime has not asked for a call yet.
	int64_t init_due; // By awake_ms(), as all moments below but those of bounds; 0: none.
	int restarts;
	bool resetting; // All processes are being killed. They start again once they have ended.
	pid_t runtime; // 0: none.
	int processes; // Runtime and extensions that have not ended.
	struct extension extensions[MAX_EXTENSIONS];
	struct call *calls;
	uint64_t orders;
	int64_t linger_at; // End of the time of the last call, after which runtime and extensions have to wait for the next.
	char *stop_reason; // Why the processes are being ended.
	int64_t stop_grace_ms;
	char *first_fault; // Type of the first error that an extension reported; its process is to end for it.
	int64_t runtime_kill_at; // End of the runtime's part of the grace; 0: none.
	int64_t kill_at; // End of the grace; 0: none.
	int64_t finish_at; // End of the init; 0: none.
	int64_t breaches_until; // Monotonic milliseconds: a second for the weight of each breach of late.
	int64_t pieces_until; // Monotonic nanoseconds: the time that the small pieces of late may take.
	const char *broken; // A bound that was broken too often; NULL: none.
	bool agent_there;
	bool news; // The agent is to hear what is new at the end of this turn of the loop.
	int64_t news_by; // Monotonic milliseconds: when it is to hear what is new at the latest; 0: no news waits.
	bool finished;
	int exit_code;
	// What next.c has to say.
	bool must_log_extensions;
	bool must_log_init;
	struct call *marked; // Calls of which it may have.
	bool must_tell_shutdown;
	bool must_restart;
	bool must_stop;
};

extern struct worker worker;

// clock.c
int64_t now_ms(void);
int64_t now_us(void);
int64_t wall_ms(void);
// Milliseconds in which the init has run. Time in which the worker is frozen, or has no processor, costs nobody anything:
// all patience but the time of a call counts them.
int64_t awake_ms(void);
// Monotonic milliseconds at which the loop has to turn for a moment of awake_ms(); 0, which stands for none, for 0.
int64_t awake_at(int64_t now, int64_t due);
// Takes a moment that is before the first one; 0 stands for none.
void earliest(int64_t *first, int64_t at);
// A turn of the loop begins.
void awake_turn(void);

// history.c
// From now on each call of this worker comes here.
void history_begin(void);
// From now on calls may go to other containers of this worker.
void history_end(void);
void history_add(const char *id);
void history_say(struct buffer *lines);

// call.c
struct call *call_find(const char *id); // NULL for none.
struct call *call_first_waiting(void); // By arrival; NULL for none.
int calls_running(void); // Calls that runtimes have.
void call_free(struct call *call);
// Has the time of a call stand still, whose answer waits for an agent; lets it go on.
void call_stop_time(struct call *call);
void call_go_on(struct call *call);
// Monotonic milliseconds at which the time of a call is over that has not ended.
int64_t call_due(const struct call *call, int64_t now);
bool call_overdue(const struct call *call, int64_t now);
bool call_forgettable(const struct call *call, bool agent_there);

// places.c
void places_clear(void);
// Some take the number of requests for the next call that wait.
void places_seen(int waiting);
void places_lost(void);
bool places_hold(void);
void places_settle(int waiting);
bool places_wait(int waiting); // All of the runtime waits for calls, but for what is held.
int places_shown(void);
int places_held(void);

// worker.c
// Some take what programs of the worker wait for: the number of requests for the next call, and the name of an extension
// that does not wait, NULL for none.
bool worker_idle(int waiting, const char *late);
// Has the agent hear what is new at the end of this turn of the loop; soon.
void worker_news(void);
void worker_news_soon(void);
void worker_fail(const char *type, const char *message, const char *body);
void worker_take(struct call *call);
void worker_arrive(struct call *call, const char *bytes, size_t length);
void worker_agent_left(void);
void worker_agent_came(void);
void worker_waits(int waiting); // A request for the next call has come.
void worker_begin(struct call *call);
void worker_return(struct call *call, bool begun);
void worker_settle(struct call *call, const char *outcome, const char *type, const char *message);
void worker_end(enum stage stage, const char *outcome, const char *type, const char *message);
// Ends calls whose answer broke off by a moment of awake_ms(); by INT64_MAX, all whose answer has begun.
void worker_end_broken(int64_t awake);
void worker_expire(struct call *call); // Ends a call whose time is over.
void worker_acknowledge(struct call *call, int64_t offset);
void worker_forget(struct call *call);
// Tells the agent of a call and its answer once more, under a number.
void worker_tell_again(struct call *call, int64_t number);
void worker_restart(const char *reason);
void worker_stop(const char *reason, int64_t grace_ms);
// Decides by what time it is; returns when the next moment is, 0 for never.
int64_t worker_tick(int64_t now, int waiting, const char *late);

// next.c
// What is to be done next. It counts as done when this returns.
struct effect next_effect(int waiting, const char *late);

#endif
