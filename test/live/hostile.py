#!/usr/bin/env python3
"""usage: hostile.py RINGFOLD HOSTILE [--seconds N]
Programs that lie, all at once under `ringfold record`: their maps, binaries and debug files are links out of their
root, FIFOs, devices, somebody else's, too old, endless, or those of a predecessor; on the host, in a chroot and in a
mount namespace. No name of a host's file may come out, no wrong name, nothing may stall, and what was refused is counted.
HOSTILE is hostile.c, built. Needs root, and a C compiler for the files.
"""
import argparse
import json
import os
import random
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time

LINE = "20000000000 1000 {}\n"
CANARY = f"CANARY_{random.getrandbits(48):012x}"
SOURCE = """
__attribute__((visibility("default"), aligned(4096))) void NAME(volatile char *page, long num)
{
	for (; num; num--, page += 4096)
		*page;
}
"""


class Failed(Exception):
    pass


class Shapes:
    """What may lie where a file is expected: each method makes one at `path`; `secret` is a host's file."""

    def __init__(self, secret):
        self.secret = secret

    def absolute_link(self, path):
        os.symlink(self.secret, path)

    def dotdot_link(self, path):
        os.symlink("../" * 16 + self.secret[1:], path)

    def proc_root_link(self, path):
        os.symlink("/proc/1/root" + self.secret, path)

    def self_root_link(self, path):
        os.symlink("/proc/self/root" + self.secret, path)

    def fd_link(self, path):
        os.symlink("/proc/self/fd/0", path)

    def fifo(self, path):
        os.mkfifo(path, 0o666)

    def device(self, path):
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))

    def device_link(self, path):
        os.symlink("/dev/zero", path)

    def directory(self, path):
        os.mkdir(path)

    def socket(self, path):
        here = os.open(os.path.dirname(path), os.O_PATH)
        with socket.socket(socket.AF_UNIX) as s:
            s.bind(f"/proc/self/fd/{here}/{os.path.basename(path)}")
        os.close(here)

    def loop_link(self, path):
        os.symlink(os.path.basename(path), path)

    def parent_link(self, path):
        """The directory it is in is the host's, by an absolute link."""
        parent = os.path.dirname(path)
        inside = os.path.join(os.path.dirname(self.secret), os.path.basename(path))
        if not os.path.exists(inside):
            shutil.copy(self.secret, inside)
        os.rmdir(parent)
        os.symlink(os.path.dirname(self.secret), parent)


TWELVE = ["absolute_link", "dotdot_link", "proc_root_link", "self_root_link", "fd_link", "fifo", "device",
          "device_link", "directory", "socket", "loop_link", "parent_link"]


class MapShapes(Shapes):
    """More that may be wrong with a map. `line` is a host's line of one."""

    def hard_link(self, path):
        with open(path, "w") as f:
            f.write(LINE.format(CANARY))
        os.link(path, path + ".other")

    def foreign(self, path):
        with open(path, "w") as f:
            f.write(LINE.format(CANARY))
        os.chown(path, 12345, 12345)

    def stale(self, path):
        with open(path, "w") as f:
            f.write(LINE.format(CANARY))
        os.utime(path, (time.time() - 2 * 86400 + 0.5,) * 2)

    def huge(self, path):
        with open(path, "w") as f:
            f.write(LINE.format(CANARY))
            f.truncate(2 << 30)

    def long_line(self, path):
        """1 GB of one line; as long as is read at all comes next."""
        with open(path, "w") as f:
            f.truncate(1 << 30)

    def long_line_within(self, path):
        with open(path, "w") as f:
            f.truncate(200 << 20)

    def honest(self, path):
        with open(path, "w") as f:
            f.write(LINE.format("honest_jit"))


MORE = ["hard_link", "foreign", "stale", "huge", "long_line", "long_line_within", "honest"]
# What must at least be counted of the maps of one root. Links are refused for being links.
REFUSED = {"not_regular": 10, "foreign": 2, "stale": 1, "too_big": 2}


class Stage:
    def __init__(self, args, top):
        self.args, self.top = args, top
        self.running = []
        self.mounts = []
        self.cleanup = []

    def start(self, *words, fd=None):
        p = subprocess.Popen([self.args.hostile, *words], stdin=subprocess.DEVNULL,
                             pass_fds=[] if fd is None else [fd])
        self.running.append(p)
        return p

    def root(self, name):
        """A small root with a /tmp and the /proc of the host."""
        root = os.path.join(self.top, name)
        os.makedirs(os.path.join(root, "tmp"))
        os.makedirs(os.path.join(root, "proc"))
        subprocess.run(["mount", "--rbind", "/proc", os.path.join(root, "proc")], check=True)
        subprocess.run(["mount", "--make-rslave", os.path.join(root, "proc")], check=True)
        self.mounts.append(os.path.join(root, "proc"))
        return root

    def end(self):
        for p in self.running:
            p.send_signal(signal.SIGKILL)
        for p in self.running:
            p.wait()
        for m in self.mounts:
            subprocess.run(["umount", "-R", "-l", m], check=False)
        self.running.clear()
        self.mounts.clear()
        for path in self.cleanup:
            if os.path.isdir(path) and not os.path.islink(path):
                os.rmdir(path)
            elif os.path.lexists(path):
                os.unlink(path)


