#!/usr/bin/env python3
"""--inline against `perf script --inline` on the same bytes: the inlined names, and what they cost.

usage: inline.py RINGFOLD VICTIMS_DIR [--freq HZ] [--rounds N]

Two rows: a program full of templates, built with -g, and a compile by g++ (whose own DWARF is not there, but libc's may
be). Each sample's chain of names must be the one perf prints (PERF7="CMD.." names a perf 7, ADDR2LINE an addr2line for
it), but for how a function that is not inlined is spelled: perf 7 shows DWARF's name for it, we the symbol's (with
" [clone .isra.0]"). perf 6.1 prints short names, so only the number of frames is compared there. CPU times are medians
with children; the bars are a third of perf 7's and, for the compile, a hundredth of perf 6.1's. In the other row perf
6.1's addr2line has little to search, so its figure is only printed.
"""
import argparse, ctypes, os, re, resource, shlex, shutil, statistics, subprocess, sys, tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
args = argparse.ArgumentParser()
args.add_argument('ringfold')
args.add_argument('victims')
args.add_argument('--freq', default='999')
args.add_argument('--rounds', type=int, default=3)
args = args.parse_args()
args.ringfold = os.path.abspath(args.ringfold)


ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: what perf leaves behind is counted as well


def cpu(argv, out):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(argv, stdout=open(out, 'w'), stderr=subprocess.DEVNULL, check=True)
    while True:
        try:
            os.wait()
        except ChildProcessError:
            break
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def plain(name):
    name = re.sub(r' \((inlined|/.*|\[.*)\)$', '', name)
    name = re.sub(r'\+0x[0-9a-f]+$', '', name)
    return re.sub(r'( \[clone [^]]*\])+$|@@.*', '', name)


def read(path):
    samples = []
    for line in open(path, errors='replace'):
        line = line.rstrip('\n')
        if line.startswith('\t'):
            ip, name = line.split(None, 1)
            samples[-1].append((int(ip, 16), plain(name), '(inlined)' in line))
        elif line:
            samples.append([])
    return samples


def user(sample):
    """Frames of the program itself: libraries' other names (aliases, local labels) are not this proof's matter."""
    return [(ip, name) for ip, name, _ in sample if ip < 1 << 63 and ip >> 40 == 0x55 or ip >> 40 == 0x56]


def templates():
    subprocess.run(['g++', '-O2', '-g', '-o', 'load', f'{HERE}/inline.cpp'], check=True)
    return ['./load']


def compiler():
    return ['g++', '-O2', '-c', '-o', '/dev/null', f'{HERE}/big.cpp']


def readers_of(path):
    fields = ['--inline', '-F', 'comm,pid,tid,time,period,event,ip,sym,symoff,dso']
    ret = {'ringfold': [args.ringfold, 'fold', '-q', '--inline', '-f', 'perf-script', path]}
    if shutil.which('perf'):
        ret['perf 6'] = ['perf', 'script', '-i', path, *fields]
    if os.environ.get('PERF7'):
        tool = ['--addr2line', os.environ['ADDR2LINE']] if os.environ.get('ADDR2LINE') else []
        ret['perf 7'] = [*shlex.split(os.environ['PERF7']), 'script', '-i', path, *fields, *tool]
    return ret


def judge(row, name, ours, mine, cost, bar):
    theirs = read(f'{name}.txt')
    key = (lambda s: [n for _, n in user(s)]) if name == 'perf 7' else len
    same = sum(key(a) == key(b) for a, b in zip(ours, theirs))
    ok = len(ours) == len(theirs) and same >= 0.99 * len(ours)
    cheap = cost >= bar * mine
    print(f'{row:<10} {name:<9} {len(theirs):>8} {100 * same / max(len(ours), 1):>8.2f} {cost:>8.3f} {cost / mine:>8.1f} '
          f'{bar or "-":>5} {"ok" if ok and cheap else "FAILED"}')
    if not ok:
        for a, b in [(a, b) for a, b in zip(ours, theirs) if key(a) != key(b)][:3]:
            print('  ours  ', [n[:60] for _, n, _ in a][:12])
            print('  theirs', [n[:60] for _, n, _ in b][:12])
    return ok and cheap


tmp = tempfile.mkdtemp(prefix='ringfold-inline-')
failed = 0
try:
    os.chdir(tmp)
    if not os.environ.get('PERF7'):
        print('SKIP: perf 7: PERF7 does not name one')
        failed += bool(os.environ.get('TEST_NO_SKIP'))
    print(f'{"row":<10} {"who":<9} {"samples":>8} {"same %":>8} {"CPU s":>8} {"x ours":>8} {"bar":>5}')
    for row, build, bars in (('templates', templates, {'perf 6': 0, 'perf 7': 3}),
                             ('g++', compiler, {'perf 6': 100, 'perf 7': 3})):
        subprocess.run([args.ringfold, 'record', '-q', '-U', '-F', args.freq, '-o', f'{row}.data', '--', *build()],
                       stdout=subprocess.DEVNULL, check=True)
        readers = readers_of(f'{row}.data')
        times = {name: statistics.median(cpu(argv, f'{name}.txt') for _ in range(1 if name == 'perf 6' else args.rounds))
                 for name, argv in readers.items()}
        ours, mine = read('ringfold.txt'), times['ringfold']
        inlined = sum(i for s in ours for _, _, i in s)
        print(f'{row:<10} {"ringfold":<9} {len(ours):>8} {inlined:>8} inlined frames, {mine:.3f} s')
        failed += row == 'templates' and not inlined
        failed += sum(not judge(row, name, ours, mine, times[name], bars[name]) for name in list(readers)[1:])
    print(f'{int(not failed)} passed, {failed} failed')
finally:
    os.chdir('/')
    shutil.rmtree(tmp, ignore_errors=True)
sys.exit(bool(failed))
