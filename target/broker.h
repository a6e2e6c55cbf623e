/*
 * The broker: the same door in a process of its own. Whoever parses what targets control asks it over a socket and
 * gets descriptors back, so that he himself can do without capabilities, open and socket (target/jail.h). The
 * broker holds the capabilities, opens files, and parses nothing that a target wrote but its /proc text.
 *
 * Two processes: one waits and forks the other, which opens. The one that opens can be killed and replaced when
 * a file system keeps it waiting (FUSE, a dead NFS server): no request takes longer than 2 seconds.
 */
#pragma once

#include <stddef.h>

struct door;
struct err;
struct outfile_opener;

/*
 * A door whose requests are answered by a broker, started here: call it early, while the process has little that a
 * child should not inherit and one thread. `outputs` are the only names broker_opener's files may have. It ends
 * with door_free, or with this process however that ends.
 */
int broker_start(const char *const *outputs, size_t num_outputs, struct door **ret, struct err *err);

/* Output files by the broker, which opens and renames them; borrowed from the door. */
const struct outfile_opener *broker_opener(struct door *door);

/* How often the process that opens had to be replaced. */
unsigned int broker_replaced(const struct door *door);
