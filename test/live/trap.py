#!/usr/bin/env python3
"""usage: trap.py RINGFOLD
`ringfold trap`: a spike and a starvation are caught with the seconds before them, captures stay within their number and quota, the
hook gets the files, and killing the trap loses no finished capture.
"""
import glob
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time

from checks import check, report_and_exit, skip

RINGFOLD = os.path.abspath(sys.argv[1])


class Worker:
    """Works and rests in functions named after that, as its stdin says."""
    CODE = ("import select, sys, time\n"
            "print(flush=True)\n"
            "def works():\n"
            "    while not select.select([sys.stdin], [], [], 0)[0]:\n"
            "        for i in range(20000): pass\n"
            "def rests():\n"
            "    select.select([sys.stdin], [], [])\n"
            "while True:\n"
            "    rests(); sys.stdin.readline(); works(); sys.stdin.readline()\n")

    def __init__(self, name):
        self.p = subprocess.Popen([sys.executable, "-S", "-u", "-c", f"open('/proc/self/comm', 'w').write({name!r})\n"
                                   + self.CODE], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.pid = self.p.pid
        self.p.stdout.readline() # it rests

    def turn(self):
        self.p.stdin.write(b"\n")
        self.p.stdin.flush()

    def end(self):
        self.p.kill()
        self.p.wait()


class Trap:
    """What it says goes into a file, so that all of it is there whenever something fails."""
    def __init__(self, *args):
        self.err = tempfile.NamedTemporaryFile("w+", prefix="said-", dir=".")
        self.p = subprocess.Popen([RINGFOLD, "trap", *args], stdout=subprocess.DEVNULL, stderr=self.err, text=True,
                                  start_new_session=True)
        wait_for(lambda: " at " in self.said or self.p.poll() is not None)

    @property
    def said(self):
        with open(self.err.name) as f:
            return f.read()

    def caught(self, what, event):
        """Waits for it; what the trap said comes first where that fails."""
        ok = wait_for(event)
        if not ok:
            print(f"{what}: status {self.p.poll()}, it said:\n{self.said}", flush=True)
        check(what, ok, True)

    def end(self, how=signal.SIGINT):
        if how and self.p.poll() is None:
            self.p.send_signal(how)
        if self.p.wait(timeout=120) > 0:
            print(f"status {self.p.returncode}, it said:\n{self.said}", flush=True)
        return self.p.returncode


def captures(ext="folded"):
    return sorted(glob.glob(f"cap-*.{ext}"))


def wait_for(what, seconds=60):
    end = time.time() + seconds
    while time.time() < end:
        if what():
            return True
        time.sleep(0.1)
    return False


def clean():
    for name in glob.glob("cap*"):
        os.unlink(name)


def stats(name):
    with open(name) as f:
        s = json.load(f)
    check(f"{name}: identity", s["samples"], s["idle"] + s["kernel_only"] + s["complete"] + s["truncated"]
          + sum(s["broken"].values()))
    return s


def times(name, comm):
    with open(name) as f:
        return [float(m.group(1)) for m in re.finditer(rf"^{comm} .*? +([0-9.]+): ", f.read(), re.M)]


def test_spike():
    """5 s before it, 2 s after; the worker ran only in the spike, another one all the time."""
    clean()
    worker, other = Worker("spiky"), Worker("steady")
    other.turn()
    t = Trap("--when", f"cpu(pid={worker.pid})>3%/1s", "--before", "5", "-d", "2", "--max", "1", "-F", "49", "-o", "cap.folded",
             "-o", "cap.data.txt", "--stats", "cap.json", "--exec", "printf '%s\\n' \"$@\" > hooked; echo \"$RINGFOLD_FILES\" >> hooked")
    started = time.clock_gettime(time.CLOCK_MONOTONIC)
    time.sleep(6)
    began = time.clock_gettime(time.CLOCK_MONOTONIC)
    worker.turn()
    check("spike: caught", wait_for(lambda: t.p.poll() is not None), True)
    lived = time.clock_gettime(time.CLOCK_MONOTONIC) - started
    check("spike: status", t.end(), 0)
    for w in worker, other:
        w.end()
    names = [*captures(), *captures("data.txt"), *captures("json")]
    check("spike: files", len(names), 3)
    s = stats(captures("json")[0])
    # On a crowded machine it takes longer than it was told, but the first second is never in it.
    check("spike: length", (s["wall_s"] > 6.8, s["wall_s"] < lived - 0.8), (True, True))
    spiky, steady = times(captures("data.txt")[0], "spiky"), times(captures("data.txt")[0], "steady")
    check("spike: samples", s["samples"] > 0 and len(spiky) > 3, True)
    check("spike: none before it began", min(spiky) > began - 0.2, True)
    check("spike: the seconds before", began - min(steady) > 2.5, True)
    with open("hooked") as f:
        lines = f.read().split("\n")
    check("hook", (sorted(x for x in lines[:3]), sorted(x for x in lines[3:] if x)), (sorted(names), sorted(names)))


def test_starvation():
    clean()
    worker = Worker("starved")
    worker.turn()
    t = Trap("-p", str(worker.pid), "--when", f"cpu(pid={worker.pid})<1%/2s", "--before", "8", "-d", "1", "--max", "1",
             "-o", "cap.folded", "--stats", "cap.json")
    time.sleep(6)
    check("starvation: not yet", captures(), [])
    worker.turn()
    check("starvation: caught", wait_for(lambda: t.p.poll() is not None), True)
    check("starvation: status", t.end(), 0)
    worker.end()
    with open(captures()[0]) as f:
        check("starvation: what it did before", "starved" in f.read(), True)
    check("starvation: samples", stats(captures("json")[0])["samples"] > 10, True)


def test_again_and_again():
    """Pulses: a capture each, cooldown and quota hold, and SIGKILL loses none that is finished."""
    clean()
    worker = Worker("pulsing")
    t = Trap("--when", f"cpu(pid={worker.pid})>2%/500ms", "--before", "1", "-d", "500ms", "--cooldown", "1", "-o", "cap.folded",
             "--quota", "1G")
    started = time.monotonic()
    for _ in range(3):
        num = len(captures())
        worker.turn()
        check("pulse: caught", wait_for(lambda: len(captures()) > num), True)
        worker.turn()
        time.sleep(2.5)
    before = captures()
    # Half a second each and one of rest between them; where writing takes long, a pulse does too and has several.
    check("pulses", 3 <= len(before) <= max(4, (time.monotonic() - started) / 1.5 + 1), True)
    os.killpg(t.p.pid, signal.SIGKILL)
    t.end(None)
    check("killed: none is gone", [name for name in before if name not in captures()], [])
    before = captures()
    for name in before:
        with open(name) as f:
            check(f"{name}: whole", all(line.rpartition(" ")[2].strip().isdigit() for line in f), True)
    # A new one counts what is there, and removes the oldest.
    room = sum(os.path.getsize(name) for name in before) + 10
    t = Trap("--when", f"cpu(pid={worker.pid})>2%/500ms", "--before", "1", "-d", "500ms", "--cooldown", "1", "-o", "cap.folded",
             "--quota", str(room))
    worker.turn()
    check("quota: removed", wait_for(lambda: not os.path.exists(before[0])), True)
    check("quota: status", t.end(), 0)
    worker.end()
    check("quota", sum(os.path.getsize(name) for name in captures()) <= room, True)
    check("quota: the newest is there", captures()[-1:] > before[-1:], True)
    check("quota: said", "to stay below the quota" in t.said, True)


def test_renewed():
    """Sessions take turns; a capture over such a turn has both sides of it, named, and memory does not grow with turns."""
    clean()
    worker = Worker("turning")
    worker.turn()
    t = Trap("-v", "--renew", "1", "--when", f"cpu(pid={worker.pid})<1%/1s", "--before", "3", "-d", "500ms", "--max", "1", "-F", "199",
             "-o", "cap.folded", "-o", "cap.data.txt", "--stats", "cap.json")
    time.sleep(13)
    stopped = time.clock_gettime(time.CLOCK_MONOTONIC)
    worker.turn()
    check("renewed: caught", wait_for(lambda: t.p.poll() is not None), True)
    check("renewed: status", t.end(), 0)
    worker.end()
    turns = re.search(r"(\d+) times a new session took over", t.said)
    check("renewed: turns", turns and int(turns[1]) >= 2, True)
    seen = [x for x in times(captures("data.txt")[0], "turning") if x < stopped]
    check("renewed: before the turn and after", len(seen) > 10 and max(b - a for a, b in zip(seen, seen[1:])) < 2, True)
    with open(captures()[0]) as f:
        stacks = [line for line in f if line.startswith("turning;")]
    check("renewed: named", all("[python" in s or "Py" in s or "[truncated]" in s for s in stacks) and len(stacks) > 3, True)
    stats(captures("json")[0])


def test_events():
    clean()
    p = subprocess.Popen(["sleep", "600"])
    t = Trap("--when", f"exit(pid={p.pid})", "--when", "start(comm=sleeper)", "--any", "--before", "1", "-d", "200ms", "--cooldown",
             "0", "-o", "cap.folded")
    time.sleep(1)
    p.kill()
    p.wait()
    t.caught("exit", lambda: len(captures()) == 1)
    os.symlink("/bin/sleep", "sleeper") if not os.path.lexists("sleeper") else None
    p = subprocess.Popen([os.path.abspath("sleeper"), "600"])
    t.caught("start", lambda: len(captures()) == 2)
    p.kill()
    p.wait()
    t.p.send_signal(signal.SIGUSR1)
    t.caught("SIGUSR1", lambda: len(captures()) == 3)
    check("events: status", t.end(), 0)


def test_nothing_ran():
    """What is kept of the time before is nothing, and stays so for longer than is kept."""
    clean()
    idle = subprocess.Popen(["sleep", "100"])
    t = Trap("-p", str(idle.pid), "--when", "runq>1000/1s", "--before", "500ms", "-d", "100ms", "--cooldown", "0", "-o", "cap.folded",
             "-o", "cap.html", "--stats", "cap.json")
    time.sleep(4)
    t.p.send_signal(signal.SIGUSR1)
    check("nothing ran: a capture", wait_for(lambda: len(captures("json")) == 1), True)
    check("nothing ran: status", t.end(), 0)
    idle.kill()
    idle.wait()
    check("nothing ran: samples", stats(captures("json")[0])["samples"], 0)


def test_end_of_target():
    """That what is recorded ends is seen, though nothing is left to record then; also before its parent has asked."""
    for reaped, rule in (True, "exit(pid={})"), (False, "exit(pid={})"), (False, "exit(comm=ending)"):
        clean()
        worker = Worker("ending")
        worker.turn()
        t = Trap("-p", str(worker.pid), "--when", rule.format(worker.pid), "--before", "5", "-d", "30", "-o", "cap.folded")
        time.sleep(1.5)
        worker.p.kill()
        if reaped:
            worker.p.wait()
        t.caught(f"{rule}: its end", lambda: t.p.poll() is not None)
        worker.end()
        check(f"{rule}: status", (t.end(), len(captures())), (0, 1))
        with open(captures()[0]) as f:
            check(f"{rule}: what it did before", "ending;" in f.read(), True)
    # One that ends and is not waited for: no capture, and it is said.
    clean()
    worker = Worker("ending")
    t = Trap("-p", str(worker.pid), "--when", "cpu>101%/1s", "-o", "cap.folded")
    worker.end()
    t.caught("an end that is not waited for", lambda: t.p.poll() is not None)
    check("no capture", (t.end(), captures(), "what was recorded has ended" in t.said), (0, [], True))


def test_hand_lost():
    """Where the process that measures is killed, the trap says so and fails; what it had to write is written."""
    clean()
    t = Trap("--when", "cpu>101%/1s", "--before", "1", "-d", "60", "-o", "cap.folded")
    t.p.send_signal(signal.SIGUSR1)
    t.caught("no hand: a capture begins", lambda: "a capture of the" in t.said)
    with open(f"/proc/{t.p.pid}/task/{t.p.pid}/children") as f:
        hand = int(f.read().split()[0])  # the first it forked
    os.kill(hand, signal.SIGKILL)
    t.caught("no hand: it ends", lambda: t.p.poll() is not None)
    check("no hand", (t.p.wait(), len(captures())), (1, 1))
    check("no hand: said", "measures what is waited for was ended by signal 9" in t.said, True)


def test_status():
    clean()
    t = Trap("--when", "status(test ! -e bad)!=0/300ms", "--before", "1", "-d", "200ms", "--max", "1", "-o", "cap.folded")
    time.sleep(1.5)
    check("status: not yet", captures(), [])
    open("bad", "w").close()
    check("status: caught", wait_for(lambda: t.p.poll() is not None), True)
    check("status: status", (t.end(), len(captures())), (0, 1))
    os.unlink("bad")


def running(seconds):
    """Pids of those who sleep that long."""
    found = []
    for name in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            with open(name, "rb") as f:
                if f.read() == b"sleep\0" + seconds.encode() + b"\0":
                    found.append(int(name.split("/")[2]))
        except OSError:
            pass
    return found


def test_commands_end():
    """What hooks and status() start can be ended as anywhere else, and none of it outlives the trap."""
    clean()
    t = Trap("--when", "status(timeout 1 sleep 97531)==124/300ms", "--before", "100ms", "-d", "100ms", "--max", "1", "-o", "cap.folded",
             "--exec", "grep SigIgn /proc/self/status > ignored")
    t.caught("a status that timeout ended", lambda: t.p.poll() is not None)
    check("commands: status", (t.end(), len(captures())), (0, 1))
    with open("ignored") as f:
        check("commands: no signal is ignored", int(f.read().split()[1], 16) & (1 << 0 | 1 << 1 | 1 << 12 | 1 << 14), 0)
    clean()
    t = Trap("--when", "status(sleep 97532)==7/300ms", "-o", "cap.folded")
    t.caught("a status that hangs", lambda: running("97532"))
    check("commands: stopped", t.end(), 0)
    check("commands: nothing left", running("97532"), [])
    # A hook that hangs is told of, and a second Ctrl-C ends it.
    clean()
    t = Trap("--when", "runq>=0/100ms", "--before", "100ms", "-d", "100ms", "--max", "1", "-o", "cap.folded", "--exec",
             "sleep 97533")
    t.caught("a hook that hangs", lambda: "waiting for what --exec started" in t.said)
    check("hook: stopped", t.end(), 0)
    check("hook: nothing left", (running("97533"), len(captures())), ([], 1))


def test_gone():
    """What held when its process ended does not hold for ever, and a trap that can never be sprung ends."""
    clean()
    worker = Worker("going")
    worker.turn()
    t = Trap("--when", f"cpu(pid={worker.pid})>1%/300ms", "--when", "status(test ! -e bad)!=0/300ms", "-o", "cap.folded")
    time.sleep(1)
    worker.end()
    t.caught("gone: it ends", lambda: t.p.poll() is not None)
    check("gone", (t.end(), captures()), (0, []))
    check("gone: said", ("is not there any more" in t.said, "cannot happen any more" in t.said), (True, True))


def test_not_written():
    """One of two outputs cannot be written: the other one stays, no hook is run, and the status tells."""
    clean()
    os.makedirs("small", exist_ok=True)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "none", "small"]).returncode:
        return
    worker = Worker("written")  # a capture of an idle machine takes no room
    worker.turn()
    try:
        t = Trap("--when", "runq>1000000", "--before", "500ms", "-d", "500ms", "--cooldown", "0", "-o", "cap.folded", "-o",
                 "small/cap.html", "--exec", "touch hooked-for-nothing")
        t.p.send_signal(signal.SIGUSR1)
        t.caught("not written", lambda: "No space left on device" in t.said)
        check("not written: status", (t.end(), len(captures()), os.path.exists("hooked-for-nothing")), (1, 1, False))
        check("not written: said", "1 capture could not be written" in t.said, True)
    finally:
        worker.end()
        subprocess.run(["umount", "small"])


