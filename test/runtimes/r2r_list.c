/*
 * Lists the precompiled functions of .NET images, as the proofs and tests want them: RVAs, token, assembly, name.
 *
 *	r2r_list FILE [DIRECTORY..]      all functions: "begin end token assembly Namespace.Type method", tab-separated
 *	r2r_list -u FILE                 "begin end register+offset slots.." of each function's body
 *	r2r_list -x FILE < RVAS          the same of each exact place: "rva register+offset slots.."
 *
 * Assemblies that the image refers to are looked for beside it and in the directories.
 */
#include "base/strbuf.h"
#include "base/vec.h"
#include "runtimes/clr_metadata.h"
#include "runtimes/r2r.h"
#include "unwinder/arch.h"
#include "unwinder/rule.h"

#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct assembly {
	char name[256];
	void *bytes;
	struct clr_metadata md;
	bool found;
};

struct assemblies {
	char **dirs;
	int num_dirs;
	char own[PATH_MAX];
	VEC(struct assembly *) all;
};

static int read_fd(void *data, void *buf, size_t size, uint64_t offset)
{
	return pread(*(int *)data, buf, size, (off_t)offset) == (ssize_t)size ? 0 : -5;
}

static bool load(struct assembly *a, const char *dir)
{
	char path[PATH_MAX];
	struct pe_bytes bytes;
	struct pe_image pe;
	struct stat st;
	struct pe_dir dirs[2];
	uint8_t cor[72];
	int fd;

	snprintf(path, sizeof(path), "%s/%s.dll", dir, a->name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	fstat(fd, &st);
	bytes = (struct pe_bytes){ read_fd, &fd, (uint64_t)st.st_size };
	if (pe_image_open(&bytes, 0, &pe) && pe_image_read(&pe, pe.clr.rva, cor, sizeof(cor))) {
		memcpy(dirs, cor + 8, sizeof(dirs[0]));
		a->bytes = pe_image_load(&pe, dirs[0]);
		a->found = a->bytes && clr_metadata_open(a->bytes, dirs[0].size, &a->md);
	}
	close(fd);
	return a->found;
}

static const struct clr_metadata *find(void *data, const char *name)
{
	struct assemblies *as = data;
	struct assembly *a;

	for (size_t i = 0; i < as->all.len; i++) {
		a = as->all.data[i];
		if (!strcmp(a->name, name))
			return a->found ? &a->md : NULL;
	}
	a = calloc(1, sizeof(*a));
	if (!a || !vec_push(&as->all, a))
		abort();
	snprintf(a->name, sizeof(a->name), "%s", name);
	load(a, as->own);
	for (int i = 0; i < as->num_dirs && !a->found; i++)
		load(a, as->dirs[i]);
	return a->found ? &a->md : NULL;
}

struct listing {
	const struct r2r *r;
	const uint32_t *rvas;
	uint32_t named;
};

static void each(void *data, size_t i, const struct r2r_name *name)
{
	struct listing *l = data;
	struct r2r_function f;

	if (!name || !r2r_function(l->r, l->rvas[i], &f))
		return;
	l->named++;
	printf("%x\t%x\t%x\t%s\t%s\t%s\n", f.begin, f.end, name->token, name->assembly ? name->assembly : "", name->type,
	       name->method);
}

static void list_names(struct r2r *r, struct assemblies *as, const uint32_t *rvas, size_t num)
{
	const struct r2r_assemblies others = { find, as };
	struct listing l = { r, rvas, 0 };

	if (!r2r_names(r, rvas, num, &others, each, &l))
		abort();
	fprintf(stderr, "%zu functions, %u named\n", num, l.named);
}

static void print_rule(const struct rule *rule)
{
	printf("%u%+d", rule->cfa_reg, rule->cfa_off8 * 8);
	for (size_t j = 1; j < arch_x86_64.num_tracked; j++)
		printf(" %u", rule->slot[j]);
	printf("\n");
}

static void list_rules(struct r2r *r, const uint32_t *rvas, size_t num)
{
	for (size_t i = 0; i < num; i++) {
		struct r2r_function f;
		struct rule rule = { 0 };

		if (!r2r_function(r, rvas[i], &f))
			continue;
		printf("%x\t%x\t", f.begin, f.end);
		if (r2r_rule(r, &arch_x86_64, f.end - 1, false, &rule))
			print_rule(&rule);
		else
			printf("-\n");
	}
}

static void answer_rules(struct r2r *r)
{
	struct rule rule = { 0 };
	unsigned int rva;

	while (scanf("%x", &rva) == 1) {
		printf("%x\t", rva);
		if (r2r_rule(r, &arch_x86_64, rva, true, &rule))
			print_rule(&rule);
		else
			printf("-\n");
	}
}

int main(int argc, char **argv)
{
	bool rules = argc > 1 && !strcmp(argv[1], "-u"), exact = argc > 1 && !strcmp(argv[1], "-x");
	struct assemblies as = { 0 };
	VEC(uint32_t) rvas = { 0 };
	struct pe_bytes bytes;
	struct r2r_function f;
	struct r2r *r;
	struct stat st;
	char *copy;
	int fd, err;

	argc -= rules || exact;
	argv += rules || exact;
	if (argc < 2)
		return 2;
	fd = open(argv[1], O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return 1;
	bytes = (struct pe_bytes){ read_fd, &fd, (uint64_t)st.st_size };
	copy = strdup(argv[1]);
	snprintf(as.own, sizeof(as.own), "%s", dirname(copy));
	free(copy);
	as.dirs = argv + 2;
	as.num_dirs = argc - 2;
	err = r2r_open(&bytes, 0, &r);
	if (err < 0) {
		fprintf(stderr, "%s: %s\n", argv[1], strerror(-err));
		return 1;
	}
	for (uint32_t i = 0; r2r_function_at(r, i, &f); i++) {
		if (!vec_push(&rvas, f.begin))
			return 1;
	}
	if (exact)
		answer_rules(r);
	else if (rules)
		list_rules(r, rvas.data, rvas.len);
	else
		list_names(r, &as, rvas.data, rvas.len);
	for (size_t i = 0; i < as.all.len; i++) {
		free(as.all.data[i]->bytes);
		free(as.all.data[i]);
	}
	vec_deinit(&as.all);
	vec_deinit(&rvas);
	r2r_free(r);
	close(fd);
	return 0;
}
