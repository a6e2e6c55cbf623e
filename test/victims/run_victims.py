#!/usr/bin/env python3
"""Records every victim of expect.ini and holds the profile to what is written there.

usage: run_victims.py RINGFOLD VICTIM_DIR [NAME ...] [--expect FILE] [--seconds N] [--freq HZ]
                      [--unwinder NAME] [--keep DIR] [--list]

Prints a table, then what went wrong. Exit status: 0, 1 when a check failed, 77 when nothing failed and
something could not run (1 where TEST_NO_SKIP is set), 2 for a usage error.
"""
import argparse
import configparser
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time

NOT_PERMITTED = 4  # exit status of ringfold
MAX_S = 16         # a victim that got too little of a crowded machine runs again, twice as long, up to this
WANTED = 250       # samples, where the entry does not say: one odd one among them is still below 0.5 %
SLACK_S = 120      # a run that takes so much longer than its victim has hung
# Control bytes, C1, and the marks that turn the direction of text: none may reach a profile.
FORBIDDEN = re.compile('[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]')
LINE = re.compile(r'^[^;]+(?:;[^;]+)* [0-9]+$')
CLASS = re.compile(r'^([a-z_.]+)\s*(>=|<=)\s*([0-9.]+)$')


class Skip(Exception):
    """The entry cannot run here; the text says why."""


def lines(section, key):
    return [line.strip() for line in section.get(key, '').splitlines() if line.strip()]


# ---- the profile ----

def read_folded(path):
    """[(stack, count)] and what is wrong with the text itself."""
    stacks, wrong = [], []
    with open(path, 'rb') as file:
        data = file.read()
    try:
        text = data.decode('utf-8')
    except UnicodeDecodeError as error:
        return [], ['the profile is not UTF-8: %s' % error]
    for line in text.split('\n')[:-1] if text else []:
        if FORBIDDEN.search(line) or not LINE.match(line):
            wrong.append('bad line %r' % line[:120])
            continue
        stack, count = line.rsplit(' ', 1)
        stacks.append((stack, int(count)))
    if text and not text.endswith('\n'):
        wrong.append('the last line has no end')
    return stacks, wrong


def check_accounting(stats, total):
    wrong = []
    classified = (stats['idle'] + stats['kernel_only'] + stats['complete'] + stats['truncated'] +
                  sum(stats['broken'].values()))
    if stats['samples'] != classified:
        wrong.append('samples %d, but the classes add up to %d' % (stats['samples'], classified))
    if total != stats['samples'] - stats['idle']:
        wrong.append('%d samples in the profile, %d in the statistics' %
                     (total, stats['samples'] - stats['idle']))
    if stats['lost'] * 100 > stats['samples']:
        wrong.append('%d of %d samples lost' % (stats['lost'], stats['samples']))
    return wrong


def check_stacks(section, stacks):
    wrong = []
    total = sum(count for _, count in stacks)
    for line in lines(section, 'stacks'):
        percent, pattern = line.split(None, 1)
        regex = re.compile(pattern)
        share = 100.0 * sum(count for stack, count in stacks if regex.search(stack)) / max(total, 1)
        if share < float(percent):
            missed = [(count, stack) for stack, count in stacks if not regex.search(stack)]
            wrong.append('%.1f %% of the samples, not %s %%, match %s' % (share, percent, pattern))
            wrong += ['    %6d %s' % entry for entry in sorted(missed, reverse=True)[:3]]
    for pattern in lines(section, 'never'):
        regex = re.compile(pattern)
        for stack, count in stacks:
            if regex.search(stack):
                wrong.append('%d samples match %s: %s' % (count, pattern, stack))
                break
    return wrong


def class_count(stats, name):
    if name.startswith('broken.'):
        return stats['broken'].get(name[len('broken.'):], 0)
    if name == 'broken':
        return sum(stats['broken'].values())
    return stats[name]


