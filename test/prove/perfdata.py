"""A perf.data as its bytes say, read by nobody's code but this: what the proofs hold every reader against."""
import struct

LOST, EXIT, SAMPLE, LOST_SAMPLES, BUILD_ID, FINISHED_ROUND = 2, 4, 9, 13, 67, 68
FEATURES = {2: 'build_id', 3: 'hostname', 4: 'osrelease', 5: 'version', 6: 'arch', 7: 'nrcpus', 8: 'cpudesc',
            10: 'total_mem', 11: 'cmdline', 12: 'event_desc', 21: 'sample_time', 23: 'clockid', 29: 'clock_data'}


class PerfData:
    """
    Raises ValueError where the file contradicts itself. What lies behind the counted records is ignored, but for
    samples_to_end: with those whole samples that the header had not come to count.
    """

    def __init__(self, path):
        with open(path, 'rb') as f:
            raw = f.read()
        if raw[:8] != b'PERFILE2' or len(raw) < 104:
            raise ValueError('no header')
        (size, attr_size, attrs_at, attrs_size, self.data_at, self.data_size, _, _,
         *bits) = struct.unpack_from('<12Q', raw, 8)
        if size != 104 or self.data_at + self.data_size > len(raw):
            raise ValueError(f'{self.data_at} + {self.data_size} bytes of records in a file of {len(raw)}')
        self.features = [FEATURES.get(i, str(i)) for i in range(256) if bits[i // 64] >> i % 64 & 1]
        self.attrs = [raw[at:at + attr_size - 16] for at in range(attrs_at, attrs_at + attrs_size, attr_size)]
        self.records, self.samples, self.last_ns, self.stack_bytes = 0, 0, 0, 0
        self.lost, self.lost_samples = 0, 0 # the sums of these records
        self.by_type = {}
        self.ends = {} # pid/tid: when it ended, ns; a number may have had several tasks
        self.build_ids = {} # of records, not those of the header: path: hex
        at, end = self.data_at, self.data_at + self.data_size
        while at < end:
            kind, misc, size = struct.unpack_from('<IHH', raw, at)
            if size < 8 or at + size > end:
                raise ValueError(f'a record of {size} bytes at {at}, the last ends at {end}')
            self.records += 1
            self.by_type[kind] = self.by_type.get(kind, 0) + 1
            if kind == LOST: # after the id of its event
                self.lost += struct.unpack_from('<Q', raw, at + 16)[0]
            elif kind == EXIT:
                pid, _, tid, _, time_ns = struct.unpack_from('<4IQ', raw, at + 8)
                self.ends.setdefault((pid, tid), []).append(time_ns)
            elif kind == LOST_SAMPLES:
                self.lost_samples += struct.unpack_from('<Q', raw, at + 8)[0]
            elif kind == BUILD_ID:
                name = raw[at + 36:at + size].split(b'\0')[0].decode(errors='replace')
                self.build_ids[name] = raw[at + 12:at + 12 + raw[at + 32]].hex()
            elif kind == SAMPLE:
                self.samples += 1
                # IDENTIFIER, IP, TID, TIME: as ringfold asks for them
                self.last_ns = max(self.last_ns, struct.unpack_from('<Q', raw, at + 32)[0])
            at += size
        self.samples_to_end = self.samples
        while not self.finished and at + 8 <= len(raw):
            kind, _, size = struct.unpack_from('<IHH', raw, at)
            if size < 8 or at + size > len(raw):
                break
            self.samples_to_end += kind == SAMPLE
            at += size

    @property
    def finished(self):
        return bool(self.features)
