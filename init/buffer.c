#include "buffer.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

static void no_memory(void)
{
	static const char text[] = "init: out of memory\n";
	ssize_t written = write(2, text, sizeof text - 1);
	(void)written;
	_exit(125);
}

void *allocate(size_t size)
{
	void *memory = calloc(1, size == 0 ? 1 : size);
	if (memory == NULL)
		no_memory();
	return memory;
}

char *copy_text(const char *text)
{
	size_t length = strlen(text);
	char *copy = allocate(length + 1);
	memcpy(copy, text, length);
	return copy;
}

void set_text(char **place, const char *text, size_t most)
{
	char *copy = NULL;
	if (text != NULL) {
		size_t length = strnlen(text, most);
		copy = allocate(length + 1);
		memcpy(copy, text, length);
	}
	free(*place);
	*place = copy;
}

void token(char into[37])
{
	unsigned char bytes[16];
	if (getrandom(bytes, sizeof bytes, 0) != sizeof bytes)
		abort();
	bytes[6] = (bytes[6] & 0x0f) | 0x40;
	bytes[8] = (bytes[8] & 0x3f) | 0x80;
	for (size_t index = 0; index < sizeof bytes; index++)
		into += sprintf(into, index == 4 || index == 6 || index == 8 || index == 10 ? "-%02x" : "%02x", bytes[index]);
}

const char *environment(const char *name)
{
	const char *value = getenv(name);
	return value == NULL ? "" : value;
}

void buffer_add(struct buffer *buffer, const void *bytes, size_t length)
{
	if (length == 0)
		return;
	if (buffer->capacity - buffer->length < length) {
		size_t capacity = buffer->capacity == 0 ? 256 : buffer->capacity;
		while (capacity - buffer->length < length)
			capacity *= 2;
		char *grown = realloc(buffer->bytes, capacity);
		if (grown == NULL)
			no_memory();
		buffer->bytes = grown;
		buffer->capacity = capacity;
	}
	memcpy(buffer->bytes + buffer->length, bytes, length);
	buffer->length += length;
}

void buffer_text(struct buffer *buffer, const char *text)
{
	buffer_add(buffer, text, strlen(text));
}

void buffer_format(struct buffer *buffer, const char *format, ...)
{
	char text[1024];
	va_list values;
	va_start(values, format);
	int length = vsnprintf(text, sizeof text, format, values);
	va_end(values);
	if (length > 0)
		buffer_add(buffer, text, (size_t)length < sizeof text ? (size_t)length : sizeof text - 1);
}

void buffer_quote(struct buffer *buffer, const char *text)
{
	buffer_add(buffer, "\"", 1);
	for (const unsigned char *each = (const unsigned char *)text; *each != 0; each++) {
		if (*each == '"' || *each == '\\') {
			buffer_add(buffer, "\\", 1);
			buffer_add(buffer, each, 1);
		} else if (*each < ' ') {
			buffer_format(buffer, "\\u%04x", *each);
		} else {
			buffer_add(buffer, each, 1);
		}
	}
	buffer_add(buffer, "\"", 1);
}

void buffer_drop(struct buffer *buffer, size_t length)
{
	if (length >= buffer->length) {
		buffer_free(buffer);
		return;
	}
	memmove(buffer->bytes, buffer->bytes + length, buffer->length - length);
	buffer->length -= length;
}

void buffer_free(struct buffer *buffer)
{
	free(buffer->bytes);
	*buffer = (struct buffer){0};
}
