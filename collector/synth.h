/*
 * Records of what was there before the recording began, as `perf record` makes them up for its files: the kernel and
 * its modules, and names and mappings of processes (executable ones, and those of files). They carry no time, so
 * readers take them first.
 */
#pragma once

#include "collector/collector.h"

/*
 * The kernel's text under the name that lets perf find how far it was moved ("[kernel.kallsyms]_text"), and its
 * modules. Nothing where addresses are hidden (kptr_restrict). 0 or -ENOMEM.
 */
int synth_kernel(struct door *door, const struct collector_sink *sink, struct err *err);

/* All threads of one process (`pid` may be one of them), then its mappings; nothing when it has ended. 0 or -ENOMEM. */
int synth_process(struct door *door, pid_t pid, const struct collector_sink *sink, struct err *err);
/*
 * What was read of a process that records have told of, but not all: its first thread, the others, and its mappings, as
 * /proc/PID/maps has them. Each thread has a FORK before its name, marked as perf marks those that it makes up, so that readers
 * forget what they knew. `comm` is "" where the first thread has ended.
 */
void synth_task(pid_t pid, pid_t ppid, pid_t tid, const char *comm, const struct collector_sink *sink);
void synth_maps(pid_t pid, const char *text, size_t bytes, const struct collector_sink *sink);
/* A process that ended, whatever was told of its threads. */
void synth_end(pid_t pid, pid_t ppid, const char *comm, const struct collector_sink *sink);
/* The name of one thread alone. */
void synth_name(pid_t pid, pid_t tid, const char *comm, const struct collector_sink *sink);
/* Every process. */
int synth_all(struct door *door, const struct collector_sink *sink, struct err *err);
