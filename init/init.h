// The init is process 1 of a worker. It starts extensions and the runtime, speaks Lambda's Runtime API to them on the
// loopback of the container, and takes calls from the agent over a unix socket. Runtime and calls outlive the agent.
//
// One thread, one loop. Files call those before them in this list; test/unit/init/file-order.test.ts holds that:
//   buffer.c     bytes and text
//   clock.c      clocks
//   history.c    calls that were forgotten
//   call.c       calls by their id, and how long each may take
//   places.c     how many calls the runtime takes at once
//   worker.c     what becomes of the worker and its calls by what happens
//   next.c       what is to be done next
//   poll.c       descriptors that the loop waits for
//   output.c     what the processes write, and lines of the init between
//   log.c        the lines that Lambda writes itself
//   bounds.c     what programs of the worker may send
//   connection.c connections of runtime and extensions
//   answer.c     answers to them
//   extension.c  the Extensions API
//   runtime.c    the Runtime API
//   request.c    HTTP/1.1 as it is read
//   http.c       HTTP/1.1 on the connections
//   process.c    start, end and restart of the processes
//   order.c      what the agent asks for
//   agent.c      the connection to the agent
//   effects.c    does what is to be done
//   hold.c       the program of the Pods that stand for workers
//   loop.c       the loop
// The files up to next.c are the core: they decide, and do nothing. Whoever has told worker.c what has happened does what
// next.c says by then, through effects_run().
#ifndef INIT_H
#define INIT_H

#include "core.h"

enum {
	// Largest answer that is not streamed, in bytes: 6 MiB and what Lambda adds for its envelope. Events likewise.
	MAX_BUFFERED = 6 * 1024 * 1024 + 100,
	// Largest streamed answer in bytes.
	MAX_STREAMED = 200 * 1024 * 1024,
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

struct epoll_event;

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
void log_init_end(const char *error_type);
// Of an extension at the end of an initialization; with an error of one that failed.
void log_extension(const struct extension *extension, const char *error_type);
void log_start(const struct call *call);
void log_end(const struct call *call);
// Peak of the memory of a process that has ended.
void log_memory(int64_t kib);

// bounds.c
// Counts a breach of a bound of the Runtime API. A program that goes on with that is no runtime that errs.
void bounds_breach(enum weight weight, const char *bound);
// Counts a small piece of an answer. Says whether it is one too many.
bool bounds_piece(void);
// Ends a worker that broke a bound too often.
void bounds_enforce(void);

// extension.c
struct extension *extension_add(const char *name);
struct extension *extension_of(pid_t pid);
void extension_clear(void);
// Milliseconds that the extensions have for an end that a start follows.
int64_t extensions_grace(void);
// Writes a line about each extension into the log, at the end of an initialization that failed for error_type, or did not.
void extensions_say(const char *error_type);
bool extensions_registered(void);
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
// Tell the runtime of the answer that is here in whole, or of the end of the call before that.
void runtime_accept(struct call *call);
void runtime_refuse(struct call *call);
void runtime_too_large(struct connection *connection);
// The request of an answer has ended before its end.
void runtime_broke_off(struct connection *connection);
void runtime_init_error(struct connection *connection, const char *body);
void runtime_give(struct call *call); // Hands a call to the runtime that has waited longest.
void runtime_forsake(void);
void runtime_left(struct connection *connection);

#include "http.h"

// process.c
void process_boot(void);
void process_start_runtime(void); // When nothing holds it up.
// Ends all processes; starts them again once they have ended.
void process_restart(void);
void process_start_again(void);
void process_wind_down(int64_t grace_ms);
// Tells extensions of the end.
void process_tell_extensions(void);
// Takes note of the end of a process. Says whether one had ended.
bool process_reap(void);
int64_t process_tick(int64_t now);

// order.c
// Does what a frame of the agent says. Says whether it was understood.
bool order_obey(char kind, const char *payload, size_t length);

// agent.c
void agent_start(const char *path);
bool agent_owns(int fd);
// Reads what has come; obeys an order that is here in whole, and says whether there was one; sends what is new.
void agent_read(uint32_t events);
bool agent_obey(void);
void agent_write(uint32_t events);
// Has the agent hear what is new in this very step.
void agent_tell(void);
int64_t agent_tick(int64_t now);
bool agent_knows_all(void);

// effects.c
// Does what next.c says, until nothing is left. Says whether there was something.
bool effects_run(void);

// hold.c
// Waits without an end where the arguments are those of a Pod that stands for workers; false where they are not.
bool hold(int count, char **arguments);

#endif