def test_too_large():
    """A capture that the quota has no room for is not written, and what is there stays."""
    clean()
    old = "cap-20260101-000000.folded"
    with open(old, "w") as f:
        f.write("x")
    t = Trap("--when", "runq>1000000", "--before", "500ms", "-d", "500ms", "--cooldown", "0", "-o", "cap.folded",
             "--stats", "cap.json", "--quota", "20")
    t.p.send_signal(signal.SIGUSR1)
    t.caught("too large", lambda: "bytes is more than the quota" in t.said)
    check("too large: status", (t.end(), captures(), glob.glob("cap*.json")), (1, [old], []))


def test_same_names():
    """Two traps with the same outputs, whose captures are of the same second: each has its own, and both files of one have one name."""
    clean()
    args = ["--when", "runq>1000000", "--before", "500ms", "-d", "500ms", "--cooldown", "0", "-o", "cap.folded", "--stats", "cap.json",
            "--max", "3"]
    traps = [Trap(*args), Trap(*args)]
    while any(t.p.poll() is None for t in traps):
        for t in traps:
            if t.p.poll() is None:
                t.p.send_signal(signal.SIGUSR1)
        time.sleep(0.2)
    check("same names: status", [t.end(None) for t in traps], [0, 0])
    check("same names", len(captures()), 6)
    check("same names: pairs", sorted(n[:-7] for n in captures()), sorted(n[:-5] for n in glob.glob("cap*.json")))


