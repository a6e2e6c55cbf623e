#!/usr/bin/env python3
"""Processes that pretend to be .NET runtimes and lie at their diagnostics socket: each costs a line, never the recording.

usage: lying_runtime.py RINGFOLD
"""
import mmap, os, re, resource, signal, socket, struct, subprocess, sys, tempfile, threading, time

ringfold = os.path.abspath(sys.argv[1])
failures = []
HEAD = b'DOTNET_IPC_V1\0'
NETTRACE = b'Nettrace\x14\0\0\0!FastSerialization.1'
OK = HEAD + struct.pack('<HBBHQ', 28, 0xff, 0, 0, 7)
TRACE = b'\5\5\1' + struct.pack('<III', 4, 4, 5) + b'Trace\6' + bytes(16) + struct.pack('<QQIIII', 1, 10**9, 8, 1, 1, 0) + b'\6'


def block(name, size, payload=b''):
    return b'\5\5\1' + struct.pack('<III', 2, 2, len(name)) + name + b'\6' + struct.pack('<I', size) + payload


def endless(conn):
    """Blocks of an unknown kind, aligned and well formed, without an end."""
    conn.sendall(OK + NETTRACE + TRACE)
    at = len(NETTRACE) + len(TRACE)
    while True:
        head = block(b'Padding!', 4096)
        pad = bytes(-(at + len(head)) % 4)
        piece = head + pad + bytes(4096) + b'\6'
        conn.sendall(piece)
        at += len(piece)


def silent(conn):
    time.sleep(60)


closed_at = os.pipe()


def held(conn):
    """Rubbish, and then it waits until nobody holds the other end any more: a runtime would wait so in a write, for ever."""
    conn.sendall(OK + NETTRACE + TRACE + block(b'EventBlock', 0xfffffffe))
    try:
        while conn.recv(4096):
            pass
    except ConnectionError:
        pass
    os.write(closed_at[1], struct.pack('<d', time.time()))


LIES = {
    'silent': silent,
    'garbage': lambda c: c.sendall(b'HTTP/1.1 400 Bad Request\r\n\r\n' * 100),
    'long-reply': lambda c: c.sendall(HEAD + struct.pack('<HBBH', 0xffff, 0xff, 0, 0) + bytes(65000)),
    'four-gigabytes': lambda c: c.sendall(OK + NETTRACE + TRACE + block(b'EventBlock', 0xfffffffe)),
    'held': held,
    'short-block': lambda c: c.sendall(OK + NETTRACE + TRACE + block(b'EventBlock', 4, b'\0\0\0\1\6' * 3)),
    'endless': endless,
    'closed': lambda c: None,
    'refused': lambda c: c.sendall(HEAD + struct.pack('<HBBHI', 24, 0xff, 0xff, 0, 0x80131385)),
}


def pretend(lie, ready):
    """In a process of its own: spins, and answers as the lie says."""
    start = open('/proc/self/stat').read().rsplit(')', 1)[1].split()[19]
    path = f'/tmp/dotnet-diagnostic-{os.getpid()}-{start}-socket'
    if lie in ('wrong-peer', 'wrong-owner', 'link', 'file'):
        return pretend_elsewhere(lie, path, ready)
    s = socket.socket(socket.AF_UNIX)
    s.bind(path)
    s.listen(5)

    def answer(conn):
        try:
            conn.recv(4096)
            LIES[lie](conn)
        except OSError:
            pass
        conn.close()

    def serve():
        while True:
            threading.Thread(target=answer, args=(s.accept()[0],), daemon=True).start()
    threading.Thread(target=serve, daemon=True).start()
    os.write(ready, path.encode())
    while True:
        sum(i * i for i in range(1000))


def pretend_elsewhere(lie, path, ready):
    """What has the socket's name is not this process's."""
    if lie == 'file':
        open(path, 'w').close()
    elif lie == 'link':
        os.symlink('/run/systemd/private', path)
    else:
        s = socket.socket(socket.AF_UNIX)
        if lie == 'wrong-owner':
            s.bind(path)
            os.chown(path, 12345, 12345)
            s.listen(5)
        elif not os.fork():
            s.bind(path)
            s.listen(5)
            os.write(ready, path.encode())
            time.sleep(60)
            os._exit(0)
    if lie != 'wrong-peer':
        os.write(ready, path.encode())
    while True:
        sum(i * i for i in range(1000))


