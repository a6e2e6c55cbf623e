#include "app/session_priv.h"

#include "app/build_ids.h"
#include "app/follow.h"
#include "app/naming.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/escape.h"
#include "base/intern.h"
#include "base/log.h"
#include "base/strbuf.h"
#include "collector/record.h"
#include "output/stacks.h"
#include "perfmap/perfmap.h"
#include "runtimes/dotnet.h"
#include "runtimes/jit_cfi.h"
#include "runtimes/r2r_files.h"
#include "symbols/addrspace.h"
#include "symbols/file.h"
#include "symbols/recorded_kernel.h"
#include "symbols/symbols.h"
#include "target/memory.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_PATH_SHOWN = 200 };

/* Ends of generations and files */

struct end_ctx {
	struct session *s;
	struct addrspace *space;
};

/* Frames that live with the process become labels, which live as long as the run. */
static uint32_t end_frame(void *data, uint32_t id)
{
	struct end_ctx *ctx = data;
	struct unwind_frame place = unwinder_frame(ctx->s->unwinder, id);
	struct profile_frame frame;

	if (place.where != FRAME_IN_JIT && place.where != FRAME_NOWHERE)
		return id;
	frame = session_space_frame(ctx->s, ctx->space, id);
	id = session_label_frame(ctx->s, &frame);
	ctx->s->failed |= id == FRAME_ID_NONE;
	return id;
}

static void live_free(struct session *s, struct live *live)
{
	if (live->prev)
		live->prev->next = live->next;
	else
		s->live = live->next;
	if (live->next)
		live->next->prev = live->prev;
	live->space->user = NULL;
	retired_tab_deinit(&live->retired);
	stacks_free(live->stacks);
	free(live);
}

/* Of two trees whose frames mean the same, the smaller is merged into the larger; kept samples need theirs left. */
static void keep_larger(struct session *s, struct live *live)
{
	struct stacks *swap = s->ended;

	if (s->opts.keep_samples || live->own_frames || live->jit ||
	    stacks_num_nodes(live->stacks) <= stacks_num_nodes(s->ended))
		return;
	s->ended = live->stacks;
	live->stacks = swap;
}

/* Its stacks move to those of the ended; samples kept of it are told to where. */
static void end_live(struct session *s, struct live *live)
{
	struct end_ctx ctx = { .s = s, .space = live->space };
	uint32_t *became;

	session_settle_names(live);
	session_count_jit(live, &s->jit);
	keep_larger(s, live);
	became = calloc(stacks_num_nodes(live->stacks) + 1, sizeof(*became));
	if (!became || !stacks_merge_nodes(s->ended, live->stacks, end_frame, &ctx, became))
		s->failed = true;
	if (live->owner == NO_OWNER || !became) {
		free(became);
		return;
	}
	s->owners.data[live->owner].ended = true;
	s->owners.data[live->owner].became = became;
}

static void space_gone(void *data, struct addrspace *space)
{
	struct session *s = data;
	struct live *live = space->user;

	if (space->left && s->opts.num_pids && !s->opts.tids)
		pid_set_remove(&s->wanted, space->pid);
	if (s->opts.containers && space->pid > 0) {
		struct place_ended ended = { .pid = space->pid, .ppid = space->ppid };

		if (live)
			ended.seen = live->place;
		places_ended_add(&s->places_ended, &ended);
	}
	if (live) {
		if (!s->closing)
			end_live(s, live);
		live_free(s, live);
	}
	if (s->opts.memory)
		memory_forget(s->opts.memory, space->id);
	symbols_space_gone(s->symbols, space);
	unwinder_space_gone(s->unwinder, space);
}

/* It ended the parser, or kept it busy, twice in a row. */
void session_file_aside(void *data, struct file *file)
{
	struct strbuf text = { 0 };

	escape_line(&text, file->path, strlen(file->path), MAX_PATH_SHOWN);
	if (!text.failed)
		log_warn(NULL, "%s is set aside: it ended the process that parses twice in a row, so nothing in it has a name",
			 text.data);
	strbuf_deinit(&text);
}

static void file_evicted(void *data, struct file *file)
{
	struct session *s = data;
	uint64_t start;

	if (s->closing)
		return;
	session_keep_build_id(s, file);
	start = clock_monotonic_ns();
	if (!naming_file(s->naming, file->id))
		s->failed = true;
	unwinder_file_gone(s->unwinder, file->id);
	r2r_files_gone(s->r2r_files, file->id);
	s->stats.symbolize_ns += clock_monotonic_ns() - start;
}

