#!/usr/bin/env python3
"""usage: test_fold.py RINGFOLD DATA-DIRECTORY

`ringfold fold` and `report` on recordings of perf 6.1 and 7 that are kept in test/data/perfdata, whose program is kept
with them: exact stacks, and what is said about everything that is missing or wrong.
"""
import ctypes
import http.server
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
import time

ringfold, data = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
failures = 0

KID = 'kid;_start;run;child;outer;middle;leaf'
VICTIM = 'victim;_start;run;outer;middle;leaf'


class Result:
    def __init__(self, args, **how):
        env = dict(os.environ, HOME='/nonexistent', LC_ALL='C')
        env.pop('DEBUGINFOD_URLS', None)
        env.update(how.pop('env', {}))
        done = subprocess.run([ringfold, *args], capture_output=True, text=True, cwd=data, env=env, timeout=60, **how)
        self.args, self.status, self.out, self.err = args, done.returncode, done.stdout, done.stderr
        self.stacks = {}
        for line in self.out.splitlines():
            stack, _, count = line.rpartition(' ')
            self.stacks[stack] = count


def check(ok, result, what):
    global failures
    if ok:
        return
    failures += 1
    print(f'FAILED: {what}\n  {" ".join(result.args)}\n  status {result.status}\n{result.out}{result.err}', file=sys.stderr)


def fold(*args, status=0, **how):
    result = Result(['fold', *args], **how)
    check(result.status == status, result, f'status {status} expected')
    return result


def expect(stacks, *args, symfs='root', said=(), **how):
    result = fold('--symfs', symfs, *args, **how)
    check(result.stacks == {k: str(v) for k, v in stacks.items()}, result, f'expected {stacks}')
    for words in said:
        check(words in result.err, result, f'should say "{words}"')
    return result


def refuse(words, *args, status=1, **how):
    result = fold(*args, status=status, **how)
    check(words in result.err and not result.out, result, f'should say "{words}" and nothing else')


def records(content):
    """(offset, type, size) of each of a file's."""
    at, size = (int.from_bytes(content[i:i + 8], 'little') for i in (40, 48))
    end = at + size
    while at < end:
        yield at, int.from_bytes(content[at:at + 4], 'little'), int.from_bytes(content[at + 6:at + 8], 'little')
        at += int.from_bytes(content[at + 6:at + 8], 'little')


def test_kinds():
    """What perf can write: each unwound, named, in one order."""
    expect({KID: 5, VICTIM: 5}, 'plain.data')
    expect({KID: 5, VICTIM: 4}, 'buildid.data')
    expect({KID: 5, VICTIM: 5}, 'zstd.data')
    expect({KID: 5, VICTIM: 5}, 'zstd7.data')
    expect({KID: 5, VICTIM: 5}, 'threads.data')
    expect({KID: 6, VICTIM: 5}, 'pipe.data', said=['no build-id of 1 file'])
    # The kernel's frame-pointer chain misses the caller of a leaf without a frame.
    chain = {KID.replace(';middle', ''): 6, VICTIM.replace(';middle', ''): 4}
    expect(chain, 'fp.data')
    expect(chain, '--unwinder', 'fp', 'fp.data')