def check_classes(section, stats):
    wrong = []
    users = stats['samples'] - stats['idle'] - stats['kernel_only']
    for line in lines(section, 'classes'):
        match = CLASS.match(line)
        if not match:
            raise ValueError('expectation not understood: %s' % line)
        name, op, percent = match.group(1), match.group(2), float(match.group(3))
        share = 100.0 * class_count(stats, name) / max(users, 1)
        if share < percent if op == '>=' else share > percent:
            wrong.append('%s is %.2f %% of %d user stacks, not %s %g %%: broken %s' %
                         (name, share, users, op, percent, stats['broken']))
    names = section.get('equal', '').split()
    if names and not 0 < stats[names[0]] == stats[names[1]]:
        wrong.append('%s is %d, %s is %d' % (names[0], stats[names[0]], names[1], stats[names[1]]))
    return wrong


def check_profile(section, folded, stats_path):
    """(statistics, what is wrong). Statistics is None when there are none."""
    try:
        stacks, wrong = read_folded(folded)
        with open(stats_path, encoding='utf-8') as file:
            stats = json.load(file)
    except (OSError, ValueError) as error:
        return None, [str(error)]
    wanted = section.getint('samples', fallback=WANTED)
    try:
        if stats['samples'] < wanted:
            wrong.append('%d samples, at least %d wanted' % (stats['samples'], wanted))
        wrong += check_accounting(stats, sum(count for _, count in stacks))
        wrong += check_stacks(section, stacks)
        wrong += check_classes(section, stats)
    except KeyError as error:
        wrong.append('no %s in the statistics' % error)
    return stats, wrong


# ---- running ----