def build(stage, name, build_id, *flags):
    """A shared object with one function, and where that lies in it."""
    out = os.path.join(stage.top, name + ".so")
    cc = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    subprocess.run([cc, "-O2", "-g0", "-fPIC", "-shared", "-nostdlib", f"-DNAME={name}", "-x", "c", "-", "-o", out,
                    f"-Wl,--build-id=0x{build_id}", "-Wl,-z,noseparate-code", *flags], input=SOURCE, text=True,
                   check=True)
    text = subprocess.run(["nm", "-D", out], capture_output=True, text=True, check=True).stdout
    vaddr = next(int(line.split()[0], 16) for line in text.splitlines() if line.endswith(name))
    text = subprocess.run(["readelf", "-lW", out], capture_output=True, text=True, check=True).stdout
    for line in text.splitlines():
        words = line.split()
        if words[:1] == ["LOAD"]:
            offset, start, size = (int(words[i], 16) for i in (1, 2, 4))
            if start <= vaddr < start + size:
                return out, vaddr - start + offset
    raise Failed("no segment holds the function")


def start_maps(stage, secret):
    """Every shape of a map in every kind of root: (pid, shape)."""
    shapes = MapShapes(secret)
    started = []
    for kind in ("host", "chroot", "pivot"):
        for shape in TWELVE + MORE:
            if kind == "host":
                if shape == "parent_link":
                    continue
                root, words = "/", []
            else:
                root = stage.root(f"{kind}-{shape}")
                words = ["--root" if kind == "chroot" else "--pivot", root]
            p = stage.start(*words, "jit")
            path = os.path.join(root, f"tmp/perf-{p.pid}.map")
            if kind == "host":
                stage.cleanup += [path, path + ".other"]
            getattr(shapes, shape)(path)
            started.append((p.pid, shape))
    root = stage.root("reuse")
    stage.start("--root", root, "reuse", "/tmp/perf-2.map", LINE.format(CANARY))
    return started


def start_with(stage, path, offset, how, *words):
    fd = os.open(path, os.O_RDONLY)
    p = stage.start(*words, how, str(fd), hex(offset), fd=fd)
    os.close(fd)
    return p


def start_binaries(stage):
    """Mapped files whose names lead elsewhere by now."""
    build_id = f"{random.getrandbits(160):040x}"
    honest, offset = build(stage, "honest_elf", build_id)
    canary, other = build(stage, CANARY + "_elf", f"{random.getrandbits(160):040x}")
    if offset != other:
        raise Failed("the two files are not alike")
    shapes = Shapes(canary)
    pids = []
    for how in ("file", "churn"):
        for shape in TWELVE:
            place = os.path.join(stage.top, f"{how}-{shape}")
            os.mkdir(place)
            path = os.path.join(place, "lib.so")
            shutil.copy(honest, path)
            p = start_with(stage, path, offset, how)
            wait_for_map(p, path if how == "file" else None)
            os.unlink(path)
            getattr(shapes, shape)(path)
            if how == "file":
                pids.append((p.pid, shape))
    return pids


def start_debug(stage):
    """A stripped file in a root whose debug file is anything but one."""
    build_id = f"{random.getrandbits(160):040x}"
    stripped, offset = build(stage, "honest_stripped", build_id)
    canary, _ = build(stage, CANARY + "_debug", build_id)
    subprocess.run(["objcopy", "--only-keep-debug", canary, canary + ".debug"], check=True)
    subprocess.run(["strip", "-s", "-R", ".dynsym", "-R", ".hash", "-R", ".gnu.hash", stripped], check=False)
    shapes = Shapes(canary + ".debug")
    for shape in TWELVE:
        root = stage.root(f"debug-{shape}")
        place = os.path.join(root, "usr/lib/debug/.build-id", build_id[:2])
        os.makedirs(place)
        getattr(shapes, shape)(os.path.join(place, build_id[2:] + ".debug"))
        # Another file each time, or the first root's answer would do for all.
        shutil.copy(stripped, os.path.join(root, "lib.so"))
        start_with(stage, os.path.join(root, "lib.so"), offset, "file", "--root", root)


def wait_for_map(p, path):
    for _ in range(3000):
        with open(f"/proc/{p.pid}/maps") as f:
            if path is None or path in f.read() or p.poll() is not None:
                break
        time.sleep(0.01)
    time.sleep(0.02)


