/* The flame graph on its canvas. It draws what is in sight of it, so its cost is bounded by the screen. */

const ROW = 19, FONT = '12px system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif';
const ZOOM_MS = 160;

class Graph {
  /* `on` has hover(node, event), select(node), zoom(node). */
  constructor(profile, colours, on) {
    this.profile = profile;
    this.colours = colours;
    this.on = on;
    this.scroll = document.getElementById('scroll');
    this.sizer = document.getElementById('sizer');
    this.canvas = document.getElementById('canvas');
    this.context = this.canvas.getContext('2d', { alpha: false });
    this.inverted = true; /* the root above */
    this.root = 0;
    this.selected = -1;
    this.hovered = -1;
    this.matches = null; /* a byte for each frame */
    this.from = 0;
    this.to = profile.width[0];
    this.textWidth = new Float32Array(profile.names.length).fill(-1);
    this.frameMs = 0;
    this.scroll.addEventListener('scroll', () => this.invalidate());
    this.canvas.addEventListener('mousemove', event => this.hover(this.at(event), event));
    this.canvas.addEventListener('mouseleave', () => this.hover(-1, null));
    this.canvas.addEventListener('click', event => {
      const node = this.at(event);
      if (node >= 0) {
        on.select(node);
        on.zoom(node);
      }
    });
    new ResizeObserver(() => this.resize()).observe(this.scroll);
  }

  resize() {
    const ratio = window.devicePixelRatio || 1;
    this.cssWidth = this.scroll.clientWidth;
    this.cssHeight = this.scroll.clientHeight;
    const width = Math.max(1, Math.round(this.cssWidth * ratio)), height = Math.max(1, Math.round(this.cssHeight * ratio));
    if (this.canvas.width !== width || this.canvas.height !== height) {
      this.canvas.width = width;
      this.canvas.height = height;
      this.canvas.style.width = this.cssWidth + 'px';
      this.canvas.style.height = this.cssHeight + 'px';
    }
    this.ratio = ratio;
    const fromBottom = (this.height || 0) - this.scroll.scrollTop - (this.shownHeight || 0);
    this.measure();
    if (!this.inverted) /* the root stays where it was seen */
      this.scroll.scrollTop = this.height - this.cssHeight - fromBottom;
    this.shownHeight = this.cssHeight;
    this.draw();
  }

  /* The height follows the deepest stack below the zoomed node. */
  measure() {
    const p = this.profile;
    let deepest = p.depth[this.root];
    for (let i = this.root; i < p.end[this.root]; i++) {
      if (p.width[i] > 0 && p.depth[i] > deepest)
        deepest = p.depth[i];
    }
    this.shownRows = deepest + 1;
    this.height = Math.max(this.shownRows * ROW + 2, this.cssHeight || 0);
    this.sizer.style.height = this.height + 'px';
  }

  invalidate() {
    if (this.pending)
      return;
    this.pending = requestAnimationFrame(now => {
      this.pending = 0;
      this.step(now);
      this.draw();
      if (this.animation)
        this.invalidate();
    });
  }

  step(now) {
    const a = this.animation;
    if (!a)
      return;
    a.start = a.start || now;
    const t = Math.min(1, (now - a.start) / ZOOM_MS), ease = t * (2 - t);
    this.from = a.from0 + (a.from1 - a.from0) * ease;
    this.to = a.to0 + (a.to1 - a.to0) * ease;
    if (t >= 1)
      this.animation = null;
  }

  /* Counts have changed. */
  refresh() {
    const p = this.profile;
    if (!p.width[this.root])
      this.root = 0;
    this.animation = null;
    this.from = p.x[this.root];
    this.to = this.from + p.width[this.root];
    this.measure();
    this.invalidate();
  }

  zoomTo(node) {
    const p = this.profile;
    this.root = node;
    const from = p.x[node], to = from + p.width[node];
    const still = window.matchMedia('(prefers-reduced-motion: reduce)').matches;
    this.animation = still ? null : { from0: this.from, to0: this.to, from1: from, to1: to, start: 0 };
    if (still) {
      this.from = from;
      this.to = to;
    }
    this.measure();
    this.reveal(node);
    this.invalidate();
  }

