#!/usr/bin/env python3
"""usage: traces.py RINGFOLD HOSTILE
What a recording leaves on the node: nothing. No file but its outputs, no cgroup, no process, no shared memory; also after
kill -9 of any one of our processes. And no byte of a captured stack in a file that is not a perf.data, nor in a core.
"""
import glob
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from checks import check_that as check, cpu_s, report_and_exit, skip, wait_for

RINGFOLD, HOSTILE = (os.path.abspath(a) for a in sys.argv[1:3])
# Half of it, so that no program holds it but the one that is recorded, which has it in 256 words on its stack.
CANARY = random.getrandbits(64).to_bytes(8, "little")


def ours(parent=None):
    """Our processes: {pid: name}; of one recording when its pid is given, with ">" for each that it is below."""
    found, parents = {}, {}
    for path in glob.glob("/proc/[0-9]*/stat"):
        try:
            with open(path, errors="replace") as f:
                text = f.read()
        except OSError:
            continue
        pid, name = int(text.split()[0]), text[text.index("(") + 1:text.rindex(")")]
        rest = text[text.rindex(")") + 2:].split()
        if name.startswith("ringfold") and rest[0] != "Z":
            found[pid], parents[pid] = name, int(rest[1])
    if parent is None:
        return found
    depth = {parent: 0}
    for level in range(1, 5):
        depth.update({pid: level for pid, ppid in parents.items() if depth.get(ppid) == level - 1})
    return {pid: ">" * depth[pid] + name for pid, name in found.items() if pid in depth}


def shared():
    """What there is besides processes: SysV and POSIX shared memory, cgroups, mounts."""
    ipc = [open(f"/proc/sysvipc/{kind}").read() for kind in ("shm", "sem", "msg")]
    cgroups = sorted(d for d, _, _ in os.walk("/sys/fs/cgroup") if "ringfold" in d)
    return ipc, sorted(f for f in os.listdir("/dev/shm") if "ringfold" in f), cgroups


class Recording:
    def __init__(self, directory, *args):
        self.outputs = [os.path.join(directory, n) for n in ("r.folded", "r.html", "r.pb.gz", "r.json")]
        self.p = subprocess.Popen(
            [RINGFOLD, "record", *sum((["-o", o] for o in self.outputs[:3]), []), "--stats", self.outputs[3], *args],
            stderr=subprocess.PIPE, text=True, cwd=directory,
            preexec_fn=lambda: __import__("resource").setrlimit(__import__("resource").RLIMIT_CORE, (-1, -1)))
        self.said = self.p.stderr.readline()
        time.sleep(0.5)
        self.pids = ours(self.p.pid)

    def end(self, how=signal.SIGINT):
        if self.p.poll() is None:
            self.p.send_signal(how)
        self.said += self.p.communicate(timeout=120)[1]
        return self.p.returncode


def gone(pids):
    """Those of the processes that are still there after a while."""
    wait_for(lambda: not any(pid in ours() for pid in pids))
    return {pid: name for pid, name in ours().items() if pid in pids}


def processes(top, victim):
    """What they are called."""
    r = Recording(tempfile.mkdtemp(dir=top), "-p", str(victim.pid))
    wait_for(lambda: len(set(ours(r.p.pid).values())) >= 5, 30)
    names = sorted(set(ours(r.p.pid).values()))
    r.end()
    return names


