#!/usr/bin/env python3
"""usage: old_kernel.py RINGFOLD VICTIM
Each system call that kernels since 4.18 have brought is refused by a seccomp filter, with ENOSYS as an old kernel says it and with
EPERM and EINVAL as container runtimes do: the recording is as whole as with it.
"""
import collections
import ctypes
import errno
import json
import os
import subprocess
import sys
import tempfile

from checks import check, report_and_exit, skip

RINGFOLD, VICTIM = (os.path.abspath(p) for p in sys.argv[1:3])
# openat2 5.6, pidfd_open 5.3, close_range 5.9, membarrier 4.3, memfd_create 3.17, renameat2 3.15, faccessat2 5.8, clone3 5.3,
# statx 4.11, rseq 4.18, epoll_pwait2 5.11
CALLS = ["openat2", "pidfd_open", "close_range", "membarrier", "memfd_create", "renameat2", "faccessat2", "clone3", "statx",
         "rseq", "epoll_pwait2"]
ERRORS = [errno.ENOSYS, errno.EPERM, errno.EINVAL]
ALLOW, ERRNO = 0x7fff0000, 0x00050000 # SCMP_ACT_*, seccomp.h


def refuse(lib, calls, code):
    def load():
        lib.seccomp_init.restype = ctypes.c_void_p
        ctx = ctypes.c_void_p(lib.seccomp_init(ALLOW))
        for call in calls:
            nr = lib.seccomp_syscall_resolve_name(call.encode())
            if nr >= 0 and lib.seccomp_rule_add(ctx, ctypes.c_uint32(ERRNO | code), nr, 0):
                os._exit(99)
        if lib.seccomp_load(ctx):
            os._exit(99)
    return load


def record(lib, what, calls, code):
    r = subprocess.run([RINGFOLD, "record", "-q", "-F", "499", "-o", "o.folded", "--stats", "s.json", "--", VICTIM, "1"],
                       capture_output=True, text=True, timeout=60, preexec_fn=refuse(lib, calls, code))
    check(f"{what}: status", (r.returncode, r.stderr), (0, ""))
    if r.returncode:
        return
    with open("s.json") as f:
        s = json.load(f)
    check(f"{what}: samples", s["samples"] > 5, True)
    check(f"{what}: whole", s["complete"], s["user_stacks"])
    check(f"{what}: unknown", s["unknown_frames"], 0)
    check(f"{what}: refused files", {k: v for k, v in s["refused"].items() if v}, {})
    names = collections.Counter()
    with open("o.folded") as f:
        for line in f:
            stack, _, num = line.rpartition(" ")
            for frame in set(stack.split(";")):
                names[frame] += int(num)
    check(f"{what}: main", names["main"] > 0.9 * s["user_stacks"], True)


def main():
    if os.geteuid():
        skip("needs root")
    lib = ctypes.CDLL("libseccomp.so.2")
    with tempfile.TemporaryDirectory() as where:
        os.chdir(where)
        record(lib, "nothing refused", [], 0)
        for code in ERRORS:
            record(lib, f"all refused with {errno.errorcode[code]}", CALLS, code)
        for call in CALLS[:4]:
            record(lib, f"{call} refused", [call], errno.ENOSYS)
        os.chdir("/")
    report_and_exit()


main()
