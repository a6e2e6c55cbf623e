#!/usr/bin/env python3
"""usage: cli.py RINGFOLD
What `ringfold record` promises at its door: exit statuses, signals, where output goes, and whose samples are in it.
"""
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from checks import check, comm, report_and_exit, skip, wait_for

RINGFOLD = os.path.abspath(sys.argv[1])
SPIN = "while True: pass"


def run(*args, **more):
    """(exit status, stderr) of a record that ends by itself."""
    p = subprocess.run([RINGFOLD, "record", *args], stdout=more.pop("stdout", subprocess.DEVNULL),
                       stderr=subprocess.PIPE, text=True, timeout=240, **more)
    return p.returncode, p.stderr


class Recording:
    """One that runs until it is told to stop; ready once it said what it records."""

    def __init__(self, *args, **more):
        self.p = subprocess.Popen([RINGFOLD, "record", "-o", "r.folded", "--stats", "r.json", *args],
                                  stderr=subprocess.PIPE, text=True, **more)
        self.said = ""
        while "Ctrl-C stops" not in self.said: # before it there may be words about runtimes
            line = self.p.stderr.readline()
            self.said += line
            if not line:
                break

    def end(self):
        try:
            self.said += self.p.communicate(timeout=240)[1]
        except subprocess.TimeoutExpired:
            self.p.kill()
            raise
        return self.p.returncode

    def running(self):
        time.sleep(0.3)
        return self.p.poll() is None


def stacks():
    with open("r.folded") as f:
        return {line.rpartition(" ")[0]: int(line.rpartition(" ")[2]) for line in f}


def comms():
    return {stack.partition(";")[0] for stack in stacks()}


def stats():
    with open("r.json") as f:
        s = json.load(f)
    check("identity", s["samples"], s["idle"] + s["kernel_only"] + s["complete"] + s["truncated"]
          + sum(s["broken"].values()))
    return s


def spinner(name, **more):
    """A process of that name which burns CPU."""
    code = f"open('/proc/self/comm', 'w').write({name!r})\n{more.pop('code', SPIN)}"
    p = subprocess.Popen([sys.executable, "-S", "-c", code], **more)
    wait_for(lambda: comm(p.pid) == name or p.poll() is not None)
    return p


def end(p):
    p.kill()
    p.wait()


def test_statuses():
    os.makedirs("directory.folded", exist_ok=True)
    open("plain", "w").close()
    short = ["-q", "-o", "o.folded"]
    for want, args in [
            (7, [*short, "--", "sh", "-c", "exit 7"]),
            (137, [*short, "--", "sh", "-c", "kill -9 $$"]),
            (127, [*short, "--", "./is-not-there"]),
            (126, [*short, "--", "./plain"]),
            (126, [*short, "--", "/"]),
            (0, [*short, "-d", "0.3", "--", "sleep", "60"]),
            (1, [*short, "-p", "4500000"]),
            (2, ["-q", "-p", "one"]),
            (2, ["-q", "-a", "-p", "1"]),
            (3, [*short, "-d", "0.2", "-p", str(os.getpid())]),
            (0, ["-q", "-o", "/dev/null", "-f", "collapsed", "--", "true"]),
            (1, ["-q", "-o", "/dev/full", "-f", "collapsed", "--", sys.executable, "-c", "sum(range(9000000))"])]:
        status, said = run(*args)
        check(" ".join(args), status, want)
        # Even -q leaves a failure of our own its sentence; a command's own is its own.
        if want in (1, 2, 126, 127):
            check(f"{' '.join(args)}: a sentence", said.count("ringfold: error: "), 1)


def test_before_the_work():
    """Outputs that cannot be written are told before the command ran."""
    os.symlink("nothing-there", "dangling.folded")
    for args in ["-o", "directory.folded"], ["-o", "none/o.folded"], ["-o", "o.folded", "--stats", "none/s.json"], \
                ["-o", "o.folded", "--stats", "directory.folded"], ["-o", "dangling.folded"]:
        status, _ = run("-q", *args, "--", "touch", "ran")
        check(f"{args}: status", status, 1)
        check(f"{args}: ran", os.path.exists("ran"), False)
        os.path.exists("ran") and os.unlink("ran")


