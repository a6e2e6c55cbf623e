#!/usr/bin/env python3
"""usage: test_other_formats.py RENDER DATA-DIRECTORY

pprof and speedscope files: what they say, and that go's own reader takes them (where go is installed).
"""
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import pprof

render, data = sys.argv[1:3]
failures = 0

FIXTURE = '''stat	samples	7
stat	freq	100
stat	wall_s	2.5
stat	start_ns	1700000000000000000
stat	event	cpu-clock
stat	targets	process 7
place	[host]
place	shop/web-6d4b/nginx
place	docker:3f2a
frame	label	app	-
frame	native	main	app	/usr/bin/app	55d0c0de1020	20	1020	00ff17
frame	inlined	twice	app	/usr/bin/app	55d0c0de1020	20	1020	00ff17
frame	inlined	thrice	app	/usr/bin/app	55d0c0de1020	20	1020	00ff17
frame	native	-	libbare.so	/lib/libbare.so	7f0000005123	0	5123	abcd
frame	native	work	lib.so	/lib/lib.so	7f0000002fff	0	2fff	-
frame	kernel	vfs_read	[kernel]	-	0	0	ffffffff81002000
frame	kernel	ext4_read	ext4	-	0	0	ffffffffc0000010
frame	jit	-	[jit]	-	0	0	2abc00001234
frame	mark	[truncated]	-
frame	unknown	-	-	-	0	0	dead
frame	native	-	lib.so	/lib/lib.so	7f0000002fff	0	3123	-
sample	1000000000	10000000	0	7	7	0	app	1 2 4 3	1
sample	1010000000	10000000	0	7	7	0	app	1 2 4 3	1
sample	1020000000	10000000	1	7	8	0	two\\x0alines	1 2 3 6 7 8	2
sample	1030000000	10000000	0	7	7	0	app	1 2 5	0
sample	1130000000	10000000	0	7	7	0	app	1 10 9
sample	1136000000	10000000	0	7	7	0	app	1 12 11
sample	1150000000	10000000	0	7	9	0	-	1	1
'''


def check(got, want, what):
    global failures
    if got != want:
        failures += 1
        print(f'FAILED: {what}\n  want {want!r}\n  got  {got!r}', file=sys.stderr)


def make(folder, fixture, name, end):
    path = os.path.join(folder, os.path.basename(fixture) + end)
    with open(path, 'wb') as out:
        subprocess.run([render, fixture, name], stdout=out, check=True)
    return path


def test_pprof(path):
    p = pprof.Profile(path)
    check(p.problems(), [], 'what readers would refuse')
    check(p.types, [('samples', 'count'), ('cpu', 'nanoseconds')], 'types')
    check((p.default, p.period_type, p.period), ('cpu', ('cpu', 'nanoseconds'), 10000000), 'period')
    check((p.time_nanos, p.duration_nanos), (1700000000000000000, 2500000000), 'time')
    check(p.comments, ['process 7: cpu-clock at 100 Hz for 2.500 s', '7 samples, 0 lost, throttled 0 times'], 'comments')
    stacks = sorted((p.stack(sample), sample['values'], p.labels(sample)) for sample in p.samples)
    web = {'namespace': 'shop', 'pod': 'web-6d4b', 'container': 'nginx'}
    check(stacks, sorted([
        (['twice', 'thrice', 'main'], [2, 20000000], {'pid': 7, 'tid': 7, 'comm': 'app', **web}),
        (['ext4_read', 'vfs_read', 'work', 'twice', 'main'], [1, 10000000], {'pid': 7, 'tid': 8, 'comm': 'two?lines', 'container': 'docker:3f2a'}),
        (['/lib/libbare.so+0x5123', 'main'], [1, 10000000], {'pid': 7, 'tid': 7, 'comm': 'app'}),
        (['[jit]', '[truncated]'], [1, 10000000], {'pid': 7, 'tid': 7, 'comm': 'app'}),
        (['[unknown]', '[lib.so]'], [1, 10000000], {'pid': 7, 'tid': 7, 'comm': 'app'}),
        (['app'], [1, 10000000], {'pid': 7, 'tid': 9, **web})]), 'samples')
    inlined = [location for location in p.locations if len(location['line']) == 3]
    check(len(inlined), 1, 'a frame and what is inlined into it are one location')
    check(p.strings[p.mappings[0]['file']], '/usr/bin/app', 'the main program')
    check(sorted((p.strings[m['file']], p.strings[m['build_id']], m['start'], m['limit'], m['offset'], m['has_functions'], m['has_inline']) for m in p.mappings), sorted([
        ('/usr/bin/app', '00ff17', 0x1000, 0x2000, 0x1000, 1, 1),
        ('/lib/libbare.so', 'abcd', 0x5000, 0x6000, 0x5000, 0, 0),
        ('/lib/lib.so', '', 0x2000, 0x4000, 0x2000, 1, 0),
        ('[kernel.kallsyms]', '', 0xffffffff81002000, 0xffffffff81003000, 0xffffffff81002000, 1, 0),
        ('ext4', '', 0xffffffffc0000000, 0xffffffffc0001000, 0xffffffffc0000000, 1, 0),
        ('[jit]', '', 0x2abc00001000, 0x2abc00002000, 0x2abc00001000, 1, 0)]), 'mappings')


