#!/usr/bin/env python3
"""usage: ssh.py SOURCE STATIC_BUILD
scripts/ssh-profile against an sshd on loopback: what comes back, Ctrl-C across the link, a link that breaks, and that nothing is
left; also into a root that has busybox alone, no C library and no bash.
"""
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

from checks import check, failures, report_and_exit, skip

SOURCE, BUILD = (os.path.abspath(p) for p in sys.argv[1:3])
STATIC, SCRIPT = os.path.join(BUILD, "app/ringfold"), os.path.join(SOURCE, "scripts/ssh-profile")
APPLETS = ["sh", "head", "mktemp", "chmod", "rm", "rmdir", "tar", "sleep", "true", "cat"]


def free_port():
    with contextlib.closing(socket.socket()) as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    """An sshd of our own; with `root` every login is in there."""

    def __init__(self, where, name, root=None):
        self.port = free_port()
        conf = os.path.join(where, f"{name}.conf")
        with open(conf, "w") as f:
            f.write(f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {where}/host\nStrictModes no\nUsePAM no\n"
                    f"AuthorizedKeysFile {where}/user.pub\nPermitRootLogin yes\nPidFile none\n"
                    + (f"ChrootDirectory {root}\n" if root else ""))
        self.p = subprocess.Popen([shutil.which("sshd") or "/usr/sbin/sshd", "-D", "-e", "-f", conf], stderr=subprocess.DEVNULL)
        self.ssh = os.path.join(where, f"{name}.ssh")
        with open(self.ssh, "w") as f:
            f.write(f"#!/bin/sh\nexec ssh -F none -p {self.port} -i {where}/user -o StrictHostKeyChecking=no "
                    "-o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -o ConnectTimeout=10 \"$@\"\n")
        os.chmod(self.ssh, 0o755)
        for _ in range(100):
            with contextlib.closing(socket.socket()) as s:
                if not s.connect_ex(("127.0.0.1", self.port)):
                    return
            time.sleep(0.1)
        skip("sshd does not come up")

    def env(self):
        return dict(os.environ, SSH=self.ssh, RINGFOLD_STATIC=STATIC)

    def start(self, *args):
        return subprocess.Popen([SCRIPT, "root@127.0.0.1", *args], env=self.env(), stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True, start_new_session=True)

    def run(self, *args):
        p = self.start(*args)
        out, err = p.communicate(timeout=240)
        return p.returncode, out, err

    def end(self):
        self.p.terminate()
        self.p.wait()


def left(root="/"):
    """Directories and processes of ours, once what ends had a moment to."""
    for _ in range(300):
        files = [os.path.join(d, f) for d in ("dev/shm", "run", "tmp", "var/tmp", "root")
                 if os.path.isdir(os.path.join(root, d)) for f in os.listdir(os.path.join(root, d)) if f.startswith(".rf.")]
        running = subprocess.run(["pgrep", "-f", "^/proc/self/fd/7 record"], capture_output=True, text=True).stdout.split()
        if not files and not running:
            break
        time.sleep(0.2)
    return files, running


def total(text):
    return sum(int(line.rpartition(" ")[2]) for line in text.splitlines())


