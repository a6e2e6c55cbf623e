#!/usr/bin/env python3
"""usage: formats.py RINGFOLD VICTIMS [SECONDS]

One recording of the machine into every format at once, each opened by what it is for: the same samples everywhere.

  go tool pprof            where go is installed
  speedscope               SPEEDSCOPE=DIR, a release as npm has it (dist/release); SPEEDSCOPE=npm fetches one
  PerfView's own parser    TRACEVIEW=COMMAND, which shows as JSON what TraceEvent's LinuxPerfScriptStackSource sees
  the page itself          where chromium is installed

What is not there is skipped aloud. Bars: totals and the ten hottest functions equal to the sample; PerfView leaves out
the last sample of each CPU, which has no successor to tell its time, and the processes' shares of its CPU time are right to 2 % (it takes the time
from one sample of a CPU to the next, so the idle task is recorded too).
"""
import base64
import collections
import glob
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'output'))
import chrome
import pprof

ringfold = os.path.abspath(sys.argv[1])
seconds = sys.argv[3] if len(sys.argv) > 3 else '5'
FREQ = 499
failures = 0
SPIN = 'import time,hashlib\nend=time.time()+%s\nwhile time.time()<end: sum(i*i for i in range(2000)); hashlib.sha256(b"x"*50000).hexdigest()'


def row(who, got, want, note='', exact=True):
    global failures
    ok = got == want if exact else got
    failures += not ok
    print(f'  {"ok  " if ok else "FAIL"}  {who:38} {got if exact else ""} {note}'.rstrip())


def skip(who, why):
    print(f'  skip  {who:38} {why}')


def collapsed(path):
    leaves = collections.Counter()
    with open(path) as file:
        for line in file:
            stack, _, count = line.rstrip('\n').rpartition(' ')
            leaves[stack.rpartition(';')[2]] += int(count)
    return leaves


def html(path):
    with open(path) as file:
        data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', file.read(), re.S).group(1))
    raw, at, leaves = base64.b64decode(data['nodes']), 0, collections.Counter()
    for _ in range(data['count']):
        _, at = pprof.varint(raw, at)
        frame, at = pprof.varint(raw, at)
        count, at = pprof.varint(raw, at)
        leaves[data['names'][frame]] += count
    raw, at, timed = base64.b64decode(data['time']['samples']), 0, 0
    for _ in range(data['time']['bins']):
        pairs, at = pprof.varint(raw, at)
        for _ in range(pairs):
            _, at = pprof.varint(raw, at)
            count, at = pprof.varint(raw, at)
            timed += count
    return leaves, timed


def perf_script(path):
    leaves, threads, times = collections.Counter(), collections.Counter(), []
    with open(path) as file:
        for block in file.read().split('\n\n'):
            lines = block.strip('\n').split('\n')
            if not lines[0]:
                continue
            head = re.match(r'(\S.*?)\s+(\d+)/(\d+)\s', lines[0])
            threads[head.group(2)] += 1
            times.append(float(re.search(r' (\d+\.\d{6}): ', lines[0]).group(1)))
            frame = re.match(r'\s+[0-9a-f]+ (.*) \((.*)\)$', lines[1]) if len(lines) > 1 else None
            leaves[re.sub(r'\+0x[0-9a-f]+$', '', frame.group(1)) if frame else '[no frame]'] += 1
    return leaves, threads, times


def speedscope(path):
    leaves, threads = collections.Counter(), {}
    with open(path) as file:
        data = json.load(file)
    names, period = [frame['name'] for frame in data['shared']['frames']], 1000000000 // FREQ
    for thread in data['profiles']:
        mine = collections.Counter()
        for stack, weight in zip(thread['samples'], thread['weights']):
            if stack:
                mine[names[stack[-1]]] += weight // period
        threads[thread['name']] = mine
        leaves += mine
    return leaves, threads, data['profiles'][0]['name']


def go_pprof(path, total):
    go = shutil.which('go')
    if not go:
        return skip('go tool pprof', 'go is not installed')
    ask = lambda *args: subprocess.run([go, 'tool', 'pprof', *args, path], capture_output=True, text=True).stdout
    top = ask('-top', '-sample_index=samples', '-nodecount=10')
    found = re.search(r'of (\d+) total', top)
    row('go tool pprof -top', int(found.group(1)) if found else top, total)
    tags = ask('-tags', '-sample_index=samples')
    sums = [int(n) for n in re.findall(r'^ (?:comm|pid|tid): Total (\d+)', tags, re.M)]
    row('go tool pprof -tags: comm', [n for n in sums][:1], [total])


