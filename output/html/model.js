/* The profile: what the file holds, and everything that is counted from it. Nothing here draws. */

const KINDS = ['process', 'native', 'kernel', 'JIT', 'inlined', 'runtime', 'unknown', 'mark'];
const KIND_LABEL = 0, KIND_MARK = 7;

/* Numbers of 7 bits a byte, the lowest first, as output/packed.c writes them. */
class Packed {
  constructor(base64) {
    const text = atob(base64);
    this.bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++)
      this.bytes[i] = text.charCodeAt(i);
    this.at = 0;
  }

  next() {
    let value = 0, scale = 1, byte;
    do {
      byte = this.bytes[this.at++];
      value += (byte & 127) * scale;
      scale *= 128;
    } while (byte & 128);
    return value;
  }
}

/* Node 0 is the root. Nodes are in the order of a walk from it, so those below i are i + 1 .. end[i] - 1. */
class Profile {
  constructor(data) {
    this.data = data;
    this.names = data.names;
    this.modules = data.modules;
    this.frameModule = Int32Array.from(data.frames.map(f => f[0]));
    this.frameKind = Uint8Array.from(data.frames.map(f => f[1]));
    this.diff = data.before !== undefined;
    this.side = 1;
    const read = this.readNodes(new Packed(data.nodes), data.count);
    this.renumber(read);
    this.layoutRows();
    if (data.time)
      this.readTime(data.time);
    this.range = null;
    this.total = new Float64Array(this.num);
    this.x = new Float64Array(this.num);
    this.totalBefore = new Float64Array(this.num);
    this.recount();
  }

  readNodes(packed, count) {
    const read = { parent: new Int32Array(count + 1), frame: new Int32Array(count + 1),
      self: new Float64Array(count + 1), before: new Float64Array(count + 1), changed: new Uint8Array(count + 1) };
    for (let i = 1; i <= count; i++) {
      read.parent[i] = i - packed.next();
      read.frame[i] = packed.next();
      read.self[i] = packed.next();
      if (this.diff) {
        read.before[i] = packed.next();
        read.changed[i] = packed.next();
      }
    }
    read.frame[0] = -1;
    return read;
  }

  /* Siblings by name, as every flame graph has them: two profiles of one program then look alike. */
  renumber(read) {
    const count = read.parent.length, order = new Int32Array(this.names.length);
    [...this.names.keys()].sort((a, b) => this.names[a] < this.names[b] ? -1 : this.names[a] > this.names[b] ? 1 : a - b)
      .forEach((frame, i) => { order[frame] = i; });
    const byName = Array.from({ length: count - 1 }, (_, i) => i + 1)
      .sort((a, b) => order[read.frame[b]] - order[read.frame[a]]);
    const first = new Int32Array(count).fill(-1), next = new Int32Array(count).fill(-1);
    for (const i of byName) { /* from the last on, so that the lists are in order */
      next[i] = first[read.parent[i]];
      first[read.parent[i]] = i;
    }
    this.num = count;
    for (const name of ['parent', 'frame', 'depth', 'end'])
      this[name] = new Int32Array(count);
    this.selfAll = new Float64Array(count);
    this.selfBefore = new Float64Array(count);
    this.changed = new Uint8Array(count);
    const became = new Int32Array(count), stack = [0];
    let at = 0;
    while (stack.length) {
      const i = stack.pop();
      became[i] = at;
      this.frame[at] = read.frame[i];
      this.selfAll[at] = read.self[i];
      this.selfBefore[at] = read.before[i];
      this.changed[at] = read.changed[i];
      if (i) {
        this.parent[at] = became[read.parent[i]];
        this.depth[at] = this.depth[this.parent[at]] + 1;
      }
      at++;
      const from = stack.length;
      for (let child = first[i]; child >= 0; child = next[child])
        stack.push(child);
      for (let a = from, b = stack.length - 1; a < b; a++, b--)
        [stack[a], stack[b]] = [stack[b], stack[a]];
    }
    this.parent[0] = -1;
    this.end.fill(0);
    for (let i = count - 1; i >= 0; i--) {
      this.end[i] = Math.max(this.end[i], i + 1);
      if (i)
        this.end[this.parent[i]] = Math.max(this.end[this.parent[i]], this.end[i]);
    }
    this.became = became;
    this.self = Float64Array.from(this.selfAll);
  }

  /* The nodes of each depth, from left to right. */
  layoutRows() {
    const depths = this.depth.reduce((a, b) => Math.max(a, b), 0) + 1;
    this.rowStart = new Int32Array(depths + 1);
    for (let i = 0; i < this.num; i++)
      this.rowStart[this.depth[i] + 1]++;
    for (let d = 0; d < depths; d++)
      this.rowStart[d + 1] += this.rowStart[d];
    const fill = this.rowStart.slice();
    this.rows = new Int32Array(this.num);
    for (let i = 0; i < this.num; i++)
      this.rows[fill[this.depth[i]]++] = i;
    this.numRows = depths;
  }

  readTime(time) {
    const packed = new Packed(time.samples);
    this.time = { bins: time.bins, binNs: time.bin_ns, start: new Int32Array(time.bins + 1), node: [], count: [] };
    for (let bin = 0; bin < time.bins; bin++) {
      let node = 0;
      for (let pairs = packed.next(); pairs > 0; pairs--) {
        node += packed.next();
        this.time.node.push(this.became[node]);
        this.time.count.push(packed.next());
      }
      this.time.start[bin + 1] = this.time.node.length;
    }
    this.time.seconds = time.bins * time.bin_ns / 1e9;
  }