def test_events():
    """One event counts; what is left out is told."""
    faults = {'kid;_start;run;child;outer;middle;leaf': 2, 'victim;_start': 1, 'victim;_start;run': 3, VICTIM: 2}
    expect(faults, 'multi.data', said=['only samples of page-faults count here', 'cpu-clock (9)'])
    expect(faults, 'multi.data', '-e', 'page-faults')
    expect({KID: 5, VICTIM: 4}, 'multi.data', '-e', 'cpu-clock', said=['page-faults (8)'])
    expect({KID: 7, VICTIM: 6, 'victim;_start': 1, 'victim;_start;run': 3}, 'multi.data', '-e', 'all')
    refuse('no event "cycles" was recorded; there are: page-faults, cpu-clock', 'multi.data', '-e', 'cycles', status=2)
    # One that has no samples (yet) is told of by its own name.
    content = open(data + '/multi.data', 'rb').read()
    at, _, size = next(one for one in records(content) if one[1] == 9)
    with tempfile.NamedTemporaryFile(suffix='.data') as early:
        early.write(content[:at + size])
        early.flush()
        expect({}, early.name, '-e', 'cpu-clock', symfs=data + '/root', status=3,
               said=['only samples of cpu-clock count here; there are others: page-faults (1)'])
    # One that was counted along with another's samples ({..}:S) has a sample wherever it counted since.
    expect({'victim;_start;run;outer;leaf': 4}, 'group.data')
    expect({'victim;_start;run;outer;leaf': 4}, 'group.data', '-e', 'task-clock', said=['only samples of task-clock'])
    # Events of different layouts: a dump for one, the kernel's chain for the other.
    expect({KID: 5, VICTIM: 4}, 'mixed7.data', said=['page-faults'])
    result = fold('--symfs', 'root', 'mixed7.data', '-e', 'page-faults')
    check(sum(int(n) for n in result.stacks.values()) == 4, result, '4 page faults')


def test_filters():
    expect({KID: 5}, 'plain.data', '--comm', 'kid')
    expect({VICTIM: 5}, 'plain.data', '-p', '4020')
    expect({KID: 5}, 'plain.data', '-t', '4022,4023')
    expect({}, 'plain.data', '-p', '1', status=3)
    expect({KID: 2, VICTIM: 2}, 'plain.data', '--time', ',13630.29')
    expect({KID: 3, VICTIM: 3}, 'plain.data', '--time', '13630.29,')
    expect({KID: 1}, 'plain.data', '--time', '13630.271984,13630.271985')
    expect({KID: 3, VICTIM: 2}, 'plain.data', '--time', '50%-100%')
    refuse('is neither FROM,TO', 'plain.data', '--time', 'noon', status=2)
    refuse('does not tell on which CPU', 'plain.data', '-C', '0')
    expect({'kid-4022;thread_4022' + KID[3:]: 5, 'victim-4020;thread_4020' + VICTIM[6:]: 5}, 'plain.data', '--pids', '--threads')
    expect({KID: 5, VICTIM: 5}, 'plain.data', '-U')


def test_no_copy():
    """In the kernel, when nothing of the stack could be copied: the sampled place is known all the same."""
    with open(f'{data}/plain.data', 'rb') as f:
        bytes_ = bytearray(f.read())
    at, size = struct.unpack_from('<QQ', bytes_, 40)
    end = at + size
    while at < end:
        kind, misc, length = struct.unpack_from('<IHH', bytes_, at)
        if kind == 9: # PERF_RECORD_SAMPLE; the last word but one tells how much was copied; 1 = in the kernel
            struct.pack_into('<H', bytes_, at + 4, misc & ~7 | 1)
            struct.pack_into('<Q', bytes_, at + length - 16, 0)
        at += length
    with tempfile.TemporaryDirectory(prefix='ringfold-fold-') as tmp:
        with open(f'{tmp}/x.data', 'wb') as f:
            f.write(bytes_)
        result = expect({'kid;[broken];leaf': 5, 'victim;[broken];leaf': 5}, f'{tmp}/x.data', '--stats', f'{tmp}/x.json')
        with open(f'{tmp}/x.json') as f:
            stats = json.load(f)
        check(stats['kernel_only'] == stats['samples'] == 10 and stats['frames'] == 10 and stats['user_stacks'] == 0, result,
              f'10 are kernel only: {stats}')


