/*
 * The broker: the same door in a process of its own. Whoever parses what targets control asks it over a socket and
 * gets descriptors back, so that he himself can do without capabilities, open and socket (target/jail.h). The
 * broker holds the capabilities, opens files, and parses nothing that a target wrote but its /proc text.
 *
 * Two processes: one waits and forks the other, which opens, and parsers. The one that opens can be killed and replaced when
 * a file system keeps it waiting (FUSE, a dead NFS server) for more than 2 seconds in which it could have run. Only
 * outputs have all the time they need, and one that is being written when who opened it goes is finished by the next.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct door;
struct err;
struct outfile_opener;
struct worker_process;

/*
 * A door whose requests are answered by a broker, started here: call it early, while the process has little that a
 * child should not inherit and one thread. `outputs` are the only names broker_opener's files may have (with a stamp where
 * one has a mark for it, target/stamp.h). It ends
 * with door_free, or with this process however that ends.
 */
int broker_start(const char *const *outputs, size_t num_outputs, struct door **ret, struct err *err);

/*
 * The same, and it starts processes that parse when it is told to (broker_start_parser): copies of this one as it is
 * now, with nothing open but their socket. `parser` must give up what it may (target/jail.h) before it reads from that.
 */
int broker_start_with_parser(const char *const *outputs, size_t num_outputs, void (*parser)(int sock),
			     struct door **ret, struct err *err);

/* Ends the parser if there is one, and starts another. For struct worker_opts: `door` is its data. */
int broker_start_parser(void *door, struct worker_process *ret, struct err *err);

/* The same: whether it runs or waits for a CPU. */
bool broker_parser_is_ready(void *door, pid_t pid);

/*
 * What the program's processes (broker, parsers, reader of memory) have used so far: CPU time without that of this process
 * itself, and the largest resident memory of each added up, this one's too. Both 0 without a broker.
 */
void broker_usage(const struct door *door, uint64_t *cpu_ns, uint64_t *peak_kib);

/* Output files by the broker, which opens and renames them; borrowed from the door. */
const struct outfile_opener *broker_opener(struct door *door);

/* From here on nobody says any more which perf events may be opened (door_allow_events). Before the jail. */
void broker_seal(struct door *door);

/* How often the process that opens had to be replaced. */
unsigned int broker_replaced(const struct door *door);