def test_closed_descriptors():
    def close_some(*fds):
        return lambda: [os.close(fd) for fd in fds]

    loop = ["--", sys.executable, "-c", "sum(range(9000000))"]
    p = subprocess.run([RINGFOLD, "record", "-q", *loop], stderr=subprocess.PIPE, text=True,
                       preexec_fn=close_some(0, 1))
    check("closed stdout", (p.returncode, "standard output" in p.stderr), (1, True))
    p = subprocess.run([RINGFOLD, "record", "-o", "c.folded", *loop], stdout=subprocess.PIPE,
                       preexec_fn=close_some(0, 2))
    check("closed stderr", (p.returncode, p.stdout), (0, b""))
    with open("c.folded") as f:
        check("closed stderr: lines", [line for line in f if not line.rpartition(" ")[2].strip().isdigit()], [])


def test_signals():
    for what, stop in ("SIGINT", signal.SIGINT), ("SIGTERM", signal.SIGTERM), ("SIGHUP", signal.SIGHUP):
        r = Recording("-a")
        r.running()
        r.p.send_signal(stop)
        check(what, r.end(), 0)
        check(f"{what}: samples", stats()["samples"] > 0, True)
    # As nohup starts it.
    r = Recording("-a", preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    r.p.send_signal(signal.SIGHUP)
    check("nohup", r.running(), True)
    r.p.send_signal(signal.SIGINT)
    check("nohup and Ctrl-C", r.end(), 0)
    # Ctrl-C at us alone: the command is ended, and that was wished.
    r = Recording("--", "sleep", "60")
    r.running()
    r.p.send_signal(signal.SIGINT)
    check("SIGINT with a command", r.end(), 0)
    # Its status is passed through wherever we were started.
    r = Recording("--", "sh", "-c", "exit 5", preexec_fn=lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN))
    check("SIGCHLD ignored", r.end(), 5)


def test_write_now():
    p = spinner("busy")
    r = Recording("-a")
    os.path.exists("r.folded") and os.unlink("r.folded")
    r.running()
    r.p.send_signal(signal.SIGUSR1)
    check("SIGUSR1: written", wait_for(lambda: os.path.exists("r.folded")), True)
    check("SIGUSR1: goes on", r.running(), True)
    before = sum(stacks().values())
    r.running()
    r.p.send_signal(signal.SIGINT)
    check("SIGUSR1 and Ctrl-C", r.end(), 0)
    check("more after than before", sum(stacks().values()) > before, True)
    end(p)


def test_exec():
    """What ran before an exec has the name and the maps of then, though they are gone when its samples are read."""
    code = ("import os, sys, time; sys.stdin.read(1); end = time.process_time() + 0.06\n"
            "while time.process_time() < end: pass\n"
            "os.execv('/bin/sh', ['sh', '-c', 'i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done'])")
    p = spinner("before", code=code, stdin=subprocess.PIPE)
    r = Recording("-F", "999", "-p", str(p.pid))
    p.stdin.write(b"x")
    p.stdin.close()
    p.wait()
    check("exec", r.end(), 0)
    check("exec: names", comms(), {"before", "sh"})
    check("exec: unknown frames", stats()["unknown_frames"], 0)


def test_hole():
    """Pages of the stack that were never touched end the kernel's copy: they are touched for it, and then copies are whole."""
    with open("hole.c", "w") as f:
        f.write("#include <time.h>\n"
                "volatile unsigned long sum;\n"
                "__attribute__((noinline)) void burn(char *end)\n"
                "{ clock_t t = clock(); while (clock() - t < CLOCKS_PER_SEC) for (int i = 0; i < 9999; i++) sum += *end; }\n"
                "int main(void) { char large[40000]; burn(large); return large[39999]; }\n")
    if subprocess.run(["cc", "-O1", "-fno-stack-clash-protection", "-w", "-o", "hole", "hole.c"]).returncode:
        return
    status, _ = run("-q", "-F", "499", "-o", "r.folded", "--stats", "r.json", "--", "./hole")
    s = stats()
    check("hole: broken", s["broken"], {})
    check("hole: truncated", 0 < s["truncated"] < s["complete"], True)