  /* Only samples of bins from <= bin < to count from now on; null = all do. */
  setRange(range) {
    this.range = range;
    if (!range) {
      this.self.set(this.selfAll);
    } else {
      const { start, node, count } = this.time;
      this.self.fill(0);
      for (let i = start[range[0]]; i < start[range[1]]; i++)
        this.self[node[i]] += count[i];
    }
    this.recount();
  }

  /* In a comparison: which of the two the widths show. */
  setSide(side) {
    this.side = side;
    this.recount();
  }

  static sumUp(self, parent, total) {
    total.set(self);
    for (let i = total.length - 1; i > 0; i--)
      total[parent[i]] += total[i];
  }

  recount() {
    Profile.sumUp(this.self, this.parent, this.total);
    this.sum = this.total[0];
    if (this.diff) {
      Profile.sumUp(this.selfBefore, this.parent, this.totalBefore);
      this.sumBefore = this.totalBefore[0];
    }
    this.width = this.diff && this.side === 0 ? this.totalBefore : this.total;
    const next = new Float64Array(this.num);
    for (let i = 1; i < this.num; i++) {
      const p = this.parent[i];
      this.x[i] = next[p];
      next[i] = next[p];
      next[p] += this.width[i];
    }
    this.functions = this.countFunctions(this.self, this.total);
    if (this.diff)
      this.functionsBefore = this.countFunctions(this.selfBefore, this.totalBefore);
  }

  /* By frame; a function inside itself is counted by its outermost call. */
  countFunctions(self, total) {
    const num = this.names.length, until = new Int32Array(num);
    const ret = { self: new Float64Array(num), total: new Float64Array(num) };
    for (let i = 1; i < this.num; i++) {
      const f = this.frame[i];
      ret.self[f] += self[i];
      if (i >= until[f]) {
        ret.total[f] += total[i];
        until[f] = this.end[i];
      }
    }
    return ret;
  }

  /* Samples below any node of these frames, counted once; `wanted` is one byte a frame. */
  share(wanted) {
    let sum = 0;
    for (let i = 1; i < this.num;) {
      if (wanted[this.frame[i]]) {
        sum += this.width[i];
        i = this.end[i];
      } else {
        i++;
      }
    }
    return sum;
  }

  /* Of the outermost calls of a function: who called it, and what it called; their sums are its total. */
  around(frame) {
    const callers = new Map(), callees = new Map();
    const add = (map, f, i) => {
      const row = map.get(f) || [0, 0];
      row[0] += this.total[i];
      row[1] += this.totalBefore[i];
      map.set(f, row);
    };
    let self = 0;
    for (let i = 1; i < this.num;) {
      if (this.frame[i] !== frame) {
        i++;
        continue;
      }
      add(callers, this.parent[i] > 0 ? this.frame[this.parent[i]] : -1, i);
      self += this.self[i];
      for (let child = i + 1; child < this.end[i]; child = this.end[child])
        add(callees, this.frame[child], child);
      i = this.end[i];
    }
    const sorted = map => [...map].map(([f, sums]) => ({ frame: f, total: sums[0], before: sums[1] }))
      .filter(row => row.total || row.before).sort((a, b) => b.total - a.total || b.before - a.before);
    return { callers: sorted(callers), callees: sorted(callees), self };
  }

  /* Is the difference of two shares more than chance? Square roots of counts vary alike (Anscombe 1948); beyond 3.3 is 1 of 1000. */
  surely(before, after) {
    const z = 2 * (Math.sqrt((after + .375) * this.sumBefore) - Math.sqrt((before + .375) * this.sum)) / Math.sqrt(this.sum + this.sumBefore);
    return Math.abs(z) > 3.3;
  }

  name(frame) { return frame < 0 ? 'all' : this.names[frame]; }
  module(frame) { return frame < 0 ? '' : this.modules[this.frameModule[frame]]; }
  kind(frame) { return frame < 0 ? KIND_LABEL : this.frameKind[frame]; }

  /* Seconds of CPU time that so many samples stand for; NaN where the rate is not known. */
  seconds(samples) { return this.data.freq ? samples / this.data.freq : NaN; }
}

/*
 * What is searched for: text as it stands in names, and where it looks like a regular expression also that; with case
 * only where it has capitals. Names are full of ( [ * and +, so these alone make no expression.
 */
function parseSearch(text) {
  if (!text)
    return null;
  const cased = /[A-Z]/.test(text), want = cased ? text : text.toLowerCase();
  const ret = { bad: false, test: name => (cased ? name : name.toLowerCase()).includes(want) };
  if (!/[\^$|\\]|\.[*+]/.test(text))
    return ret;
  try {
    const pattern = new RegExp(text, cased ? '' : 'i');
    return { bad: false, test: name => pattern.test(name) || ret.test(name) };
  } catch {
    return { ...ret, bad: true };
  }
}

const grouped = n => Math.round(n).toString().replace(/\B(?=(\d{3})+$)/g, ',');
const plural = (n, word) => grouped(n) + ' ' + word + (n === 1 ? '' : 's');

/* "100.0 %" and "0.0 %" only where they are exact, as in the text report. */
function percent(part, whole) {
  if (!whole || !part)
    return '0.0 %';
  const value = part / whole * 100;
  if (value < 0.05)
    return '<0.1 %';
  return (part < whole ? Math.min(value, 99.9) : 100).toFixed(1) + ' %';
}

function duration(seconds) {
  if (seconds >= 100)
    return seconds.toFixed(0) + ' s';
  if (seconds >= 1)
    return seconds.toFixed(2) + ' s';
  return seconds >= 0.001 || !seconds ? (seconds * 1000).toFixed(seconds >= 0.1 ? 0 : 1) + ' ms' : (seconds * 1e6).toFixed(0) + ' µs';
}
