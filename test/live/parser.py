#!/usr/bin/env python3
"""usage: parser.py RINGFOLD VICTIMS_DIR [--kills N] [--slow]
The processes of a recording: what they may do; that the one that parses may be killed at any moment; and that a file which
ends it, or keeps it busy, is set aside and named while the rest of the profile is whole.
"""
import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time

from checks import check_that as check, comm, report_and_exit

args = argparse.ArgumentParser()
args.add_argument("ringfold")
args.add_argument("victims")
args.add_argument("--kills", type=int, default=100)
args.add_argument("--slow", action="store_true") # built with sanitizers: starting a process takes long
args = args.parse_args()
RINGFOLD = os.path.abspath(args.ringfold)
VICTIM = os.path.join(os.path.abspath(args.victims), "victim-fp_twin")
os.chdir(tempfile.mkdtemp(prefix="ringfold-parser-"))


def below(pid):
    """The processes below one."""
    ret = []
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as f:
            for child in f.read().split():
                ret += [int(child)] + below(child)
    except OSError:
        pass
    return ret


def parsers(pid):
    return [p for p in below(pid) if comm(p) == "ringfold-parser"]


def record(*more, env=None):
    return subprocess.Popen([RINGFOLD, "record", "-o", "r.folded", "--stats", "r.json", *more], stderr=subprocess.PIPE, text=True,
                            env={**os.environ, **(env or {})})


def result(p):
    said = p.communicate(timeout=120)[1]
    check(p.returncode == 0, f"record exits {p.returncode}: {said}")
    with open("r.json") as f:
        stats = json.load(f)
    with open("r.folded") as f:
        lines = f.read().splitlines()
    return said, stats, lines


def jailed_status(pid):
    """Of a process that may be on its way into its jail, of which the filter is the last part: 3 s are much for that."""
    for _ in range(300):
        with open(f"/proc/{pid}/status") as f:
            status = f.read()
        if "Seccomp:\t2" in status:
            break
        time.sleep(0.01)
    return status


def start_load(path):
    """One that has left the dynamic loader behind: it burns CPU time in main."""
    ret = subprocess.Popen([path, "120"])
    used = 0
    while used < 5 and ret.poll() is None: # of USER_HZ, 100
        time.sleep(0.02)
        with open(f"/proc/{ret.pid}/stat") as f:
            used = int(f.read().rpartition(")")[2].split()[11])
    return ret


def test_jails():
    load = start_load(VICTIM)
    p = record("-F", "199", "-d", "5", "-p", str(load.pid))
    found = []
    while not found and p.poll() is None:
        time.sleep(0.01)
        found = parsers(p.pid)
    check(len(found) == 1, f"{len(found)} processes that parse")
    for what, pid in [("recorder", p.pid)] + [("parser", q) for q in found]:
        status = jailed_status(pid)
        for line in ("CapEff:\t0000000000000000", "CapPrm:\t0000000000000000", "CapAmb:\t0000000000000000", "NoNewPrivs:\t1",
                     "Seccomp:\t2"):
            check(line in status, f"{what}: not {line!r}")
        with open(f"/proc/{pid}/limits") as f:
            check(re.search(r"Max core file size +0 +0", f.read()), f"{what}: a core may be written")
    for pid in found:
        fds = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
        check(sum(fd.startswith("socket:") for fd in fds) == 1, f"parser: sockets {fds}")
    _, stats, lines = result(p)
    load.kill()
    load.wait()
    check(stats["samples"] > 10 and stats["broken"] == {} and stats["refused"] == {}, f"plain: {stats}")
    check(all(";main;" in line for line in lines), "plain: a stack without main")


class Killer(threading.Thread):
    """Kills whatever parses for a recording, again and again."""

    def __init__(self, pid):
        super().__init__()
        self.pid, self.kills, self.over = pid, 0, False

    def run(self):
        while not self.over:
            for pid in parsers(self.pid):
                try:
                    os.kill(pid, signal.SIGKILL)
                    self.kills += 1
                except OSError:
                    pass
            time.sleep(0.3 if args.slow else 0.02)


# Programs that were never seen before, one after the other, until there were enough kills.
COPIES = """
i=0
while [ $i -lt 160 ] && ! [ -e enough ]; do
	for j in 1 2 3 4; do
		i=$((i + 1))
		cp "$0" copy-$i
		./copy-$i 1 &
	done
	wait
done
"""


