#!/usr/bin/env python3
"""usage: test_diff.py RINGFOLD DATA-DIRECTORY

`ringfold diff` on files of collapsed stacks and on recordings, and its page in headless Chromium where that is there.
"""
import gzip
import os
import subprocess
import sys
import tempfile
import zipfile

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(here, '..', 'output'))
import chrome

ringfold, data = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
failures = 0

BEFORE = 'app;main;parse 600\napp;main;write_[k] 300\napp;main;old 100\n'
AFTER = 'app;main;parse 600\napp;main;write_[k] 310\napp;main;<script>evil=1</script>;"new" 290\n'


def check(got, want, what):
    global failures
    if got != want:
        failures += 1
        print(f'FAILED: {what}\n  want {want!r}\n  got  {got!r}', file=sys.stderr)


def run(*args, **how):
    env = dict(os.environ, HOME='/nonexistent', LC_ALL='C')
    env.pop('DEBUGINFOD_URLS', None)
    env.pop('COLUMNS', None)
    return subprocess.run([ringfold, 'diff', *args], capture_output=True, text=True, env=env, timeout=60, **how)


def test_files(folder):
    a, b = os.path.join(folder, 'a.folded'), os.path.join(folder, 'b.folded')
    for path, text in (a, BEFORE), (b, AFTER):
        with open(path, 'w') as out:
            out.write(text)
    bundle, nothing = os.path.join(folder, 'a.trace.zip'), os.path.join(folder, 'empty.zip')
    with zipfile.ZipFile(bundle, 'w', zipfile.ZIP_DEFLATED) as out:
        out.writestr('ringfold.trace/report.txt', 'none of it')
        out.writestr('ringfold.trace/stacks.folded', BEFORE)
    with zipfile.ZipFile(nothing, 'w') as out:
        out.writestr('x', 'y')
    packed = os.path.join(folder, 'a.pb.gz')
    with gzip.open(packed, 'w') as out:
        out.write(b'pprof')
    bad = os.path.join(folder, 'bad')
    with open(bad, 'w') as out:
        out.write('hello\n')
    done = run(a, b, cwd=folder)
    check(done.returncode, 0, done.stderr)
    lines = done.stdout.splitlines()
    check(lines[:2], [f'before  {a}: 1,000 samples', f'after   {b}: 1,200 samples'], 'head')
    for want in ('    +24.17    0.0 %   24.2 %       0     290  "new"', '    -10.00   10.0 %    0.0 %     100       0  old',
                 '    -10.00   60.0 %   50.0 %     600     600  parse', '    ~-4.17   30.0 %   25.8 %     300     310  write'):
        check(want in lines, True, f'{want!r} in\n{done.stdout}')
    done = run('-f', 'collapsed', bundle, a)
    check(done.stdout, 'app;main;old 100 100\napp;main;parse 600 600\napp;main;write 300 300\n', done.stderr)
    # What fold and report do not read, they know all the same.
    for path, words in (a, 'ringfold diff'), (bundle, 'shows the report'), (packed, 'pprof'), (bad, 'within its header'):
        done = subprocess.run([ringfold, 'fold', path], capture_output=True, text=True, timeout=60)
        check((done.returncode, words in done.stderr), (1, True), f'{path}: {done.stderr}')
    # The other way round, from stdin, and the same profile twice.
    done = run(b, '-', input=BEFORE)
    check('    -24.17   24.2 %    0.0 %     290       0  "new"' in done.stdout, True, done.stdout)
    done = run('-f', 'collapsed', a, a)
    check(done.stdout, 'app;main;old 100 100\napp;main;parse 600 600\napp;main;write 300 300\n', 'no change')
    for args, status, words in (((a,), 2, 'two profiles'), ((a, b, '-o', 'x.png'), 2, 'does not tell a format'), ((a, '/nonexistent'), 1, 'No such file'),
                                ((a, '/dev/null'), 3, 'has no samples'), (('-', '-'), 2, 'only one of the two'),
                                ((a, packed), 1, 'is compressed'), ((a, nothing), 1, 'stacks.folded'), (('/nonexistent', a), 1, 'error: open /nonexistent'), ((a, bad), 1, 'collapsed stack'), ((a, b, '-f', 'svg'), 2, 'none of text')):
        done = run(*args)
        check((done.returncode, words in done.stderr, done.stdout), (status, True, ''), f'{args}: {done.stderr}')
    return a, b


def test_recordings():
    done = run('-f', 'collapsed', 'plain.data', 'plain.data', cwd=data)
    check(done.returncode, 0, done.stderr)
    counts = [line.split()[-2:] for line in done.stdout.splitlines()]
    check(sum(int(one[0]) for one in counts), 10, 'samples of a recording')
    check(all(one[0] == one[1] for one in counts), True, 'the same recording')


def test_page(folder, a, b):
    if not chrome.find():
        print('no chromium here: the page was not looked at')
        return
    page = os.path.join(folder, 'd.html')
    done = run('-o', page, a, b)
    check((done.returncode, done.stdout), (0, ''), done.stderr)
    browser = chrome.Chrome()
    try:
        browser.open(page)
        check(browser.complaints(), [], 'the page complains')
        check(browser.js('typeof window.evil'), 'undefined', 'something ran')
        check(browser.js('[ringfold.profile.sum, ringfold.profile.sumBefore, ringfold.profile.width[0]]'), [1200, 1000, 1200], 'samples')
        rows = browser.js('''[...document.querySelectorAll('#functions tbody tr')].map(row => [...row.cells].map(cell => cell.className === 'f' ? cell.childNodes[1].textContent : cell.textContent))''')
        check(rows[0], ['+24.17', '0.0 %', '24.2 %', '"new"'], 'the largest change')
        check([row for row in rows if row[3] == 'write'], [['~ −4.17', '30.0 %', '25.8 %', 'write']], 'chance is marked')
        browser.key('w')
        check(browser.js('[ringfold.profile.side, ringfold.profile.width[0]]'), [0, 1000], 'widths before')
        hue = '''(name => { const p = ringfold.profile, i = [...p.frame].findIndex(f => f >= 0 && p.names[f] === name), c = ringfold.colours.of(i);
            const [r, g, b] = [1, 3, 5].map(n => parseInt(c.slice(n, n + 2), 16)); return r - b > 25 ? 'red' : b - r > 25 ? 'blue' : 'grey'; })'''
        check([browser.js(f'{hue}({name!r})') for name in ('old', 'parse', '"new"', 'write', 'main')], ['blue', 'blue', 'red', 'grey', 'grey'], 'colours')
    finally:
        browser.close()


with tempfile.TemporaryDirectory() as folder:
    pair = test_files(folder)
    test_recordings()
    test_page(folder, *pair)
sys.exit(1 if failures else 0)
