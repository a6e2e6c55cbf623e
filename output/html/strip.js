/* Samples over time, stacked by the kind of frame they ended in, and the range that counts. */

class Strip {
  constructor(profile, colours, changed) {
    this.profile = profile;
    this.colours = colours;
    this.changed = changed;
    this.canvas = document.getElementById('time');
    this.drag = null;
    this.range = null; /* as it is seen; profile.range is what is counted */
    this.pending = 0;
    this.sumBins();
    document.getElementById('strip').hidden = false;
    document.getElementById('whole').addEventListener('click', () => this.set(null));
    this.canvas.addEventListener('pointerdown', event => this.press(event));
    this.canvas.addEventListener('pointermove', event => this.move(event));
    for (const type of ['pointerup', 'pointercancel'])
      this.canvas.addEventListener(type, () => this.release());
    this.canvas.addEventListener('dblclick', () => this.set(null));
    this.canvas.addEventListener('keydown', event => this.key(event));
    new ResizeObserver(() => this.draw()).observe(this.canvas);
  }

  sumBins() {
    const p = this.profile, { bins, start, node, count } = p.time;
    this.kinds = KINDS.map(() => new Float64Array(bins));
    for (let bin = 0; bin < bins; bin++) {
      for (let i = start[bin]; i < start[bin + 1]; i++)
        this.kinds[p.kind(p.frame[node[i]])][bin] += count[i];
    }
  }

  bin(event) {
    const box = this.canvas.getBoundingClientRect();
    const at = (event.clientX - box.left) / box.width * this.profile.time.bins;
    return Math.max(0, Math.min(this.profile.time.bins, at));
  }

  press(event) {
    if (event.button)
      return;
    const at = this.bin(event), range = this.range, near = this.profile.time.bins * 6 / this.canvas.clientWidth;
    this.canvas.setPointerCapture(event.pointerId);
    if (range && Math.abs(at - range[0]) <= near)
      this.drag = { anchor: range[1] };
    else if (range && Math.abs(at - range[1]) <= near)
      this.drag = { anchor: range[0] };
    else if (range && at > range[0] && at < range[1])
      this.drag = { grab: at - range[0], length: range[1] - range[0] };
    else
      this.drag = { anchor: at };
    this.drag.at = at;
  }

  move(event) {
    if (!this.drag)
      return;
    const at = this.bin(event), bins = this.profile.time.bins;
    if (!this.drag.moved && Math.abs(at - this.drag.at) * this.canvas.clientWidth / bins < 3)
      return;
    this.drag.moved = true;
    if (this.drag.grab !== undefined) {
      const from = Math.max(0, Math.min(bins - this.drag.length, Math.round(at - this.drag.grab)));
      this.set([from, from + this.drag.length]);
    } else {
      const from = Math.floor(Math.min(at, this.drag.anchor)), to = Math.ceil(Math.max(at, this.drag.anchor));
      this.set([from, Math.max(to, from + 1)]);
    }
  }

  /* A click beside the range ends it. */
  release() {
    const drag = this.drag;
    this.drag = null;
    if (drag && !drag.moved && drag.grab === undefined && this.range)
      this.set(null);
  }

  key(event) {
    const bins = this.profile.time.bins, step = Math.max(1, Math.round(bins / 50));
    let [from, to] = this.range || [0, bins];
    const right = event.key === 'ArrowRight' ? step : event.key === 'ArrowLeft' ? -step : 0;
    if (event.key === 'Escape' && this.range) {
      this.set(null);
    } else if (!right) {
      return;
    } else if (!this.range) {
      this.set(right > 0 ? [0, Math.max(1, Math.round(bins / 10))] : [bins - Math.max(1, Math.round(bins / 10)), bins]);
    } else if (event.shiftKey) {
      to = Math.max(from + 1, Math.min(bins, to + right));
      this.set([from, to]);
    } else {
      const move = Math.max(-from, Math.min(bins - to, right));
      this.set([from + move, to + move]);
    }
    event.preventDefault();
    event.stopPropagation();
  }

