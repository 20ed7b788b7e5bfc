// The init is process 1 of a worker. It starts extensions and the runtime, speaks Lambda's Runtime API to them on the
// loopback of the container, and takes calls from the agent over a unix socket. Runtime and calls outlive the agent.
//
// One thread, one loop. Files call those before them in this list. test/unit/init/file-order.test.ts holds that, and names
// the files that still call one after them:
//   buffer.c    bytes and text
//   clock.c     clocks
//   poll.c      descriptors that the loop waits for
//   output.c    what the processes write, and lines of the init between
//   log.c       the lines that Lambda writes itself
//   history.c   calls that were forgotten
//   call.c      calls by their id, and how long each may take
//   places.c    how many calls the runtime takes at once
//   worker.c    phases, calls and their outcomes; the only place that changes them
//   bounds.c    what programs of the worker may send
//   process.c   start, end and restart of the processes
//   extension.c the Extensions API
//   runtime.c   the Runtime API
//   answer.c    answers to runtime and extensions
//   request.c   HTTP/1.1 as it is read
//   http.c      the connections of runtime and extensions
//   order.c     what the agent asks for
//   agent.c     the connection to the agent
//   hold.c      the program of the Pods that stand for workers
//   loop.c      the loop
#ifndef INIT_H
#define INIT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "buffer.h"

enum {
	// Largest answer that is not streamed, in bytes: 6 MiB and what Lambda adds for its envelope. Events likewise.
	MAX_BUFFERED = 6 * 1024 * 1024 + 100,
	// Largest streamed answer in bytes.
	MAX_STREAMED = 200 * 1024 * 1024,
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

// Milliseconds from the end of the connection of an answer until the end of its process would be known.
enum { EXIT_KNOWN_MS = 200 };

// Milliseconds in which an answer is read that a request for the next call has overtaken: they came over two connections.
enum { OVERTAKEN_MS = 50 };

// Milliseconds that runtime and extensions have for their end before they start again, where there are extensions: as many
// as in Lambda's SHUTDOWN phase. The end of the container has the grace of the worker.
enum { INTERNAL_GRACE_MS = 500, EXTERNAL_GRACE_MS = 2000 };

// Breaches of a bound that end a worker, where they come faster than one a second.
#ifndef MAX_BREACHES
#define MAX_BREACHES 64
#endif

// Milliseconds that news may wait for other news. A worker that is called again and again is busy, then idle, in each
// call: told at once, each of them would wake the agent.
enum { NEWS_MS = 2 };

// Weight of a breach: what a runtime that errs may do, what hardly any does, and what none does.
enum weight { SLIP = 1, ODD = 32, FLOOD = 65 };

// Most milliseconds from the first byte of a request to the end of its header, and then to the end of its body. The body
// of an answer has the time of its call.
#ifndef HEAD_PATIENCE_MS
#define HEAD_PATIENCE_MS (10 * 1000)
#endif
#ifndef BODY_PATIENCE_MS
#define BODY_PATIENCE_MS (60 * 1000)
#endif

// Milliseconds that a turn of the loop counts at most in awake_ms(), and in which the loop turns while a peer is waited for.
enum { LONGEST_TURN_MS = 1000 };

// Pieces of an answer below so many bytes: as many as a worker may send at once, and in a second from then on for each
// call at once. Streams of single letters are far below; a flood of single bytes costs more than it brings.
enum { SMALL_PIECE = 16 };
#ifndef PIECES_PER_SECOND
#define PIECES_PER_SECOND (10 * 1000)
#endif
#ifndef MAX_PIECES
#define MAX_PIECES (1000 * 1000)
#endif
// Bytes of the framing of chunks beyond 16 for each and twice its data: as many are borne as in net/http of Go.
enum { MAX_FRAMING = 16 * 1024 };

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
enum stage { ARRIVING, WAITING, RUNNING, ENDED };

struct connection;
struct epoll_event;

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
};

extern struct worker worker;
extern char **environ;

// clock.c
int64_t now_ms(void);
int64_t now_us(void);
int64_t wall_ms(void);
// Milliseconds in which the init has run. Time in which the worker is frozen, or has no processor, costs nobody anything:
// all patience but the time of a call counts them.
int64_t awake_ms(void);
// Monotonic milliseconds at which the loop has to turn for a moment of awake_ms().
int64_t awake_at(int64_t now, int64_t due);
// A turn of the loop begins.
void awake_turn(void);

// poll.c
void poll_start(void);
void poll_add(int fd, uint32_t events);
void poll_change(int fd, uint32_t events);
void poll_remove(int fd);
int poll_wait(struct epoll_event *events, int most, int timeout_ms);

