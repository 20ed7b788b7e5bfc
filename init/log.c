#include "init.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// The lines that Lambda itself writes into a log, as text or as JSON:
// https://docs.aws.amazon.com/lambda/latest/dg/telemetry-schema-reference.html
// https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-log-level.html

// Least milliseconds between two looks at the memory, and how many times as long as a look took: a worker with a thousand
// processes has a look take ten milliseconds and more of the init's one thread.
enum { LOOK_MS = 20, LOOK_PAUSES = 50 };

static int64_t init_began_us; // 0: no initialization goes on.
static int64_t init_us;       // Of the first initialization, until a call reports it.
static int64_t peak_kib;      // Most memory that was seen.

static bool as_json(void)
{
	return strcmp(environment("AWS_LAMBDA_LOG_FORMAT"), "JSON") == 0;
}

// Adds the time in UTC. The functions of libc would read the zones of the image.
static void add_time(struct buffer *line)
{
	int64_t now = wall_ms();
	// Days since March of the year 0, and years of 400 years: a leap day is the last day of its year.
	int64_t days = now / 86400000 + 719468;
	int64_t of_era = days % 146097;
	int64_t of_year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
	int64_t day = of_era - (365 * of_year + of_year / 4 - of_year / 100);
	int64_t month = (5 * day + 2) / 153;
	int64_t year = of_year + days / 146097 * 400 + (month >= 10);
	buffer_format(line, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", (int)year, (int)(month < 10 ? month + 3 : month - 9),
	              (int)(day - (153 * month + 2) / 5 + 1), (int)(now / 3600000 % 24), (int)(now / 60000 % 60),
	              (int)(now / 1000 % 60), (int)(now % 1000));
}

static double milliseconds(int64_t us)
{
	return (double)us / 1000;
}

void log_memory(int64_t kib)
{
	if (kib > peak_kib)
		peak_kib = kib;
}

// Reads the beginning of a file of /proc. Without stdio, whose buffers the init would keep.
static void read_proc(const char *pid, char *into, size_t size)
{
	char path[64];
	snprintf(path, sizeof path, "/proc/%.20s/status", pid);
	int file = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t length = file < 0 ? 0 : read(file, into, size - 1);
	into[length < 0 ? 0 : length] = 0;
	if (file >= 0)
		close(file);
}

// Sums the peaks of the resident memory of all processes but the init. Pages that processes share count for each. A look
// takes about 40 microseconds: the many short calls of a busy worker share one.
static void look_at_memory(void)
{
	static int folder = -1;
	static int64_t again_ms;
	static const char peak[] = "\nVmHWM:";
	int64_t begun_us = now_us();
	if (begun_us / 1000 < again_ms)
		return;
	if (folder < 0)
		folder = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	else
		lseek(folder, 0, SEEK_SET);
	int64_t sum = 0;
	char entries[4096] __attribute__((aligned(8)));
	char status[2048];
	for (ssize_t length; folder >= 0 && (length = getdents64(folder, entries, sizeof entries)) > 0;) {
		for (ssize_t at = 0; at < length; at += ((struct dirent64 *)(entries + at))->d_reclen) {
			const char *pid = ((struct dirent64 *)(entries + at))->d_name;
			if (!isdigit((unsigned char)*pid) || strcmp(pid, "1") == 0)
				continue;
			read_proc(pid, status, sizeof status);
			const char *line = strstr(status, peak);
			sum += line == NULL ? 0 : strtoll(line + strlen(peak), NULL, 10);
		}
	}
	log_memory(sum);
	int64_t pause_ms = (now_us() - begun_us) * LOOK_PAUSES / 1000;
	again_ms = now_ms() + (pause_ms > LOOK_MS ? pause_ms : LOOK_MS);
}

static void write_line(struct buffer *line)
{
	output_add(line->bytes, line->length);
	buffer_free(line);
}

// Begins a platform event. Its record is still open.
static struct buffer event(const char *type)
{
	struct buffer line = {0};
	buffer_text(&line, "{\"time\":\"");
	add_time(&line);
	buffer_format(&line, "\",\"type\":\"platform.%s\",\"record\":{", type);
	return line;
}

static void member(struct buffer *line, const char *name, const char *value)
{
	if (value == NULL || *value == 0)
		return;
	buffer_format(line, "%s\"%s\":", line->bytes[line->length - 1] == '{' ? "" : ",", name);
	buffer_quote(line, value);
}