  setInverted(inverted) {
    this.inverted = inverted;
    this.measure();
    this.scroll.scrollTop = inverted ? 0 : this.height;
    this.reveal(this.selected > 0 ? this.selected : this.root);
    this.invalidate();
  }

  rowTop(depth) {
    return this.inverted ? depth * ROW : this.height - (depth + 1) * ROW;
  }

  /* Scrolls the row of the node into sight. */
  reveal(node) {
    const top = this.rowTop(this.profile.depth[Math.max(node, 0)]), margin = ROW * 2;
    if (top - margin < this.scroll.scrollTop)
      this.scroll.scrollTop = top - margin;
    else if (top + ROW + margin > this.scroll.scrollTop + this.cssHeight)
      this.scroll.scrollTop = top + ROW + margin - this.cssHeight;
  }

  /* The first in the row that ends right of `x`; its nodes do not overlap. */
  firstRight(depth, x) {
    const p = this.profile;
    let low = p.rowStart[depth], high = p.rowStart[depth + 1];
    while (low < high) {
      const middle = low + high >> 1, node = p.rows[middle];
      if (p.x[node] + p.width[node] <= x)
        low = middle + 1;
      else
        high = middle;
    }
    return low;
  }

  at(event) {
    const p = this.profile, box = this.canvas.getBoundingClientRect();
    const y = event.clientY - box.top + this.scroll.scrollTop;
    const depth = Math.floor(this.inverted ? y / ROW : (this.height - y) / ROW);
    if (depth < 0 || depth >= p.numRows || !this.cssWidth)
      return -1;
    const x = this.from + (event.clientX - box.left) / this.cssWidth * (this.to - this.from);
    for (let i = this.firstRight(depth, x); i < p.rowStart[depth + 1]; i++) {
      const node = p.rows[i];
      if (p.width[node] > 0)
        return p.x[node] <= x ? node : -1;
    }
    return -1;
  }

  hover(node, event) {
    if (node !== this.hovered) {
      this.hovered = node;
      this.invalidate();
    }
    this.on.hover(node, event);
  }

  draw() {
    const began = performance.now(), c = this.context, p = this.profile;
    if (!this.cssWidth || !this.cssHeight)
      return;
    const top = this.scroll.scrollTop;
    c.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    c.fillStyle = this.background;
    c.fillRect(0, 0, this.cssWidth, this.cssHeight);
    c.font = FONT;
    c.textBaseline = 'middle';
    this.scale = this.cssWidth / (this.to - this.from || 1);
    const a = Math.floor((this.inverted ? top : this.height - top - this.cssHeight) / ROW);
    const b = Math.ceil((this.inverted ? top + this.cssHeight : this.height - top) / ROW);
    for (let depth = Math.max(0, a); depth < Math.min(p.numRows, b); depth++)
      this.drawRow(depth, this.rowTop(depth) - top);
    if (this.selected >= 0)
      this.outline(this.selected, top);
    this.frameMs = performance.now() - began;
  }

  /* Nodes too narrow to see one by one become one block with those beside them. */
  drawRow(depth, y) {
    const p = this.profile, c = this.context, scale = this.scale;
    let runFrom = -1, runTo = -1, runColour = '', runHit = false;
    const flush = () => {
      if (runFrom >= 0) {
        c.fillStyle = runHit ? this.colours.hit : runColour;
        c.globalAlpha = this.matches && !runHit ? this.colours.faded : 1;
        c.fillRect(runFrom, y, Math.max(runTo - runFrom, .6), ROW - 1);
        c.globalAlpha = 1;
      }
      runFrom = -1;
      runHit = false;
    };
    for (let i = this.firstRight(depth, this.from); i < p.rowStart[depth + 1]; i++) {
      const node = p.rows[i], width = p.width[node];
      if (!width)
        continue;
      const x = p.x[node];
      if (x >= this.to)
        break;
      const left = Math.max(0, (x - this.from) * scale), right = Math.min(this.cssWidth, (x + width - this.from) * scale);
      if (right - left < 1.2) {
        if (runFrom < 0 || left - runTo > .4 || runTo - runFrom > 2.5) {
          flush();
          runFrom = left;
          runColour = this.colours.of(node);
        }
        runHit = runHit || Boolean(this.matches && node && this.matches[p.frame[node]]);
        runTo = right;
        continue;
      }
      flush();
      this.drawNode(node, left, y, right - left);
    }
    flush();
  }

