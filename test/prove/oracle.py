#!/usr/bin/env python3
"""Real programs under the oracle (test/live/oracle.c): our stacks against libunwind's and libdwfl's.

usage: oracle.py RINGFOLD VICTIMS_DIR [--seconds S]

Passes when ours is never shorter and never different in more than one sample of a thousand.
"""
import os, shutil, subprocess, sys, tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ringfold, victims = sys.argv[1:3]
seconds = sys.argv[4] if len(sys.argv) > 4 else '4'
oracle = os.path.join(os.path.dirname(victims), 'live', 'oracle')
tmp = tempfile.mkdtemp(prefix='ringfold-oracle-')
rows = [
    ('g++', ['g++', '-std=c++17', '-O2', '-c', '-o', f'{tmp}/big.o', f'{HERE}/big.cpp'], []),
    ('sqlite3', ['sqlite3', ':memory:', 'with recursive n(i) as (select 1 union all select i + 1 from n where '
                 'i < 6000000) select count(*), sum(length(hex(i * 7919 % 10007))) from n where i % 3 = 0'], []),
    ('openssl', ['openssl', 'speed', '-seconds', '1', 'sha256', 'aes-256-cbc', 'rsa2048'], []),
    ('python3', ['python3', '-c', 'import json,re\nfor i in range(60): '
                 'json.loads(json.dumps([{str(k): [k] * 9} for k in range(9000)])); '
                 're.sub("(a|b)+", "x", "abab" * 20000)'], []),
    ('perl', ['perl', '-e', 'my %h; for my $i (1..3000000) { $h{$i % 9973} .= chr(65 + $i % 26) } '
              'print length join "", map { sort split //, $_ } values %h'], []),
    ('deepc', [f'{victims}/victim-deepc', '3'], []),
]
passed = failed = skipped = 0
for name, argv, extra in rows:
    if not shutil.which(argv[0]):
        print(f'{name}: SKIP: {argv[0]} is not installed')
        skipped += 1
        continue
    print(f'--- {name}', flush=True)
    done = subprocess.run([oracle, '--freq', '999', '--seconds', seconds, '--tolerate', '1', *extra, '--', *argv],
                          stdout=subprocess.PIPE, text=True)
    lines = [l for l in done.stdout.splitlines() if l.startswith(('samples ', '  broken', 'kernel fp', 'libunwind ', 'libdwfl '))]
    print('\n'.join(lines), flush=True)
    ok = done.returncode == 0
    passed += ok
    failed += not ok
    if not ok:
        print(f'FAILED: exit {done.returncode}')
shutil.rmtree(tmp)
print(f'{passed} passed, {failed} failed, {skipped} skipped')
sys.exit(1 if failed or (skipped and os.environ.get('TEST_NO_SKIP')) else 0)