def run(lie, words, seconds, record='1'):
    out, ready = os.pipe()
    pid = os.fork()
    if not pid:
        os.setpgid(0, 0)
        pretend(lie, ready)
    path = os.read(out, 4096).decode()
    start = time.time()
    with tempfile.TemporaryDirectory() as d:
        r = subprocess.run([ringfold, 'record', '-v', '-p', str(pid), '-d', record, '-F', '99', '-o', f'{d}/x.folded', '--stats', f'{d}/s.json'],
                           capture_output=True, text=True)
        took = time.time() - start
        stats = open(f'{d}/s.json').read() if os.path.exists(f'{d}/s.json') else ''
    os.killpg(pid, 9)
    os.waitpid(pid, 0)
    os.unlink(path)
    peak = int((re.search(r'"peak_rss_kib": (\d+)', stats) or [0, 0])[1])
    ok = r.returncode == 0 and re.search(words, r.stderr) and took < seconds and 0 < peak < 200 << 10
    print(f'{lie:16} {took:5.1f} s  {peak:7} KiB  {"ok" if ok else "FAILED"}')
    if not ok:
        failures.append(lie)
        print(r.returncode, r.stderr)


def pretend_dotnet(ready, diagnostics):
    """Has the mapping by which .NET is known, and a socket or none."""
    memory = os.memfd_create('doublemapper')
    os.ftruncate(memory, 4096)
    code = mmap.mmap(memory, 4096, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_EXEC)
    if diagnostics:
        pretend('silent', ready)
    os.write(ready, b'-')
    signal.pause()
    code.close()


def tell(what, diagnostics, want):
    """`maps list` and `doctor` send nobody to a restart whose runtime can be asked."""
    out, ready = os.pipe()
    pid = os.fork()
    if not pid:
        pretend_dotnet(ready, diagnostics)
    path = os.read(out, 4096).decode()
    maps = subprocess.run([ringfold, 'maps', 'list', '-p', str(pid)], capture_output=True, text=True).stdout
    doctor = subprocess.run([ringfold, 'doctor', '-p', str(pid)], capture_output=True, text=True).stdout
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    if path != '-':
        os.unlink(path)
    row = re.search(r'^(\S+) +its JIT code', doctor, re.M)
    got = ('its runtime tells them' in maps, 'for names' in maps, row and row.group(1))
    print(f'{what:16} {"ok" if got == want else "FAILED"}')
    if got != want:
        failures.append(what)
        print(got, maps, doctor)


if os.geteuid():
    print('SKIP: needs root', file=sys.stderr)
    sys.exit(1 if os.environ.get('TEST_NO_SKIP') else 77)
limit = 30  # seconds: 1 of recording, at most 2 to ask and 2 to end, and a crowded machine; who lies goes on for a minute
tell('to be asked', True, (True, False, 'ok'))
tell('not to be asked', False, (False, True, 'less'))
run('silent', 'its runtime does not answer', limit)
run('garbage', 'no .NET runtime', limit)
run('long-reply', 'no .NET runtime', limit)
run('four-gigabytes', 'a block that is too large', limit)
run('short-block', 'a block without a header', limit)
run('held', 'a block that is too large', limit + 10, '10')
at = struct.unpack('<d', os.read(closed_at[0], 8))[0]  # the first of its connections
if at > time.time() - 2:
    failures.append('held')
    print('FAILED: a stream that was given up stayed open')
run('endless', 'does not answer|listed nothing|takes its time', limit)
run('closed', 'does not answer', limit)
run('refused', 'refused to tell', limit)
run('wrong-peer', 'another process', limit)
run('wrong-owner', 'another user', limit)
run('link', 'socket is none|symbolic|another', limit)
run('file', 'socket is none', limit)
sys.exit(1 if failures else 0)
