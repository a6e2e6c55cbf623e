"""What a .NET runtime itself says of its methods: an EventPipe session that is opened and stopped at once, for its rundown.

A second reading beside the program's own, so that the proofs hold one against the other: plain and slow, nothing shared.
"""
import glob
import os
import socket
import struct
import threading


def wait_socket(pid, root='', tries=200):
    import time
    for _ in range(tries):
        found = glob.glob(f'{root}/tmp/dotnet-diagnostic-{pid}-*-socket')
        if found:
            return found[0]
        time.sleep(0.05)
    raise RuntimeError(f'no diagnostics socket of process {pid}')


def connect(path):
    s = socket.socket(socket.AF_UNIX)
    s.connect(path)
    return s


def message(command, payload):
    return b'DOTNET_IPC_V1\0' + struct.pack('<HBBH', 20 + len(payload), 2, command, 0) + payload


def text16(text):
    return struct.pack('<I', len(text) + 1) + text.encode('utf-16le') + b'\0\0'


def recv_all(s, size):
    out = b''
    while len(out) < size:
        more = s.recv(size - len(out))
        if not more:
            break
        out += more
    return out


def open_session(path, keyword):
    """The newest command the runtime knows: .NET 9's with a keyword for the rundown, or .NET Core 3's."""
    provider = struct.pack('<QI', 0, 0) + text16('Microsoft-Windows-DotNETRuntimeRundown') + struct.pack('<I', 0)
    for command, fields in (5, struct.pack('<IIQB', 256, 1, keyword, 0)), (2, struct.pack('<II', 256, 1)):
        s = connect(path)
        s.sendall(message(command, fields + struct.pack('<I', 1) + provider))
        head = recv_all(s, 20)
        if head[16] == 0xff and head[17] == 0:
            return s, recv_all(s, 8)
    raise RuntimeError('the runtime refused the session')


def rundown(path, keyword=0x38):
    """The bytes of a nettrace stream with the rundown of every method."""
    s, session = open_session(path, keyword)
    chunks = []

    def drain():
        while True:
            piece = s.recv(1 << 20)
            if not piece:
                return
            chunks.append(piece)

    reader = threading.Thread(target=drain)
    reader.start()
    stop = connect(path)
    stop.sendall(message(1, session))
    recv_all(stop, 28)
    reader.join(60)
    return b''.join(chunks)


class Cursor:
    def __init__(self, data, at=0, end=None):
        self.data, self.at, self.end = data, at, len(data) if end is None else end

    def take(self, size):
        self.at += size
        return self.data[self.at - size:self.at]

    def num(self, fmt):
        value = struct.unpack_from('<' + fmt, self.data, self.at)[0]
        self.at += struct.calcsize('<' + fmt)
        return value

    def varuint(self):
        value = shift = 0
        while True:
            byte = self.num('B')
            value |= (byte & 0x7f) << shift
            shift += 7
            if not byte & 0x80:
                return value

    def text16z(self):
        start = self.at
        while self.data[self.at:self.at + 2] != b'\0\0':
            self.at += 2
        self.at += 2
        return self.data[start:self.at - 2].decode('utf-16le', 'replace')


def blobs(data, start, size):
    """(metadata id, payload) of each event of a block."""
    c = Cursor(data, start, start + size)
    header = c.num('H')
    flags = c.num('H')
    c.at = start + header
    if not flags & 1:
        raise SystemExit('an uncompressed block')
    meta = payload = 0
    while c.at < c.end:
        f = c.num('B')
        if f & 1:
            meta = c.varuint()
        if f & 2:
            c.varuint(), c.varuint(), c.varuint()
        if f & 4:
            c.varuint()
        if f & 8:
            c.varuint()
        c.varuint()
        if f & 16:
            c.at += 16
        if f & 32:
            c.at += 16
        if f & 128:
            payload = c.varuint()
        yield meta, c.at
        c.at += payload


def parse(data):
    """Methods {start: (size, token, flags, type, method, module id)} and modules {id: path}."""
    methods, modules, kinds = {}, {}, {}
    c = Cursor(data, 8 + 4 + 20)
    while c.at < len(data) and c.num('B') == 5:
        c.at += 2 + 8
        name = c.take(c.num('I')).decode()
        c.at += 1
        if name == 'Trace':
            c.at += 48 + 1
            continue
        size = c.num('I')
        c.at += -c.at % 4
        start = c.at
        if name == 'MetadataBlock':
            for _, at in blobs(data, start, size):
                m = Cursor(data, at)
                number = m.num('I')
                provider = m.text16z()
                kinds[number] = (provider, m.num('I'))
        elif name == 'EventBlock':
            for meta, at in blobs(data, start, size):
                provider, event = kinds.get(meta, ('', 0))
                m = Cursor(data, at)
                if event in (144, 143) and provider.startswith('Microsoft-Windows-DotNETRuntime'):
                    m.num('Q')
                    module, addr = m.num('Q'), m.num('Q')
                    length, token, flags = m.num('I'), m.num('I'), m.num('I')
                    methods[addr] = (length, token, flags, m.text16z(), m.text16z(), module)
                elif event == 152:
                    module = m.num('Q')
                    m.at += 8 + 8 + 4 + 4
                    modules[module] = (m.text16z(), m.text16z())
        c.at = start + size + 1
    return methods, modules
