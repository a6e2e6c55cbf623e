#!/usr/bin/env python3
"""usage: mutate.py RINGFOLD DATA-DIRECTORY [--count N] [--seed N] [--jobs N] [--keep DIRECTORY]

Folds mutants of the recordings in DATA-DIRECTORY: random bytes, boundary values in headers, sizes, types and words of
records, truncation at every byte of the first 4 KiB (with N below 4,096, of evenly spread ones) and anywhere. Each
must end by itself within 5 s of CPU time and 512 MiB, without a crash or a sanitizer's finding, and either with a
profile or with one line that says why not. The same seed gives the same mutants.
"""
import argparse
import concurrent.futures
import os
import random
import re
import resource
import signal
import subprocess
import sys
import tempfile

parser = argparse.ArgumentParser(usage=__doc__)
parser.add_argument('ringfold')
parser.add_argument('data')
parser.add_argument('--count', type=int, default=10000)
parser.add_argument('--seed', type=int, default=1)
parser.add_argument('--jobs', type=int, default=os.cpu_count())
parser.add_argument('--keep', help='where files that fail are kept')
args = parser.parse_args()
ringfold, data = os.path.abspath(args.ringfold), os.path.abspath(args.data)

CPU_SECONDS, MIB = 5, 512
BOUNDARIES = [0, 1, 7, 8, 9, 63, 64, 79, 80, 104, 255, 4095, 4096, 65535, 1 << 16, (1 << 31) - 1, 1 << 31,
              (1 << 32) - 1, 1 << 32, (1 << 63) - 1, 1 << 63, (1 << 64) - 1, (1 << 64) - 8]


def read_files():
    ret = {}
    for name in sorted(os.listdir(data)):
        path = os.path.join(data, name)
        if name.endswith('.data') and os.path.isfile(path):
            ret[name] = open(path, 'rb').read()
    return ret


FILES = read_files()


def records(content):
    """Offsets of the records, as far as they can be walked."""
    at, end = 16, len(content)
    if int.from_bytes(content[8:16], 'little') == 104:
        at = int.from_bytes(content[40:48], 'little')
        end = min(end, at + int.from_bytes(content[48:56], 'little'))
    while at + 8 <= end:
        size = int.from_bytes(content[at + 6:at + 8], 'little')
        if size < 8:
            return
        yield at, size
        at += size


def put(content, at, width, value):
    content[at:at + width] = (value & ((1 << 8 * width) - 1)).to_bytes(width, 'little')


def mutate_random(rnd, content):
    for _ in range(rnd.randint(1, 16)):
        content[rnd.randrange(len(content))] = rnd.choice([0, 1, 0x7f, 0x80, 0xff, rnd.randrange(256)])


def mutate_header(rnd, content):
    attrs = int.from_bytes(content[24:32], 'little') if len(content) > 104 else 0
    for _ in range(rnd.randint(1, 3)):
        where = rnd.random()
        if where < 0.5:
            at = rnd.randrange(0, 104, 8)
        elif where < 0.8 and attrs + 144 < len(content):
            at = attrs + rnd.randrange(0, 144, 4)
        else: # the features and their table
            at = rnd.randrange(max(0, len(content) - 2048), len(content) - 8)
        put(content, at, rnd.choice([4, 8]), rnd.choice([*BOUNDARIES, len(content), len(content) - 1, rnd.getrandbits(64)]))


def mutate_records(rnd, content):
    places = list(records(content))
    for _ in range(rnd.randint(1, 3)):
        if not places:
            return
        at, size = rnd.choice(places)
        field = rnd.randrange(4)
        if field == 0:
            put(content, at + 6, 2, rnd.choice([0, 7, 8, 9, 16, size - 8, size + 8, size ^ 1, 0xffff, rnd.getrandbits(16)]))
        elif field == 1:
            put(content, at, 4, rnd.choice([*range(1, 23), *range(64, 84), 0xffffffff]))
        elif field == 2:
            put(content, at + 4, 2, rnd.getrandbits(16))
        else:
            put(content, at + rnd.randrange(8, max(16, min(size, 400)), 8), 8, rnd.choice([*BOUNDARIES, size, rnd.getrandbits(64)]))


