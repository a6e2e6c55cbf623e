#!/usr/bin/env python3
"""usage: options.py RINGFOLD
Every option of `ringfold record` does what it says, and so does a plain user's recording at each perf_event_paranoid. An
option without a test here, or a line saying where it is tested, is a failure.
"""
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time

from checks import check, comm, is_asleep, report_and_exit, skip, wait_for

RINGFOLD = os.path.abspath(sys.argv[1])
PARANOID = "/proc/sys/kernel/perf_event_paranoid"
CPUS = sorted(os.sched_getaffinity(0))
# Two threads of one process, one of them inlined and in the kernel a good part of its time.
TARGET = """
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>
static char buf[1 << 16];
volatile unsigned long sum;
static inline __attribute__((always_inline)) void inlined_add(int i) { sum += i; sum ^= i; }
__attribute__((noinline)) void first_work(void) { for (int i = 0; i < 200000; i++) inlined_add(i); }
__attribute__((noinline)) void second_work(int fd) { sum += read(fd, buf, sizeof(buf)); }
static void *second(void *unused)
{
	int fd = open("/dev/zero", O_RDONLY);
	prctl(PR_SET_NAME, "second");
	for (;;) second_work(fd);
	return unused;
}
/* push %rbp; mov %rsp,%rbp; mov %rdi,%rax; 1: dec %rax; jnz 1b; pop %rbp; ret */
static const unsigned char code[] = { 0x55, 0x48, 0x89, 0xe5, 0x48, 0x89, 0xf8, 0x48, 0xff, 0xc8, 0x75, 0xfb, 0x5d, 0xc3 };
static void run_jit(void)
{
	void *at = mmap((void *)0x10000000, 4096, 7, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	memcpy(at, code, sizeof(code));
	for (;;) ((void (*)(long))at)(1000000);
}
int main(int argc, char **argv)
{
	pthread_t thread;
	if (argc > 1 && !strcmp(argv[1], "jit")) run_jit();
	if (argc > 1) alarm(atoi(argv[1]));
	pthread_create(&thread, NULL, second, NULL);
	for (;;) first_work();
}
"""
tested = {
    "container": "containers.py", "cgroup": "hotplug.py", "uid": "cli.py",
    "no-dotnet": "prove/dotnet.py", "dotnet-tiers": "prove/dotnet.py", # the SDK is not in Debian
}


def covers(*options):
    tested.update({option: "here" for option in options})


