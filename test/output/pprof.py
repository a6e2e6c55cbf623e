"""What is in a gzipped pprof profile (google/pprof, proto/profile.proto), read by the wire format alone."""
import gzip


def varint(data, at):
    value = shift = 0
    while True:
        value |= (data[at] & 127) << shift
        shift += 7
        at += 1
        if data[at - 1] < 128:
            return value, at


def fields(data):
    at = 0
    while at < len(data):
        key, at = varint(data, at)
        if key & 7 == 0:
            value, at = varint(data, at)
        else:
            assert key & 7 == 2, f'wire type {key & 7}'
            length, at = varint(data, at)
            value = data[at:at + length]
            assert len(value) == length, 'cut'
            at += length
        yield key >> 3, value


def message(data, names, lists=()):
    ret = {name: [] if name in lists else 0 for name in names.values()}
    for number, value in fields(data):
        name = names[number]  # what is not known here must not be there
        if name not in lists:
            ret[name] = value
        elif isinstance(value, int):
            ret[name].append(value)
        else:
            ret[name].append(value)
    return ret


def packed(parts):
    ret = []
    for part in parts:
        if isinstance(part, int):
            ret.append(part)
            continue
        at = 0
        while at < len(part):
            value, at = varint(part, at)
            ret.append(value)
    return ret


def signed(value):
    return value - (1 << 64) if value >> 63 else value


class Profile:
    def __init__(self, path):
        with gzip.open(path) as file:
            data = file.read()
        p = message(data, {1: 'sample_type', 2: 'sample', 3: 'mapping', 4: 'location', 5: 'function', 6: 'strings', 9: 'time_nanos',
                           10: 'duration_nanos', 11: 'period_type', 12: 'period', 13: 'comment', 14: 'default_sample_type'},
                    ('sample_type', 'sample', 'mapping', 'location', 'function', 'strings', 'comment'))
        self.strings = [text.decode() for text in p['strings']]
        self.types = [self.type(one) for one in p['sample_type']]
        self.period_type, self.period = self.type(p['period_type']), p['period']
        self.time_nanos, self.duration_nanos = p['time_nanos'], p['duration_nanos']
        self.comments = [self.strings[i] for i in packed(p['comment'])]
        self.default = self.strings[p['default_sample_type']]
        self.mappings = [message(one, {1: 'id', 2: 'start', 3: 'limit', 4: 'offset', 5: 'file', 6: 'build_id', 7: 'has_functions', 10: 'has_inline'}) for one in p['mapping']]
        self.functions = [message(one, {1: 'id', 2: 'name', 3: 'system_name'}) for one in p['function']]
        self.locations = [message(one, {1: 'id', 2: 'mapping', 3: 'address', 4: 'line'}, ('line',)) for one in p['location']]
        for location in self.locations:
            location['line'] = [message(line, {1: 'function'})['function'] for line in location['line']]
        self.samples = []
        for one in p['sample']:
            sample = message(one, {1: 'location', 2: 'value', 3: 'label'}, ('location', 'value', 'label'))
            labels = [message(label, {1: 'key', 2: 'str', 3: 'num'}) for label in sample['label']]
            self.samples.append({'locations': packed(sample['location']), 'values': [signed(v) for v in packed(sample['value'])], 'labels': labels})

    def type(self, data):
        one = message(data, {1: 'type', 2: 'unit'})
        return self.strings[one['type']], self.strings[one['unit']]

    def problems(self):
        """What pprof (profile.CheckValid) or Parca's server (its validation of profiles) would refuse."""
        ret = []
        if not self.strings or self.strings[0]:
            ret.append('string_table[0] is not ""')
        for name, things in ('mapping', self.mappings), ('location', self.locations), ('function', self.functions):
            if [thing['id'] for thing in things] != list(range(1, len(things) + 1)):
                ret.append(f'{name} ids are not 1..N')
        for location in self.locations:
            mapping = location['mapping']
            if mapping > len(self.mappings):
                ret.append('no such mapping')
            elif mapping and not self.mappings[mapping - 1]['start'] <= location['address'] < self.mappings[mapping - 1]['limit']:
                ret.append(f'an address outside its mapping {self.strings[self.mappings[mapping - 1]["file"]]}')
            if any(not 1 <= function <= len(self.functions) for function in location['line']):
                ret.append('no such function')
            if not location['line'] and not location['address']:
                ret.append('a location without line and address')
        for sample in self.samples:
            if not sample['locations'] or any(not 1 <= i <= len(self.locations) for i in sample['locations']):
                ret.append('a sample with no or a wrong location')
            if len(sample['values']) != len(self.types):
                ret.append('values do not fit sample_type')
            keys = [label['key'] for label in sample['labels']]
            if not all(keys) or len(set(keys)) != len(keys) or any(label['str'] and label['num'] for label in sample['labels']):
                ret.append('a label without a key, twice, or with two values')
        return ret

    def labels(self, sample):
        return {self.strings[label['key']]: self.strings[label['str']] if label['str'] else signed(label['num']) for label in sample['labels']}

    def stack(self, sample):
        """Names, the leaf first; inlined functions stand before what they are inlined into."""
        ret = []
        for i in sample['locations']:
            location = self.locations[i - 1]
            names = [self.strings[self.functions[function - 1]['name']] for function in location['line']]
            ret += names or [f'{self.strings[self.mappings[location["mapping"] - 1]["file"]]}+{location["address"]:#x}']
        return ret
