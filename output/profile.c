#include "output/profile.h"

#include "base/cleanup.h"
#include "base/err.h"
#include "base/escape.h"
#include "base/intern.h"
#include "base/strbuf.h"
#include "output/stacks.h"

#include <string.h>

enum { MAX_PLAIN = 65536 }; /* bytes of a name; longer ones are cut */

int profile_new(struct profile **ret, struct err *err)
{
	_cleanup_(profile_freep) struct profile *profile = calloc(1, sizeof(*profile));

	if (!profile)
		return err_oom(err);
	profile->stacks = stacks_new();
	profile->strings = intern_new();
	if (!profile->stacks || !profile->strings ||
	    !vec_push(&profile->frames, (struct profile_frame){ 0 }))
		return err_oom(err);
	*ret = steal_ptr(profile);
	return 0;
}

void profile_free(struct profile *profile)
{
	if (!profile)
		return;
	stacks_free(profile->stacks);
	intern_free(profile->strings);
	vec_deinit(&profile->frames);
	vec_deinit(&profile->samples);
	vec_deinit(&profile->comms);
	vec_deinit(&profile->events);
	vec_deinit(&profile->places);
	for (size_t i = 0; i < profile->files.len; i++) {
		closep(&profile->files.data[i].fd);
		closep(&profile->files.data[i].debug_fd);
	}
	vec_deinit(&profile->files);
	free(profile);
}

void profile_freep(struct profile **profile)
{
	profile_free(*profile);
}

bool profile_frame_shown(const struct profile_frame *frame, const struct profile_view *view)
{
	switch (frame->kind) {
	case FRAME_LABEL:
		return true;
	case FRAME_KERNEL:
		return !view->user_only;
	case FRAME_NATIVE:
	case FRAME_JIT:
	case FRAME_INLINED:
	case FRAME_UNKNOWN:
	case FRAME_MARK:
		return !view->kernel_only;
	}
	return true;
}

/* "[libc.so.6]"; "[vdso]" already wears its brackets. */
static void module_text(const char *module, struct strbuf *ret)
{
	const char *slash = strrchr(module, '/');
	size_t len;

	if (slash)
		module = slash + 1;
	len = strlen(module);
	if (!len) {
		strbuf_str(ret, "[unknown]");
	} else if (len > 2 && module[0] == '[' && module[len - 1] == ']') {
		escape_frame(ret, module, len);
	} else {
		strbuf_char(ret, '[');
		escape_frame(ret, module, len);
		strbuf_char(ret, ']');
	}
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/*
 * flamegraph.pl reads /^(.*)\s+?(\d+(?:\.\d*)?)$/ twice: a name that ends in a space and a number would make
 * its own count of it, and the true one the second column of a comparison.
 */
static void hide_trailing_number(char *text, size_t len)
{
	size_t at = len;

	while (at && is_digit(text[at - 1]))
		at--;
	if (at && text[at - 1] == '.') {
		at--;
		while (at && is_digit(text[at - 1]))
			at--;
	}
	if (at && at < len && text[at - 1] == ' ')
		text[at - 1] = '_';
}

static void tame(char *text, size_t len, bool is_label)
{
	if (text[0] == ' ')
		text[0] = '_';
	if (text[len - 1] == ' ')
		text[len - 1] = '_';
	hide_trailing_number(text, len);
	for (size_t i = 0; is_label && i < len; i++) {
		if (text[i] == ' ')
			text[i] = '_';
	}
}

static const char *suffix(enum frame_kind kind)
{
	switch (kind) {
	case FRAME_KERNEL:
		return "_[k]";
	case FRAME_JIT:
		return "_[j]";
	case FRAME_INLINED:
		return "_[i]";
	case FRAME_LABEL:
	case FRAME_NATIVE:
	case FRAME_UNKNOWN:
	case FRAME_MARK:
		return "";
	}
	return "";
}

/* What stands for a frame without a name. */
static void unnamed_text(const struct profile_frame *frame, struct strbuf *ret)
{
	if (frame->module || frame->path)
		module_text(frame->module ? frame->module : frame->path, ret);
	else
		strbuf_str(ret, "[unknown]");
}

void profile_frame_plain(const struct profile_frame *frame, struct strbuf *ret)
{
	if (frame->name && *frame->name)
		escape_line(ret, frame->name, strlen(frame->name), MAX_PLAIN);
	else if (frame->name)
		strbuf_str(ret, "[unknown]");
	else
		unnamed_text(frame, ret);
}

void profile_frame_text(const struct profile_frame *frame, const struct profile_view *view,
			struct strbuf *ret)
{
	size_t start = ret->len;

	if (frame->name)
		escape_frame(ret, frame->name, strlen(frame->name));
	else
		unnamed_text(frame, ret);
	if (!ret->failed && ret->len > start)
		tame(ret->data + start, ret->len - start, frame->kind == FRAME_LABEL);
	if (view->annotate)
		strbuf_str(ret, suffix(frame->kind));
}

void profile_count_runtime(struct profile_stats *stats, const struct profile_frame *frame, uint64_t times)
{
	struct profile_runtime *r = stats->runtimes;
	struct profile_runtime *end = r + sizeof(stats->runtimes) / sizeof(*r) - 1;
	bool precompiled = frame->kind == FRAME_NATIVE;

	if (!frame->runtime || !times || (frame->kind != FRAME_JIT && !precompiled))
		return;
	while (r < end && r->name && strcmp(r->name, frame->runtime) != 0)
		r++;
	if (r == end)
		return;
	r->name = frame->runtime;
	r->frames += times;
	r->named += frame->name ? times : 0;
	r->precompiled += precompiled ? times : 0;
	r->precompiled_named += precompiled && frame->name ? times : 0;
}
