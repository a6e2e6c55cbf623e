#!/usr/bin/env python3
"""usage: elf.py RINGFOLD VICTIMS [--count 5000] [--truncations 1000] [--seed N] [--hostile PROGRAM]
Mutated ELF files mapped by a running program, each with samples in it, and files cut short while they are read: the
recording goes on, ends well, and has counted every sample. Prints a table; fails when a recording died, took more
than 5 s of CPU per 1,000 files beside what it takes for sound ones, or more than 1 GiB.
"""
import argparse
import json
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import time

SOURCE = """
#include <stdexcept>
#include <string>
#include <vector>
extern "C" __attribute__((visibility("default"), aligned(4096), noinline)) void touch_pages(volatile char *page, long num)
{
	for (; num; num--, page += 4096)
		*page;
}
static inline int inlined(const std::string &s, int n) { if (n > 7) throw std::runtime_error(s); return n * 3; }
extern "C" __attribute__((visibility("default"), aligned(4096))) int others(const std::vector<std::string> &v)
{
	int sum = 0;
	for (const auto &s : v)
		sum += inlined(s, (int)s.size());
	return sum;
}
"""
FLAGS = {
    "debug": ["-g"],
    "compressed": ["-g", "-gz=zlib"],
    "stripped": ["-s"],
    "dwarf4": ["-gdwarf-4", "-fno-omit-frame-pointer", "-Wl,--hash-style=sysv"],
}
EDGES = [0, 1, 2, 7, 8, 0x7f, 0x80, 0xff, 0x100, 0xfff, 0x1000, 0x7fff, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff,
         0x7fffffffffffffff, 0x8000000000000000, 0xfffffffffffff000, 0xffffffffffffffff]


def build(top, name):
    """Bytes of the file, and the offset of touch_pages."""
    out = os.path.join(top, name + ".so")
    cxx = shutil.which("g++") or shutil.which("c++") or shutil.which("clang++")
    subprocess.run([cxx, "-x", "c++", "-O2", "-fPIC", "-shared", "-Wl,--build-id", "-Wl,-z,noseparate-code", *FLAGS[name],
                    "-", "-o", out], input=SOURCE, text=True, check=True)
    text = subprocess.run(["nm", "-D", out], capture_output=True, text=True, check=True).stdout
    vaddr = next(int(line.split()[0], 16) for line in text.splitlines() if line.endswith("touch_pages"))
    with open(out, "rb") as f:
        data = f.read()
    phoff, = struct.unpack_from("<Q", data, 32)
    phnum, = struct.unpack_from("<H", data, 56)
    for i in range(phnum):
        kind, _, offset, start, _, size = struct.unpack_from("<IIQQQQ", data, phoff + i * 56)
        if kind == 1 and start <= vaddr < start + size:
            return data, vaddr - start + offset
    raise SystemExit("no segment holds the function")


class Mutator:
    """Spoils anything but the page that the program runs in."""

    def __init__(self, data, code, rng):
        self.data, self.rng = data, rng
        self.keep = range(code, code + 4096)
        self.shoff, = struct.unpack_from("<Q", data, 40)
        self.shnum, = struct.unpack_from("<H", data, 60)
        self.sections = [struct.unpack_from("<IIQQQQIIQQ", data, self.shoff + i * 64) for i in range(self.shnum)]

    def put(self, out, at, raw):
        for i, byte in enumerate(raw):
            if 0 <= at + i < len(out) and at + i not in self.keep:
                out[at + i] = byte

    def number(self, out, at, size):
        value = self.rng.choice(EDGES + [self.rng.getrandbits(64), self.rng.randrange(len(out))])
        self.put(out, at, (value & (1 << 8 * size) - 1).to_bytes(size, "little"))

    def header(self, out):
        at, size = self.rng.choice([(16, 2), (18, 2), (24, 8), (32, 8), (40, 8), (52, 2), (54, 2), (56, 2), (58, 2),
                                    (60, 2), (62, 2), (4, 1), (5, 1)])
        self.number(out, at, size)

    def program_header(self, out):
        self.number(out, 64 + self.rng.randrange(10) * 56 + self.rng.choice([0, 4, 8, 16, 32, 40, 48]), 8)

    def section_header(self, out):
        at = self.shoff + self.rng.randrange(max(self.shnum, 1)) * 64
        field, size = self.rng.choice([(0, 4), (4, 4), (8, 8), (16, 8), (24, 8), (32, 8), (40, 4), (44, 4), (48, 8),
                                       (56, 8)])
        self.number(out, at + field, size)

    def section(self, out):
        """Bytes of one section: each is hit as often as any other, however small."""
        s = self.rng.choice(self.sections)
        for _ in range(self.rng.randrange(1, 32)):
            if s[1] != 8 and s[5]:
                self.put(out, s[4] + self.rng.randrange(s[5]), bytes([self.rng.choice([0, 0xff, self.rng.randrange(256)])]))

    def anywhere(self, out):
        for _ in range(self.rng.randrange(1, 200)):
            self.put(out, self.rng.randrange(len(out)), bytes([self.rng.randrange(256)]))

    def block(self, out):
        size = self.rng.randrange(1, 2048)
        start = self.rng.randrange(max(len(out) - size, 1))
        self.put(out, self.rng.randrange(len(out)), out[start:start + size])

    def cut(self, out):
        del out[self.rng.randrange(self.keep.stop, max(len(out), self.keep.stop + 1)):]

    def mutant(self):
        out = bytearray(self.data)
        kinds = [self.header, self.program_header, self.section_header, self.section, self.section, self.anywhere,
                 self.block, self.cut]
        for _ in range(self.rng.choice([1, 1, 1, 2, 4])):
            self.rng.choice(kinds)(out)
        return out


