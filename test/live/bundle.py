#!/usr/bin/env python3
"""usage: bundle.py RINGFOLD PERFCOLLECT
`ringfold bundle` and scripts/perfcollect: what is in the zip, that the parts agree, that its text keeps to what PerfView's parser
accepts, and that `report` opens it.
"""
import collections
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import zipfile

from checks import check, report_and_exit, skip

RINGFOLD, PERFCOLLECT = (os.path.abspath(p) for p in sys.argv[1:3])
PARTS = ["perf.data.txt", "index.html", "stacks.folded", "profile.pb.gz", "report.txt", "stats.json", "manifest.json", "ringfold.log"]
HEADER = re.compile(r"^([A-Za-z0-9._+#@:-]+) (\d+)/(\d+) \[(\d{3})\] (\d+\.\d{6}): 1 ([a-z:-]+): $")
FRAME = re.compile(r"^\t[0-9a-f]+ (.*) \(([^()\[\]/\\ ]{1,200})\)$")


def worker(name, share):
    """A thread of another name that works for a share of the time, in a process of an odd name."""
    code = (f"import threading, time\nopen('/proc/self/comm', 'w').write({name!r})\n"
            "def work():\n"
            "    open('/proc/thread-self/comm', 'w').write('worker 3/4 [x]')\n"
            "    while True:\n"
            f"        end = time.time() + {share} * 0.2\n"
            "        while time.time() < end: pass\n"
            f"        time.sleep({1 - share} * 0.2)\n"
            "threading.Thread(target=work).start()")
    return subprocess.Popen([sys.executable, "-S", "-c", code])


def samples_of(text):
    """(comm, pid, tid, cpu, time, frames) of a perf.data.txt; every line must be one of a sample."""
    samples = []
    for number, line in enumerate(text.split("\n")):
        header, frame = HEADER.match(line), FRAME.match(line)
        if header:
            samples.append((header[1], int(header[2]), int(header[3]), int(header[4]), float(header[5]), []))
        elif frame and samples:
            samples[-1][5].append((frame[1], frame[2]))
        elif line:
            check(f"line {number}", line, "a header or a frame")
            break
    return samples


def weights(samples):
    """As TraceEvent counts: the time to the next sample of the CPU."""
    last, seconds = {}, collections.Counter()
    for s in samples:
        if s[3] in last:
            before = last[s[3]]
            seconds[before[1]] += s[4] - before[4]
        last[s[3]] = s
    return seconds


def look(path, seconds):
    with zipfile.ZipFile(path) as z:
        check(f"{path}: sound", z.testzip(), None)
        names = z.namelist()
        check(f"{path}: one folder", {n.split("/")[0] for n in names}, {"ringfold.trace"})
        check(f"{path}: parts", [p for p in PARTS if f"ringfold.trace/{p}" not in names], [])
        check(f"{path}: nothing that PerfView takes for something else",
              [n for n in names if n.endswith("metadata") or n.endswith(".data.txt") and n != "ringfold.trace/perf.data.txt"], [])
        parts = {n.partition("/")[2]: z.read(n) for n in names}
    stats, manifest = json.loads(parts["stats.json"]), json.loads(parts["manifest.json"])
    text = parts["perf.data.txt"].decode("ascii")
    samples = samples_of(text)
    real = [s for s in samples if s[1] or s[5]]
    check(f"{path}: as many samples", len(real), stats["samples"] - stats["idle"])
    folded = sum(int(line.rpartition(" ")[2]) for line in parts["stacks.folded"].decode().splitlines())
    check(f"{path}: as many in the stacks", folded, stats["samples"] - stats["idle"])
    check(f"{path}: in the order of time", all(a[4] <= b[4] for a, b in zip(samples, samples[1:])), True)
    check(f"{path}: manifest", (manifest["samples"], manifest["machine"]["kernel"]), (stats["samples"], os.uname().release))
    check(f"{path}: files with build-ids", any(f["build_id"] for f in manifest["files"]), True)
    check(f"{path}: page", b"<canvas" in parts["index.html"] and b"http-equiv" in parts["index.html"], True)
    return samples, parts


