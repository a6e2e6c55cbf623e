/* The options that say which samples of a recording count, and where its files are. */
#include "app/replay.h"

#include "app/outputs.h"
#include "base/err.h"
#include "target/proc_text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Arguments of a command begin with struct outputs, then struct replay_args. */
struct both {
	struct outputs out;
	struct replay_args args;
};

static struct replay_args *args_of(void *data)
{
	return &((struct both *)data)->args;
}

void replay_args_deinit(struct replay_args *a)
{
	vec_deinit(&a->events);
	vec_deinit(&a->pids);
	vec_deinit(&a->tids);
	vec_deinit(&a->comms);
}

int replay_set_event(void *data, const char *arg, struct err *err)
{
	return vec_push(&args_of(data)->events, arg) ? 0 : err_oom(err);
}

int replay_set_pids(void *data, const char *arg, struct err *err)
{
	pid_t id;

	do {
		if (!opts_next_id(&arg, 0, &id))
			return err_set(err, EINVAL, "\"%s\" is not a list of ids such as 17,42", arg);
		if (!vec_push(&args_of(data)->pids, id))
			return err_oom(err);
	} while (*arg);
	return 0;
}

int replay_set_tids(void *data, const char *arg, struct err *err)
{
	pid_t id;

	do {
		if (!opts_next_id(&arg, 0, &id))
			return err_set(err, EINVAL, "\"%s\" is not a list of ids such as 17,42", arg);
		if (!vec_push(&args_of(data)->tids, id))
			return err_oom(err);
	} while (*arg);
	return 0;
}

int replay_set_comms(void *data, const char *arg, struct err *err)
{
	return vec_push(&args_of(data)->comms, arg) ? 0 : err_oom(err);
}

int replay_set_cpus(void *data, const char *arg, struct err *err)
{
	struct replay_args *a = args_of(data);

	if (cpulist_parse(arg, strlen(arg), a->cpus, REPLAY_MAX_CPUS) <= 0)
		return err_set(err, EINVAL, "\"%s\" is not a list of CPUs such as 0-3,7", arg);
	a->have_cpus = true;
	return 0;
}

int replay_set_time(void *data, const char *arg, struct err *err)
{
	args_of(data)->time = arg;
	return 0;
}

int replay_set_symfs(void *data, const char *arg, struct err *err)
{
	args_of(data)->symfs = arg;
	return 0;
}

int replay_set_kallsyms(void *data, const char *arg, struct err *err)
{
	args_of(data)->kallsyms = arg;
	return 0;
}

int replay_set_vmlinux(void *data, const char *arg, struct err *err)
{
	args_of(data)->vmlinux = arg;
	return 0;
}

int replay_set_map_dir(void *data, const char *arg, struct err *err)
{
	args_of(data)->map_dir = arg;
	return 0;
}

int replay_set_no_debuginfod(void *data, const char *arg, struct err *err)
{
	unsetenv("DEBUGINFOD_URLS");
	return 0;
}