# A little more than recording takes, which grows with the number of CPUs.
FEW = 56 + 2 * os.cpu_count()


def few_descriptors():
    resource.setrlimit(resource.RLIMIT_NOFILE, (FEW, FEW))


def test_filtered():
    """With too few descriptors for its threads every process is recorded, and the target picked out all the same."""
    target, other = spinner("wanted"), spinner("unwanted")
    for option in "-p", "-t":
        r = Recording(option, str(target.pid), "-d", "1", preexec_fn=few_descriptors)
        check(f"filtered {option}", r.end(), 0)
        check(f"filtered {option}: said", "ulimit -n" in r.said, True)
        check(f"filtered {option}: names", comms(), {"wanted"})
        check(f"filtered {option}: its files are opened", stats()["broken"].get("no_file", 0), 0)
    end(target)
    end(other)


def test_set_user_id():
    """A plain user may not count such a program, which runs to its end all the same."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as where: # /tmp may be mounted nosuid
        os.chmod(where, 0o755)
        for name, of, mode in ("ringfold", RINGFOLD, 0o755), ("sh", "/bin/dash", 0o4755):
            shutil.copy(of, f"{where}/{name}")
            os.chmod(f"{where}/{name}", mode)

        def be_nobody():
            os.setgid(65534)
            os.setuid(65534)

        p = subprocess.run([f"{where}/ringfold", "record", "-o", "/dev/null", "-f", "collapsed", "--", f"{where}/sh", "-c",
                            "sleep 4; exit 7"], preexec_fn=be_nobody, stderr=subprocess.PIPE, text=True, timeout=240)
        if "error:" in p.stderr and "perf_event_paranoid" in p.stderr:
            return # Debian's default of 3 is told by test_plain_user
        check("set-user-ID: status", p.returncode, 7)
        if os.statvfs(where).f_flag & os.ST_NOSUID or "NoNewPrivs:\t1" in open("/proc/self/status").read():
            return
        check("set-user-ID: said", "set-user-ID" in p.stderr, True)


def test_pid_namespace():
    """The kernel gives processes that our namespace does not have the number of the idle task, which they are not."""
    target = spinner("outside")
    p = subprocess.run(["unshare", "-p", "-f", "--mount-proc", RINGFOLD, "record", "-a", "-d", "0.5", "-F", "999", "-o", "r.folded",
                        "--stats", "r.json"], stderr=subprocess.PIPE, text=True, timeout=240)
    end(target)
    check("pid namespace", (p.returncode, "pid namespace" in p.stderr), (0, True))
    elsewhere = sum(count for stack, count in stacks().items() if stack.startswith("[elsewhere];"))
    s = stats()
    check("pid namespace: not idle", elsewhere > 5 and s["idle"] + elsewhere <= s["samples"], True)


def test_memfd():
    """A program that was loaded from memory, as runc does, is a file like others."""
    code = ("import os\n"
            "fd = os.memfd_create('looper')\n"
            # without a build-id: NT_GNU_BUILD_ID (3) of 20 bytes becomes a note of another type
            "note = (b'\\4\\0\\0\\0\\x14\\0\\0\\0%c\\0\\0\\0GNU\\0' % type for type in (3, 99))\n"
            "os.write(fd, open('/bin/sh', 'rb').read().replace(*note))\n"
            "os.execv(f'/proc/self/fd/{fd}', ['sh', '-c', 'while :; do :; done'])\n")
    target = subprocess.Popen([sys.executable, "-S", "-c", code])
    while b"\0-c\0while" not in open(f"/proc/{target.pid}/cmdline", "rb").read():
        time.sleep(0.05)
    r = Recording("-p", str(target.pid), "-d", "0.5", "-F", "999", "-o", "m.data")
    check("memfd", r.end(), 0)
    fold = [RINGFOLD, "fold", "--stats", "m.json", "m.data"]
    with open("m.folded", "w") as f:
        subprocess.run(fold, stdout=f, stderr=subprocess.DEVNULL, check=True)
    with open("m.folded") as f, open("r.folded") as live:
        check("memfd: a fold finds it as long as it is mapped", f.read(), live.read())
    end(target)
    p = subprocess.run(fold, capture_output=True, text=True)
    with open("m.json") as f:
        check("memfd: no longer", ("[memfd:looper]" in p.stdout, json.load(f)["refused"]), (False, {}))
    check("memfd: broken", stats()["broken"], {})
    check("memfd: its own code", {"[memfd:looper]" in stack.split(";") for stack in stacks()}, {True})


def test_own_descriptors():
    """Names of descriptors are ours, not those of the process that opens files for us; a pipe of the shell's is such a name."""
    target = spinner("out")
    for how in "-o /dev/stdout > own", "-o /dev/fd/1 | cat > own", "-o >(cat > own; echo >> done)":
        for name in "own", "done":
            if os.path.exists(name):
                os.unlink(name)
        p = subprocess.run(["bash", "-c", f"exec 3<&-; {RINGFOLD} record -q -p {target.pid} -d 0.5 -F 199 -f collapsed {how}"])
        while ">(" in how and not os.path.exists("done"):
            time.sleep(0.05)
        with open("own") as f:
            check(f"{how}", (p.returncode, f.read().startswith("out;")), (0, True))
    end(target)


