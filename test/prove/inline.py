#!/usr/bin/env python3
"""--inline against `perf script --inline` on the same bytes, and against llvm-symbolizer: the inlined names, and what they cost.

usage: inline.py RINGFOLD VICTIMS_DIR [--freq HZ] [--rounds N] [--only ROW]

Two rows of samples: a program full of templates, built with -g, and a compile by g++ (whose own DWARF is not there, but libc's
may be). Both chains are laid beside each other by their addresses, as perf's may be shorter (perf 7 prints 127 frames; 6.1
loses callers, more of them where libc6-dbg is installed, with --no-inline too): that is prove.sh agree's matter, and told
here in a column. Where both have the address and either has inlined functions there, the names must be the same in the same
order, but for that of the function that has the code: perf 7 shows DWARF's name for it, we the symbol's. perf 6.1 prints
names without parameters and return types, so ours lose them for it. PERF7="CMD.." names a perf 7, ADDR2LINE an addr2line for it.
CPU times are medians with children; the bars are a third of perf 7's and, for the compile, a hundredth of perf 6.1's. In the
other row perf 6.1's addr2line has little to search, so its figure is only printed.

Then every third byte of the same program's code in each form that compilers, dwp and dwz give its DWARF, against llvm-symbolizer
(inline_forms.py).
"""
import argparse, ctypes, difflib, glob, os, re, resource, shlex, shutil, statistics, subprocess, sys, tempfile

import inline_forms

HERE = os.path.dirname(os.path.abspath(__file__))
args = argparse.ArgumentParser()
args.add_argument('ringfold')
args.add_argument('victims')
args.add_argument('--freq', default='999')
args.add_argument('--rounds', type=int, default=3)
args.add_argument('--only', help='templates, g++, go or forms')
args = args.parse_args()
args.ringfold, args.victims = os.path.abspath(args.ringfold), os.path.abspath(args.victims)


ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: what perf leaves behind is counted as well


def cpu(argv, out):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with open(out, 'w') as to:
        done = subprocess.run(argv, stdout=to, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f'inline: {shlex.join(argv)} ended with {done.returncode} (a perf 7 may need ADDR2LINE): {done.stderr[-300:]}')
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


def places(sample, bits, marked):
    """
    [address, names innermost first, is one inlined] of each frame. It ends with the function that is not inlined, where that is
    marked; perf 7 marks others too, so there recursion through one call is one, on both sides alike.
    """
    ret, goes_on = [], False
    for ip, name, inlined in sample:
        if goes_on and ret[-1][0] == ip & bits:
            ret[-1][1].append(name)
            ret[-1][2] |= inlined
        else:
            ret.append([ip & bits, [name], inlined])
        goes_on = inlined or not marked
    return ret


def short(name):
    """Without parameters and what follows them."""
    name = re.sub(r'( const| volatile| &&?)+$', '', name)
    if not name.endswith(')') or name.endswith('operator()'):
        return name
    depth = 0
    for i in range(len(name) - 1, -1, -1):
        depth += (name[i] == ')') - (name[i] == '(')
        if not depth:
            return name[:i]
    return name


def same_name(mine, theirs, shortened):
    if not shortened:
        return mine == theirs
    mine, theirs = short(mine), short(theirs)
    return mine == theirs or mine.endswith(' ' + theirs)  # a template's name begins with the type it returns


def same_names(mine, theirs, shortened):
    return len(mine) == len(theirs) and all(same_name(a, b, shortened) for a, b in zip(mine[:-1], theirs[:-1]))


def templates():
    subprocess.run(['g++', '-O2', '-g', '-o', 'load', f'{HERE}/inline.cpp'], check=True)
    return ['./load']


def compiler():
    return ['g++', '-O2', '-c', '-o', 'big.o', f'{HERE}/big.cpp']  # as root it would replace /dev/null by a file


def go():
    root = subprocess.run(['go', 'env', 'GOROOT'], capture_output=True, text=True, check=True).stdout.strip()
    subprocess.run(['go', 'build', '-o', 'compile', 'cmd/compile'], check=True)
    sources = [p for p in sorted(glob.glob(f'{root}/src/go/types/*.go')) if not p.endswith(('_test.go', 'gotype.go'))]
    return ['./compile', '-o', 'types.o', '-p', 'go/types', '-I', f'{root}/pkg/linux_amd64', *sources]


