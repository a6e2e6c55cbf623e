#!/usr/bin/env python3
"""Tests the judgement of run_victims.py with a ringfold that writes what it is told to."""
import json
import os
import subprocess
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
FAKE = '''#!%s
import os, shutil, sys
args = sys.argv
here = os.path.dirname(os.path.abspath(args[0]))
runs = open(here + '/runs', 'a+')
runs.write(' '.join(args[args.index('--') + 1:]) + '\\n')
runs.seek(0)
last = '.few' if len(runs.readlines()) < 3 and os.path.exists(here + '/stats.few') else ''
shutil.copy(here + '/folded' + last, args[args.index('-o') + 1])
shutil.copy(here + '/stats' + last, args[args.index('--stats') + 1])
sys.stderr.write(' '.join(args))
sys.exit(int(open(here + '/status').read()))
''' % sys.executable
EXPECT = '''
[one]
command = {dir}/some victim {seconds}
samples = 100
stacks =
	90 ;main;outer;burn(;|$)
	5 ^one;
never =
	wrong;frame
classes =
	complete >= 90
	broken.no_cfi <= 2
'''
GOOD = {'samples': 100, 'idle': 0, 'kernel_only': 0, 'complete': 95, 'truncated': 3,
        'broken': {'no_cfi': 1, 'outside': 1}, 'lost': 0}
FOLDED = b'one;_start;main;outer;burn 95\none;[truncated];x 5\n'


class RunVictims(unittest.TestCase):
    def judge(self, folded=FOLDED, status=0, expect=EXPECT, env=None, few=None, **changes):
        with tempfile.TemporaryDirectory() as folder:
            def put(name, data):
                with open(os.path.join(folder, name), 'wb') as file:
                    file.write(data)
            put('folded', folded)
            put('stats', json.dumps(dict(GOOD, **changes)).encode())
            put('status', str(status).encode())
            if few:  # what the first two runs give
                put('folded.few', few[0])
                put('stats.few', json.dumps(dict(GOOD, **few[1])).encode())
            put('expect.ini', expect.encode())
            put('ringfold', FAKE.encode())
            os.chmod(os.path.join(folder, 'ringfold'), 0o755)
            done = subprocess.run([sys.executable, os.path.join(HERE, 'run_victims.py'),
                                   os.path.join(folder, 'ringfold'), folder,
                                   '--expect', os.path.join(folder, 'expect.ini')],
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
                                  env=dict({'PATH': os.environ['PATH']}, **(env or {})))
            try:
                with open(os.path.join(folder, 'runs'), encoding='utf-8') as file:
                    self.runs = [line.split()[-1] for line in file]
            except FileNotFoundError:
                self.runs = []
            return done.returncode, done.stdout.decode()

    def fails(self, text, **how):
        status, output = self.judge(**how)
        self.assertEqual(status, 1, output)
        self.assertIn(text, output)

    def test_good(self):
        status, output = self.judge()
        self.assertEqual(status, 0, output)
        self.assertRegex(output, r'one +cfi +100 +95 +3 +2 +0 +ok')

    def test_wrong_chain(self):
        self.fails('89.0 % of the samples', folded=b'one;main;outer;burn 89\none;main;burn 11\n')

    def test_missed_chain_is_shown(self):
        self.fails('11 one;main;burn', folded=b'one;main;outer;burn 89\none;main;burn 11\n')

    def test_never(self):
        self.fails('1 samples match wrong;frame',
                   folded=b'one;_start;main;outer;burn 99\none;wrong;frame 1\n')

    def test_accounting(self):
        self.fails('the classes add up to 99', complete=94)
        self.fails('100 samples in the profile, 99 in the statistics', samples=99, complete=94)

    def test_idle_is_not_in_the_profile(self):
        status, output = self.judge(samples=150, idle=50)
        self.assertEqual(status, 0, output)

    def test_classes(self):
        self.fails('complete is 89.00 % of 100 user stacks', complete=89, truncated=9)
        self.fails('broken.no_cfi is 4.00 %', broken={'no_cfi': 4}, truncated=1)

    def test_lost(self):
        self.fails('2 of 100 samples lost', lost=2)

    def test_too_few(self):
        self.fails('at least 100 wanted', folded=b'one;main;outer;burn 9\n', samples=9, complete=9, truncated=0,
                   broken={})
        self.assertEqual(self.runs, ['1', '2', '4', '8', '16'])

    def test_crowded_machine(self):
        few = (b'one;main;outer;burn 9\n', {'samples': 9, 'complete': 9, 'truncated': 0, 'broken': {}})
        status, output = self.judge(few=few)
        self.assertEqual(status, 0, output)
        self.assertEqual(self.runs, ['1', '2', '4'])

    def test_only_too_few_is_tried_again(self):
        self.fails('89.0 % of the samples', folded=b'one;main;outer;burn 89\none;main;burn 11\n')
        self.assertEqual(self.runs, ['1'])

    def test_forged_text(self):
        self.fails('bad line', folded=FOLDED + b'fake\n')
        self.fails('bad line', folded=b'one;\x1b[2J;main;outer;burn 100\n')
        self.fails('bad line', folded=b'one;;main;outer;burn 100\n')
        self.fails('bad line', folded='one;\u202emain;main;outer;burn 100\n'.encode())
        self.fails('not UTF-8', folded=b'one;\xff;main;outer;burn 100\n')
        self.fails('has no end', folded=FOLDED[:-1])

    def test_failed_recording(self):
        self.fails('ringfold ended with 1', status=1)

    def test_command_line(self):
        self.fails('record -q -F 499 -o', status=1)
        self.fails('--unwinder cfi -- /', status=1)

    def test_skips(self):
        status, output = self.judge(status=4)
        self.assertEqual(status, 77, output)
        status, output = self.judge(expect=EXPECT + 'needs = {dir}/nothing\n')
        self.assertEqual(status, 77, output)
        self.assertIn('nothing was not built', output)
        self.fails('nothing was not built', expect=EXPECT + 'needs = {dir}/nothing\n',
                   env={'TEST_NO_SKIP': '1'})

    def test_unwinders(self):
        status, output = self.judge(expect=EXPECT + 'unwinders = cfi fp\n')
        self.assertEqual(status, 0, output)
        self.assertRegex(output, r'one +fp +100')

    def test_equal(self):
        self.fails('truncated is 3, lost is 0', expect=EXPECT + 'equal = truncated lost\n')


class Expectations(unittest.TestCase):
    def test_our_own_file(self):
        """Every expression of expect.ini compiles and every victim of the build is expected."""
        import configparser
        import re
        expect = configparser.ConfigParser(interpolation=None, delimiters=('=',), comment_prefixes=('#',))
        self.assertTrue(expect.read(os.path.join(HERE, 'expect.ini')))
        for name in expect.sections():
            for line in expect[name].get('stacks', '').split('\n'):
                if line.strip():
                    percent, pattern = line.strip().split(None, 1)
                    self.assertLessEqual(float(percent), 100)
                    re.compile(pattern)
        with open(os.path.join(HERE, 'meson.build'), encoding='utf-8') as file:
            built = set(re.findall(r"^ +'(\w+)' : \{ 'sources'", file.read(), re.MULTILINE))
        text = ' '.join(expect[name].get('command', '{dir}/victim-' + name) + expect[name].get('needs', '') +
                        expect[name].get('program', '') for name in expect.sections())
        named = set(re.findall(r'victim-(\w+)', text))
        self.assertEqual(built - named, set())


if __name__ == '__main__':
    unittest.main()