def test_soft_limit():
    """All files of the machine may be held open, however few most programs are allowed; the command gets what we got."""
    def few():
        resource.setrlimit(resource.RLIMIT_NOFILE, (FEW, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))

    target = spinner("wanted")
    r = Recording("-a", "-d", "0.5", preexec_fn=few)
    check("soft limit", r.end(), 0)
    check("soft limit: every file was opened", stats()["refused"].get("failed", 0), 0)
    end(target)
    check("soft limit of the command", run("-q", "--", "sh", "-c", f"test $(ulimit -Sn) = {FEW}", preexec_fn=few)[0], 0)


def test_hard_limit():
    """Where it cannot record at all it says so at once; where it can, that much will be missing."""
    for num, want in (20, (1, True)), (FEW + 20, (0, False)):
        r = Recording("-a", "-d", "0.3", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (num, num)))
        check(f"hard limit {num}", (r.end(), "recording takes" in r.said), want)
        check(f"hard limit {num}: remedy", "ulimit -n" in r.said, True)


def test_maps():
    """A directory that is not there is made, and goes again where there is nothing to copy; who has no JIT code needs nothing."""
    def maps(*args):
        p = subprocess.run([RINGFOLD, "maps", *args], capture_output=True, text=True, timeout=60)
        return p.returncode, p.stdout, p.stderr

    target = spinner("published")
    pid = str(target.pid)
    plain = subprocess.Popen(["sleep", "600"])
    status, said, _ = maps("list", "-p", str(plain.pid))
    end(plain)
    check("maps list", (status, "nothing to do" in said), (0, True))
    status, _, said = maps("export", "-p", pid, "-o", "copies")
    check("maps export: nothing", (status, "nothing to export" in said, os.path.exists("copies")), (1, True, False))
    with open(f"/tmp/perf-{pid}.map", "w") as f:
        f.write("1000 10 main\n")
    check("maps export", maps("export", "-p", pid, "-o", "copies")[:2], (0, f"copies/perf-{pid}.map\n"))
    os.unlink(f"/tmp/perf-{pid}.map")
    with open(f"copies/perf-{pid}.map") as f:
        check("maps export: the copy", f.read(), "1000 10 main\n")
    end(target)


def test_no_proc():
    r = subprocess.run(["unshare", "-m", "sh", "-c", f"umount -l /proc && {RINGFOLD} record -q -a -d 0.2 -o no.folded"],
                       capture_output=True, text=True, timeout=60)
    check("no /proc", (r.returncode, "/proc is not mounted" in r.stderr), (1, True))


