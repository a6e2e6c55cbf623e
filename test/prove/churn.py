#!/usr/bin/env python3
"""20,000 fork+exec a minute under `ringfold record -a`: memory and descriptors stay flat, nothing is misplaced.

usage: churn.py RINGFOLD VICTIMS_DIR [--seconds S] [--rate N]

Children exec one of 16 links to the same program and spin in a function of that number, so a sample whose
process name and function disagree was put into the wrong process. RSS and open descriptors are read every
second; after the first third of the run (warm-up) neither may grow by more than 5 % (RSS: or 1 MiB) beyond what
files that other programs brought in meanwhile explain: a descriptor and 256 KiB each, named in the output.
"""
import argparse, json, os, re, shutil, subprocess, sys, tempfile, time

args = argparse.ArgumentParser()
args.add_argument('ringfold')
args.add_argument('victims')
args.add_argument('--seconds', type=int, default=60)
args.add_argument('--rate', default='20000')
args = args.parse_args()
HERE = os.path.dirname(os.path.abspath(__file__))
tmp = tempfile.mkdtemp(prefix='ringfold-churn-')
try:
    subprocess.run(['cc', '-O1', '-g', '-o', f'{tmp}/storm', f'{HERE}/storm.c'], check=True)
    for i in range(16):
        os.link(f'{tmp}/storm', f'{tmp}/child{i}')
    rec = subprocess.Popen([args.ringfold, 'record', '-q', '-a', '-F', '499', '-d', str(args.seconds), '-o',
                            f'{tmp}/out.folded', '--stats', f'{tmp}/out.json'])
    storm = subprocess.Popen([f'{tmp}/storm', str(args.seconds - 1), args.rate], stdout=subprocess.PIPE, text=True)
    series = []
    for _ in range(args.seconds - 2):
        time.sleep(1)
        rss = int(re.search(r'VmRSS:\s+(\d+)', open(f'/proc/{rec.pid}/status').read()).group(1))
        names = set()
        fds = os.listdir(f'/proc/{rec.pid}/fd')
        for fd in fds:
            try:
                names.add(os.readlink(f'/proc/{rec.pid}/fd/{fd}'))
            except OSError:
                pass
        series.append((rss, len(fds), names))
    started = int(storm.communicate()[0])
    status = rec.wait()
    stats = json.load(open(f'{tmp}/out.json'))
    right = wrong = 0
    for line in open(f'{tmp}/out.folded'):
        stack, count = line.rsplit(' ', 1)
        frames = stack.split(';')
        child = re.fullmatch(r'child(\d+)', frames[0])
        spin = [m.group(1) for f in frames if (m := re.fullmatch(r'spin_(\d+)', f))]
        if spin:
            ok = bool(child) and spin[0] == child.group(1)
            right += int(count) * ok
            wrong += int(count) * (not ok)
    third = len(series) // 3
    warm, end = series[third], series[-1]
    print(f'{started} fork+exec in {args.seconds - 1} s, {stats["samples"]} samples, {stats["lost"]} lost, '
          f'side-band lost {stats.get("side_lost", 0)}')
    print(f'RSS KiB after warm-up {warm[0]}, at the end {end[0]}; descriptors {warm[1]}, {end[1]}')
    print(f'samples in the right process {right}, in a wrong one {wrong}; classes: complete {stats["complete"]}, '
          f'truncated {stats["truncated"]}, broken {stats["broken"]}, refused {stats["refused"]}')
    fresh = sorted(end[2] - warm[2])
    if fresh:
        print(f'opened since warm-up (other programs were started meanwhile?): {", ".join(fresh[:12])}'
              f'{" ..." if len(fresh) > 12 else ""}')
    bad = []
    if status:
        bad.append(f'exit {status}')
    if end[0] > warm[0] * 1.05 + 256 * len(fresh) and end[0] > warm[0] + 1024 + 256 * len(fresh):
        bad.append('memory grows')
    if end[1] > warm[1] * 1.05 + 2 + len(fresh):
        bad.append('descriptors grow')
    if wrong or not right:
        bad.append('samples misplaced')
    if stats['lost'] or stats.get('side_lost', 0):
        bad.append('loss')
    print('FAILED: ' + ', '.join(bad) if bad else 'ok')
    print(f'{int(not bad)} passed, {int(bool(bad))} failed')
    sys.exit(bool(bad))
finally:
    shutil.rmtree(tmp, ignore_errors=True)