def test_bundle():
    busy, lazy = worker("busy one", 1), worker("lazy[1]", 0.25)
    time.sleep(0.5)
    r = subprocess.run([RINGFOLD, "bundle", "case", "-F", "199", "-d", "4", "-o", "also.folded"], capture_output=True, text=True,
                       timeout=120)
    used = {}
    check("bundle: status", r.returncode, 0)
    check("bundle: files", sorted(os.listdir(".")), ["also.folded", "case.trace.zip"])
    samples, parts = look("case.trace.zip", 4)
    seconds = weights(samples)
    total = sum(seconds.values())
    print(f"weights of all CPUs: {total:.3f} s", flush=True)
    wall = json.loads(parts["manifest.json"])["options"]["seconds"] # a crowded machine ends later
    check("bundle: time of all CPUs", abs(total - wall * os.cpu_count()) < 0.25 * os.cpu_count(), True)
    # A sample stands for 1/199 s: the time that a process got is what the kernel says, to what so many samples can tell.
    for p, name in (busy, "busy_one"), (lazy, "lazy_1_"):
        with open("also.folded") as f:
            count = sum(int(line.rpartition(" ")[2]) for line in f if line.startswith("worker_3/4_[x];"))
        own = [s for s in samples if s[1] == p.pid]
        check(f"{name}: the process's name, and the thread's number", {(s[0], s[2] != p.pid) for s in own}, {(name, True)})
        check(f"{name}: weight", abs(seconds[p.pid] - len(own) / 199) < 0.05 + 0.03 * len(own) / 199, True)
        used[name] = len(own)
    check("bundle: all of both", sum(used.values()), count)
    check("bundle: functions", any(f[0] == "_PyEval_EvalFrameDefault" for s in samples for f in s[5]), True)
    for p in busy, lazy:
        p.kill()
        p.wait()
    r = subprocess.run([RINGFOLD, "report", "case.trace.zip"], capture_output=True, text=True, timeout=60)
    check("report", (r.returncode, r.stdout), (0, parts["report.txt"].decode()))


def test_symbols():
    """The very files, below their build-ids."""
    r = subprocess.run([RINGFOLD, "bundle", "with", "-q", "-F", "499", "--symbols", "--", sys.executable, "-S", "-c",
                        "sum(range(40000000))"], capture_output=True, text=True, timeout=120)
    check("symbols: status", (r.returncode, r.stderr), (0, ""))
    python = os.path.realpath(sys.executable)
    with zipfile.ZipFile("with.trace.zip") as z:
        names = [n for n in z.namelist() if "/symbols/" in n]
        check("symbols: build-ids", all(re.match(r"ringfold.trace/symbols/[0-9a-f]{2,}/[^/]+$", n) for n in names), True)
        own = [n for n in names if n.endswith("/" + os.path.basename(python))]
        check("symbols: the program", len(own), 1)
        with open(python, "rb") as f:
            check("symbols: its bytes", z.read(own[0]) == f.read(), True)


def test_hostile():
    """A zip of somebody else: no terminal sequence of his."""
    with zipfile.ZipFile("bad.trace.zip", "w") as z:
        z.writestr("x.trace/report.txt", "a\033[2Jb\n")
    r = subprocess.run([RINGFOLD, "report", "bad.trace.zip"], capture_output=True, text=True, timeout=60)
    check("hostile", (r.returncode, r.stdout), (0, "a?[2Jb\n"))
    with open("none.trace.zip", "w") as f:
        f.write("no zip")
    with zipfile.ZipFile("empty.trace.zip", "w") as z:
        z.writestr("y", "z")
    for name in "none", "empty", "missing":
        r = subprocess.run([RINGFOLD, "report", f"{name}.trace.zip"], capture_output=True, text=True, timeout=60)
        check(name, (r.returncode, r.stdout, r.stderr.count("error: ")), (1, "", 1))


def test_usage():
    for args in [], ["-a"], ["-"], ["x", "-a", "-p", "1"]:
        r = subprocess.run([RINGFOLD, "bundle", *args], capture_output=True, text=True, timeout=60)
        check(f"{args}", (r.returncode, r.stderr.count("error: ")), (2, 1))
    r = subprocess.run([RINGFOLD, "record", "-a", "-d", "0.2", "-o", "-", "-f", "bundle"], capture_output=True, timeout=60)
    check("a pipe", (r.returncode, b"a bundle needs a file" in r.stderr), (1, True))


def test_perfcollect():
    env = dict(os.environ, RINGFOLD=RINGFOLD, XDG_RUNTIME_DIR=os.getcwd())
    p = worker("collected", 1)

    def run(*args):
        return subprocess.run([PERFCOLLECT, *args], capture_output=True, text=True, timeout=120, env=env)

    check("collect", run("collect", "one", "-collectsec", "1", "-pid", str(p.pid), "-nolttng").returncode, 0)
    samples, _ = look("one.trace.zip", 1)
    check("collect: that process alone", {s[1] for s in samples if s[5]}, {p.pid})
    r = run("start", "bad", "-pid", "4500000")
    check("start: no such process", (r.returncode, "no such process" in r.stderr, os.path.exists("bad.log")), (1, True, False))
    check("start", run("start", "two").returncode, 0)
    time.sleep(2) # it records by now
    r = run("stop")
    check("stop", r.returncode, 0)
    check("stop: whole machine", p.pid in {s[1] for s in look("two.trace.zip", 2)[0]}, True)
    check("stop again", run("stop").returncode, 1)
    check("view", "worker" in run("view", "one.trace.zip").stdout, True)
    check("an unknown word", run("collect", "x", "-nosuch").returncode, 1)
    p.kill()
    p.wait()


def main():
    if os.geteuid():
        skip("needs root")
    for name, test in list(globals().items()):
        if name.startswith("test_"):
            with tempfile.TemporaryDirectory() as where:
                os.chdir(where)
                test()
                os.chdir("/")
    report_and_exit()


main()