class Victim:
    def __init__(self, program, top):
        self.p = subprocess.Popen([program, "mapper"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.top, self.number = top, 0

    def show(self, data, code):
        """Has it map such a file and run in it; the file's path."""
        self.number += 1
        path = os.path.join(self.top, f"{self.number}.so")
        with open(path, "wb") as f:
            f.write(data)
        self.p.stdin.write(f"{path} {code}\n")
        self.p.stdin.flush()
        if self.p.stdout.readline() != "ok\n":
            raise SystemExit("the program that maps the files has ended")
        return path

    def end(self):
        self.p.kill()
        self.p.wait()


def run(args, top, what, files, rate):
    """Records while `files` (data, code offset, cut or not) are shown, `rate` a second at most."""
    victim = Victim(args.hostile, top)
    out = os.path.join(top, "out")
    p = subprocess.Popen([args.ringfold, "record", "-e", "page-faults", "-c", "1", "-p", str(victim.p.pid), "--inline",
                          "-o", out + ".folded", "--stats", out + ".json"], stderr=subprocess.PIPE, text=True)
    p.stderr.readline() # it is recording
    num = 0
    start = time.monotonic()
    for data, code, cut in files:
        path = victim.show(data, code)
        if cut:
            time.sleep(args.rng.random() * 0.004)
            os.truncate(path, cut)
            time.sleep(args.rng.random() * 0.004)
        num += 1
        # What is mapped stays for a while, its name need not.
        if num > 64:
            os.unlink(os.path.join(top, f"{num - 64}.so"))
        late = num / rate - (time.monotonic() - start)
        if late > 0:
            time.sleep(late)
        if p.poll() is not None:
            break
    alive = p.poll() is None
    wall = time.monotonic() - start
    victim.end()
    said = p.communicate(timeout=300)[1]
    for i in range(max(num - 64, 0), num + 1):
        if os.path.exists(os.path.join(top, f"{i}.so")):
            os.unlink(os.path.join(top, f"{i}.so"))
    stats = {}
    if p.returncode == 0:
        with open(out + ".json") as f:
            stats = json.load(f)
    got = stats.get("samples", 0)
    named = sum(int(line.rpartition(" ")[2]) for line in open(out + ".folded", errors="replace")
                if "touch_pages" in line) if stats else 0
    total = stats.get("idle", 0) + stats.get("kernel_only", 0) + stats.get("complete", 0) + \
        stats.get("truncated", 0) + sum(stats.get("broken", {}).values()) if stats else -1
    aside = stats.get("refused", {}).get("parser", 0) # files that ended a parser twice
    print(f"{what:<12} {num:>6} {wall:>6.1f} {got:>8} {stats.get('lost', 0):>6} {named:>8} "
          f"{stats.get('complete', 0):>8} {stats.get('cpu_s', 0):>7.2f} {stats.get('peak_rss_kib', 0) / 1024:>6.1f} "
          f"{aside:>6}")
    ok = alive and p.returncode == 0 and got >= 8 * num and total == got and stats["peak_rss_kib"] < 1 << 20
    if not ok:
        print(f"FAIL {what}: status {p.returncode}, {got} samples of {num} files, {total} in classes; {said[-600:]}")
    return ok, stats.get("cpu_s", 0)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("ringfold")
    parser.add_argument("victims")
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--truncations", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--hostile")
    args = parser.parse_args()
    args.hostile = args.hostile or os.path.join(args.victims, "../live/hostile")
    args.rng = rng = random.Random(args.seed)
    if not shutil.which("nm") or not (shutil.which("g++") or shutil.which("clang++")):
        print("needs a C++ compiler and binutils", file=sys.stderr)
        sys.exit(1 if os.environ.get("TEST_NO_SKIP") else 77)
    top = tempfile.mkdtemp(prefix="ringfold-elf-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
    try:
        bases = [build(top, name) for name in FLAGS]
        mutators = [Mutator(data, code, rng) for data, code in bases]
        print(f"{'files':<12} {'num':>6} {'wall':>6} {'samples':>8} {'lost':>6} {'named':>8} {'complete':>8} "
              f"{'CPU s':>7} {'MiB':>6} {'aside':>6}")
        num = min(args.count, 500)
        ok, sound = run(args, top, "sound", ((*bases[i % len(bases)], None) for i in range(num)), 100)
        per_file = sound / num
        good, spent = run(args, top, "mutated",
                          ((mutators[i % len(bases)].mutant(), bases[i % len(bases)][1], None)
                           for i in range(args.count)), 100)
        ok = ok and good
        if spent > (per_file + 0.005) * args.count + 1:
            print(f"FAIL CPU: {spent:.2f} s")
            ok = False
        good, _ = run(args, top, "cut short",
                      ((bases[i % len(bases)][0], bases[i % len(bases)][1],
                        (bases[i % len(bases)][1] & ~4095) + 4096) for i in range(args.truncations)), 100)
        ok = ok and good
    finally:
        shutil.rmtree(top, ignore_errors=True)
    sys.exit(0 if ok else 1)


main()
