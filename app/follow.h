/*
 * What records tell of processes, as their address spaces take it: collector/ and symbols/ do not know each other. Whoever
 * reads records and walks the stacks in them follows by this, the tests' programs too.
 */
#pragma once

#include "base/clock.h"
#include "collector/record.h"
#include "symbols/addrspace.h"

/* Of RECORD_MMAP; borrows from it. */
static inline struct mmap_record follow_mapping(const struct record *rec)
{
	return (struct mmap_record){
		.pid = rec->pid,
		.tid = rec->tid,
		.start = rec->mmap.start,
		.len = rec->mmap.len,
		.pgoff = rec->mmap.pgoff,
		.maj = rec->mmap.maj,
		.min = rec->mmap.min,
		.ino = rec->mmap.ino,
		.ino_generation = rec->mmap.ino_generation,
		.executable = rec->mmap.executable,
		.path = rec->mmap.path,
		.path_len = rec->mmap.path_len,
		.build_id = rec->mmap.build_id,
		.build_id_len = rec->mmap.build_id_len,
	};
}

/* Records of other types, and mappings of the kernel, change nothing. */
static inline void follow_record(struct addrspaces *a, const struct record *rec)
{
	struct mmap_record m;

	switch (rec->type) {
	case RECORD_MMAP:
		m = follow_mapping(rec);
		if (rec->pid > 0)
			addrspaces_mmap(a, &m, rec->time_ns);
		break;
	case RECORD_COMM:
		addrspaces_comm_changed(a, rec->pid, rec->tid, rec->comm.comm, rec->comm.len, rec->comm.exec,
					rec->time_ns);
		break;
	case RECORD_FORK:
		if (rec->task.found)
			addrspaces_found(a, rec->pid, rec->task.ppid, rec->tid, rec->time_ns);
		else
			addrspaces_fork(a, rec->pid, rec->task.ppid, rec->tid, rec->task.ptid, rec->time_ns);
		break;
	case RECORD_EXIT:
		addrspaces_exit(a, rec->pid, rec->tid, rec->time_ns);
		break;
	case RECORD_LOST:
		if (rec->lost.side)
			addrspaces_lost(a, rec->lost.count ? rec->time_ns : clock_monotonic_ns());
		break;
	case RECORD_SAMPLE:
	case RECORD_THROTTLE:
	case RECORD_UNTHROTTLE:
	case RECORD_SWITCH:
	case RECORD_KSYMBOL:
	case RECORD_OTHER:
		break;
	}
}