def readers_of(path, peers):
    fields = ['--inline', '-F', 'comm,pid,tid,time,period,event,ip,sym,symoff,dso']
    ret = {'ringfold': [args.ringfold, 'fold', '-q', '--inline', '-f', 'perf-script', path]}
    if shutil.which('perf') and 'perf 6' in peers:
        ret['perf 6'] = ['perf', 'script', '-i', path, *fields]
    if os.environ.get('PERF7'):
        tool = ['--addr2line', os.environ['ADDR2LINE']] if os.environ.get('ADDR2LINE') else []
        ret['perf 7'] = [*shlex.split(os.environ['PERF7']), 'script', '-i', path, *fields, *tool]
    return ret


def compare(ours, theirs, old):
    """Places that both have and that have inlined functions; how many are the same; places only one has; examples."""
    num = same = mine_alone = theirs_alone = 0
    odd = []
    bits = 0xfff if old else -1  # perf 6.1 prints offsets in files: what is below the page is the same
    for a, b in zip(ours, theirs):
        a, b = places(a, bits, old), places(b, bits, old)
        match = difflib.SequenceMatcher(None, [p[0] for p in a], [p[0] for p in b], autojunk=False)
        for how, i1, i2, j1, j2 in match.get_opcodes():
            if how != 'equal':
                mine_alone += i2 - i1
                theirs_alone += j2 - j1
                continue
            for (ip, mine, inlined), (_, other, inlined_there) in zip(a[i1:i2], b[j1:j2]):
                # perf 6.1 calls a function inlined where addr2line has another name for it.
                if not (inlined or inlined_there) or len(mine) == len(other) == 1:
                    continue
                num += 1
                if same_names(mine, other, old):
                    same += 1
                else:
                    odd.append((ip, mine, other))
    return num, same, mine_alone, theirs_alone, odd


def judge(row, name, ours, mine, cost, bar):
    theirs = read(f'{name}.txt')
    num, same, mine_alone, theirs_alone, odd = compare(ours, theirs, name == 'perf 6')
    ok = len(ours) == len(theirs) and num and same >= 0.99 * num
    cheap = cost >= bar * mine
    print(f'{row:<10} {name:<9} {len(theirs):>8} {num:>8} {100 * same / max(num, 1):>8.2f} {mine_alone:>7} {theirs_alone:>7} '
          f'{cost:>8.3f} {cost / mine:>8.1f} {bar or "-":>5} {"ok" if ok and cheap else "FAILED"}')
    for ip, a, b in odd[:1 if ok else 4]:
        print(f'  differs at {ip:x}: ours {[n[:50] for n in a][:6]}, theirs {[n[:50] for n in b][:6]}')
    return ok and cheap


tmp = tempfile.mkdtemp(prefix='ringfold-inline-')
failed = 0
try:
    os.chdir(tmp)
    if not os.environ.get('PERF7'):
        print('SKIP: perf 7: PERF7 does not name one')
        failed += bool(os.environ.get('TEST_NO_SKIP'))
    print(f'{"row":<10} {"who":<9} {"samples":>8} {"inlined":>8} {"same %":>8} {"alone":>7} {"theirs":>7} '
          f'{"CPU s":>8} {"x ours":>8} {"bar":>5}')
    for row, build, bars in (('templates', templates, {'perf 6': 0, 'perf 7': 3}),
                             ('g++', compiler, {'perf 6': 100, 'perf 7': 3}), ('go', go, {'perf 7': 3})):
        if args.only not in (None, row):
            continue
        if row == 'go' and not shutil.which('go'):
            print('SKIP: go: not installed')
            continue
        subprocess.run([args.ringfold, 'record', '-q', '-U', '-F', args.freq, '-o', f'{row}.data', '--', *build()],
                       stdout=subprocess.DEVNULL, check=True)
        readers = readers_of(f'{row}.data', bars)
        times = {name: statistics.median(cpu(argv, f'{name}.txt') for _ in range(1 if name == 'perf 6' else args.rounds))
                 for name, argv in readers.items()}
        ours, mine = read('ringfold.txt'), times['ringfold']
        inlined = sum(i for s in ours for _, _, i in s)
        print(f'{row:<10} {"ringfold":<9} {len(ours):>8} {inlined:>8} inlined frames, {mine:.3f} s')
        failed += row == 'templates' and not inlined
        failed += sum(not judge(row, name, ours, mine, times[name], bars[name]) for name in list(readers)[1:])
    if args.only in (None, 'forms'):
        failed += inline_forms.run(f'{args.victims}/../symbols/bench_inline')
    print(f'{int(not failed)} passed, {failed} failed')
finally:
    os.chdir('/')
    shutil.rmtree(tmp, ignore_errors=True)
sys.exit(bool(failed))