def record(stage, seconds, name):
    """(stats, all text of the outputs, seconds of wall beyond the recording, peak KiB, names by pid)"""
    out = os.path.join(stage.top, name)
    start = time.monotonic()
    # A sanitizer keeps what was freed, by default 256 MiB of it: that is not the recorder's memory.
    env = dict(os.environ, ASAN_OPTIONS=os.environ.get("ASAN_OPTIONS", "") + ":quarantine_size_mb=8")
    p = subprocess.Popen([stage.args.ringfold, "record", "-e", "page-faults", "-c", "1", "-p",
                          ",".join(str(r.pid) for r in stage.running), "-d", str(seconds), "--pids", "-v",
                          "-o", out + ".folded", "-o", out + ".data.txt", "--stats", out + ".json"],
                         stderr=open(out + ".err", "wb"), stdin=subprocess.DEVNULL, env=env)
    _, status, used = os.wait4(p.pid, 0)
    wall = time.monotonic() - start
    if status:
        print(open(out + ".err").read(), file=sys.stderr)
        raise Failed(f"{name}: status {status:#x}")
    text = "".join(open(out + end, errors="replace").read() for end in (".folded", ".data.txt", ".json", ".err"))
    names = {}
    for line in open(out + ".folded", errors="replace"):
        frames = line.rpartition(" ")[0].split(";")
        names.setdefault(frames[0].rpartition("-")[2], set()).update(frames[1:])
    with open(out + ".json") as f:
        return json.load(f), text, wall - seconds, used.ru_maxrss, names


def check(ok, what):
    print(("ok   " if ok else "FAIL ") + what)
    return 0 if ok else 1


def blocked_stack(stage, seconds):
    """One whose stack has a page that never comes; another goes on beside it."""
    place = os.path.join(stage.top, "fuse")
    os.mkdir(place)
    p = stage.start("blocked", place)
    stage.mounts.append(place)
    wait_for_map(p, f"{place}/file")
    if p.poll() is not None:
        print("skip: no FUSE here")
        return 0
    stats, _, extra, _, names = record(stage, seconds, "blocked")
    bad = check(stats["refused"].get("blocked") == 1, f"a stack's page that never comes: {stats['refused']}")
    bad += check(extra < 20, f"it took {extra:.2f} s beyond the recording") # for ever, if it were waited for
    return bad + check("touch_above_hole" in names.get(str(p.pid), ()), "its function is named")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("ringfold")
    parser.add_argument("hostile")
    parser.add_argument("--seconds", type=float, default=3)
    args = parser.parse_args()
    if os.geteuid() or not shutil.which("objcopy"):
        print("needs root and binutils", file=sys.stderr)
        sys.exit(1 if os.environ.get("TEST_NO_SKIP") else 77)
    args.ringfold, args.hostile = os.path.abspath(args.ringfold), os.path.abspath(args.hostile)
    top = tempfile.mkdtemp(prefix="ringfold-hostile-", dir="/var/tmp")
    stage = Stage(args, top)
    bad = 0
    try:
        os.mkdir(os.path.join(top, "host"))
        secret = os.path.join(top, "host/secret.map")
        with open(secret, "w") as f:
            f.write(LINE.format(CANARY))
        stage.start("jit")
        _, _, base_extra, base_kib, _ = record(stage, 1, "base")
        maps = start_maps(stage, secret)
        binaries = start_binaries(stage)
        start_debug(stage)
        time.sleep(0.5) # the namespace's second pid 2 is there
        stats, text, extra, kib, names = record(stage, args.seconds, "all")
        bad += check(CANARY not in text, "no byte of a host's file, and no name of another's")
        spent = f"CPU {stats['cpu_s']:.2f} s, names {stats['symbolize_ns'] / 1e9:.2f} s"
        # One that is waited for costs 2 s and is counted. What it computes takes longer where others compute, too.
        bad += check("slow" not in stats["refused"], f"nothing was waited for: {stats['refused']}")
        bad += check(extra < base_extra + 15 + 10 * stats["cpu_s"],
                     f"{extra:.2f} s beyond the recording, {base_extra:.2f} s without them; {spent}")
        bad += check(kib < base_kib + 65536, f"peak {kib} KiB, {base_kib} KiB without them")
        for shape in ("honest",):
            got = [str(pid) in names and any("honest_jit" in n for n in names[str(pid)])
                   for pid, s in maps if s == shape]
            bad += check(got == [True] * 3, f"honest maps name their code: {got}")
        wrong = [s for pid, s in binaries if not any("honest_elf" in n for n in names.get(str(pid), ()))]
        bad += check(not wrong, f"replaced binaries keep their names: {wrong}")
        unseen = [s for pid, s in maps if str(pid) not in names]
        bad += check(not unseen, f"every program was sampled: {unseen}")
        refused = stats["refused"]
        few = {r: n for r, n in REFUSED.items() if refused.get(r, 0) < 3 * n}
        bad += check(not few, f"refused: {refused}")
        stage.end()
        bad += blocked_stack(stage, 1.5)
    finally:
        stage.end()
        shutil.rmtree(top, ignore_errors=True)
    sys.exit(1 if bad else 0)


main()
