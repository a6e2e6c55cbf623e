#!/usr/bin/env python3
"""What folding costs as recordings grow: ten times the samples, more binaries, more processes.

usage: scale.py RINGFOLD VICTIMS_DIR [--rounds N] [--seconds S] [--only samples|binaries|processes]

A recording of a deep C++ program is made ten times as long by telling its samples ten times over, later each time:
the time may grow 10.5 times, the memory by no more than 5 % and a huge page (the stacks are the same). Then the same program under
10 and 500 names, and in 10 and 5,000 processes, for the same time in all: what each further binary and
process costs is printed, beyond what its samples cost. Only the load itself is recorded, so nothing else on the machine is in
the figures. CPU times and peaks of `ringfold fold`, medians of N rounds.
"""
import argparse, json, os, shutil, signal, statistics, struct, subprocess, sys, tempfile

args = argparse.ArgumentParser()
args.add_argument('ringfold')
args.add_argument('victims')
args.add_argument('--rounds', type=int, default=5)
args.add_argument('--seconds', type=float, default=4)
args.add_argument('--only', choices=('samples', 'binaries', 'processes'))
args = args.parse_args()
ringfold, victims = os.path.abspath(args.ringfold), os.path.abspath(args.victims)
HERE = os.path.dirname(os.path.abspath(__file__))
SAMPLE, EXIT, FINISHED_ROUND = 9, 4, 68
IDENTIFIER = 1 << 16


def record(name, *command):
    subprocess.run([ringfold, 'record', '-q', '-U', '-F', '999', '-o', name, '--', *command],
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
    """CPU seconds, peak KiB (medians), samples."""
    cpus, peaks, stats = [], [], {}
    for _ in range(args.rounds):
        child = subprocess.Popen([ringfold, 'fold', '-q', '-f', 'collapsed', '-o', '-', '--stats', 'stats.json', name],
                                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = status
        if status:
            sys.exit(f'fold {name}: status {status}')
        cpus.append(usage.ru_utime + usage.ru_stime)
        stats = json.load(open('stats.json'))
        peaks.append(stats['peak_rss_kib'])  # ru_maxrss is at least what this program has
    return statistics.median(cpus), statistics.median(peaks), stats['samples']


def row(name, label):
    cpu, peak, samples = fold(name)
    os.unlink(name)  # they are large
    print(f'{label:<20} {samples:>8} {cpu:>8.3f} {cpu / max(samples, 1) * 1e6:>10.2f} {peak / 1024:>9.1f}')
    return cpu, peak, samples


def samples(deep):
    record('base.data', deep, str(args.seconds))
    repeat('base.data', 'one.data', 1)
    one = row('one.data', 'samples x 1')
    repeat('base.data', 'ten.data', 10)
    ten = row('ten.data', 'samples x 10')
    # What starting and naming cost is in both, so the ratio stays below ten unless something grows.
    # A heap of huge pages has one more or less of them, by where it happens to lie.
    ok = ten[2] == 10 * one[2] and ten[0] <= 10.5 * one[0] and ten[1] <= 1.05 * one[1] + 2048
    print(f'  ten times the samples: {ten[0] / one[0]:.2f} x the time (10.5), '
          f'{ten[1] / one[1]:.2f} x the memory (1.05){"" if ok else " FAILED"}')
    return ok


def further(what, few, many, num):
    """What each further one costs, beyond what its samples would have cost with the few."""
    cpu = many[0] - few[0] / few[2] * many[2]
    print(f'  a further {what}: {cpu / num * 1e6:.0f} us, {(many[1] - few[1]) / num:.2f} KiB')


def binaries(deep):
    rows = []
    for num in (10, 500):
        os.mkdir(f'bin{num}')
        for i in range(num):
            shutil.copy(deep, f'bin{num}/prog{i}')
        record(f'b{num}.data', 'sh', '-c', f'for p in bin{num}/*; do $p {args.seconds / num:.3f}; done')
        rows.append(row(f'b{num}.data', f'{num} binaries'))
        shutil.rmtree(f'bin{num}')
    further('binary', *rows, 490)
    return True


def processes(deep):
    rows = []
    for num in (10, 5000):
        record(f'p{num}.data', 'sh', '-c', f'i=0; while [ $i -lt {num} ]; do {deep} {args.seconds / num:.4f}; i=$((i+1)); done')
        rows.append(row(f'p{num}.data', f'{num:,} processes'))
    further('process', *rows, 4990)
    return True


signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what was made goes
tmp = tempfile.mkdtemp(prefix='ringfold-scale-')
failed = 0
try:
    os.chdir(tmp)
    print(f'{"recording":<20} {"samples":>8} {"CPU s":>8} {"us/sample":>10} {"peak MiB":>9}', flush=True)
    for part in (samples, binaries, processes):
        if args.only in (None, part.__name__):
            failed += not part(f'{victims}/victim-deepc')
    print(f'{int(not failed)} passed, {failed} failed')
finally:
    os.chdir('/')
    shutil.rmtree(tmp, ignore_errors=True)
sys.exit(bool(failed))