// output.c
void output_start(int streams[2]);
void output_serve(int fd, uint32_t events);
bool output_owns(int fd);
// Has all that was written before in the log, as far as the log takes it.
void output_drain(void);
// Adds lines of the init.
void output_add(const char *lines, size_t length);

// log.c
void log_init_start(void);
// The type of the error is NULL after a success.
void log_init_end(const char *status, const char *error_type);
// Of an extension at the end of an initialization; with an error of one that failed.
void log_extension(const struct extension *extension, const char *error_type);
void log_start(const struct call *call);
void log_end(const struct call *call);
// Peak of the memory of a process that has ended.
void log_memory(int64_t kib);

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
// Says whether nobody has to hear of a call any more.
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
bool worker_idle(void);
const char *worker_phase(void);
// Has the agent hear what is new at the end of this turn of the loop; soon.
void worker_news(void);
void worker_news_soon(void);
void worker_fail(const char *type, const char *message, const char *body);
void worker_take(struct call *call);
void worker_arrive(struct call *call, const char *bytes, size_t length);
void worker_agent_left(void);
void worker_agent_came(void);
void worker_hand(void);
void worker_waits(void); // A request for the next call has come.
void worker_return(struct call *call, bool begun);
void worker_settle(struct call *call, const char *outcome, const char *type, const char *message);
void worker_end(enum stage stage, const char *outcome, const char *type, const char *message);
void worker_become_ready(void);
// Ends calls whose answer broke off by a moment of awake_ms(); by INT64_MAX, all whose answer has begun.
void worker_end_broken(int64_t awake);
void worker_acknowledge(struct call *call, int64_t offset);
void worker_forget(struct call *call);
// Tells the agent of a call and its answer once more, under a number.
void worker_tell_again(struct call *call, int64_t number);
int64_t worker_tick(int64_t now); // Does what is due; returns when the next is, 0 for never.

// bounds.c
// Counts a breach of a bound of the Runtime API. A program that goes on with that is no runtime that errs.
void bounds_breach(enum weight weight, const char *bound);
// Counts a small piece of an answer. Says whether it is one too many.
bool bounds_piece(void);
// Ends a worker that broke a bound too often.
void bounds_enforce(void);

// process.c
void process_boot(void);
void process_start_runtime(void);
void process_restart(const char *reason);
void process_reap(void);
void process_stop(const char *reason, int64_t grace_ms);

// extension.c
struct extension *extension_add(const char *name);
struct extension *extension_of(pid_t pid);
void extension_clear(void);
// Milliseconds that the extensions have for an end that a start follows.
int64_t extensions_grace(void);
// Writes a line about each extension into the log, at the end of an initialization that failed for error_type, or did not.
void extensions_say(const char *error_type);
bool extensions_registered(void);
bool extensions_wait(void);
// Name of an extension that does not wait; NULL for none.
const char *extensions_late(void);
bool extensions_heed_shutdown(void);
void extensions_invoke(const struct call *call);
void extensions_shutdown(const char *reason, int64_t deadline_ms);
void extension_left(struct connection *connection);
void extension_register(struct connection *connection, const char *body);
void extension_next(struct connection *connection);
// Notes an error that an extension reports, in its initialization or later. The extension is to end for it.
void extension_fault(struct connection *connection, bool init);

// runtime.c
void runtime_next(struct connection *connection);
// Begins an answer: returns the call, or NULL after a refusal.
struct call *runtime_answer(struct connection *connection, const char *id, bool error);
void runtime_answered(struct connection *connection);
// The call of an answer has ended before the answer.
void runtime_late(struct call *call);
// The request of an answer has ended before its end.
void runtime_broke_off(struct connection *connection);
void runtime_init_error(struct connection *connection, const char *body);
bool runtime_gives(struct call *call); // Hands a call to a waiting runtime, when there is one.
void runtime_forsake(void);
void runtime_left(struct connection *connection);

#include "http.h"

// order.c
// Does what a frame of the agent says. Says whether it was understood.
bool order_obey(char kind, const char *payload, size_t length);

// agent.c
void agent_start(const char *path);
bool agent_owns(int fd);
void agent_serve(uint32_t events);
// Has the agent hear what is new in this very step.
void agent_tell(void);
int64_t agent_tick(int64_t now);
bool agent_knows_all(void);

// hold.c
// Waits without an end where the arguments are those of a Pod that stands for workers; false where they are not.
bool hold(int count, char **arguments);

#endif