def record(*args, **more):
    """(exit status, stdout, stderr) of a record that ends by itself."""
    p = subprocess.run([RINGFOLD, "record", *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=120,
                       **more)
    return p.returncode, p.stdout, p.stderr


def folded(*args, want=0, enough=None, **more):
    """
    Stacks of what was recorded, as lists of frames, with their counts; for longer where they are not enough, as a crowded machine
    lets no thread run for a while.
    """
    for _ in range(5):
        status, out, said = record("-q", "--stats", "r.json", *args, **more)
        if status != 3 or want == 3: # the target did not get to run in so short a time
            if status or want or not enough or enough(parse(out)):
                break
        args = for_longer(args)
    check(f"{' '.join(args)}: status", (status, said if want == 0 else ""), (want, ""))
    return parse(out)


def for_longer(args):
    if "-d" not in args:
        return args
    at = args.index("-d") + 1
    return [*args[:at], str(3 * float(args[at])), *args[at + 1:]]


def both(stacks):
    """Threads of the target."""
    return through(stacks, "first_work") > 5 and through(stacks, "second_work") > 5


def some_of(*names):
    return lambda stacks: set(names) <= comms(stacks)


def parse(text):
    stacks = []
    for line in text.splitlines():
        m = re.fullmatch(r"(.+) (\d+)", line)
        check(f"line {line!r}", bool(m), True)
        if m:
            stacks.append((m[1].split(";"), int(m[2])))
    return stacks


def stats():
    with open("r.json") as f:
        s = json.load(f)
    check("identity", s["samples"], s["idle"] + s["kernel_only"] + s["complete"] + s["truncated"] + sum(s["broken"].values()))
    return s


def comms(stacks):
    return {frames[0] for frames, _ in stacks}


def through(stacks, function):
    return sum(count for frames, count in stacks if function in frames)


def total(stacks):
    return sum(count for _, count in stacks)


class Target:
    def __init__(self, cpu=None, name="target"):
        self.p = subprocess.Popen([f"./{name}"], preexec_fn=lambda: cpu is not None and os.sched_setaffinity(0, {cpu}))
        wait_for(lambda: "second" in [comm(self.p.pid, tid) for tid in os.listdir(f"/proc/{self.p.pid}/task")])

    @property
    def pid(self):
        return str(self.p.pid)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.p.kill()
        self.p.wait()


def test_targets():
    covers("pid", "tid", "all", "duration")
    with Target() as t, Target(name="other") as other:
        second = [tid for tid in os.listdir(f"/proc/{t.pid}/task") if tid != t.pid][0]
        stacks = folded("-p", t.pid, "-d", "0.5", "-F", "999", enough=both)
        check("-p: who", comms(stacks), {"target", "second"})
        check("-p: both threads", (through(stacks, "first_work") > 5, through(stacks, "second_work") > 5), (True, True))
        check("-d: how long", 0.5 <= stats()["wall_s"] < 60, True)
        check("-p: told", stats()["targets"], f"process {t.pid}")
        stacks = folded("-t", second, "-d", "0.5", "-F", "999", enough=lambda s: through(s, "second_work") > 5)
        check("-t", (comms(stacks), through(stacks, "second_work") > 5), ({"second"}, True))
        stacks = folded("-t", f"{second},{other.pid}", "-d", "0.5", "-F", "999", enough=some_of("second", "other"))
        check("-t LIST", comms(stacks), {"second", "other"})
        stacks = folded("-a", "-d", "0.5", "-F", "999", enough=some_of("target", "second", "other"))
        check("-a", {"target", "second", "other"} <= comms(stacks), True)
        check("-a: all samples", total(stacks), stats()["samples"] - stats()["idle"])
    # It ends with its targets.
    p = subprocess.Popen(["./target", "3"])
    start = time.monotonic()
    folded("-p", str(p.pid))
    check("-p ends with its target", time.monotonic() - start < 20, True)
    p.wait()


def test_cpus():
    covers("cpu")
    if len(CPUS) < 2:
        print("not tried: -C, with one CPU")
        return
    first = lambda stacks: through(stacks, "first_work") > 5
    with Target(cpu=CPUS[0]), Target(cpu=CPUS[1], name="other"):
        stacks = folded("-a", "-C", str(CPUS[0]), "-d", "0.5", "-F", "999", enough=first)
        check("-C", (through(stacks, "first_work") > 5, "other" in comms(stacks)), (True, False))
        alone = folded("-C", str(CPUS[0]), "-d", "0.5", "-F", "999", enough=first)
        check("-C alone", (through(alone, "first_work") > 5, "other" in comms(alone)), (True, False))
        two = folded("-a", "-C", f"{CPUS[0]},{CPUS[1]}", "-d", "0.5", "-F", "999", enough=some_of("target", "other"))
        check("-C LIST", {"target", "other"} <= comms(two), True)


def rate(*args, hz):
    """
    (stacks, statistics, whether as many samples were taken as asked for): a machine whose host has other work takes fewer at
    times, but not each time.
    """
    for _ in range(5):
        stacks = folded("-a", "-e", "cpu-clock", "-d", "1", *args)
        s = stats()
        want, got = hz * s["wall_s"], s["samples"] + s["lost"]
        right = want * 0.8 < got < want * 1.02
        if right:
            break
        print(f"{got} samples of {want:.0f}", flush=True)
    return stacks, s, right


def test_rates():
    """An idle CPU counts as well, so the rate is what is asked for; a second of 200 Hz is a second of every CPU."""
    covers("freq", "count", "event", "include-idle")
    cpu = str(CPUS[0])
    stacks, s, right = rate("-C", cpu, "-F", "200", "--include-idle", hz=200)
    check("-F 200: as many samples", right, True)
    check("-F: told", (s["freq"], s["event"]), (200, "cpu-clock"))
    check("--include-idle", total(stacks), s["samples"])
    stacks, s, right = rate("-C", cpu, "-c", "10000000", hz=100)
    check("-c: as many samples", right, True)
    check("without --include-idle", total(stacks), s["samples"] - s["idle"])
    with Target() as t:
        folded("-p", t.pid, "-e", "cpu-clock:u", "-d", "0.5", "-F", "999")
        check("-e cpu-clock:u", (stats()["event"], stats()["kernel_frames"]), ("cpu-clock:u", 0))
    stacks = folded("-e", "page-faults", "-c", "1", "--", "sh", "-c", "true")
    check("-e page-faults", (stats()["event"], total(stacks) > 20), ("page-faults", True))
    if os.path.exists("/sys/kernel/tracing/events/sched"):
        stacks = folded("-e", "sched:sched_process_exit", "--", "sh", "-c", "true")
        check("-e SUBSYS:TRACEPOINT", total(stacks) >= 1, True)
    else:
        print("not tried: tracepoints, as /sys/kernel/tracing shows none")


def test_outputs():
    covers("output", "format", "report", "flame", "stats", "quiet", "verbose", "help")
    command = ["-F", "499", "--", "./target", "1"]
    status, out, said = record("-o", "two.folded", "-o", "two.data.txt", "-o", "named", "-f", "collapsed", *command)
    check("-o three times", (status, out), (142, ""))
    with open("two.folded") as a, open("named") as b:
        text = a.read()
        check("-f for a name that does not tell", b.read(), text)
    with open("two.data.txt") as f:
        heads = re.findall(r"^\S.*? +\d+(?:/\d+)? +\[\d+\] +\d+\.\d+:", f.read(), re.M)
    check("-o twice: the same samples", len(heads), total(parse(text)))
    check("said where", [name in said for name in ("two.folded", "two.data.txt", "named")], [True] * 3)
    status, out, less = record("-o", "-", *command)
    check("-o -", (status, total(parse(out)) > 5), (142, True))
    status, out, more = record("-v", "-o", "-", "-f", "perf-script", *command)
    check("-o - -f", (status, "first_work" in out and ";" not in out.split("\n")[0]), (142, True))
    check("-v says more", len(more.splitlines()) > len(less.splitlines()) > 0, True)
    status, out, said = record("--help")
    check("--help", (status, said, "--stack-bytes N" in out), (0, "", True))
    status, out, said = record("-q", "-o", "r.folded", "--stats", "r.json", "--report", "--flame", *command)
    check("-q", (status, said), (142, ""))
    check("--report", ("Hottest functions by self" in out, "Quality" in out), (True, True))
    check("--flame", bool(re.search("[│|].*first_work", out)), True)
    numbers = ["samples", "idle", "lost", "throttled", "user_stacks", "complete", "truncated", "frames", "unknown_frames",
               "jit_frames", "jit_named", "kernel_frames", "distinct_stacks", "unwind_ns", "symbolize_ns", "peak_rss_kib",
               "stack_bytes", "freq", "kernel_only", "spliced", "no_method_starts"]
    kinds = {**dict.fromkeys(numbers, int), "wall_s": float, "cpu_s": float, "event": str, "targets": str, "broken": dict,
             "refused": dict, "runtimes": dict}
    s = stats()
    check("--stats: keys", {key: type(s.get(key)) for key in kinds}, kinds)
    check("--stats: sum of stacks", total(parse(open("r.folded").read())), s["samples"] - s["idle"])


def test_nothing_ran():
    """No sample at all: every format is written all the same, and the status tells."""
    with subprocess.Popen(["sleep", "100"]) as idle:
        wait_for(lambda: is_asleep(idle.pid))
        names = ["n.folded", "n.html", "n.svg", "n.pb.gz", "n.speedscope.json", "n.data.txt", "n.data", "n.trace.zip"]
        status, _, said = record("-p", str(idle.pid), "-d", "0.5", *(x for name in names for x in ("-o", name)))
        check("nothing ran", (status, [name in said and os.path.exists(name) for name in names]), (3, [True] * len(names)))
        idle.kill()
    for name in names:
        if name != "n.data":
            check(f"nothing ran: fold as {name}", subprocess.run([RINGFOLD, "fold", "-q", "n.data", "-o", name]).returncode, 3)
    for name, status in ("n.data", 3), ("n.trace.zip", 0):
        r = subprocess.run([RINGFOLD, "report", name], capture_output=True, text=True)
        check(f"nothing ran: report {name}", (r.returncode, "No stacks." in r.stdout), (status, True))


def test_stacks():
    covers("stack-bytes", "ring-bytes", "kernel", "user", "unwinder")
    with Target() as t:
        folded("-p", t.pid, "-d", "0.3", "--stack-bytes", "4096")
        check("--stack-bytes", stats()["stack_bytes"], 4096)
        full = folded("-p", t.pid, "-d", "0.5", "-F", "999", "--annotate") and stats()["stack_bytes"]
        folded("-p", t.pid, "-d", "0.3", "--ring-bytes", "1M", "-F", "999")
        check("--ring-bytes: smaller copies", 4096 <= stats()["stack_bytes"] < full, True)
        stacks = folded("-p", t.pid, "-d", "0.5", "-F", "999", "--annotate", "-K", enough=lambda s: total(s) > 5)
        check("-K", (total(stacks) > 5, [f for f, _ in stacks if not all(x.endswith("_[k]") for x in f[1:])]), (True, []))
        stacks = folded("-p", t.pid, "-d", "0.5", "-F", "999", "--annotate", "-U", enough=both)
        check("-U", (through(stacks, "second_work") > 5, [f for f, _ in stacks if any(x.endswith("_[k]") for x in f)]),
              (True, []))
        for unwinder in "cfi", "libunwind", "fp":
            stacks = folded("-p", t.pid, "-d", "0.5", "-F", "999", "--unwinder", unwinder, enough=lambda s: through(s, "first_work") > 5)
            whole = sum(count for frames, count in stacks if "first_work" in frames and frames[1] == "_start")
            if unwinder == "fp": # there are no frame pointers: the chain is the kernel's
                check("--unwinder fp: no copies", stats()["stack_bytes"], 0)
            else:
                check(f"--unwinder {unwinder}", whole > 5 and stats()["complete"] > stats()["user_stacks"] * 0.98, True)


def test_frames():
    covers("by", "pids", "threads", "annotate", "inline")
    with Target() as t:
        second = [tid for tid in os.listdir(f"/proc/{t.pid}/task") if tid != t.pid][0]
        want = {f"target-{t.pid}", f"second-{t.pid}"}
        for args in ["--by", "pid"], ["--pids"]:
            check(" ".join(args), comms(folded("-p", t.pid, "-d", "0.5", "-F", "999", *args, enough=both)), want)
        check("--by comm", comms(folded("-p", t.pid, "-d", "0.5", "-F", "999", "--by", "comm", enough=both)), {"target", "second"})
        stacks = folded("-p", t.pid, "-d", "0.5", "-F", "999", "--by", "container", enough=both)
        check("--by container", {(f[0], f[1]) for f, _ in stacks}, {("[host]", "target"), ("[host]", "second")})
        stacks = folded("-p", t.pid, "-d", "0.5", "-F", "999", "--threads", enough=both)
        # A blank before a number would end the stack.
        check("--threads", {(f[0], f[1]) for f, _ in stacks}, {("target", f"thread_{t.pid}"), ("second", f"thread_{second}")})
        stacks = folded("-p", t.pid, "-d", "0.5", "-F", "999", "--annotate", enough=both)
        kernel = {f[-1] for f, _ in stacks if f[-1].endswith("_[k]")}
        check("--annotate", (bool(kernel), any("first_work_[k]" in f for f, _ in stacks)), (True, False))
        plain = folded("-p", t.pid, "-d", "0.5", "-F", "999", enough=both)
        check("without --annotate", [f for f, _ in plain if any(x.endswith("_[k]") for x in f)], [])
        check("without --inline", through(plain, "inlined_add"), 0)
        stacks = folded("-p", t.pid, "-d", "0.5", "-F", "999", "--inline", enough=both)
        calls = {f[f.index("inlined_add") - 1] for f, _ in stacks if "inlined_add" in f}
        check("--inline", calls, {"first_work"})


def wait_for_mapping(pid, start):
    def is_there():
        with open(f"/proc/{pid}/maps") as f:
            return any(line.startswith(start) for line in f)

    check(f"mapping {start} of process {pid}", wait_for(is_there), True)


def test_maps():
    """A map that was copied out of a container, say: its process publishes none."""
    covers("map-dir")
    if os.uname().machine != "x86_64":
        return
    p = subprocess.Popen(["./target", "jit"])
    try:
        os.makedirs("maps", exist_ok=True)
        with open(f"maps/perf-{p.pid}.map", "w") as f:
            f.write("10000000 e copied name\n")
        wait_for_mapping(p.pid, "10000000-")
        for args, leaf in ([], "[jit]"), (["--map-dir", "maps"], "copied name"):
            stacks = folded("-p", str(p.pid), "-d", "0.5", "-F", "999", "-U", *args, enough=lambda s: total(s) > 20)
            # Who calls it may be seen when its page has to be read anew.
            leaves = {frames[-1] for frames, _ in stacks} - {"main"}
            of_leaf = sum(count for frames, count in stacks if frames[-1] == leaf)
            check(f"leaf with {args}", (leaves, of_leaf > max(5, total(stacks) * 0.9)), ({leaf}, True))
    finally:
        p.kill()
        p.wait()


def test_wrong_usage():
    for args in [["-p", "x"], ["-t", "0"], ["-a", "-d", "x"], ["-a", "-d", "-1"], ["-a", "-F", "0"], ["-a", "-F", "x"],
                 ["-a", "-C", "x"], ["-a", "-c", "x"], ["-a", "-F", "5", "-c", "5"], ["-a", "--by", "colour"],
                 ["-a", "--unwinder", "gdb"], ["-a", "-o", "x", "-f", "no-such-format"], ["-a", "-o", "x.unknown"],
                 ["-a", "--stack-bytes", "x"], ["-a", "--ring-bytes", "x"], ["-u", "no-such-user-here"], ["-a", "-t", "1"],
                 ["--no-such-option"], [], ["-a", "-K", "-U"]]:
        status, out, said = record(*args)
        check(f"{args}: usage", (status, out, said.count("ringfold: error: ")), (2, "", 1))
    for args in [["-a", "-C", "4095"], ["-a", "-e", "no-such-event"], ["-a", "-e", "no:such_tracepoint"]]:
        status, out, said = record(*args)
        check(f"{args}: refused", (status in (1, 2), out, said.count("ringfold: error: ")), (True, "", 1))


def names_known(text):
    return sum(count for frames, count in parse(text) if not frames[-1].startswith("["))


def priority(pid):
    with open(f"/proc/{pid}/stat") as f:
        return int(f.read().rpartition(")")[2].split()[16])


def test_two_interrupts():
    """The second Ctrl-C skips naming, wherever it comes; what is written is whole."""
    with Target(): # an idle machine has nothing to name
        interrupt_twice()


def interrupt_twice():
    skipped = False
    for i, moment in enumerate(["at once", *["when naming begins"] * 14]):
        if skipped and i > 2: # names may be found before the second one is there
            break
        p = subprocess.Popen([RINGFOLD, "record", "--no-dotnet", "-a", "-F", "499", "-o", "r.folded", "--stats", "r.json"],
                             stderr=subprocess.PIPE, text=True)
        while "Ctrl-C stops" not in (line := p.stderr.readline()) and line:
            pass
        time.sleep(0.5)
        during = priority(p.pid)
        p.send_signal(signal.SIGINT)
        while moment != "at once" and p.poll() is None and priority(p.pid) == during:
            pass # it is raised while recording alone
        p.send_signal(signal.SIGINT)
        said = p.communicate(timeout=240)[1]
        check(f"Ctrl-C twice, {moment}", (p.returncode, "error" in said), (0, False))
        with open("r.folded") as f:
            text = f.read()
        check("Ctrl-C twice: all samples", total(parse(text)), stats()["samples"] - stats()["idle"])
        skipped |= names_known(text) < total(parse(text)) / 2
    check("Ctrl-C twice: names skipped", skipped, True)


def be_nobody():
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)


