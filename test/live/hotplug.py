#!/usr/bin/env python3
"""usage: hotplug.py RINGFOLD
A CPU that comes online while `record -a` or `-G` runs is recorded: one that was offline at the start, one that was away for
a moment, and one that was away for longer than a look. It is online again at the end, whatever happens.
"""
import json
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time

from checks import check, report_and_exit

RINGFOLD = os.path.abspath(sys.argv[1])
CPU = 1
SWITCH = f"/sys/devices/system/cpu/cpu{CPU}/online"


def skip(why):
    """Most machines have no such switch: there that is no failure either."""
    print(f"SKIP: {why}")
    sys.exit(77)


def go_away(seconds):
    """By a process that is not ended with us."""
    script = f"trap '' INT TERM HUP; echo 0 > {SWITCH} || exit 1; sleep {seconds}; echo 1 > {SWITCH}"
    return subprocess.Popen(["sh", "-c", script], start_new_session=True, stderr=subprocess.PIPE, text=True)


def spin(name, seconds):
    code = (f"import os, time\nopen('/proc/self/comm', 'w').write({name!r})\nos.sched_setaffinity(0, {{{CPU}}})\n"
            # On a crowded machine the CPU is looked for late, and others want it too.
            f"end = time.time() + {seconds}\nwhile time.time() < end or time.process_time() < 0.5: pass")
    return [sys.executable, "-S", "-c", code]


def start(*args, **more):
    p = subprocess.Popen([RINGFOLD, "record", "-F", "199", "-o", "r.folded", "-o", "r.data.txt", "--stats", "r.json", *args],
                         stderr=subprocess.PIPE, text=True, **more)
    while "Ctrl-C stops" not in p.stderr.readline() and p.poll() is None:
        pass
    return p


def finish(p, what):
    p.send_signal(signal.SIGINT)
    said = p.communicate(timeout=240)[1]
    check(f"{what}: status", p.returncode, 0)
    check(f"{what}: nothing left out", [line for line in said.split("\n") if "not recorded" in line], [])
    with open("r.json") as f:
        s = json.load(f)
    check(f"{what}: identity", s["samples"], s["idle"] + s["kernel_only"] + s["complete"] + s["truncated"]
          + sum(s["broken"].values()))
    counts = {}
    with open("r.data.txt") as f:
        for line in f:
            head = re.match(r"(\S+) +\d+(?:/\d+)? +\[(\d+)\]", line)
            if head and int(head[2]) == CPU:
                counts[head[1]] = counts.get(head[1], 0) + 1
    return counts


def expect(what, counts, names):
    print(what, {name: counts.get(name, 0) for name in names})
    for name in names:
        check(f"{what}: {name} on CPU {CPU}", counts.get(name, 0) >= 10, True)


def test_all():
    away = go_away(1.8) # others may need it
    time.sleep(0.2)
    # Mapping new rings must be allowed to who has no CAP_IPC_LOCK any more; without CAP_SYS_RESOURCE it is by their size.
    p = start("-a", "--ring-bytes", "4M")
    if away.poll() is not None:
        print(f"not tried: CPU {CPU} offline at the start, as starting took too long")
    away.wait()
    time.sleep(1.2)
    subprocess.run(spin("new", 4), check=True)
    go_away(0.2).wait()
    time.sleep(1.2)
    subprocess.run(spin("moment", 4), check=True)
    go_away(1.3).wait()
    time.sleep(1.2)
    subprocess.run(spin("longer", 4), check=True)
    expect("-a", finish(p, "-a"), ["new", "moment", "longer"])


def test_cgroup():
    with open("/proc/mounts") as f:
        mounts = [line.split()[1] for line in f if line.split()[2] == "cgroup2"]
    if not mounts:
        print("not tried: -G, as there is no cgroup v2")
        return
    cgroup = f"{mounts[0]}/ringfold-hotplug"

    def join():
        with open(f"{cgroup}/cgroup.procs", "w") as f:
            f.write("0")

    os.mkdir(cgroup)
    stay = subprocess.Popen(["sleep", "60"], preexec_fn=join)
    try:
        # The rings of a CPU that comes back are there: no more memory has to be locked.
        p = start("-G", "ringfold-hotplug",
                  preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_MEMLOCK, (65536, 65536)))
        go_away(0.2).wait()
        time.sleep(1.2)
        subprocess.run(spin("inside", 4), check=True, preexec_fn=join)
        subprocess.run(spin("outside", 1), check=True)
        counts = finish(p, "-G")
        expect("-G", counts, ["inside"])
        check("-G: others", counts.get("outside", 0), 0)
    finally:
        stay.kill()
        stay.wait()
        os.rmdir(cgroup)


def main():
    if os.geteuid():
        skip("needs root")
    if not os.path.exists(SWITCH):
        skip(f"CPU {CPU} cannot be taken offline: there is no {SWITCH}")
    if go_away(0.1).wait():
        skip(f"CPU {CPU} cannot be taken offline: {SWITCH} may not be written")
    with tempfile.TemporaryDirectory() as where:
        os.chdir(where)
        try:
            test_all()
            test_cgroup()
        finally:
            with open(SWITCH, "r+") as f:
                if f.read().strip() != "1":
                    f.write("1")
            os.chdir("/")
    report_and_exit()


main()
