/* One failure, ready to show. */
#pragma once

/* errno-style code plus a sentence. Never allocates. */
struct err {
	int code;      /* positive errno value; 0 = no error recorded */
	char msg[400]; /* no newline, no trailing period */
};

/*
 * Both return -code, so failing is one line. err may be NULL: nothing is recorded (err_prefix, which then
 * cannot know the code, returns -EINVAL). Control characters in the text become '?'.
 */
int err_set(struct err *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* Adds "fmt: " in front of what is recorded; returns -err->code. */
int err_prefix(struct err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* -ENOMEM with the usual words. */
int err_oom(struct err *err);
