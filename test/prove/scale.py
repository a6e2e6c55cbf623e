#!/usr/bin/env python3
"""What folding costs as recordings grow: ten times the samples, more binaries, more processes.

usage: scale.py RINGFOLD VICTIMS_DIR [--rounds N] [--seconds S]

A recording of a deep C++ program is made ten times as long by telling its samples ten times over, later each time:
the time may grow 10.5 times, the memory by no more than 5 % (the stacks are the same). Then the same program under
10 and 500 names, and in 10 and 5,000 processes, for the same CPU time in all: what each further binary and
process costs is printed. CPU times and peaks of `ringfold fold`, medians of N rounds.
"""
import argparse, json, os, shutil, statistics, struct, subprocess, sys, tempfile

args = argparse.ArgumentParser()
args.add_argument('ringfold')
args.add_argument('victims')
args.add_argument('--rounds', type=int, default=5)
args.add_argument('--seconds', type=float, default=4)
args = args.parse_args()
ringfold, victims = os.path.abspath(args.ringfold), os.path.abspath(args.victims)
HERE = os.path.dirname(os.path.abspath(__file__))
SAMPLE, EXIT, FINISHED_ROUND = 9, 4, 68
IDENTIFIER = 1 << 16


def record(name, *command):
    subprocess.run([ringfold, 'record', '-q', '-a', '-U', '-F', '999', '-o', name, '--', *command],
                   stdout=subprocess.DEVNULL, check=True)
    os.path.exists(name + '.old') and os.unlink(name + '.old')


def repeat(source, target, times):
    """The data section with its samples told `times` times; ends of tasks are left out, as more is to come."""
    image = open(source, 'rb').read()
    attr_offset, = struct.unpack_from('<Q', image, 24)
    offset, size = struct.unpack_from('<QQ', image, 40)
    sample_type, = struct.unpack_from('<Q', image, attr_offset + 24)
    time_at = 8 + 8 * bool(sample_type & IDENTIFIER) + 8 + 8  # header, [identifier], ip, pid/tid
    other, samples, at = bytearray(), [], offset
    while at < offset + size:
        kind, _, length = struct.unpack_from('<IHH', image, at)
        record_bytes = image[at:at + length]
        if kind in (SAMPLE, FINISHED_ROUND):
            samples.append(record_bytes)
        elif kind != EXIT:
            other += record_bytes
        at += length
    times_told = [struct.unpack_from('<Q', s, time_at)[0] for s in samples if len(s) > 8]
    span = times_told[-1] - times_told[0] + 1000000
    with open(target, 'wb') as out:
        head = bytearray(image[:offset])
        total = len(other) + times * sum(map(len, samples))
        struct.pack_into('<QQ', head, 40, offset, total)
        head[72:104] = bytes(32)  # no feature sections: they lie where the data now goes on
        out.write(head)
        out.write(other)
        for turn in range(times):
            for s in samples:
                s = bytearray(s)
                if len(s) > 8:
                    struct.pack_into('<Q', s, time_at, struct.unpack_from('<Q', s, time_at)[0] + turn * span)
                out.write(s)
    return len(times_told) * times


def fold(name):
    """CPU seconds and peak KiB, medians."""
    cpus, peaks = [], []
    for _ in range(args.rounds):
        child = subprocess.Popen([ringfold, 'fold', '-q', '-f', 'collapsed', '-o', '-', '--stats', 'stats.json', name],
                                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = status
        if status:
            sys.exit(f'fold {name}: status {status}')
        cpus.append(usage.ru_utime + usage.ru_stime)
        peaks.append(json.load(open('stats.json'))['peak_rss_kib'])  # ru_maxrss is at least what this program has
    return statistics.median(cpus), statistics.median(peaks)


def samples_of(name):
    out = subprocess.run([ringfold, 'fold', '-f', 'collapsed', '-o', '/dev/null', name], capture_output=True, text=True)
    for word in out.stderr.split('\n'):
        if ' samples,' in word:
            return int(word.split(' samples,')[0].split()[-1].replace(',', ''))
    return 0


tmp = tempfile.mkdtemp(prefix='ringfold-scale-')
failed = 0
try:
    os.chdir(tmp)
    print(f'{"recording":<26} {"samples":>8} {"CPU s":>8} {"peak MiB":>9}')

    def row(name, label, samples=None):
        cpu, peak = fold(name)
        print(f'{label:<26} {samples or samples_of(name):>8} {cpu:>8.3f} {peak / 1024:>9.1f}')
        return cpu, peak

    deep = f'{victims}/victim-deepc'
    record('base.data', deep, str(args.seconds))
    one = row('one.data', 'samples x 1', repeat('base.data', 'one.data', 1))
    ten = row('ten.data', 'samples x 10', repeat('base.data', 'ten.data', 10))
    # What starting and naming cost is in both, so the ratio stays below ten unless something grows.
    ok = ten[0] <= 10.5 * one[0] and ten[1] <= 1.05 * one[1] + 1024
    print(f'  ten times the samples: {ten[0] / one[0]:.2f} x the time (10.5), '
          f'{ten[1] / one[1]:.2f} x the memory (1.05){"" if ok else " FAILED"}')
    failed += not ok
    for num in (10, 500):
        os.mkdir(f'bin{num}')
        for i in range(num):
            shutil.copy(deep, f'bin{num}/prog{i}')
        each = args.seconds / num
        record(f'b{num}.data', 'sh', '-c', f'for p in bin{num}/*; do $p {each:.3f}; done')
    few, many = row('b10.data', '10 binaries'), row('b500.data', '500 binaries')
    print(f'  a further binary: {(many[0] - few[0]) / 490 * 1e6:.0f} us, {(many[1] - few[1]) / 490:.1f} KiB')
    for num in (10, 5000):
        each = args.seconds / num
        record(f'p{num}.data', 'sh', '-c', f'i=0; while [ $i -lt {num} ]; do {deep} {each:.4f}; i=$((i+1)); done')
    few, many = row('p10.data', '10 processes'), row('p5000.data', '5,000 processes')
    print(f'  a further process: {(many[0] - few[0]) / 4990 * 1e6:.0f} us, {(many[1] - few[1]) / 4990:.2f} KiB')
    print(f'{int(not failed)} passed, {failed} failed')
finally:
    os.chdir('/')
    shutil.rmtree(tmp, ignore_errors=True)
sys.exit(bool(failed))
