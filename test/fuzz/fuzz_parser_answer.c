/*
 * What a parser says that a hostile file took over: the recorder takes it or finds it malformed, and what it took keeps
 * within bounds. The first byte tells the kind of answer, the rest are its records.
 */
#include "base/intern.h"
#include "base/worker.h"
#include "symbols/elf_file.h"
#include "symbols/elf_remote.h"
#include "symbols/elf_remote_priv.h"
#include "symbols/symbols.h"
#include "unwinder/rules_wire.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

enum { QUESTIONS = 16 };

static const uint64_t addrs[QUESTIONS] = { 0, 1, 2, 3, 16, 17, 100, 1000, 1000, 4096, 65536, 1u << 20, 1u << 30,
					   0xffffffff, UINT64_MAX - 1, UINT64_MAX };

static int start(void *data, struct worker_process *ret, struct err *err)
{
	return -1; /* nobody is asked */
}

static void take_all(bool (*take)(void *data, struct reader *r), void *data, struct reader *r)
{
	while (reader_left(r)) {
		const uint8_t *pos = r->pos;

		if (!take(data, r) || r->failed)
			return;
		if (r->pos == pos)
			abort(); /* no progress */
	}
}

static void check_symbols(const struct symbol *symbols)
{
	for (size_t i = 0; i < QUESTIONS; i++) {
		if (symbols[i].name && (symbols[i].offset > addrs[i] || strlen(symbols[i].name) > 65536))
			abort();
	}
}

static void take_head(struct reader *r)
{
	const struct worker_opts opts = { .start = start };
	struct worker *w = worker_new(&opts);
	const struct elf_remote_opts remote = { .worker = w };
	int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	const struct elf_load *loads;
	struct elf_file *f;
	uint64_t there;

	if (w && elf_remote_open(fd, 1 << 20, &remote, &f, NULL) == 0) {
		take_all(elf_remote_take_head, f, r);
		for (size_t i = 0, num = elf_file_loads(f, &loads); i < num; i++) {
			if (loads[i].offset + loads[i].filesz < loads[i].offset || loads[i].filesz > loads[i].memsz)
				abort();
		}
		for (size_t i = 0; i < QUESTIONS; i++) {
			elf_file_vaddr(f, addrs[i], &there);
			elf_file_is_root(f, addrs[i]);
		}
		elf_file_free(f);
	}
	worker_free(w);
}

static void each_inlined(void *data, size_t i, const struct inline_frame *frames, size_t num)
{
	if (i >= QUESTIONS || num < 2 || num > 64)
		abort();
	for (size_t at = 0; at < num; at++) {
		if (!frames[at].name)
			abort();
	}
}

static bool take_rule(void *data, struct reader *r)
{
	struct rules_answer answer;

	if (!rules_decode(data, r, &answer))
		return false;
	if (answer.rule.kind == RULE_CFA && answer.rule.cfa_reg >= ((const struct arch *)data)->num_regs)
		abort();
	for (size_t i = 0; i < ARCH_MAX_REGS && answer.rule.kind == RULE_EXT; i++) {
		const struct rule_where *w = &answer.ext.reg[i];

		if ((w->how == HOW_EXPR || w->how == HOW_AT_EXPR) && w->first_op + w->num_ops > answer.ext.num_ops)
			abort();
	}
	rule_ext_deinit(&answer.ext);
	return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct symbol symbols[QUESTIONS] = { 0 };
	const char *modules[QUESTIONS];
	struct intern *strings = intern_new();
	struct elf_names_taken names = { strings, addrs, QUESTIONS, symbols, false };
	struct elf_inlined_taken *inlined = calloc(1, sizeof(*inlined));
	struct elf_remote_kernel kernel = { strings, addrs, QUESTIONS, symbols, modules, false, false };
	struct reader r = reader_init(data, size);
	uint8_t kind = reader_u8(&r);

	if (strings && inlined && kind == 'h') {
		take_head(&r);
	} else if (strings && inlined && kind == 'n') {
		take_all(elf_remote_take_names, &names, &r);
	} else if (strings && inlined && kind == 'k') {
		take_all(elf_remote_take_kernel, &kernel, &r);
	} else if (strings && inlined && kind == 'i') {
		*inlined = (struct elf_inlined_taken){ .strings = strings, .num = QUESTIONS, .each = each_inlined };
		take_all(elf_remote_take_inlined, inlined, &r);
	} else if (kind == 'r') {
		take_all(take_rule, (void *)arch_host(), &r);
	}
	check_symbols(symbols);
	free(inlined);
	intern_free(strings);
	return 0;
}