def test_go(path):
    go = shutil.which('go')
    if not go:
        print('no go here: its pprof was not asked')
        return
    env = dict(os.environ, HOME=os.path.dirname(path), PPROF_TMPDIR=os.path.dirname(path))
    ask = lambda *args: subprocess.run([go, 'tool', 'pprof', *args, path], capture_output=True, text=True, env=env, timeout=60).stdout
    top = ask('-top', '-sample_index=samples')
    check('File: app\n' in top and 'accounting for 7, 100% of 7 total' in top, True, 'go tool pprof -top:\n' + top)
    tags = ask('-tags')
    for want in ('web-6d4b', 'docker:3f2a', 'two?lines'):
        check(want in tags, True, f'{want} in go tool pprof -tags:\n{tags}')


def test_hostile(folder):
    for fixture, total in ('timeline', 9), ('hostile', 0), ('basic', 0):
        p = pprof.Profile(make(folder, f'{data}/{fixture}.profile', 'pprof', '.pb.gz'))
        check(p.problems(), [], f'{fixture}: what readers would refuse')
        check(sum(sample['values'][0] for sample in p.samples), total, f'{fixture}: samples')
    p = pprof.Profile(make(folder, f'{data}/timeline.profile', 'pprof', '.pb.gz'))
    check(p.types, [('samples', 'count'), ('cycles', 'count')], 'events where the frequency is not known')
    check(p.strings[p.mappings[0]['file']], '[several processes]', 'what was recorded')


def test_speedscope(path):
    with open(path) as file:
        s = json.load(file)
    check(s['$schema'], 'https://www.speedscope.app/file-format-schema.json', 'schema')
    names = [frame['name'] for frame in s['shared']['frames']]
    shown = {}
    for p in s['profiles']:
        check((p['type'], p['unit'], p['startValue'], len(p['samples'])), ('sampled', 'nanoseconds', 0, len(p['weights'])), p['name'])
        check(sum(p['weights']), p['endValue'], f'{p["name"]}: weights fill its time')
        shown[p['name']] = [([names[i] for i in stack], weight) for stack, weight in zip(p['samples'], p['weights'])]
    # Samples of one stack are one, pauses are empty, 6 ms after a sample is its jitter, all begin at the same time.
    check(shown, {
        'app 7/7': [(['main', 'thrice', 'twice'], 20000000), ([], 10000000), (['main', '[libbare.so]'], 10000000), ([], 90000000),
                    (['[truncated]', '[jit]'], 10000000), (['[lib.so]', '[unknown]'], 10000000)],
        'app 7/8': [([], 20000000), (['main', 'twice', 'work', 'vfs_read', 'ext4_read'], 10000000)],
        'app 7/9': [([], 150000000), (['app'], 10000000)]}, 'speedscope profiles')


def test_flame(folder):
    """In the terminal: never wider than it, in colour where it shows colours, else without a single sequence."""
    def draw(columns=None, **env):
        args = [render, f'{data}/hostile.profile' if columns == 61 else f'{data}/basic.profile', 'flame'] + ([str(columns)] if columns else [])
        return subprocess.run(args, capture_output=True, env=dict(env, PATH='/bin'), check=True).stdout.decode()

    plain = draw(LC_ALL='C', TERM='xterm', COLORTERM='truecolor')
    check('\x1b' in plain or not plain.isascii(), False, 'a pipe gets neither colours nor lines that it may not show')
    check(plain.splitlines()[5], '|my worker  79.8 %--------------------------------------------------------------|node  15.0 %--|----', 'a row')
    check(max(map(len, plain.splitlines())) <= 100, True, 'columns of a pipe')
    for columns in 61, 80, 200:
        rgb = draw(columns, LC_ALL='C.UTF-8', TERM='xterm-256color', COLORTERM='truecolor')
        check('\x1b[38;2;' in rgb, True, 'colours')
        bare = re.sub(r'\x1b\[[0-9;]*m', '', rgb)
        check('\x1b' in bare, False, 'other sequences')
        check(max(map(len, bare.splitlines())) <= columns, True, f'not wider than {columns}')
    few = draw(80, LC_ALL='C', TERM='xterm-256color')
    check('48;5;' in few and '48;2;' not in few and few.isascii(), True, '256 colours, ASCII')
    for env in {'NO_COLOR': '1', 'TERM': 'xterm'}, {'TERM': 'dumb'}, {}:
        check('\x1b' in draw(80, **env), False, f'no colours with {env}')


def main():
    with tempfile.TemporaryDirectory() as folder:
        fixture = os.path.join(folder, 'x.profile')
        with open(fixture, 'w') as out:
            out.write(FIXTURE)
        path = make(folder, fixture, 'pprof', '.pb.gz')
        test_pprof(path)
        test_go(path)
        test_hostile(folder)
        test_flame(folder)
        test_speedscope(make(folder, fixture, 'speedscope', '.speedscope.json'))
    return 1 if failures else 0


sys.exit(main())