  /* The strip follows at once, what is counted with the next frame: the mouse may move often meanwhile. */
  set(range) {
    const bins = this.profile.time.bins, old = this.range;
    if (range && range[0] <= 0 && range[1] >= bins && !this.drag)
      range = null;
    if (range === old || (range && old && range[0] === old[0] && range[1] === old[1]))
      return;
    this.range = range;
    this.draw();
    this.pending = this.pending || requestAnimationFrame(() => {
      this.pending = 0;
      this.profile.setRange(this.range);
      this.draw();
      this.changed();
    });
  }

  describe() {
    const p = this.profile, bin = p.time.binNs / 1e9;
    document.getElementById('whole').hidden = !this.range;
    this.canvas.setAttribute('aria-valuenow', String(Math.round((this.range ? this.range[0] : 0) / p.time.bins * 100)));
    if (!this.range)
      return `${duration(p.time.seconds)} – drag to pick a range`;
    return `${(this.range[0] * bin).toFixed(3)} – ${(this.range[1] * bin).toFixed(3)} s · ${plural(p.sum, 'sample')} (${percent(p.sum, p.data.total)})`;
  }

  draw() {
    const ratio = window.devicePixelRatio || 1, width = this.canvas.clientWidth, height = this.canvas.clientHeight;
    const c = this.canvas.getContext('2d'), p = this.profile;
    document.getElementById('range').textContent = this.describe();
    if (!width)
      return;
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(height * ratio);
    c.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.drawBars(c, width, height - 15);
    this.drawAxis(c, width, height);
    if (this.range) {
      const from = this.range[0] / p.time.bins * width, to = this.range[1] / p.time.bins * width;
      c.fillStyle = this.colours.dark ? 'rgba(18,21,27,.68)' : 'rgba(255,255,255,.72)';
      c.fillRect(0, 0, from, height - 15);
      c.fillRect(to, 0, width - to, height - 15);
      c.fillStyle = this.accent;
      c.fillRect(from - 1, 0, 2, height - 15);
      c.fillRect(to - 1, 0, 2, height - 15);
    }
  }

  /* As many bars as there is room for, of as many bins each. */
  drawBars(c, width, height) {
    const { bins } = this.profile.time, each = Math.max(1, Math.ceil(bins / (width / 3))), bars = bins / each;
    const sums = this.kinds.map(kind => {
      const ret = new Float64Array(Math.ceil(bars));
      for (let bin = 0; bin < bins; bin++)
        ret[Math.floor(bin / each)] += kind[bin];
      return ret;
    });
    let max = 1;
    for (let bar = 0; bar < bars; bar++)
      max = Math.max(max, sums.reduce((sum, kind) => sum + kind[bar], 0));
    const gap = width / bars > 4 ? 1 : 0;
    for (let bar = 0; bar < bars; bar++) {
      let y = height;
      const x = bar * width / bars;
      sums.forEach((kind, k) => {
        const h = kind[bar] / max * (height - 4);
        if (!h)
          return;
        c.fillStyle = this.colours.css(...KIND_HUES[k]);
        c.fillRect(x, y - h, width / bars - gap, h);
        y -= h;
      });
    }
    c.fillStyle = this.line;
    c.fillRect(0, height, width, 1);
  }

  drawAxis(c, width, height) {
    const seconds = this.profile.time.seconds;
    if (!(seconds > 0))
      return;
    const rough = seconds / Math.max(2, width / 90), power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map(m => m * power).find(s => s >= rough);
    c.font = '11px system-ui, sans-serif';
    c.textBaseline = 'bottom';
    c.fillStyle = this.soft;
    for (let i = 0; i * step <= seconds; i++) {
      const x = i * step / seconds * width, text = i * step === 0 ? '0' : +(i * step).toPrecision(6) + ' s';
      if (x + c.measureText(text).width + 4 < width)
        c.fillText(text, x + 2, height);
      c.fillRect(x, height - 14, 1, 4);
    }
  }
}
