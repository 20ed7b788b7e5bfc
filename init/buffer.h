// Bytes that grow, and text.
#ifndef BUFFER_H
#define BUFFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buffer {
	char *bytes;
	size_t length;
	size_t capacity;
};

// Adds bytes. Ends the process when there is no memory.
void buffer_add(struct buffer *buffer, const void *bytes, size_t length);
void buffer_text(struct buffer *buffer, const char *text);
__attribute__((format(printf, 2, 3))) void buffer_format(struct buffer *buffer, const char *format, ...);
// Adds text as a string of JSON.
void buffer_quote(struct buffer *buffer, const char *text);
// Removes bytes from the beginning; the memory goes with the last one.
void buffer_drop(struct buffer *buffer, size_t length);
void buffer_free(struct buffer *buffer);

// Memory that is zero, and text. End the process when there is no memory.
void *allocate(size_t size);
char *copy_text(const char *text);
// Replaces a text by a copy of at most `most` bytes of another one. NULL stands for none.
void set_text(char **place, const char *text, size_t most);
// A random UUID.
void token(char into[37]);
// Value of an environment variable; empty when there is none.
const char *environment(const char *name);

#endif
