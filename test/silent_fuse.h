/*
 * A FUSE file system of one file, /file, whose bytes never come: reading it waits until the server ends. Spoken
 * directly (linux/fuse.h), so that nothing need be installed. Needs root, or root of a user namespace.
 */
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SILENT_FILE_BYTES = 1 << 20, SILENT_INODE = 2 };

static inline void silent_answer(int fuse, uint64_t unique, int error, void *body, size_t size)
{
	struct fuse_out_header head = { .len = (uint32_t)(sizeof(head) + size), .error = error, .unique = unique };
	struct iovec parts[] = { { &head, sizeof(head) }, { body, size } };

	if (writev(fuse, parts, 2) < 0)
		return; /* the request was given up */
}

static inline struct fuse_attr silent_attr(uint64_t inode)
{
	return (struct fuse_attr){ .ino = inode,
				   .size = inode == SILENT_INODE ? SILENT_FILE_BYTES : 0,
				   .blocks = SILENT_FILE_BYTES / 512,
				   .mode = inode == SILENT_INODE ? S_IFREG | 0755 : S_IFDIR | 0755,
				   .nlink = 1,
				   .blksize = 4096 };
}

/* Answers all but READ. */
static inline void silent_serve_one(int fuse, const struct fuse_in_header *in, const void *body)
{
	struct fuse_init_out init = { .major = FUSE_KERNEL_VERSION, .minor = FUSE_KERNEL_MINOR_VERSION,
				      .max_readahead = 4096, .max_background = 16, .max_write = 4096 };
	struct fuse_entry_out entry = { .nodeid = SILENT_INODE, .entry_valid = 1000, .attr_valid = 1000,
					.attr = silent_attr(SILENT_INODE) };
	struct fuse_attr_out attr = { .attr_valid = 1000, .attr = silent_attr(in->nodeid) };
	struct fuse_open_out opened = { .open_flags = FOPEN_KEEP_CACHE }; /* else the next open waits, too */

	struct fuse_statfs_out stat = { .st.bsize = 4096 };

	switch (in->opcode) {
	case FUSE_INIT:
		silent_answer(fuse, in->unique, 0, &init, sizeof(init));
		break;
	case FUSE_LOOKUP:
		if (strcmp(body, "file"))
			silent_answer(fuse, in->unique, -ENOENT, NULL, 0);
		else
			silent_answer(fuse, in->unique, 0, &entry, sizeof(entry));
		break;
	case FUSE_GETATTR:
		silent_answer(fuse, in->unique, 0, &attr, sizeof(attr));
		break;
	case FUSE_OPEN:
	case FUSE_OPENDIR:
		silent_answer(fuse, in->unique, 0, &opened, sizeof(opened));
		break;
	case FUSE_STATFS:
		silent_answer(fuse, in->unique, 0, &stat, sizeof(stat));
		break;
	case FUSE_READ:
	case FUSE_FORGET:
	case FUSE_BATCH_FORGET:
	case FUSE_INTERRUPT:
		break;
	default:
		silent_answer(fuse, in->unique, -ENOSYS, NULL, 0);
		break;
	}
}

static inline void silent_serve(int fuse)
{
	static union {
		struct fuse_in_header in;
		char bytes[FUSE_MIN_READ_BUFFER + 65536];
	} request;
	ssize_t n;

	while ((n = read(fuse, &request, sizeof(request) - 1)) > 0 || errno == EINTR || errno == EAGAIN) {
		if (n < (ssize_t)sizeof(request.in))
			continue;
		request.bytes[n] = '\0';
		silent_serve_one(fuse, &request.in, request.bytes + sizeof(request.in));
	}
}

/* Mounts it at `dir`, served by a child: its pid, or -1. End the child, and then umount `dir`. */
static inline pid_t silent_fuse_start(const char *dir)
{
	char options[128];
	int fuse = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	pid_t pid;

	snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=%u,group_id=%u,allow_other", fuse, getuid(),
		 getgid());
	if (fuse < 0 || mount("silent", dir, "fuse.silent", MS_NOSUID | MS_NODEV, options) < 0) {
		if (fuse >= 0)
			close(fuse);
		return -1;
	}
	pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		silent_serve(fuse);
		_exit(0);
	}
	close(fuse);
	return pid;
}
