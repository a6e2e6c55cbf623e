#!/usr/bin/env python3
"""usage: trap.py RINGFOLD VICTIMS [--seconds N] [--idle N]
What a trap costs while it waits (49 Hz, everything recorded), and that a load which pulses for 10 minutes cannot exceed captures,
cooldown or quota, with memory that does not grow. Fails above 1 % of one CPU, or when a bound is broken.
"""
import argparse
import glob
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from statistics import median

args = argparse.ArgumentParser()
args.add_argument("ringfold")
args.add_argument("victims", nargs="?")
args.add_argument("--seconds", type=float, default=600)
args.add_argument("--idle", type=float, default=30)
args = args.parse_args()
RINGFOLD = os.path.abspath(args.ringfold)
failures = []


def fail(what):
    failures.append(what)
    print(f"FAILED: {what}", flush=True)


def family(pid):
    """The process and all below it."""
    pids, more = [], [pid]
    while more:
        p = more.pop()
        pids.append(p)
        try:
            with open(f"/proc/{p}/task/{p}/children") as f:
                more += [int(c) for c in f.read().split()]
        except OSError:
            pass
    return pids


def cpu_s(pid):
    total = 0
    for p in family(pid):
        try:
            with open(f"/proc/{p}/stat") as f:
                fields = f.read().rpartition(")")[2].split()
            total += sum(int(x) for x in fields[11:15])
        except OSError:
            pass
    return total / os.sysconf("SC_CLK_TCK")


def memory_kib(pid):
    """PSS by the names of its processes."""
    sizes = {}
    for p in family(pid):
        try:
            with open(f"/proc/{p}/comm") as f:
                name = f.read().strip()
            with open(f"/proc/{p}/smaps_rollup") as f:
                size = next(int(line.split()[1]) for line in f if line.startswith("Pss:"))
            sizes[name] = sizes.get(name, 0) + size
        except (OSError, StopIteration):
            pass
    return sizes


def rss_kib(pid):
    return sum(memory_kib(pid).values())


def start(*more):
    with open("said", "w") as said:
        t = subprocess.Popen([RINGFOLD, "trap", *more], stderr=said)
    while " at " not in open("said").read() and t.poll() is None:
        time.sleep(0.05)
    return t


def idle():
    t = start("--when", "cpu>101%/5s", "-o", "idle.folded")
    time.sleep(2)
    before, began = cpu_s(t.pid), time.time()
    time.sleep(args.idle)
    share = 100 * (cpu_s(t.pid) - before) / (time.time() - began)
    print(f"waiting at 49 Hz, -a: {share:.2f} % of one CPU, {rss_kib(t.pid)} KiB (PSS of all its processes)", flush=True)
    t.send_signal(signal.SIGINT)
    t.wait(timeout=60)
    if share >= 1:
        fail(f"{share:.2f} % of one CPU")


def pulses():
    pulse = subprocess.Popen([sys.executable, "-S", "-c",
                              "import time\nwhile True:\n  e = time.time() + 2\n  while time.time() < e: pass\n  time.sleep(4)"])
    quota, cooldown = 3_000_000, 5
    t = start("--when", f"cpu(pid={pulse.pid})>5%/1s", "--before", "3", "-d", "1", "--cooldown", str(cooldown), "--quota", str(quota),
              "-v", "-o", "cap.folded", "-o", "cap.data.txt", "--stats", "cap.json")
    end, seen, most, memory = time.time() + args.seconds, set(), 0, []
    while time.time() < end:
        time.sleep(0.5)
        files = glob.glob("cap-*")
        seen |= {f for f in files if f.endswith(".folded")}
        size = 0
        for f in files:
            try:
                size += os.path.getsize(f)
            except OSError:
                pass
        most = max(most, size)
        memory.append(memory_kib(t.pid))
    t.send_signal(signal.SIGINT)
    t.wait(timeout=60)
    with open("said") as f:
        err = f.read()
    pulse.kill()
    pulse.wait()
    left = sum(os.path.getsize(f) for f in glob.glob("cap-*"))
    sums = [sum(m.values()) for m in memory]
    # What is usual: a capture that names a large program takes more for a moment, in the parser.
    early, late = median(sums[len(sums) // 4:len(sums) // 2]), median(sums[-len(sums) // 4:])
    turns = re.search(r"(\d+) times a new session", err)
    print(f"pulses for {args.seconds:.0f} s: {len(seen)} captures, {left} bytes kept of {quota} (most at once {most}), "
          f"memory {early:.0f} -> {late:.0f} KiB (most: {memory[sums.index(max(sums))]}), {turns[1] if turns else '?'} turns, exit {t.returncode}",
          flush=True)
    if t.returncode:
        fail(f"exit {t.returncode}: {err[-300:]}")
    if not seen:
        fail("nothing was caught")
    if len(seen) > args.seconds / cooldown + 1:
        fail("more captures than the cooldown allows")
    if left > quota:
        fail("more bytes than the quota")
    if late > early * 1.5 + 8192:
        fail("memory grows")


with tempfile.TemporaryDirectory() as where:
    os.chdir(where)
    idle()
    pulses()
    os.chdir("/")
sys.exit(1 if failures else 0)