def test_deferred():
    """User callchains that come in records of their own (`--call-graph fp,defer`): put together, and told where one is missing."""
    content = open(data + '/fp.data', 'rb').read()
    begin, size = struct.unpack_from('<QQ', content, 40)
    out, open_cookies, victims = bytearray(content[:begin]), {}, 0
    for at, kind, length in records(content):
        record = content[at:at + length]
        if kind != 9:
            out += record
            continue
        _, pid, tid, time_ns, _, num = struct.unpack_from('<QIIQQQ', record, 8)
        chain = record[48:48 + 8 * num] # with PERF_CONTEXT_USER
        assert struct.unpack_from('<q', chain)[0] == -512 and length == 48 + 8 * num
        # Two samples of the one program share a stay in the kernel each time; of the other, one chain is lost.
        is_kid = pid != 4098
        cookie = open_cookies.pop(tid, None) if is_kid else None
        last = cookie is not None or not is_kid
        cookie = cookie or 1 << 60 | time_ns
        if not last:
            open_cookies[tid] = cookie
        out += struct.pack('<IHH', 9, 2, 64) + record[8:40] + struct.pack('<QqQ', 2, -640, cookie)
        victims += not is_kid
        if last and (is_kid or victims != 2):
            out += struct.pack('<IHHQQ', 22, 0, 40 + len(chain), cookie, num) + chain + struct.pack('<IIQ', pid, tid, time_ns + 1)
    struct.pack_into('<Q', out, 48, len(out) - begin)
    features = bin(int.from_bytes(content[72:104], 'little')).count('1')
    moved = len(out) - (begin + size)
    for i in range(features):
        where, length = struct.unpack_from('<QQ', content, begin + size + 16 * i)
        out += struct.pack('<QQ', where + moved, length)
    out += content[begin + size + 16 * features:]
    kid, victim = KID.replace(';middle', ''), VICTIM.replace(';middle', '')
    with tempfile.TemporaryDirectory(prefix='ringfold-fold-') as tmp:
        open(f'{tmp}/x.data', 'wb').write(out)
        result = expect({kid: 6, victim: 3, 'victim;[broken];leaf': 1}, f'{tmp}/x.data', '--stats', f'{tmp}/x.json')
        stats = json.load(open(f'{tmp}/x.json'))
        check(stats['broken'] == {'no_chain': 1} and stats['samples'] == 10 and stats['complete'] == 9, result, f'{stats}')


def with_root(change):
    """A tree with the program, changed."""
    root = tempfile.mkdtemp(prefix='ringfold-fold-')
    os.makedirs(root + '/tmp/rf')
    path = root + '/tmp/rf/victim'
    content = bytearray(open(data + '/root/tmp/rf/victim', 'rb').read())
    change(content)
    open(path, 'wb').write(content)
    return root


def test_missing():
    """No name and no step by another file than the recorded one; how much that cost is told."""
    build_id = bytes.fromhex(open(data + '/build-id').read().strip())

    def another(content):
        at = content.find(build_id)
        assert at > 0
        content[at] ^= 1

    empty, changed = tempfile.mkdtemp(prefix='ringfold-fold-'), with_root(another)
    for symfs, word, refusal in (empty, 'not here', 'gone'), (changed, 'another version is here', 'changed'):
        with tempfile.NamedTemporaryFile() as stats:
            result = fold('--symfs', symfs, 'plain.data', '--stats', stats.name)
            check(not any(name in result.out for name in ('leaf', 'middle', '_start')), result, 'no names')
            check('[victim]' in result.out, result, 'the module is named')
            check(f'/tmp/rf/victim ({word}; 10 samples)' in result.err, result, f'should say {word}')
            said = json.load(open(stats.name))
            check(said['unresolved_files'] == 1 and said['unresolved_samples'] == 10, result, str(said))
            check(refusal in said['refused'] and said['samples'] == 10, result, str(said))
    # Chains that end nowhere known are told of with what to do.
    result = fold('--symfs', empty, 'fp.data')
    check('recorded by frame pointers' in result.err, result, 'why stacks end early')
    check('recorded by frame pointers' not in fold('--symfs', 'root', 'fp.data').err, result, 'not where they do not')
    # perf's cache, by build-id.
    cache = f'{empty}/.debug/.build-id/{build_id.hex()[:2]}/{build_id.hex()[2:]}'
    os.makedirs(cache)
    shutil.copy(data + '/root/tmp/rf/victim', cache + '/elf')
    expect({KID: 5, VICTIM: 5}, 'plain.data', symfs=changed, env={'HOME': empty})
    shutil.copy(changed + '/tmp/rf/victim', cache + '/elf')
    result = fold('--symfs', changed, 'plain.data', env={'HOME': empty})
    check('leaf' not in result.out, result, 'a wrong file in the cache gives no names')
    # Without a build-id in the recording --symfs is believed, our own root is not.
    expect({KID: 6, VICTIM: 5}, 'pipe.data', symfs=changed, said=['believed by path'])
    shutil.rmtree(empty)
    shutil.rmtree(changed)