def speedscope_app(path, threads, active, folder):
    if not chrome.find():
        return skip('speedscope', 'no chromium to open it with')
    release = os.environ.get('SPEEDSCOPE')
    if release == 'npm' and shutil.which('npm'):
        subprocess.run(['npm', 'pack', 'speedscope'], cwd=folder, capture_output=True)
        for packed in glob.glob(f'{folder}/speedscope-*.tgz'):
            shutil.unpack_archive(packed, folder, 'gztar', filter='data')
            release = f'{folder}/package/dist/release'
    if not release or not os.path.exists(f'{release}/index.html'):
        return skip('speedscope', 'SPEEDSCOPE is not set, or npm did not bring it')
    with open(path, 'rb') as file, open(f'{folder}/load.js', 'w') as out:
        out.write(f'speedscope.loadFileFromBase64("x.speedscope.json", "{base64.b64encode(file.read()).decode()}")')
    browser = chrome.Chrome(1400, 3000)
    try:
        browser.send('Page.navigate', url=f'file://{release}/index.html#localProfilePath={folder}/load.js&view=sandwich')
        browser.wait('document.body && document.body.innerText.includes("Symbol Name")', 60)
        text = browser.js('document.body.innerText')
        bad = [said for said in browser.complaints() if said['method'] == 'Runtime.exceptionThrown']
        row('speedscope: exceptions', bad, [])
        row('speedscope: number of threads', int(re.search(r'\(1/(\d+)\)', text).group(1)), len(threads))
        shown = re.findall(r'^\S+ \([^)]*\)\s+(\S+?)(ns|µs|ms|s) \([^)]*\)\s+(.+)$', text, re.M)
        units = {'ns': 1e-9, 'µs': 1e-6, 'ms': 1e-3, 's': 1}
        wrong = [(name, value, unit) for value, unit, name in shown
                 if abs(float(value) * units[unit] - threads[active][name] / FREQ) > .006 * units[unit]]
        row(f'speedscope: self of {len(shown)} functions', bool(shown) and not wrong, True, f'{wrong[:3]}' if wrong else '', exact=False)
    finally:
        browser.close()


def perfview(path, total, threads):
    command = os.environ.get('TRACEVIEW')
    if not command:
        return skip("PerfView's parser", 'TRACEVIEW is not set')
    seen = json.loads(subprocess.run([command, path], capture_output=True, text=True, check=True, timeout=120).stdout)
    cpus = os.cpu_count()
    row("PerfView's parser: samples", total - cpus <= seen['samples'] <= total, True, f'{seen["samples"]} of {total}', exact=False)
    row("PerfView's parser: broken stacks", seen['broken'], 0)
    weights = collections.Counter()
    for name, ms in seen['process'].items():
        weights[re.search(r'\((\d+)\)$', name).group(1)] += ms
    big = [pid for pid, count in threads.items() if count >= 500]
    whole = seen['weight_ms'] / seen['samples']  # of one sample: a busy machine takes some of them late
    far = max([abs(weights[pid] / whole / threads[pid] - 1) for pid in big], default=0)
    row(f"PerfView's parser: share of {len(big)} processes", far <= .02, True, f'right to {far * 100:.2f} %', exact=False)


def page(path, total):
    if not chrome.find():
        return skip('the page', 'no chromium')
    browser = chrome.Chrome()
    try:
        browser.open(path)
        row('the page, in chromium', browser.js('ringfold.profile.sum'), total)
    finally:
        browser.close()


def main():
    with tempfile.TemporaryDirectory() as folder:
        out = f'{folder}/x'
        ends = ['.folded', '.html', '.svg', '.pb.gz', '.speedscope.json', '.data.txt']
        spinners = [subprocess.Popen([sys.executable, '-c', SPIN % (float(seconds) + 2)]) for _ in range(2)]
        subprocess.run([ringfold, 'record', '-q', '-a', '--include-idle', '-F', str(FREQ), '-d', seconds, '--stats', out + '.json', *(arg for end in ends for arg in ('-o', out + end))], check=True)
        for one in spinners:
            one.wait()
        with open(out + '.json') as file:
            stats = json.load(file)
        total = stats['samples']
        print(f'{total} samples of the machine, {stats["wall_s"]:.1f} s, in one recording:')
        for end in ends:
            print(f'        {end:18} {os.path.getsize(out + end) >> 10:6} KiB')
        folded = collapsed(out + '.folded')
        row('collapsed', sum(folded.values()), total)
        leaves = {'page': html(out + '.html')[0]}
        row('html: graph', sum(leaves['page'].values()), total)
        row('html: strip of time', html(out + '.html')[1], total)
        with open(out + '.svg') as file:
            found = re.search(r'<title>all&#10;100\.0 %, ([\d,]+) samples', file.read())
        row('svg', int(found.group(1).replace(',', '')), total)
        profile = pprof.Profile(out + '.pb.gz')
        row('pprof: what readers would refuse', profile.problems(), [])
        row('pprof', sum(sample['values'][0] for sample in profile.samples), total)
        leaves['pprof'] = collections.Counter()
        for sample in profile.samples:
            leaves['pprof'][profile.stack(sample)[0]] += sample['values'][0]
        leaves['speedscope'], threads, active = speedscope(out + '.speedscope.json')
        row('speedscope', sum(leaves['speedscope'].values()), total)
        leaves['perf script'], processes, times = perf_script(out + '.data.txt')
        row('perf script text', sum(leaves['perf script'].values()), total)
        row('perf script text: in order of time', times == sorted(times), True)
        hottest = [(name, count) for name, count in folded.most_common(40) if name[0] != '['][:10]
        for name in leaves:
            wrong = [(f, count, leaves[name][f]) for f, count in hottest if leaves[name][f] != count]
            row(f'the ten hottest functions in {name}', not wrong, True, f'{wrong}' if wrong else '', exact=False)
        page(out + '.html', total)
        go_pprof(out + '.pb.gz', total)
        speedscope_app(out + '.speedscope.json', threads, active, folder)
        perfview(out + '.data.txt', total, processes)
    print(f'{failures} failed' if failures else 'all the same')
    return 1 if failures else 0


sys.exit(main())
