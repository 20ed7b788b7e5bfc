// Connections of runtime and extensions. init.h brings what this file names.
#ifndef HTTP_H
#define HTTP_H

// From ANSWERED on no more of the request is read.
enum state { REQUEST_LINE, HEADER, SIZED, CHUNK_SIZE, CHUNK_DATA, CHUNK_END, TRAILER, ANSWERED, LINGERING };

// What a request asks for.
enum act { UNKNOWN, NEXT, RESPONSE, ERROR, INIT_ERROR, REGISTER, NEXT_EVENT, EXTENSION_INIT_ERROR, EXTENSION_EXIT_ERROR, LOGS, TELEMETRY };

// Fields of a header or of trailers that are read.
enum field {
	CONTENT_LENGTH, TRANSFER_ENCODING, CONNECTION, EXPECT, CONTENT_TYPE, RESPONSE_MODE, ERROR_TYPE, ERROR_BODY, INVOCATION_ID,
	EXTENSION_NAME, EXTENSION_ID, EXTENSION_ERROR_TYPE, FIELDS,
};

struct connection {
	struct connection *next;
	int fd;
	bool dead;
	enum state state;
	bool close; // After the answer.
	bool early; // The answer came before the end of the request.
	bool paused; // The window of the call is full.
	bool parked; // Waits for a call or an event.
	bool waited; // For a call, with this request.
	bool again; // The beginning of the next request is here.
	uint64_t parked_order;
	struct buffer in;
	struct buffer out;
	struct buffer body; // Of small requests.
	size_t header_bytes;
	int64_t left; // Bytes of the body or of the chunk.
	int64_t framing; // Bytes of the lines of chunks, beyond what is usual.
	int64_t due; // By awake_ms(); 0: none.
	int64_t heard; // By awake_ms(): the last byte that came after an answer.
	int64_t judged_at; // By awake_ms(): when a request for a call counts that came before the answer to the one before.
	enum act act;
	int64_t total;
	int64_t limit;
	struct call *call; // Answered by this request, or handed to it.
	bool chunked;
	bool skips; // The line that is being read is dropped.
	bool blank; // The line before was empty.
	size_t written; // Bytes of out.
	char method[8];
	char path[512];
	char *fields[FIELDS];
};

// Most bytes that are read at once of what is no answer, and that wait for more before they are understood.
enum { READ_AT_ONCE = 16 * 1024 };

// connection.c
void connection_open(int fd);
struct connection *connection_of(int fd); // NULL for none.
struct connection *connection_first(void);
int connections_open(void);
// The request for the next call that has waited longest, NULL for none; how many wait.
struct connection *connection_first_parked(void);
int connections_waiting(void);
// Has a request wait for a call or an event, or no longer.
void connection_park(struct connection *connection, bool parks);
// Has the loop wait for what the connection can go on with.
void connection_watch(struct connection *connection);
// Writes what waits, as far as the peer takes it.
void connection_flush(struct connection *connection);
void connection_close(struct connection *connection);
// Takes one that has ended out of the list; NULL for none.
struct connection *connection_take_ended(void);
void connection_free(struct connection *connection);
// Has no connection know a call.
void connections_let_go(const struct call *call);

// answer.c
// Answers. Header fields come as lines that end with CRLF; NULL for none.
void answer_send(struct connection *connection, int status, const char *fields, const void *body, size_t length);
void answer_refuse(struct connection *connection, int status, const char *type, const char *message);
void answer_accept(struct connection *connection);
bool answer_continue(struct connection *connection);

// request.c
// Reads what has arrived, as far as it goes, and does what it asks for.
void request_read(struct connection *connection);

// http.c
void http_listen(const char *address, int port, int places);
bool http_owns(int fd);
void http_serve(int fd, uint32_t events);
int64_t http_tick(int64_t now);
// Tells runtime.c and extension.c of each connection that has ended, and frees it.
void http_note_ends(void);
void http_close_all(void); // Those, too, that have not been accepted yet.
// Goes on with the body of a request that was paused.
void http_resume(struct connection *connection);

#endif