def mutate_cut(rnd, content):
    del content[rnd.randrange(len(content)):]


def mutant(number):
    """(name, bytes) of the n-th."""
    names = list(FILES)
    cuts = min(args.count // 4, 4096)
    if number < cuts:
        name = names[number % len(names)]
        return f'{name}-cut', FILES[name][:number * 4096 // cuts]
    rnd = random.Random(f'{args.seed} {number}')
    name = rnd.choice(names)
    content = bytearray(FILES[name])
    how = rnd.choice([mutate_random, mutate_header, mutate_header, mutate_records, mutate_records, mutate_cut])
    how(rnd, content)
    return f'{name}-{how.__name__}', bytes(content)


def limit():
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


ENV = dict(os.environ, HOME='/nonexistent', LC_ALL='C', ASAN_OPTIONS='halt_on_error=1:detect_leaks=1:quarantine_size_mb=8:exitcode=99',
           UBSAN_OPTIONS='halt_on_error=1:print_stacktrace=1:exitcode=99')
ENV.pop('DEBUGINFOD_URLS', None)


class Stood(Exception):
    """It was not done after so long, though its CPU time ends it much earlier: the machine stood still, or it waits for ever."""


def run(argv, stdin, timeout):
    """(exit status, stderr, peak MiB); the shell's `time` would not see a child's own peak."""
    child = subprocess.Popen(argv, stdin=stdin, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=ENV,
                             preexec_fn=limit)
    timer = None
    try:
        import threading
        timer = threading.Timer(timeout, child.kill)
        timer.start()
        words = child.stderr.read().decode(errors='replace')
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode == -signal.SIGKILL and timer.finished.is_set() and usage.ru_utime + usage.ru_stime < CPU_SECONDS:
            raise Stood
        return child.returncode, words, usage.ru_maxrss / 1024
    finally:
        if timer:
            timer.cancel()
        child.stderr.close()


def try_one(number):
    """What is wrong with the n-th mutant; None = nothing. What waits for ever does so each time."""
    for _ in range(3):
        try:
            return try_once(number)
        except Stood:
            pass
    return f'{number}: not done after 30 s, three times'


def try_once(number):
    name, content = mutant(number)
    with tempfile.NamedTemporaryFile(suffix='.data') as file:
        file.write(content)
        file.flush()
        argv = [ringfold, 'fold', '--symfs', data + '/root', '-o', '/dev/null', '-f', 'collapsed']
        if number % 8 == 0: # as a stream
            with subprocess.Popen(['cat', file.name], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as cat:
                status, words, mib = run([*argv, '-'], cat.stdout, 30)
                cat.stdout.close()
        else:
            status, words, mib = run([*argv, file.name], subprocess.DEVNULL, 30)
    errors = [line for line in words.splitlines() if 'error:' in line]
    bad = None
    if status < 0:
        bad = f'signal {signal.Signals(-status).name}'
    elif status not in (0, 1, 2, 3) or re.search(r'Sanitizer|runtime error', words):
        bad = f'status {status}'
    elif status in (1, 2) and len(errors) != 1:
        bad = f'{len(errors)} error lines'
    elif mib > MIB:
        bad = f'{mib:.0f} MiB'
    if not bad:
        return None
    if args.keep:
        os.makedirs(args.keep, exist_ok=True)
        open(os.path.join(args.keep, f'{number}-{name}'), 'wb').write(content)
    return f'{number} {name}: {bad}\n{words[:2000]}'


def main():
    if not FILES:
        sys.exit(f'no recordings in {data}')
    failed = 0
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        for found in pool.map(try_one, range(args.count)):
            if found:
                failed += 1
                print(found, file=sys.stderr)
    print(f'{args.count} mutants, {failed} failed')
    sys.exit(1 if failed else 0)


main()