def test_plain_user():
    """Their own process, as far as perf_event_paranoid goes; and a sentence where it does not."""
    with open(PARANOID) as f:
        before = f.read()
    copy = os.path.join(os.getcwd(), "ringfold")
    subprocess.run(["cp", RINGFOLD, copy], check=True)
    for path, mode in (copy, 0o755), (".", 0o777), ("target", 0o755):
        os.chmod(path, mode)
    t = subprocess.Popen(["./target"], preexec_fn=be_nobody)
    wait_for(lambda: len(os.listdir(f"/proc/{t.pid}/task")) == 2 and any(comm(t.pid, tid) == "second" for tid in
                                                                      os.listdir(f"/proc/{t.pid}/task")))

    def as_nobody(*args):
        p = subprocess.run([copy, "record", *args], preexec_fn=be_nobody, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                           text=True)
        return p.returncode, p.stdout, p.stderr

    try:
        for level in 2, 1, 0, -1:
            with open(PARANOID, "w") as f:
                f.write(f"{level}\n")
            for seconds in "0.5", "3", "10": # as folded() does
                own = as_nobody("-o", "-", "--annotate", "-p", str(t.pid), "-d", seconds, "-F", "999")
                if own[0] or (through(parse(own[1]), "first_work") > 5 and (level == 2 or both(parse(own[1])))):
                    break
            foreign = as_nobody("-o", "-", "-p", str(os.getpid()), "-d", "0.1")
            everything = as_nobody("-o", "n.folded", "-a", "-d", "0.1")
            with open(PARANOID, "w") as f:
                f.write(before)
            what = f"plain user, perf_event_paranoid {level}"
            check(f"{what}: own process", own[0], 0)
            stacks = parse(own[1])
            check(f"{what}: its work", through(stacks, "first_work") > 5, True)
            # The second thread is in the kernel nearly always, which no sample shows at level 2.
            check(f"{what}: its threads", comms(stacks) - {"second"} if level == 2 else comms(stacks),
                  {"target"} if level == 2 else {"target", "second"})
            kernel = any(frame.endswith("_[k]") for frames, _ in stacks for frame in frames)
            check(f"{what}: kernel frames", kernel, level < 2)
            check(f"{what}: says what is missing", "perf_event_paranoid is 2" in own[2], level == 2)
            check(f"{what}: another's process", (foreign[0], "another user" in foreign[2]), (4, True))
            if level > 0:
                check(f"{what}: -a", (everything[0], f"perf_event_paranoid is {level}" in everything[2],
                                      "CAP_PERFMON" in everything[2]), (4, True, True))
            else:
                check(f"{what}: -a", everything[0], 0)
        status, out, said = as_nobody("-o", "-", "-F", "999", "--", "./target", "1")
        check("plain user: a command", (status, through(parse(out), "first_work") > 5), (142, True))
        status, out, said = as_nobody("-o", "/etc/no.folded", "--", "true")
        check("plain user: an output that is not theirs", (status in (1, 4), "/etc/no.folded" in said), (True, True))
    finally:
        with open(PARANOID, "w") as f:
            f.write(before)
        t.kill()
        t.wait()


def main():
    if os.geteuid():
        skip("needs root")
    os.nice(-10) # half a second is to be enough on a machine with much else to do
    with tempfile.TemporaryDirectory() as where:
        os.chdir(where)
        with open("target.c", "w") as f:
            f.write(TARGET)
        subprocess.run(["cc", "-O2", "-g", "-w", "-pthread", "-o", "target", "target.c"], check=True)
        subprocess.run(["cp", "target", "other"], check=True)
        only = sys.argv[2:]
        for name, test in list(globals().items()):
            if name.startswith("test_") and (not only or name in only):
                start = time.monotonic()
                test()
                print(f"{name}: {time.monotonic() - start:.1f} s", flush=True)
        options = set(re.findall(r"^ .*--([a-z-]+)", record("--help")[1], re.M))
        if not only:
            check("options without a test", sorted(options - set(tested)), [])
        os.chdir("/")
    report_and_exit()


main()