struct live *session_live(struct session *s, struct addrspace *space)
{
	struct live *live = space->user;

	if (live)
		return live;
	live = calloc(1, sizeof(*live));
	if (!live)
		return NULL;
	live->stacks = stacks_new();
	if (!live->stacks) {
		free(live);
		return NULL;
	}
	s->num_denied += space->denied;
	live->session = s;
	live->space = space;
	live->owner = NO_OWNER;
	live->next = s->live;
	if (s->live)
		s->live->prev = live;
	s->live = live;
	space->user = live;
	if (s->opts.offline && dotnet_process_find(s->dotnet, space->pid))
		session_jit_begins(live); /* what the recording tells takes effect from now on */
	return live;
}

/* Records */

bool session_wants(struct session *s, const struct record *sample)
{
	struct addrspace *space = addrspaces_get(s->spaces, sample->pid);

	return space && session_is_wanted(s, space, sample);
}

static void take_kernel_mmap(struct session *s, const struct mmap_record *m)
{
	if (!recorded_kernel_mmap(s->kernel, m))
		s->failed = true;
	files_set_own_kernel(s->files, recorded_kernel_is_ours(s->kernel));
	if (recorded_kernel_lay_here(s->kernel))
		offline_lay_here(s->opts.offline);
}

static void take_mmap(struct session *s, const struct record *rec)
{
	struct mmap_record m = follow_mapping(rec);

	if (s->opts.offline && !m.build_id_len) {
		m.build_id_len = build_ids_find(s->told, m.path, m.path_len, &m.build_id);
		m.build_id_of_path = m.build_id_len != 0;
	}
	if (rec->pid > 0)
		addrspaces_mmap(s->spaces, &m, rec->time_ns);
	else if (rec->pid == -1 && s->opts.offline)
		take_kernel_mmap(s, &m);
}

static void take_ksymbol(struct session *s, const struct record *rec)
{
	bool bpf = rec->ksymbol.type == PERF_RECORD_KSYMBOL_TYPE_BPF;

	if (!symbols_kernel_code(s->symbols, rec->ksymbol.start, rec->ksymbol.len, rec->ksymbol.name, rec->ksymbol.name_len,
				 bpf))
		s->failed = true;
}

static void want(struct session *s, pid_t pid)
{
	struct pid_slot *slot = pid_set_add(&s->wanted, pid, NULL);

	if (slot)
		slot->pid = pid;
	else
		s->failed = true;
}

static void take_fork(struct session *s, const struct record *rec)
{
	/* First: one that ended with that number is forgotten by it, and whether it was wanted. */
	follow_record(s->spaces, rec);
	if (s->opts.num_pids && !s->opts.tids && rec->pid != rec->task.ppid &&
	    pid_set_find(&s->wanted, rec->task.ppid))
		want(s, rec->pid);
}

static void take_exit(struct session *s, const struct record *rec)
{
	follow_record(s->spaces, rec);
	if (s->opts.num_pids && s->opts.tids)
		pid_set_remove(&s->wanted, rec->tid);
	else if (s->opts.num_pids && !addrspaces_peek(s->spaces, rec->pid)) /* else with its address space */
		pid_set_remove(&s->wanted, rec->pid);
}

void session_record(void *session, const struct record *rec)
{
	session_record_of(session, rec, 0);
}

struct session_copy session_last_copy(const struct session *s)
{
	return s->last;
}

bool session_overtook(const struct session *s, const struct record *rec)
{
	/* A thread that ended is not among those that were put down. */
	bool of_process = rec->type == RECORD_MMAP || rec->type == RECORD_COMM || rec->type == RECORD_FORK ||
			  (rec->type == RECORD_EXIT && rec->tid == rec->pid);

	return of_process && addrspaces_overtook(s->spaces, rec->pid, rec->time_ns);
}

void session_record_of(struct session *s, const struct record *rec, size_t event)
{
	switch (rec->type) {
	case RECORD_SAMPLE:
		s->last = (struct session_copy){ 0 };
		session_sample(s, rec, event);
		break;
	case RECORD_MMAP:
		take_mmap(s, rec);
		break;
	case RECORD_COMM:
	case RECORD_LOST:
		follow_record(s->spaces, rec);
		break;
	case RECORD_FORK:
		take_fork(s, rec);
		break;
	case RECORD_EXIT:
		take_exit(s, rec);
		break;
	case RECORD_KSYMBOL:
		take_ksymbol(s, rec);
		break;
	case RECORD_THROTTLE:
	case RECORD_UNTHROTTLE:
	case RECORD_SWITCH:
	case RECORD_OTHER:
		break; /* counted by the collector */
	}
}