def test_file_size_limit():
    """A failed write as any other, not the end by SIGXFSZ."""
    with open("old.folded", "w") as f:
        f.write("old 1\n")
    target = spinner("limited")
    status, said = run("-q", "-p", str(target.pid), "-d", "0.5", "-F", "999", "-o", "old.folded",
                       preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (8, 8)))
    end(target)
    check("file size", (status, "old.folded" in said), (1, True))
    with open("old.folded") as f:
        check("file size: the old one", f.read(), "old 1\n")


def test_user():
    """A worker that becomes another user's without an exec."""
    code = ("import os, time\n"
            "time.sleep(0.5)\n"
            "os.setuid(4321)\n"
            "while True: pass")
    master = spinner("master", code=f"import os\npid = os.fork()\nif pid:\n os.waitpid(pid, 0)\nelse:\n "
                                    + code.replace("\n", "\n "), start_new_session=True)
    r = Recording("-u", "4321", "-d", "2")
    check("-u", r.end(), 0)
    check("-u: names", comms(), {"master"})
    check("-u: samples", stats()["samples"] > 5, True)
    os.killpg(master.pid, signal.SIGKILL)
    master.wait()


def test_plain_user():
    """Devices are for everybody, whoever owns their directory."""
    copy = os.path.join(os.getcwd(), "ringfold")
    os.system(f"cp {RINGFOLD} {copy}")
    os.chmod(copy, 0o755)
    os.chmod(".", 0o777)
    with open("/proc/sys/kernel/perf_event_paranoid") as f:
        if int(f.read()) > 2:
            return

    def be_nobody():
        os.setgid(65534)
        os.setuid(65534)

    p = subprocess.run([copy, "record", "-q", "-o", "/dev/null", "-f", "collapsed", "--", "true"], preexec_fn=be_nobody,
                       stderr=subprocess.PIPE, text=True, cwd="/")
    check("a user's -o /dev/null", (p.returncode, p.stderr), (0, ""))


def without(*caps):
    """Capabilities that the program cannot have; names as setpriv(1) has them."""
    drop = ",".join(f"-{cap}" for cap in caps)
    return ["setpriv", f"--bounding-set={drop}", f"--inh-caps={drop}"]


def test_no_ptrace():
    """Root without CAP_SYS_PTRACE, as in most containers, sees what has no more capabilities than it has itself."""
    if subprocess.run(["which", "setpriv"], stdout=subprocess.DEVNULL).returncode:
        return
    drop = without("sys_ptrace")
    p = subprocess.Popen([*drop, sys.executable, "-S", "-c", SPIN])
    time.sleep(0.5)
    r = subprocess.run([*drop, RINGFOLD, "record", "-p", str(p.pid), "-d", "1", "-o", "r.folded", "--stats", "r.json"],
                       stderr=subprocess.PIPE, text=True)
    end(p)
    check("no ptrace", r.returncode, 0)
    check("no ptrace: unknown", stats()["unknown_frames"], 0)
    check("no ptrace: said", "may not be looked into" in r.stderr, False)


def test_full_disk():
    """What was there before stays."""
    os.mkdir("small")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8k", "tmpfs", "small"]).returncode:
        return
    try:
        with open("small/old.folded", "w") as f:
            f.write("old 1\n")
        p = spinner("full")
        status, said = run("-q", "-a", "-K", "--by", "pid", "-d", "0.5", "-o", "small/old.folded",
                           "-o", "r.folded", "--threads", "--include-idle", "-F", "999")
        end(p)
        if os.path.getsize("r.folded") > 8192:
            check("full disk", (status, "small/old.folded" in said), (1, True))
            with open("small/old.folded") as f:
                check("full disk: the old one", f.read(), "old 1\n")
            check("full disk: what else is there", os.listdir("small"), ["old.folded"])
    finally:
        subprocess.run(["umount", "small"], check=True)


def main():
    if os.geteuid():
        skip("needs root")
    signal.signal(signal.SIGHUP, signal.SIG_DFL) # nohup may have started us
    with tempfile.TemporaryDirectory() as where:
        os.chdir(where)
        for name, test in list(globals().items()):
            if name.startswith("test_"):
                test()
        os.chdir("/")
    report_and_exit()


main()