// Ends an event, and writes it where the log takes its level.
static void end_event(struct buffer *line, enum level level)
{
	if (level < worker.config.system_level) {
		buffer_free(line);
		return;
	}
	buffer_text(line, "}}\n");
	write_line(line);
}

static void add_phase(struct buffer *line)
{
	member(line, "initializationType", environment("AWS_LAMBDA_INITIALIZATION_TYPE"));
	member(line, "phase", worker.restarts == 0 ? "init" : "invoke");
}

void log_init_start(void)
{
	init_began_us = now_us();
	if (!as_json())
		return;
	struct buffer line = event("initStart");
	add_phase(&line);
	member(&line, "functionName", environment("AWS_LAMBDA_FUNCTION_NAME"));
	member(&line, "functionVersion", environment("AWS_LAMBDA_FUNCTION_VERSION"));
	end_event(&line, LEVEL_DEBUG);
}

void log_init_end(const char *error_type)
{
	if (init_began_us == 0)
		return;
	int64_t took_us = now_us() - init_began_us;
	bool good = error_type == NULL;
	const char *status = good ? "success" : "error";
	if (!good && strcmp(error_type, "Sandbox.Timedout") == 0)
		status = "timeout";
	enum level level = good ? LEVEL_DEBUG : LEVEL_WARN;
	init_began_us = 0;
	if (worker.restarts == 0)
		init_us = took_us;
	if (!as_json()) {
		if (good)
			return;
		struct buffer text = {0};
		buffer_format(&text, "INIT_REPORT Init Duration: %.2f ms\tPhase: %s\tStatus: %s", milliseconds(took_us),
		              worker.restarts == 0 ? "init" : "invoke", status);
		if (strcmp(status, "error") == 0)
			buffer_format(&text, "\tError Type: %s", error_type);
		buffer_text(&text, "\n");
		output_drain();
		write_line(&text);
		return;
	}
	output_drain();
	for (int report = 0; report < 2; report++) {
		struct buffer line = event(report ? "initReport" : "initRuntimeDone");
		add_phase(&line);
		member(&line, "status", status);
		member(&line, "errorType", error_type);
		if (report)
			buffer_format(&line, ",\"metrics\":{\"durationMs\":%.3f}", milliseconds(took_us));
		end_event(&line, level);
	}
}

void log_extension(const struct extension *extension, const char *error_type)
{
	output_drain();
	const char *events = extension->invoke ? extension->shutdown ? "INVOKE,SHUTDOWN" : "INVOKE" : extension->shutdown ? "SHUTDOWN" : "";
	if (as_json()) {
		struct buffer line = event("extension");
		member(&line, "name", extension->name);
		member(&line, "state", extension->state);
		buffer_format(&line, ",\"events\":[%s%s%s]", extension->invoke ? "\"INVOKE\"" : "", extension->invoke && extension->shutdown ? "," : "",
		              extension->shutdown ? "\"SHUTDOWN\"" : "");
		member(&line, "errorType", error_type);
		end_event(&line, error_type == NULL ? LEVEL_DEBUG : LEVEL_WARN);
		return;
	}
	struct buffer text = {0};
	buffer_format(&text, "EXTENSION\tName: %s\tState: %s\tEvents: [%s]%s%s\n", extension->name, extension->state, events,
	              error_type == NULL ? "" : "\tError Type: ", error_type == NULL ? "" : error_type);
	write_line(&text);
}

// The value of a part of an X-Amzn-Trace-Id; empty when there is none.
static void trace_part(const struct call *call, const char *name, char into[64])
{
	const char *place = call->trace_id == NULL ? NULL : strstr(call->trace_id, name);
	size_t length = 0;
	if (place != NULL)
		for (place += strlen(name); *place != 0 && *place != ';' && length < 63; place++)
			into[length++] = *place;
	into[length] = 0;
}

static void add_tracing(struct buffer *line, const struct call *call)
{
	char parent[64];
	trace_part(call, "Parent=", parent);
	if (*parent == 0)
		return;
	buffer_text(line, ",\"tracing\":{");
	member(line, "spanId", parent);
	member(line, "type", "X-Amzn-Trace-Id");
	member(line, "value", call->trace_id);
	buffer_text(line, "}");
}

void log_start(const struct call *call)
{
	output_drain();
	if (as_json()) {
		// Written at each level: START and REPORT say to which call an output belongs.
		struct buffer line = event("start");
		member(&line, "requestId", call->id);
		member(&line, "functionArn", call->function_arn);
		member(&line, "version", call->version);
		add_tracing(&line, call);
		end_event(&line, LEVEL_WARN);
		return;
	}
	struct buffer text = {0};
	buffer_format(&text, "START RequestId: %s Version: %s\n", call->id, call->version);
	write_line(&text);
}