def test_architecture():
    """Told by uname, or as `perf inject` of perf 7 tells it."""
    content = open(data + '/plain.data', 'rb').read()
    for told, status in (b'x86', 0), (b'amd128', 1):
        with tempfile.NamedTemporaryFile(suffix='.data') as other:
            other.write(content.replace(b'x86_64\0', told.ljust(7, b'\0')))
            other.flush()
            result = fold('--symfs', data + '/root', other.name, status=status)
            check(KID in result.stacks if not status else 'recorded on amd128' in result.err, result, told)


def test_elsewhere():
    """Nothing of this machine is used for a recording of another one."""
    result = fold('plain.data', '--symfs', 'root')
    if 'recorded on another machine' in result.err:
        return
    content = open(data + '/plain.data', 'rb').read()
    with tempfile.NamedTemporaryFile(suffix='.data') as other:
        host = os.uname().nodename.encode() + b'\0'
        other.write(content.replace(host, b'Q' * (len(host) - 1) + b'\0'))
        other.flush()
        expect({KID: 5, VICTIM: 5}, other.name, symfs=data + '/root', said=['recorded on another machine (Q'])


def test_debuginfod():
    """What is missing comes from a server, if it has the right build-id; a server that is not there costs nothing."""
    build_id = open(data + '/build-id').read().strip()
    served, drips = [], []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            served.append(self.path)
            if self.path.startswith('/large'):
                self.send_response(200)
                self.send_header('Content-Length', str(5 << 30))
                self.end_headers()
                drips.append(0)
                while drips[-1] < 70:  # twice as long as it may be tried
                    try:
                        self.wfile.write(b'x')
                    except OSError:
                        return
                    drips[-1] += 1
                    time.sleep(0.5)
                return
            found = self.path == f'/buildid/{build_id}/executable'
            content = open(data + '/root/tmp/rf/victim', 'rb').read() if found else b''
            self.send_response(200 if found else 404)
            self.send_header('Content-Length', str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *words):
            pass

    try:
        ctypes.CDLL('libdebuginfod.so.1')
    except OSError:
        print('no libdebuginfod: fetching was not tried', file=sys.stderr)
        return
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    empty = tempfile.mkdtemp(prefix='ringfold-fold-')
    env = {'DEBUGINFOD_URLS': f'http://127.0.0.1:{server.server_port}', 'DEBUGINFOD_CACHE_PATH': empty + '/cache', 'HOME': empty,
           'ASAN_OPTIONS': 'detect_leaks=0'}
    result = fold('--symfs', empty, '--no-debuginfod', 'plain.data', env=env)
    check('leaf' not in result.out and not served, result, '--no-debuginfod asks nobody')
    expect({KID: 5, VICTIM: 5}, 'plain.data', symfs=empty, env=env)
    check(f'/buildid/{build_id}/executable' in served, result, str(served))
    # What is too large to be right is not waited for.
    large = dict(env, DEBUGINFOD_URLS=env['DEBUGINFOD_URLS'] + '/large', DEBUGINFOD_CACHE_PATH=empty + '/large')
    result = fold('--symfs', empty, 'plain.data', env=large)
    check('leaf' not in result.out and drips and max(drips) < 20, result, f'given up at once: {drips}')
    server.shutdown()
    server.server_close()
    env['DEBUGINFOD_CACHE_PATH'] = empty + '/other'
    start = time.monotonic()
    result = fold('--symfs', empty, 'plain.data', env=env)
    check('leaf' not in result.out and time.monotonic() - start < 30, result, 'nobody answers')
    shutil.rmtree(empty)


