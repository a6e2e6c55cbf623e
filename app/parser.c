#include "app/parser.h"

#include "base/descriptors.h"
#include "base/err.h"
#include "base/worker.h"
#include "perfmap/published.h"
#include "runtimes/r2r_serve.h"
#include "symbols/elf_serve.h"
#include "target/broker.h"
#include "target/jail.h"
#include "unwinder/rules_serve.h"

#include <stddef.h>

enum { REST_MS = 1000 };

void parser_run(int sock)
{
	struct elf_serve *files;
	struct r2r_serve *r2r;

	descriptors_raise(); /* it is sent a descriptor of every file that is sampled */
	/* Before the first byte of anything is read. Without a jail there is no parser, and so no symbols. */
	if (jail_enter_parser(NULL) < 0)
		return;
	files = elf_serve_new(0);
	r2r = r2r_serve_new();
	if (files && r2r) {
		const struct worker_services services[] = {
			{ elf_services, files },
			{ rules_services, files },
			{ published_services, NULL },
			{ r2r_services, r2r },
			{ 0 },
		};
		const struct worker_server server = {
			.services = services,
			.idle = elf_serve_rest,
			.idle_ms = REST_MS,
			.data = files,
		};

		worker_serve(sock, &server);
	}
	r2r_serve_free(r2r);
	elf_serve_free(files);
}

int parser_new(struct door *door, struct worker **ret, struct err *err)
{
	const struct worker_opts opts = { .start = broker_start_parser, .ready = broker_parser_is_ready, .data = door };

	*ret = worker_new(&opts);
	return *ret ? 0 : err_oom(err);
}
