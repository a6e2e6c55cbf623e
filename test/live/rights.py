#!/usr/bin/env python3
"""usage: rights.py RINGFOLD VICTIM HOSTILE
The whole machine recorded by a user with exactly the capabilities that README.md lists: root's processes, programs that
were deleted, files of a private directory, root's perf maps and the kernel have names, and the recorder shows none of
them. With each of them missing, one sentence names it. VICTIM spins in a function called burn.
"""
import glob
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from checks import check_that as check, cpu_s, report_and_exit, skip, wait_for

RINGFOLD, VICTIM, HOSTILE = (os.path.abspath(a) for a in sys.argv[1:4])
LISTED = ["perfmon", "sys_ptrace", "syslog", "checkpoint_restore", "dac_read_search", "ipc_lock"]
NOBODY = 65534


def as_user(caps):
    words = ",".join(["-all"] + [f"+{cap}" for cap in caps])
    return ["setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups", f"--bounding-set={words}",
            f"--inh-caps={words}", f"--ambient-caps={words}"]


def record(top, caps, *args):
    """(exit status, what it said, stats, stacks by first frame)"""
    out = os.path.join(top, "out")
    shutil.rmtree(out, ignore_errors=True)
    os.mkdir(out)
    os.chown(out, NOBODY, NOBODY)
    p = subprocess.Popen(["prlimit", "--memlock=65536:65536", *as_user(caps), os.path.join(top, "ringfold"), "record",
                          *(args or ["-a", "-F", "499"]), "-d", "2", "--pids", "-o", "r.folded", "--stats", "r.json"], cwd=out,
                         stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
    status = jailed_status(p)
    said = p.communicate(timeout=120)[1]
    stats, stacks = {}, {}
    if p.returncode == 0:
        with open(os.path.join(out, "r.json")) as f:
            stats = json.load(f)
        with open(os.path.join(out, "r.folded"), errors="replace") as f:
            for line in f:
                stack = line.rpartition(" ")[0].split(";")
                stacks.setdefault(stack[0].rpartition("-")[2], []).append(stack[1:])
    return p.returncode, said, stats, stacks, status


def recorder_status(pid):
    """Of /proc/PID/status what tells of a jail, of the recorder and all its processes."""
    found = {}
    for path in glob.glob("/proc/[0-9]*/status"):
        try:
            with open(path) as f:
                text = f.read()
        except OSError:
            continue
        fields = dict(re.findall(r"^(\w+):\s*(\S+)", text, re.M))
        # (The guard of the memory helper only forks and ends helpers; of that test_memory.c knows.)
        if fields.get("Pid") == str(pid) or fields.get("Name") == "ringfold-parser":
            found[fields["Name"]] = (int(fields["CapEff"], 16), fields["NoNewPrivs"], fields["Seccomp"])
    return found


def jailed_status(p):
    """That of the recording when the recorder and its parser are in their jails, or what it came to until its end."""
    ret = {}
    while p.poll() is None and not (len(ret) == 2 and all(value[2] == "2" for value in ret.values())):
        time.sleep(0.02)
        now = recorder_status(p.pid)
        if "ringfold" in now:
            ret = now
    return ret


def start_victims(top):
    """Of root: in a private directory, deleted since, and one with code that only its map names."""
    private = os.path.join(top, "private")
    os.mkdir(private, 0o700)
    running = {}
    for name in ("kept", "deleted"):
        path = os.path.join(private, name)
        shutil.copy(VICTIM, path)
        os.chmod(path, 0o700)
        running[name] = subprocess.Popen([path, "600"], stdin=subprocess.DEVNULL)
    for p in running.values():
        wait_for(lambda: cpu_s(p.pid) > 0.05)
    os.unlink(os.path.join(private, "deleted"))
    # What users of a machine do in the kernel.
    running["reads"] = subprocess.Popen(["dd", "if=/dev/zero", "of=/dev/null", "bs=1M"], stdin=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL)
    running["jit"] = subprocess.Popen([HOSTILE, "jit"], stdin=subprocess.DEVNULL)
    maps = f"/tmp/perf-{running['jit'].pid}.map"
    with open(os.open(maps, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as f:
        f.write("20000000000 1000 private_jit\n")
    return running, maps


def frames(stacks, p):
    return {frame for stack in stacks.get(str(p.pid), []) for frame in stack}


def all_listed(top, victims):
    status, said, stats, stacks, jails = record(top, LISTED)
    check(status == 0, f"a user with exactly {' '.join(LISTED)}: {status} {said[-300:] if status else ''}")
    for name in ("kept", "deleted"):
        check("burn" in frames(stacks, victims[name]), f"root's program, {name}, has names")
    check(stats and not stats["notes"] or "kernel" not in " ".join(stats["notes"]), f"nothing is hidden: {stats['notes']}")
    check(stats["kernel_frames"] > 0, "the kernel is there")
    check(all(value == (0, "1", "2") for value in jails.values()) and "ringfold" in jails,
          f"CapEff, NoNewPrivs, Seccomp: {jails}")
    status, said, stats, stacks, _ = record(top, LISTED, "-e", "page-faults", "-c", "1", "-p",
                                            str(victims["jit"].pid))
    check("private_jit" in frames(stacks, victims["jit"]), f"root's map names its code: {status}")


def one_missing(top, cap, victims):
    status, said, stats, stacks, _ = record(top, [c for c in LISTED if c != cap])
    name = "CAP_" + cap.upper()
    lines = [line for line in said.splitlines() if name in line]
    others = {c for c in LISTED if c != cap and any("CAP_" + c.upper() in line for line in said.splitlines())}
    check(len(lines) > 0, f"without {name}: {lines[-1] if lines else said!r}")
    check(not others, f"without {name}: no other is named: {others}")
    check(status == (4 if cap == "perfmon" else 0), f"without {name}: status {status}")


def main():
    if os.geteuid() or not shutil.which("setpriv") or not shutil.which("prlimit"):
        skip("needs root, setpriv and prlimit")
    top = tempfile.mkdtemp(prefix="rights-", dir="/var/tmp")
    os.chmod(top, 0o755)
    shutil.copy(RINGFOLD, os.path.join(top, "ringfold")) # where that user can reach it
    victims, maps = start_victims(top)
    try:
        all_listed(top, victims)
        for cap in LISTED:
            one_missing(top, cap, victims)
    finally:
        for p in victims.values():
            p.send_signal(signal.SIGKILL)
            p.wait()
        os.unlink(maps)
        shutil.rmtree(top, ignore_errors=True)
    report_and_exit()


main()