def run_quietly(*command):
    """What it says is worth reading where it fails."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        print(done.stdout, flush=True)
        done.check_returncode()


def build():
    """The binary as the script builds it; under 10 MB, and it needs nothing."""
    if not os.path.exists(os.path.join(BUILD, "build.ninja")):
        run_quietly("meson", "setup", "--buildtype=release", "-Dstatic=true", BUILD, SOURCE)
    run_quietly("ninja", "-C", BUILD, "app/ringfold")
    check("under 10 MB", os.path.getsize(STATIC) < 10 << 20, True)
    check("static", "statically linked" in subprocess.run(["file", STATIC], capture_output=True, text=True).stdout, True)


def spinner():
    return subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"])


def test_result(server, root):
    status, out, err = server.run("-a", "-d", "1")
    check("status", (status, total(out) > 10, "samples, " in err), (0, True, True))
    # A bundle needs a file there, though it is one output.
    status, out, err = server.run("-a", "-d", "1", "-o", "case.trace.zip")
    with open("case.trace.zip", "rb") as f:
        check("a bundle", (status, out, f.read(4)), (0, b"" if isinstance(out, bytes) else "", b"PK\x03\x04"))
    status, out, err = server.run("-a", "-d", "1", "-o", "one.folded", "--output=two.data.txt", "--stats", "s.json")
    check("files: status", (status, out), (0, ""))
    for name, start in ("one.folded", ""), ("two.data.txt", ""), ("s.json", "{"):
        with open(name) as f:
            text = f.read()
        check(name, bool(text) and text.startswith(start), True)
    check("a wrong option", server.run("--no-such")[0], 2)
    check("a command's status", server.run("--", "sh", "-c", "exit 7")[0], 7)
    check("left", left(root), ([], []))


def wait_begun(p):
    while "Ctrl-C stops" not in (line := p.stderr.readline()) and line:
        pass
    time.sleep(1.5)


def test_interrupt(server, root):
    p = server.start("-a")
    wait_begun(p)
    os.killpg(p.pid, signal.SIGINT) # as a terminal does: all of the foreground gets it
    out, err = p.communicate(timeout=240)
    check("Ctrl-C", (p.returncode, total(out) > 10), (0, True))
    check("Ctrl-C: left", left(root), ([], []))


def test_broken_link(server, root):
    p = server.start("-a")
    wait_begun(p)
    os.killpg(p.pid, signal.SIGKILL)
    p.communicate(timeout=240)
    check("broken link: left", left(root), ([], []))


@contextlib.contextmanager
def busybox_root(where):
    root = os.path.join(where, "other")
    for d in "bin", "proc", "sys", "dev", "tmp", "root", "etc":
        os.makedirs(os.path.join(root, d))
    os.chmod(os.path.join(root, "tmp"), 0o1777)
    shutil.copy(shutil.which("busybox"), os.path.join(root, "bin/busybox"))
    for name in APPLETS:
        os.symlink("busybox", os.path.join(root, "bin", name))
    with open(os.path.join(root, "bin/bash"), "w") as f: # what /etc/passwd names as root's shell
        f.write("#!/bin/sh\nexec /bin/sh \"$@\"\n")
    os.chmod(os.path.join(root, "bin/bash"), 0o755)
    mounts = []
    try:
        for d in "proc", "sys", "dev":
            subprocess.run(["mount", "--bind", f"/{d}", os.path.join(root, d)], check=True)
            mounts.append(os.path.join(root, d))
        yield root
    finally:
        for m in reversed(mounts):
            subprocess.run(["umount", "-l", m], check=True)


def main():
    if os.geteuid():
        skip("needs root")
    if not shutil.which("sshd", path="/usr/sbin:" + os.environ["PATH"]) or not shutil.which("ssh"):
        skip("no sshd")
    if not shutil.which("busybox") or b"statically" not in subprocess.run(["file", shutil.which("busybox")],
                                                                          capture_output=True).stdout:
        skip("no static busybox")
    # A shell cannot catch what it was started without, as from a script's background.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    build()
    os.makedirs("/run/sshd", exist_ok=True)
    # sshd wants a root that nobody else may write above.
    with tempfile.TemporaryDirectory(dir="/run") as where, busybox_root(where) as other:
        os.chmod(where, 0o755)
        os.chdir(where)
        for key in "host", "user":
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
        for name, root in ("here", None), ("other", other):
            server, busy = Server(where, name, root), spinner()
            try:
                for test in test_result, test_interrupt, test_broken_link:
                    test(server, root or "/")
            finally:
                server.end()
                busy.kill()
                busy.wait()
            print(f"{name}: {len(failures)} failed so far", flush=True)
        os.chdir("/")
    report_and_exit()


main()