def one_killed(top, name, victim):
    """kill -9 of that one of our processes while it records."""
    directory = tempfile.mkdtemp(dir=top)
    before = shared()
    r = Recording(directory, "-p", str(victim.pid), "-F", "499")
    wait_for(lambda: name in ours(r.p.pid).values(), 30) # some start when they are first needed
    r.pids = ours(r.p.pid)
    pid = next((pid for pid, n in r.pids.items() if n == name), None)
    what = f"kill -9 of {name}"
    if pid is None:
        r.end()
        check(False, f"{what}: there was none, but {r.pids}")
        return
    os.kill(pid, signal.SIGKILL)
    time.sleep(0.5)
    status = r.end()
    if pid != r.p.pid:
        check(status == 0, f"{what}: the recording goes on and ends with 0: {status} {r.said[-300:] if status else ''}")
    left = gone(r.pids)
    check(not left, f"{what}: no process is left: {left}")
    files = set(os.listdir(directory)) - {os.path.basename(o) for o in r.outputs}
    check(not files, f"{what}: no file is left: {files}")
    if pid == r.p.pid:
        check(not os.listdir(directory), f"{what}: no half of an output")
    else:
        with open(r.outputs[3]) as f:
            check(json.load(f)["samples"] > 0, f"{what}: there are samples")
    check(shared() == before, f"{what}: no shared memory, no cgroup")


def nothing_captured(top, victim):
    """The victim's canary is in the samples, and in none of the files that were not asked to have it."""
    directory = tempfile.mkdtemp(dir=top)
    r = Recording(directory, "-p", str(victim.pid), "-F", "999", "-o", "r.data")
    time.sleep(1)
    r.end()
    with open(os.path.join(directory, "r.data"), "rb") as f:
        check(CANARY in f.read(), "the perf.data that was asked for has the stack")
    for name in sorted(set(os.listdir(directory)) - {"r.data"}):
        with open(os.path.join(directory, name), "rb") as f:
            text = f.read()
        check(CANARY not in text and CANARY.hex().encode() not in text, f"{name} has no byte of a stack")


def no_core(top, victim):
    """Each of our processes dies of SIGSEGV: cores are allowed, and there is none, or one without the canary."""
    pattern = open("/proc/sys/kernel/core_pattern").read()
    directory = tempfile.mkdtemp(dir=top)
    try:
        with open("/proc/sys/kernel/core_pattern", "w") as f:
            f.write(os.path.join(directory, "core.%p"))
    except OSError:
        print("skip: /proc/sys/kernel/core_pattern is not ours to write")
        return
    try:
        # That a core would come, and would have it.
        dying = start_victim()
        dying.send_signal(signal.SIGSEGV)
        dying.wait()
        with open(os.path.join(directory, f"core.{dying.pid}"), "rb") as f:
            check(CANARY in f.read(), "a core of the victim has it: the test can fail")
        os.unlink(os.path.join(directory, f"core.{dying.pid}"))
        r = Recording(directory, "-p", str(victim.pid), "-F", "999")
        for pid, name in sorted(r.pids.items(), reverse=True):
            try:
                os.kill(pid, signal.SIGSEGV)
            except ProcessLookupError:
                pass
        r.end(signal.SIGKILL)
        time.sleep(0.5)
        cores = glob.glob(os.path.join(directory, "core.*"))
        bad = [c for c in cores if CANARY in open(c, "rb").read()]
        check(not bad, f"no core has it: {len(cores)} cores of {len(r.pids)} processes")
    finally:
        with open("/proc/sys/kernel/core_pattern", "w") as f:
            f.write(pattern)


def start_victim():
    """It unlimits its own core, and has the canary on the stack that it spins on."""
    import resource
    p = subprocess.Popen([HOSTILE, "canary", CANARY.hex()], stdin=subprocess.DEVNULL,
                         preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, (-1, -1)))
    wait_for(lambda: cpu_s(p.pid) > 0.05) # it is there, and spins
    return p


def main():
    if os.geteuid():
        skip("needs root")
    top = tempfile.mkdtemp(prefix="traces-", dir="/var/tmp")
    victim = start_victim()
    try:
        names = processes(top, victim)
        check(len(names) >= 5, f"each of them: {names}")
        for name in names:
            one_killed(top, name, victim)
        nothing_captured(top, victim)
        no_core(top, victim)
    finally:
        victim.kill()
        victim.wait()
        shutil.rmtree(top, ignore_errors=True)
    report_and_exit()


main()
