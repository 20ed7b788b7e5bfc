#include "core.h"

#include <stdio.h>

// Calls that this worker has had and forgotten, by their marks. The next agent hears of them: a call that it sent to no
// other container, and of which the init says nothing, was not sent.
enum { REMEMBERED = 256 };

static struct {
	uint32_t mark;
	int64_t at;
} past[REMEMBERED];
static uint64_t count;
// Monotonic milliseconds from which on each call that was sent is known or remembered; 0: calls may go elsewhere, or the
// agent has not said that all come here.
static int64_t since;

// FNV-1a.
static uint32_t mark_of(const char *id)
{
	uint32_t mark = 2166136261u;
	for (; *id != 0; id++)
		mark = (mark ^ (unsigned char)*id) * 16777619u;
	return mark;
}

void history_begin(void)
{
	if (since == 0)
		since = now_ms();
}

void history_end(void)
{
	since = 0;
}

void history_add(const char *id)
{
	size_t place = count++ % REMEMBERED;
	if (since != 0 && past[place].at > since)
		since = past[place].at;
	past[place].mark = mark_of(id);
	past[place].at = now_ms();
}

void history_say(struct buffer *lines)
{
	if (since == 0)
		return;
	buffer_format(lines, "since=%lld\npast=", (long long)(now_ms() - since));
	for (size_t place = 0; place < count && place < REMEMBERED; place++)
		buffer_format(lines, "%08x", past[place].mark);
	buffer_text(lines, "\n");
}