def test_damage():
    content = open(data + '/plain.data', 'rb').read()
    directory = tempfile.mkdtemp(prefix='ringfold-fold-')
    path = directory + '/cut.data'
    open(path, 'wb').write(content[:len(content) // 2])
    result = fold('--symfs', data + '/root', path)
    check('was not finished' in result.err and KID in result.stacks, result, 'read to its last whole record')
    check(result.err.count('was not finished') == 1, result, 'said once')
    # A record of size 0 amidst the others: what came before is written, and the status tells.
    at = int.from_bytes(content[40:48], 'little')
    samples = 0
    while samples < 5 or content[at] != 9:
        samples += content[at] == 9
        at += int.from_bytes(content[at + 6:at + 8], 'little')
    open(path, 'wb').write(content[:at] + bytes(8) + content[at + 8:])
    result = fold('--symfs', data + '/root', path, status=1)
    check(f'offset {at} has a size of 0' in result.err and 'damaged' in result.err, result, 'the place is told')
    check(0 < sum(int(n) for n in result.stacks.values()) < 10, result, 'what came before is there')
    # Times that cannot be: HEADER_SAMPLE_TIME (21) says that it ended long ago, or far from now.
    bits = int.from_bytes(content[72:104], 'little')
    at = sum(int.from_bytes(content[i:i + 8], 'little') for i in (40, 48)) + 16 * bin(bits & (1 << 21) - 1).count('1')
    at = int.from_bytes(content[at:at + 8], 'little')
    for last in 1 << 63, (1 << 63) - 1, (1 << 63) + (1 << 60):
        open(path, 'wb').write(content[:at + 8] + last.to_bytes(8, 'little') + content[at + 16:])
        expect({KID: 5, VICTIM: 5}, path, symfs=data + '/root')
    open(path, 'wb').write(b'2ELIFREP' + content[8:])
    refuse('recorded on a machine of the other byte order', path)
    open(path, 'wb').write(b'')
    refuse('it is empty', path)
    refuse('not a perf.data file', 'victim.c')
    refuse('No such file', 'nothing.data')
    refuse('name the directory', 'threads.data/data')
    refuse('which recording?', status=2)
    refuse('one recording at a time', 'plain.data', 'fp.data', status=2)
    shutil.rmtree(directory)


def test_streams():
    stream = open(data + '/pipe.data', 'rb').read()
    for name in 'pipe.data', 'plain.data':  # a file as stdin is as good as its name
        result = fold('--symfs', 'root', '-', stdin=open(f'{data}/{name}', 'rb'))
        check(KID in result.stacks, result, 'read from stdin')
    cat = subprocess.Popen(['cat', data + '/pipe.data'], stdout=subprocess.PIPE)
    expect({KID: 6, VICTIM: 5}, '-', stdin=cat.stdout)
    cat.wait()
    # A file through a pipe is kept while it is read, without a name. Nothing tells when it was written.
    with tempfile.TemporaryDirectory() as folder:
        for name, kid in ('plain.data', 5), ('buildid.data', 5):
            cat = subprocess.Popen(['cat', f'{data}/{name}'], stdout=subprocess.PIPE)
            result = fold('--symfs', 'root', '-', stdin=cat.stdout, env={'TMPDIR': folder})
            check(result.stacks[KID] == str(kid) and len(result.stacks) == 2, result, name)
            cat.wait()
        check(not os.listdir(folder), result, 'nothing is left')
    cat = subprocess.Popen(['cat', data + '/plain.data'], stdout=subprocess.PIPE)
    refuse('must be kept in /nonexistent while it is read: No such file', '-', stdin=cat.stdout, env={'TMPDIR': '/nonexistent'})
    cat.wait()
    # No build-id, no file: the path alone is believed only where that was not written to since.
    content = open(data + '/plain.data', 'rb').read().replace(bytes.fromhex(open(data + '/build-id').read().strip()), bytes(20))
    early = subprocess.Popen(['cat'], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    threading.Thread(target=lambda: (early.stdin.write(content[:48] + bytes(8) + content[56:72] + bytes(32) + content[104:]), early.stdin.close())).start()
    result = fold('-', stdin=early.stdout)
    check('nothing tells how old' in result.err and 'leaf' not in result.out, result, 'no file is believed')
    early.wait()
    for size, words in (0, 'it is empty'), (9, 'it ends within its header'), (50, 'it ends within its header'):
        head = subprocess.Popen(['head', '-c', str(size), data + '/plain.data'], stdout=subprocess.PIPE)
        refuse(words, '-', stdin=head.stdout)
        head.wait()
    with tempfile.NamedTemporaryFile(suffix='.data') as cut:
        cut.write(stream[:len(stream) - 10])
        cut.flush()
        check('was not finished' in fold('--symfs', data + '/root', cut.name).err, Result(['--version']), 'a cut stream')


def test_outputs():
    result = Result(['report', '--symfs', 'root', 'plain.data'])
    check(result.status == 0 and 'leaf' in result.out and '10 samples' in result.out, result, 'a report')
    result = fold('--symfs', 'root', 'plain.data', '-f', 'perf-script')
    check(result.out.count('cpu-clock:') == 10 and '40015b leaf+0x' in result.out, result, 'perf script text')
    # Of frames that the kernel walked perf prints the return address.
    result = fold('--symfs', 'root', 'fp.data', '-f', 'perf-script')
    check(' 400165 leaf+0x1b (/tmp/rf/victim)\n\t          400195 outer+0x9 (/tmp/rf/victim)\n' in result.out, result, 'return addresses')
    result = fold('--symfs', 'root', 'multi.data', '-f', 'perf-script')
    check(result.out.count('cpu-clock:') == 9 and result.out.count('page-faults:') == 8, result, 'all events')
    with tempfile.NamedTemporaryFile() as stats:
        fold('--symfs', 'root', 'plain.data', '--stats', stats.name)
        said = json.load(open(stats.name))
    whole = said['idle'] + said['kernel_only'] + said['complete'] + said['truncated'] + sum(said['broken'].values())
    check(said['samples'] == whole == 10 and said['complete'] == 10, Result(['--version']), str(said))
    check((said['event'], said['freq'], said['stack_bytes'], said['lost']) == ('cpu-clock', 249, 512, 0), Result(['--version']), str(said))
    check('perf record' in said['targets'], Result(['--version']), str(said))


def test_pictures():
    """Every format of one folding, and the terminal's: --flame in place of the stacks, or beside other outputs."""
    with tempfile.TemporaryDirectory() as folder:
        out = [f'{folder}/x{end}' for end in ('.html', '.svg', '.pb.gz', '.speedscope.json', '.folded')]
        result = fold('--symfs', 'root', 'plain.data', '--flame', *(arg for path in out for arg in ('-o', path)))
        check(all(os.path.getsize(path) for path in out), result, 'every output')
        with open(out[4]) as file:
            check(sum(int(line.split()[-1]) for line in file) == 10, result, 'all samples')
        with open(out[1]) as file:
            check('100.0 %, 10 samples</title>' in file.read(), result, 'the picture')
        check(result.out.count('|leaf') == 2 and '10 samples' in result.out, result, 'a flame graph as well')
    alone = Result(['report', '--flame', '--symfs', 'root', 'plain.data'])
    check(alone.status == 0 and alone.out == result.out, alone, 'a flame graph alone')


for name, test in sorted(globals().copy().items()):
    if name.startswith('test_'):
        test()
if failures:
    print(f'{failures} checks failed', file=sys.stderr)
sys.exit(1 if failures else 0)