def end_group(process):
    """Ends a process that we started as the leader of its own session, and what it started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def run(argv, seconds):
    """(exit status, stderr). Nothing it started in its session is left behind."""
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, start_new_session=True)
    try:
        output, errors = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        end_group(process)
        return None, 'took longer than %d s' % seconds
    if output:
        errors += b'\nand on stdout: ' + output[:200]
    return process.returncode, errors.decode('utf-8', 'replace').strip()


def check_needs(section, fill):
    for need in shlex.split(section.get('needs', '')):
        need = fill(need)
        if '/' in need and not os.path.exists(need):
            raise Skip('%s was not built' % os.path.basename(need))
        if '/' not in need and not shutil.which(need):
            raise Skip('there is no %s' % need)


def start_victim(argv, section, fill, tmp):
    """The victim as it shall be found: running, its program perhaps replaced or deleted."""
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, start_new_session=True)
    time.sleep(0.2)
    before = section.get('before', '').split()
    program = os.path.join(tmp, 'program')
    if before[:1] == ['replace']:
        shutil.copy(fill(before[1]), program + '.new')
        os.rename(program + '.new', program)
    elif before[:1] == ['delete']:
        os.unlink(program)
    return process


def record(args, name, section, unwinder, tmp, seconds):
    """One run. (statistics or None, what is wrong)"""
    def fill(text):
        return text.replace('{dir}', args.dir).replace('{tmp}', tmp).replace('{seconds}', str(seconds))

    check_needs(section, fill)
    folded, stats = os.path.join(tmp, 'out.folded'), os.path.join(tmp, 'stats.json')
    command = shlex.split(fill(section.get('command', '{dir}/victim-%s {seconds}' % name)))
    if 'program' in section:
        shutil.copy(fill(section['program']), os.path.join(tmp, 'program'))
    argv = shlex.split(section.get('under', '')) + [args.ringfold, 'record', '-q', '-F', str(args.freq),
                                                    '-o', folded, '--stats', stats, '--unwinder', unwinder]
    argv += shlex.split(section.get('record', ''))
    if section.get('how', 'command') == 'attach':
        victim = start_victim(command, section, fill, tmp)
        try:
            status, errors = run(argv + ['-d', str(seconds), '-p', str(victim.pid)], seconds + SLACK_S)
        finally:
            end_group(victim)
    else:
        status, errors = run(argv + ['--'] + command, seconds + SLACK_S)
    if status == NOT_PERMITTED:
        raise Skip(errors or 'not permitted')
    if status in (0, -signal.SIGALRM, 128 + signal.SIGALRM):
        return check_profile(section, folded, stats)
    return None, ['ringfold ended with %s: %s' % (status, errors)]


def record_enough(args, name, section, unwinder, tmp):
    """As record(), for as long as it takes to get the samples that the entry wants. Nothing else is tried again."""
    wanted, seconds = section.getint('samples', fallback=WANTED), args.seconds
    while True:
        stats, wrong = record(args, name, section, unwinder, tmp, seconds)
        if not stats or stats.get('samples', wanted) >= wanted or seconds >= MAX_S:
            return stats, wrong
        seconds = min(2 * seconds, MAX_S)


# ---- the table ----

ROW = '%-16s %-9s %7s %8s %9s %7s %5s  %s'


def print_row(name, unwinder, stats, verdict):
    cells = ('', '', '', '', '')
    if stats:
        cells = tuple(str(cell) for cell in (stats.get('samples'), stats.get('complete'), stats.get('truncated'),
                                             sum(stats.get('broken', {}).values()), stats.get('lost')))
    print(ROW % ((name, unwinder) + cells + (verdict,)), flush=True)


def run_entry(args, name, section, unwinder):
    """'ok', 'skip' or 'FAIL', and the words for it."""
    tmp = tempfile.mkdtemp(prefix='ringfold-victim-')
    stats = None
    try:
        stats, wrong = record_enough(args, name, section, unwinder, tmp)
        verdict = 'FAIL' if wrong else 'ok'
    except Skip as reason:
        verdict, wrong = 'skip', [str(reason)]
    finally:
        if args.keep and os.path.exists(os.path.join(tmp, 'out.folded')):
            os.makedirs(args.keep, exist_ok=True)
            shutil.copy(os.path.join(tmp, 'out.folded'),
                        os.path.join(args.keep, '%s.%s.folded' % (name, unwinder)))
        shutil.rmtree(tmp, ignore_errors=True)
    print_row(name, unwinder, stats, verdict)
    return verdict, ['%s (%s): %s' % (name, unwinder, line) for line in wrong]


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('ringfold')
    parser.add_argument('dir')
    parser.add_argument('names', nargs='*')
    parser.add_argument('--expect', default=os.path.join(os.path.dirname(os.path.abspath(__file__)), 'expect.ini'))
    parser.add_argument('--seconds', type=int, default=1)
    parser.add_argument('--freq', type=int, default=499)
    parser.add_argument('--unwinder', help='only the runs by this one')
    parser.add_argument('--keep', metavar='DIR', help='copy the profiles there')
    parser.add_argument('--list', action='store_true')
    args = parser.parse_args()
    args.ringfold, args.dir = os.path.abspath(args.ringfold), os.path.abspath(args.dir)
    return args


def main():
    sys.stdout.reconfigure(errors='backslashreplace')
    args = parse_args()
    expect = configparser.ConfigParser(interpolation=None, delimiters=('=',), comment_prefixes=('#',))
    with open(args.expect, encoding='utf-8') as file:
        expect.read_file(file)
    unknown = [name for name in args.names if name not in expect]
    if unknown:
        print('no such victim: %s' % ' '.join(unknown), file=sys.stderr)
        return 2
    if args.list:
        print('\n'.join(expect.sections()))
        return 0
    failed, skipped, runs = [], [], 0
    print(ROW % ('victim', 'unwinder', 'samples', 'complete', 'truncated', 'broken', 'lost', ''))
    for name in args.names or expect.sections():
        for unwinder in expect[name].get('unwinders', 'cfi').split():
            if args.unwinder and unwinder != args.unwinder:
                continue
            runs += 1
            verdict, words = run_entry(args, name, expect[name], unwinder)
            if verdict == 'FAIL':
                failed += words
            elif verdict == 'skip':
                skipped += words
    for line in skipped:
        print('SKIP ' + line)
    for line in failed:
        print('FAIL ' + line)
    if failed or not runs or (skipped and os.environ.get('TEST_NO_SKIP')):
        return 1
    return 77 if skipped else 0


if __name__ == '__main__':
    sys.exit(main())
