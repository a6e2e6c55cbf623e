/* Managed runtimes that tell of their code while they are recorded. */
#include "app/session_priv.h"

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "runtimes/dotnet.h"
#include "runtimes/r2r_files.h"
#include "symbols/addrspace.h"
#include "symbols/symbols.h"
#include "unwinder/unwinder.h"

struct dotnet *session_dotnet(struct session *s)
{
	return s->dotnet;
}

/* JIT code was sampled for the first time: its process may have a runtime that can be asked. */
static void runtime_first_seen(void *data, pid_t pid)
{
	struct session *s = data;

	if (!s->opts.offline && s->runtimes_seen.len < 65536)
		(void)vec_push(&s->runtimes_seen, pid);
}

int session_open_dotnet(struct session *s, struct err *err)
{
	const struct dotnet_opts opts = {
		.strings = s->strings,
		.arch = s->opts.arch ? s->opts.arch : arch_host(),
		.tiers = s->opts.dotnet_tiers,
		.keep = s->opts.keep_build_ids && !s->opts.offline,
		.first_seen = runtime_first_seen,
		.data = s,
	};
	struct symbol_source source;
	int r = dotnet_new(&opts, &s->dotnet, err);

	if (r < 0)
		return r;
	source = dotnet_symbol_source(s->dotnet);
	return symbols_add_source(s->symbols, &source, err);
}

int session_open_r2r(struct session *s, struct err *err)
{
	const struct r2r_files_opts opts = {
		.files = s->files,
		.strings = s->strings,
		.arch = s->opts.arch ? s->opts.arch : arch_host(),
		.tiers = s->opts.dotnet_tiers,
		.worker = s->opts.worker,
		.aside = session_file_aside,
		.data = s,
	};
	struct unwind_giver giver;
	struct file_source source;
	int r = r2r_files_new(&opts, &s->r2r_files, err);

	if (r < 0)
		return r;
	giver = r2r_files_giver(s->r2r_files);
	source = r2r_files_source(s->r2r_files);
	r = unwinder_add_giver(s->unwinder, &giver, err);
	return r < 0 ? r : symbols_add_file_source(s->symbols, &source, err);
}

int session_name_copies(struct session *s, struct err *err)
{
	const struct symbol_source source = r2r_copies_source(s->r2r_files);

	return symbols_add_source(s->symbols, &source, err);
}

/* Only where there is such a process: a giver is asked for much code that is not its own. */
static void add_giver(struct session *s)
{
	struct unwind_giver giver = dotnet_giver(s->dotnet);

	if (!s->dotnet_gives && unwinder_add_giver(s->unwinder, &giver, NULL) == 0)
		s->dotnet_gives = true;
}

bool session_saved_runtimes(const struct session *s, struct strbuf *ret)
{
	return dotnet_saved(s->dotnet, ret);
}

int session_restore_runtimes(struct session *s, const void *bytes, size_t size, struct err *err)
{
	add_giver(s);
	return dotnet_restore(s->dotnet, bytes, size, err);
}

void session_runtime_begins(struct session *s, pid_t pid)
{
	struct addrspace *space = addrspaces_get(s->spaces, pid);
	struct live *live = space ? session_live(s, space) : NULL;

	if (!live || !dotnet_process(s->dotnet, pid)) {
		s->failed = true;
		return;
	}
	add_giver(s);
	session_jit_begins(live);
	space->names_next_ns = 0;
}

void session_runtime_said(struct session *s, pid_t pid)
{
	struct addrspace *space = addrspaces_peek(s->spaces, pid);
	struct dotnet_process *p = dotnet_process_find(s->dotnet, pid);
	const struct memory_reader memory = session_memory_reader(s);

	if (!space)
		return;
	space->names_next_ns = 0;
	s->sample_ns = clock_monotonic_ns(); /* it was there now: it has just told something */
	if (p)
		dotnet_read_ahead(p, &memory, space);
}

bool session_may_want(struct session *s, pid_t pid)
{
	struct addrspace *space = s->opts.by_uid ? addrspaces_get(s->spaces, pid) : NULL;

	return !space || addrspaces_uid(s->spaces, space, clock_monotonic_ns()) == s->opts.uid;
}

pid_t session_next_runtime(struct session *s)
{
	return s->runtimes_seen.len ? s->runtimes_seen.data[--s->runtimes_seen.len] : 0;
}
