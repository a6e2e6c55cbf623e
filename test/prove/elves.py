#!/usr/bin/env python3
"""Libraries that lie about themselves, and libraries that shrink while they are read, in a live recording.

usage: elves.py RINGFOLD VICTIMS_DIR [--files N] [--truncations N] [--seed N]

A program loads N copies of a library one after the other, each with other bytes changed in what only readers like us look at
(section headers, symbols, call-frame information, notes, debug information), and runs code of each. Then N copies that are
cut short behind what the loader maps while that runs. The recording must end with status 0, its samples must be there, and the program
that loads them must have run through. Prints how often the process that parses died, hung or was left with a file set aside.
"""
import argparse
import json
import os
import random
import re
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time

args = argparse.ArgumentParser()
args.add_argument('ringfold')
args.add_argument('victims')
args.add_argument('--files', type=int, default=5000)
args.add_argument('--truncations', type=int, default=1000)
args.add_argument('--seed', type=int, default=int(time.time()))
args = args.parse_args()
random.seed(args.seed)
here = os.path.dirname(os.path.abspath(__file__))
ringfold = os.path.abspath(args.ringfold)
os.chdir(tempfile.mkdtemp(prefix='ringfold-elves-'))
if not shutil.which('cc'):
    print('SKIP: no C compiler')
    sys.exit(77)
for more in (['-DLIBRARY', '-shared', '-fPIC', '-g', '-o', 'lib.so'], ['-o', 'runs', '-ldl']):
    subprocess.run(['cc', '-O1', os.path.join(here, 'elves.c'), *more], check=True)
whole = open('lib.so', 'rb').read()

# Where the loader does not look: the ranges whose bytes may be anything.
shoff, = struct.unpack_from('<Q', whole, 0x28)
shentsize, shnum, shstrndx = struct.unpack_from('<HHH', whole, 0x3a)
phoff, = struct.unpack_from('<Q', whole, 0x20)
phentsize, phnum = struct.unpack_from('<HH', whole, 0x36)
names_at, = struct.unpack_from('<Q', whole, shoff + shstrndx * shentsize + 0x18)
ranges, mapped_end = [(0x28, 0x30), (0x3a, 0x40), (shoff, len(whole))], 0 # mapped_end: what the loader maps
for i in range(shnum):
    name, kind, flags, addr, offset, size = struct.unpack_from('<IIQQQQ', whole, shoff + i * shentsize)
    name = whole[names_at + name:whole.index(b'\0', names_at + name)].decode()
    if kind != 8 and size and (name in ('.eh_frame', '.eh_frame_hdr', '.symtab', '.strtab', '.shstrtab', '.comment') or
                               name.startswith('.debug') or name.startswith('.note')):
        ranges += [(offset, offset + size)] * 2
for i in range(phnum):
    kind, flags, offset, addr, _, size = struct.unpack_from('<IIQQQQ', whole, phoff + i * phentsize)
    if kind == 1:
        mapped_end = max(mapped_end, offset + size)
    if struct.unpack_from('<I', whole, phoff + i * phentsize)[0] in (4, 0x6474e550): # PT_NOTE, PT_GNU_EH_FRAME
        ranges += [(phoff + i * phentsize + 4, phoff + (i + 1) * phentsize)] * 2


def mutant():
    data = bytearray(whole)
    for _ in range(random.choice((1, 1, 2, 3, 8, 40))):
        low, high = random.choice(ranges)
        at = random.randrange(low, high)
        data[at] = random.choice((0, 1, 0x7f, 0x80, 0xff, random.randrange(256)))
    return bytes(data)


loads = subprocess.Popen(['./runs'], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
record = subprocess.Popen([ringfold, 'record', '-vv', '-F', '997', '-p', str(loads.pid), '-o', 'r.folded', '--stats', 'r.json'],
                          stderr=subprocess.PIPE, text=True)
time.sleep(0.5)
ran = {'mutated': 0, 'cut': 0}
start = time.time()
for i in range(args.files):
    path = f'lib{i}.so'
    with open(path, 'wb') as f:
        f.write(mutant())
    loads.stdin.write(os.path.abspath(path) + '\n')
    ran['mutated'] += loads.stdout.readline().strip() == 'ran'
    os.unlink(path)
for i in range(args.truncations):
    path = f'cut{i}.so'
    shutil.copy('lib.so', path)
    loads.stdin.write(os.path.abspath(path) + '\n')
    time.sleep(random.random() * 0.012)
    os.truncate(path, random.randrange(mapped_end, len(whole)))
    ran['cut'] += loads.stdout.readline().strip() == 'ran'
    os.unlink(path)
took = time.time() - start
alive = record.poll() is None
record.send_signal(signal.SIGINT)
said = record.communicate(timeout=120)[1]
loads.stdin.close()
ended = loads.wait()
with open('r.json') as f:
    stats = json.load(f)
parser = re.search(r'parser: (\d+) requests.*; (\d+) processes.*; (\d+) hung, (\d+) died', said)
aside = len(re.findall('is set aside', said))
lines = open('r.folded').read().splitlines()
of_them = sum(int(line.rpartition(' ')[2]) for line in lines if re.search(r';(elf_spin|\[lib\d+\.so\]|\[cut\d+\.so\])', line))
named = sum(int(line.rpartition(' ')[2]) for line in lines if ';elf_spin' in line)
print(f'{args.files} mutated, {ran["mutated"]} ran; {args.truncations} cut, {ran["cut"]} ran; {took:.0f} s, seed {args.seed}')
print(f'{stats["samples"]} samples, {stats["lost"]} lost, {of_them} in them, {named} of those named; whole stacks {stats["complete"]}')
if parser:
    print(f'parser: {parser[1]} requests, {parser[2]} processes, {parser[3]} hung, {parser[4]} died; {aside} files set aside')
print(f'CPU {stats["cpu_s"]} s, peak RSS of all processes {stats["peak_rss_kib"] / 1024:.1f} MiB')
failures = []
if not alive or record.returncode:
    failures.append(f'the recording ended: {record.returncode}, {said[-2000:]}')
if ended:
    failures.append(f'the program that loads them ended: {ended}')
if ran['mutated'] < 0.9 * args.files or ran['cut'] < 0.9 * args.truncations:
    failures.append('too few could be loaded')
if of_them < ran['mutated']:
    failures.append('too few samples in them')
if stats['peak_rss_kib'] > 128 << 10:
    failures.append('too much memory')
for failure in failures:
    print('FAILED:', failure)
shutil.rmtree(os.getcwd())
sys.exit(1 if failures else 0)