/* Lifetime */

static int open_recorded(struct session *s, struct err *err)
{
	const struct recorded_kernel_opts kernel = {
		.door = s->opts.door,
		.offline = s->opts.offline,
		.strings = s->strings,
		.kallsyms = s->opts.kallsyms,
		.vmlinux = s->opts.vmlinux,
	};

	s->told = build_ids_new(s->strings);
	return s->told ? recorded_kernel_new(&kernel, &s->kernel, err) : err_oom(err);
}

static bool learned(void *data, const struct addrspaces_learned *learned)
{
	struct session *s = data;

	/* Its FORK was lost. */
	if (learned->born && s->opts.num_pids && !s->opts.tids && pid_set_find(&s->wanted, learned->ppid))
		want(s, learned->pid);
	return s->opts.learned && s->opts.learned(s->opts.data, learned);
}

static int open_parts(struct session *s, struct err *err)
{
	struct files_opts files = { .door = s->opts.door, .strings = s->strings,
				    .offline = s->opts.offline, .worker = s->opts.worker,
				    .aside = session_file_aside, .known = session_file_known,
				    .evict = file_evicted, .data = s };
	struct addrspaces_opts spaces = { .door = s->opts.offline ? NULL : s->opts.door,
					  .strings = s->strings,
					  .first_id = s->opts.first_space,
					  .space_gone = space_gone, .learned = learned,
					  .all_names = s->opts.learned, .data = s };
	struct symbols_opts symbols = { .door = s->opts.door, .worker = s->opts.worker, .strings = s->strings };
	struct unwind_opts unwind = { .arch = s->opts.arch ? s->opts.arch : arch_host(),
				      .method = s->opts.method,
				      .memory = session_memory_reader(s),
				      .max_frames = MAX_USER_FRAMES };
	struct naming_opts naming;
	struct symbol_source perfmaps;
	int r;

	r = unwinder_new(&unwind, &s->unwinder, err);
	if (!r)
		r = files_new(&files, &s->files, err);
	if (!r && !s->opts.offline)
		files_vdso(s->files, NULL);
	if (!r && s->opts.offline)
		r = open_recorded(s, err);
	symbols.files = spaces.files = s->files;
	symbols.kernel = s->kernel;
	if (!r)
		r = symbols_new(&symbols, &s->symbols, err);
	if (!r) {
		naming = (struct naming_opts){ s->unwinder, s->files, s->symbols, s->strings,
					       s->opts.inlined };
		s->naming = naming_new(&naming);
		r = s->naming ? 0 : err_oom(err);
	}
	if (!r)
		r = session_open_r2r(s, err);
	if (!r)
		r = addrspaces_new(&spaces, &s->spaces, err);
	if (!r)
		r = session_open_dotnet(s, err); /* asked before maps, which may be old */
	if (!r)
		r = s->opts.offline ? perfmap_recorded_source_new(s->opts.offline, s->strings,
								  &perfmaps, err)
				    : perfmap_source_new(s->opts.door, s->opts.worker, s->opts.map_dir, s->strings,
							 &perfmaps, err);
	if (!r) {
		r = symbols_add_source(s->symbols, &perfmaps, err);
		if (r < 0)
			perfmaps.free(perfmaps.data);
	}
	return r < 0 ? r : session_name_copies(s, err);
}

static int add_wanted(struct session *s, struct err *err)
{
	for (size_t i = 0; i < s->opts.num_pids; i++) {
		struct pid_slot *slot = pid_set_add(&s->wanted, s->opts.pids[i], NULL);

		if (!slot)
			return err_oom(err);
		slot->pid = s->opts.pids[i];
	}
	return 0;
}

int session_new(const struct session_opts *opts, struct session **ret, struct err *err)
{
	struct session *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return err_oom(err);
	if ((opts->by == BY_CONTAINER || opts->by == BY_POD) && !opts->containers) {
		free(s);
		return err_set(err, EINVAL, "containers are known only while they run: --by container and "
					    "--by pod are for record");
	}
	s->opts = *opts;
	s->regs_mask = opts->regs_mask;
	s->strings = intern_new();
	s->ended = stacks_new();
	r = s->strings && s->ended ? open_parts(s, err) : err_oom(err);
	if (!r)
		r = add_wanted(s, err);
	if (!r) {
		s->mark_truncated = session_text_frame(s, "[truncated]", FRAME_MARK);
		s->mark_altstack = session_text_frame(s, "[altstack]", FRAME_MARK);
		s->mark_broken = session_text_frame(s, "[broken]", FRAME_MARK);
		if (!s->mark_truncated || !s->mark_altstack || !s->mark_broken)
			r = err_oom(err);
	}
	if (r < 0) {
		session_free(s);
		return r;
	}
	*ret = s;
	return 0;
}