def test_kills():
    p = record("-F", "97", "--", "sh", "-c", COPIES, VICTIM)
    killer = Killer(p.pid)
    killer.start()
    while p.poll() is None:
        if killer.kills >= args.kills:
            open("enough", "w").close()
        time.sleep(0.1)
    killer.over = True
    killer.join()
    said, stats, lines = result(p)
    lines = [line for line in lines if line.startswith("copy-")]
    samples = sum(int(line.rpartition(" ")[2]) for line in lines)
    print(f"{killer.kills} kills, {samples} samples of {len({line.partition(';')[0] for line in lines})} programs")
    check(killer.kills >= args.kills, f"only {killer.kills} kills")
    check(stats["lost"] == 0 and stats["refused"] == {}, f"kills: lost {stats['lost']}, refused {stats['refused']}")
    check(stats["broken"] == {}, f"kills: broken {stats['broken']}")
    # A stack of which not a byte was there yet, as the page fault for it was sampled: its place stands behind that mark.
    unseen = [line for line in lines if ";[broken];" in line]
    check(sum(int(line.rpartition(" ")[2]) for line in unseen) <= stats["kernel_only"], f"kills: {unseen}")
    for line in lines:
        if line in unseen:
            continue
        # The caller of main is a static function, without a name where libc6-dbg is not installed.
        stack = line.rpartition(" ")[0].replace(";__libc_start_main;[libc.so.6];main;", ";main;")
        check(";main;level_1;" in stack or ";main" not in stack, f"kills: {line}")
        check(not re.search(r";\[(copy-|broken|ld-|libc|truncated)", stack), f"kills: {line}")


def build_id(path):
    notes = subprocess.run(["readelf", "-n", path], stdout=subprocess.PIPE, text=True, env={**os.environ, "LC_ALL": "C"}).stdout
    found = re.search(r"Build ID: ([0-9a-f]+)", notes)
    return found.group(1) if found else None


def longest_wait_s(said):
    """For one answer of the process that parses, or of those that took its place."""
    return float(re.search(r"parser: \d+ requests in [\d.]+ ms, the longest ([\d.]+);", said)[1]) / 1000


def test_aside(what):
    """One of two programs has a file that nobody can parse."""
    other = os.path.join(os.path.dirname(VICTIM), "victim-alpha")
    bad, good = start_load(VICTIM), start_load(other)
    # It dies as it does without a sanitizer, which would print where.
    sanitizer = ":".join(filter(None, [os.environ.get("ASAN_OPTIONS"), "handle_segv=0"]))
    p = record("-v", "-F", "99", "-d", "7", "-p", f"{bad.pid},{good.pid}",
               env={"RINGFOLD_TEST_PARSER": f"{what}:{build_id(VICTIM)}", "ASAN_OPTIONS": sanitizer})
    said, stats, lines = result(p)
    for load in bad, good:
        load.kill()
        load.wait()
    if not stats["refused"]:
        print(f"SKIPPED: {what}: built without the hook (b_ndebug)")
        return
    check(stats["refused"] == {"parser": 1}, f"{what}: refused {stats['refused']}")
    check(len(re.findall("victim-fp_twin is set aside", said)) == 1, f"{what}: said {said}")
    of_bad = [line for line in lines if line.startswith("victim-fp_twin;")]
    of_good = [line for line in lines if line.startswith("victim-alpha;")]
    check(of_good and all(";main" in line and "[victim-alpha]" not in line for line in of_good), f"{what}: {of_good}")
    check(of_bad and any("[victim-fp_twin]" in line for line in of_bad), f"{what}: {of_bad}")
    # Its frame pointers lead to what it was started with.
    check(stats["broken"] == {}, f"{what}: broken {stats['broken']}")
    # Meanwhile nobody empties the rings. They hold 0.3 s at this rate; what does not fit is lost, and said: two threads' at most.
    waited = longest_wait_s(said)
    may_lose = 2 * 99 * waited if waited > 0.25 else 0
    check(stats["lost"] <= may_lose, f"{what}: lost {stats['lost']}, after a wait of {waited:.2f} s")


test_jails()
test_kills()
if build_id(VICTIM):
    test_aside("crash")
    test_aside("hang")
else:
    print("SKIPPED: no readelf, or no build-id")
shutil.rmtree(os.getcwd())
report_and_exit()