  drawNode(node, x, y, width) {
    const p = this.profile, c = this.context, frame = p.frame[node];
    const hit = this.matches && node && this.matches[frame];
    c.fillStyle = hit ? this.colours.hit : this.colours.of(node);
    /* Not what was searched for, or a caller of what is zoomed into: still there, but out of the way. */
    c.globalAlpha = (this.matches && !hit) || node < this.root ? this.colours.faded : 1;
    c.fillRect(x, y, width - (width > 3 ? .8 : .3), ROW - 1);
    c.globalAlpha = 1;
    if (node === this.hovered) {
      c.fillStyle = this.colours.dark ? 'rgba(255,255,255,.18)' : 'rgba(20,28,44,.12)';
      c.fillRect(x, y, width - .8, ROW - 1);
    }
    if (width > 26)
      this.label(p.name(frame), frame, x + 4, y + ROW / 2 - .5, width - 8);
  }

  label(text, frame, x, y, room) {
    const c = this.context;
    let width = frame < 0 ? -1 : this.textWidth[frame];
    if (width < 0) {
      width = c.measureText(text.length > 512 ? text.slice(0, 512) : text).width;
      if (frame >= 0)
        this.textWidth[frame] = width;
    }
    if (width > room) {
      let fit = Math.floor(Math.min(text.length, 512) * (room - 9) / width);
      if (fit < 2)
        return;
      while (fit > 2 && c.measureText(text.slice(0, fit)).width > room - 9)
        fit--;
      text = text.slice(0, fit) + '…';
    }
    c.fillStyle = this.colours.text;
    c.fillText(text, x, y);
  }

  outline(node, top) {
    const p = this.profile, c = this.context;
    const left = Math.max(1, (p.x[node] - this.from) * this.scale), right = Math.min(this.cssWidth - 1, (p.x[node] + p.width[node] - this.from) * this.scale);
    if (right < left || !p.width[node])
      return;
    c.strokeStyle = this.accent;
    c.lineWidth = 2;
    c.strokeRect(left, this.rowTop(p.depth[node]) - top + 1, Math.max(right - left - 1, 2), ROW - 3);
  }

  /* The neighbour of the selected node in a direction as it is seen; -1 = none. */
  neighbour(key) {
    const p = this.profile, from = this.selected < 0 ? this.root : this.selected;
    if (this.selected < 0)
      return this.root;
    if (key === 'ArrowLeft' || key === 'ArrowRight') {
      const step = key === 'ArrowLeft' ? -1 : 1, depth = p.depth[from];
      let i = p.rows.subarray(p.rowStart[depth], p.rowStart[depth + 1]).indexOf(from) + p.rowStart[depth] + step;
      for (; i >= p.rowStart[depth] && i < p.rowStart[depth + 1]; i += step) {
        const node = p.rows[i];
        if (p.width[node] && p.x[node] < this.to && p.x[node] + p.width[node] > this.from)
          return node;
      }
      return -1;
    }
    if ((key === 'ArrowUp') === this.inverted)
      return p.parent[from];
    let best = -1;
    for (let child = from + 1; child < p.end[from]; child = p.end[child]) {
      if (p.width[child] && (best < 0 || p.width[child] > p.width[best]))
        best = child;
    }
    return best;
  }
}