void session_free(struct session *s)
{
	if (!s)
		return;
	s->closing = true;
	addrspaces_free(s->spaces); /* ends every generation, so before what that needs */
	symbols_free(s->symbols);
	dotnet_free(s->dotnet);
	vec_deinit(&s->runtimes_seen);
	r2r_files_free(s->r2r_files);
	jit_cfi_free(s->jit_cfi);
	files_free(s->files);
	unwinder_free(s->unwinder);
	while (s->live)
		live_free(s, s->live);
	stacks_free(s->ended);
	label_tab_deinit(&s->label_tab);
	vec_deinit(&s->labels);
	who_tab_deinit(&s->who_tab);
	naming_free(s->naming);
	build_ids_free(s->told);
	recorded_kernel_free(s->kernel);
	pid_set_deinit(&s->wanted);
	session_jit_deinit(&s->jit);
	vec_deinit(&s->gone);
	placed_tab_deinit(&s->placed_tab);
	vec_deinit(&s->placed);
	vec_deinit(&s->samples);
	vec_deinit(&s->ends);
	for (size_t i = 0; i < s->owners.len; i++)
		free(s->owners.data[i].became);
	vec_deinit(&s->owners);
	if (!s->strings_lent)
		intern_free(s->strings);
	free(s);
}

static const char kernel_path[] = "[kernel.kallsyms]";

bool session_build_id(struct session *s, const char *path, const uint8_t *id, size_t len)
{
	if (!strncmp(path, kernel_path, sizeof(kernel_path) - 1)) {
		recorded_kernel_build_id(s->kernel, id, len);
		files_set_own_kernel(s->files, recorded_kernel_is_ours(s->kernel));
	}
	return build_ids_add(s->told, path, id, len);
}

void session_origin(struct session *s, const char *release, enum offline_origin origin)
{
	recorded_kernel_origin(s->kernel, release, origin);
	files_set_own_kernel(s->files, recorded_kernel_is_ours(s->kernel));
}

void session_set_regs(struct session *s, uint64_t regs_mask)
{
	s->regs_mask = regs_mask;
}

void session_set_kernel_only(struct session *s, bool kernel_only)
{
	s->opts.kernel_only = kernel_only;
}

int session_scan(struct session *s, struct err *err)
{
	return addrspaces_scan(s->spaces, err);
}

int session_scan_tasks(struct session *s, const pid_t *tids, size_t num, struct err *err)
{
	return addrspaces_scan_tasks(s->spaces, tids, num, err);
}

void session_forget_samples(struct session *s, uint64_t before_ns)
{
	size_t num = 0, left;

	while (num < s->samples.len && s->samples.data[num].time_ns < before_ns)
		num++;
	/* Seldom, and much at a time: what is kept is moved. */
	if (!num || (num < s->samples.len / 2 && num < 4096))
		return;
	left = s->samples.len - num;
	memmove(s->samples.data, s->samples.data + num, left * sizeof(s->samples.data[0]));
	memmove(s->ends.data, s->ends.data + num, left);
	s->samples.len = s->ends.len = left;
}

/* About what malloc has given, with the room that vectors and tables keep: measured with a machine that compiles. */
size_t session_bytes(const struct session *s)
{
	const size_t node_bytes = 80; /* with its hash and links */
	const size_t frame_bytes = 200; /* its rule and its name */
	const size_t label_bytes = 3 * sizeof(struct label_slot), placed_bytes = 5 * sizeof(struct placed_slot);
	size_t nodes = stacks_num_nodes(s->ended);

	for (const struct live *live = s->live; live; live = live->next)
		nodes += stacks_num_nodes(live->stacks);
	return nodes * node_bytes + unwinder_num_frames(s->unwinder) * frame_bytes + s->labels.len * label_bytes +
	       s->placed.len * placed_bytes + s->samples.len * (sizeof(s->samples.data[0]) + 1) +
	       s->owners.len * sizeof(s->owners.data[0]);
}

struct session_progress session_progress(const struct session *s)
{
	return (struct session_progress){
		.samples = s->stats.samples,
		.idle = s->stats.idle,
		.user_stacks = s->stats.user_stacks,
		.complete = s->stats.complete,
	};
}

void session_tick(struct session *s)
{
	files_rest(s->files);
	addrspaces_sweep(s->spaces);
}