def test_usage():
    for what, args in ("no rule", []), ("a bad rule", ["--when", "cpu>80"]), ("stdout", ["--when", "cpu>80%", "-o", "-"]), \
            ("a command", ["--when", "cpu>80%", "--", "true"]):
        r = subprocess.run([RINGFOLD, "trap", *args], capture_output=True, text=True, timeout=60)
        check(what, (r.returncode, r.stderr.count("error: ")), (2, 1))
    r = subprocess.run([RINGFOLD, "trap", "--when", "cpu(pid=4500000)>80%"], capture_output=True, text=True, timeout=60)
    check("no such process", (r.returncode, "no such process: 4500000" in r.stderr), (1, True))
    r = subprocess.run([RINGFOLD, "trap", "--when", "cpu(container=nosuch)>80%"], capture_output=True, text=True, timeout=60)
    check("no such container", (r.returncode, "nosuch" in r.stderr), (1, True))


def main():
    if os.geteuid():
        skip("needs root")
    with tempfile.TemporaryDirectory() as where:
        os.chdir(where)
        for name, test in list(globals().items()):
            if name.startswith("test_"):
                start = time.time()
                test()
                print(f"{name}: {time.time() - start:.1f} s", flush=True)
        os.chdir("/")
    report_and_exit()


main()
