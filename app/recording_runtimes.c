/* Which processes' runtimes a recording asks for their methods. */
#include "app/managed.h"
#include "app/recording.h"
#include "collector/collector.h"
#include "target/containers.h"
#include "target/door.h"

#include <unistd.h>

/* Nobody is asked whose samples are not wanted. */
static int add_runtime(void *data, pid_t pid)
{
	struct recording *r = data;

	if (pid != getpid() && session_may_want(r->session, pid) &&
	    (!recording_by_containers(r->args) || containers_look(r->containers, pid).wanted))
		managed_add(r->managed, pid);
	return 0;
}

int recording_ask_runtimes(struct recording *r, bool wait, struct err *err)
{
	const struct managed_opts opts = { .door = r->door, .session = r->session };
	const struct record_args *a = r->args;
	int ret;

	if (a->no_dotnet || a->out.view.kernel_only || a->out.method == UNWIND_FP)
		return 0;
	ret = managed_new(&opts, &r->managed, err);
	if (ret < 0)
		return ret;
	for (size_t i = 0; i < a->pids.len; i++)
		managed_add(r->managed, a->pids.data[i]);
	/* Without a list of processes there are those that are seen. */
	if (a->all || a->by_uid || recording_by_containers(a))
		door_each_task(r->door, 0, add_runtime, r, NULL);
	if (wait)
		managed_settle(r->managed);
	return 0;
}