// Status of a call in Lambda's words. An error that the runtime reports is the function's own.
static const char *status_of(const struct call *call)
{
	return strcmp(call->outcome, "Answered") == 0 ? "success" : strcmp(call->outcome, "Timeout") == 0 ? "timeout" : "error";
}

static void end_as_json(const struct call *call, const char *memory_size)
{
	const char *status = status_of(call);
	const char *type = strcmp(status, "error") == 0 ? call->error_type : NULL;
	bool good = strcmp(status, "success") == 0;
	struct buffer done = event("runtimeDone");
	member(&done, "requestId", call->id);
	member(&done, "status", status);
	member(&done, "errorType", type);
	buffer_format(&done, ",\"metrics\":{\"durationMs\":%.3f,\"producedBytes\":%lld}", milliseconds(call->duration_us),
	              (long long)(call->base + (int64_t)call->held.length));
	add_tracing(&done, call);
	end_event(&done, good ? LEVEL_DEBUG : LEVEL_WARN);
	struct buffer line = event("report");
	member(&line, "requestId", call->id);
	member(&line, "status", status);
	member(&line, "errorType", type);
	buffer_format(&line, ",\"metrics\":{\"durationMs\":%.3f,\"billedDurationMs\":%lld", milliseconds(call->duration_us),
	              (long long)(call->duration_us + init_us + 999) / 1000);
	if (*memory_size != 0)
		buffer_format(&line, ",\"memorySizeMB\":%s", memory_size);
	buffer_format(&line, ",\"maxMemoryUsedMB\":%lld", (long long)(peak_kib + 1023) / 1024);
	if (init_us != 0)
		buffer_format(&line, ",\"initDurationMs\":%.3f", milliseconds(init_us));
	buffer_text(&line, "}");
	add_tracing(&line, call);
	end_event(&line, LEVEL_WARN);
}

static void end_as_text(const struct call *call, const char *memory_size)
{
	struct buffer text = {0};
	bool late = strcmp(call->outcome, "Timeout") == 0;
	bool broken = !late && strcmp(call->outcome, "Answered") != 0 && strcmp(call->outcome, "Error") != 0;
	if (late) {
		add_time(&text);
		buffer_format(&text, " %s %s\n\n", call->id, call->message);
	} else if (broken) {
		buffer_format(&text, "RequestId: %s Error: %s\n%s\n", call->id, call->message == NULL ? "" : call->message,
		              call->error_type == NULL ? "" : call->error_type);
	}
	buffer_format(&text, "END RequestId: %s\n", call->id);
	char root[64];
	char parent[64];
	char sampled[64];
	trace_part(call, "Root=", root);
	trace_part(call, "Parent=", parent);
	trace_part(call, "Sampled=", sampled);
	// Before REPORT, which is the last line of a call; Lambda has it after.
	if (*root != 0 && *parent != 0 && strcmp(sampled, "1") == 0)
		buffer_format(&text, "XRAY TraceId: %s\tSegmentId: %s\tSampled: true\n", root, parent);
	buffer_format(&text, "REPORT RequestId: %s\tDuration: %.2f ms\tBilled Duration: %lld ms", call->id, milliseconds(call->duration_us),
	              (long long)(call->duration_us + init_us + 999) / 1000);
	if (*memory_size != 0)
		buffer_format(&text, "\tMemory Size: %s MB", memory_size);
	buffer_format(&text, "\tMax Memory Used: %lld MB", (long long)(peak_kib + 1023) / 1024);
	if (init_us != 0)
		buffer_format(&text, "\tInit Duration: %.2f ms", milliseconds(init_us));
	if (late)
		buffer_text(&text, "\tStatus: timeout");
	else if (broken)
		buffer_format(&text, "\tStatus: error\tError Type: %s", call->error_type == NULL ? "" : call->error_type);
	buffer_text(&text, "\n");
	write_line(&text);
}

void log_end(const struct call *call)
{
	const char *memory_size = environment("AWS_LAMBDA_FUNCTION_MEMORY_SIZE");
	output_drain();
	look_at_memory();
	if (as_json())
		end_as_json(call, memory_size);
	else
		end_as_text(call, memory_size);
	// Lambda tells and bills an initialization once, with the first call.
	init_us = 0;
}
