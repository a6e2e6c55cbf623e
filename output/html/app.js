/* Joins the parts, and turns what a person does into what they show. */

class App {
  constructor(data) {
    this.data = data;
    this.profile = new Profile(data);
    this.colours = new Colours(this.profile);
    this.history = [];
    this.element = Object.fromEntries(['search', 'matched', 'prev', 'next', 'back', 'reset', 'path', 'legend', 'status', 'tip', 'side', 'split', 'keys', 'scroll']
      .map(id => [id, document.getElementById(id)]));
    this.tables = new Tables(this.profile, this.colours, {
      pick: frame => this.pick(frame),
      show: frame => this.showFunction(frame),
      search: frame => this.search(this.profile.name(frame)),
    });
    this.graph = new Graph(this.profile, this.colours, {
      hover: (node, event) => this.hover(node, event),
      select: node => this.select(node),
      zoom: node => this.zoom(node),
    });
    if (this.profile.time)
      this.strip = new Strip(this.profile, this.colours, () => this.recounted());
    this.head();
    this.controls();
    this.setTheme(this.storedTheme());
    document.addEventListener('keydown', event => this.key(event));
    this.graph.resize();
    this.recounted();
  }

  /* What was recorded, and how far to believe it. */
  head() {
    const { title, quality, grade } = this.data, button = document.getElementById('quality'), notes = document.getElementById('notes');
    document.getElementById('title').textContent = title;
    document.getElementById('title').title = title;
    document.title = title + ' – ringfold';
    document.getElementById('summary').textContent = quality[0];
    document.getElementById('grade').className = grade;
    const made = [this.data.start_ms && `recorded: ${new Date(this.data.start_ms).toLocaleString()}`, this.data.command && `command: ${this.data.command}`];
    notes.append(...[...quality, ...made.filter(Boolean)].map(line => element('li', {}, line)));
    button.addEventListener('click', () => {
      notes.hidden = !notes.hidden;
      button.setAttribute('aria-expanded', String(!notes.hidden));
    });
  }

  choice(id, options, current, chosen) {
    const group = document.getElementById(id), buttons = options.map(([value, text, title]) => element('button', {
      type: 'button', 'data-value': value, title, 'aria-pressed': String(value === current),
      onclick: () => {
        for (const button of buttons)
          button.setAttribute('aria-pressed', String(button.dataset.value === value));
        chosen(value);
      } }, text));
    group.hidden = false;
    group.append(...buttons);
  }

  cycle(id) {
    const buttons = [...document.getElementById(id).children];
    if (buttons.length)
      buttons[(buttons.findIndex(button => button.getAttribute('aria-pressed') === 'true') + 1) % buttons.length].click();
  }

  controls() {
    const { search, prev, next, back, reset, split } = this.element;
    this.choice('shape', [['icicle', 'Icicle', 'Callers above (I)'], ['flame', 'Flame', 'Callers below (I)']], 'icicle',
      value => this.graph.setInverted(value === 'icicle'));
    const colours = [['kind', 'By kind', 'Colour by kind of code (C)']];
    if (this.profile.modules.some(Boolean))
      colours.push(['module', 'By module', 'Colour by file (C)']);
    if (this.profile.diff) {
      colours.unshift(['change', 'By change', 'Red grew, blue shrank (C)']);
      this.choice('sides', [['0', 'Before', 'Widths as they were before (W)'], ['1', 'After', 'Widths as they are after (W)']], '1', value => {
        this.profile.setSide(Number(value));
        this.recounted();
      });
    }
    this.choice('colour', colours, colours[0][0], value => {
      this.colours.by = value;
      this.repaint();
    });
    search.addEventListener('input', () => this.search(search.value, true));
    search.addEventListener('keydown', event => {
      if (event.key === 'Enter')
        this.nextMatch(event.shiftKey ? -1 : 1);
      else if (event.key === 'Escape')
        this.search('');
      else
        return;
      if (event.key === 'Escape')
        this.element.scroll.focus();
      event.preventDefault();
      event.stopPropagation();
    });
    prev.addEventListener('click', () => this.nextMatch(-1));
    next.addEventListener('click', () => this.nextMatch(1));
    back.addEventListener('click', () => this.back());
    reset.addEventListener('click', () => this.zoom(0));
    document.getElementById('theme').addEventListener('click', () => this.setTheme(this.colours.dark ? 'light' : 'dark', true));
    document.getElementById('help').addEventListener('click', () => this.help());
    window.matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.setTheme(this.storedTheme()));
    split.addEventListener('pointerdown', event => split.setPointerCapture(event.pointerId));
    split.addEventListener('pointermove', event => split.hasPointerCapture(event.pointerId) && this.setSideWidth(window.innerWidth - event.clientX));
    split.addEventListener('keydown', event => {
      const step = event.key === 'ArrowLeft' ? 24 : event.key === 'ArrowRight' ? -24 : 0;
      if (step) {
        this.setSideWidth(this.element.side.offsetWidth + step);
        event.preventDefault();
        event.stopPropagation();
      }
    });
  }

  setSideWidth(width) {
    this.element.side.style.width = Math.max(220, Math.min(window.innerWidth * .7, width)) + 'px';
  }

  storedTheme() {
    let stored = null;
    try {
      stored = localStorage.getItem('ringfold-theme');
    } catch { /* a file opened from a disk may have no storage */ }
    return stored || (window.matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light');
  }

  setTheme(theme, remember) {
    document.documentElement.dataset.theme = theme;
    try {
      if (remember)
        localStorage.setItem('ringfold-theme', theme);
    } catch { /* then it is not remembered */ }
    this.repaint();
  }

  repaint() {
    const style = getComputedStyle(document.documentElement), colour = name => style.getPropertyValue(name).trim();
    this.colours.refresh(document.documentElement.dataset.theme === 'dark');
    this.graph.background = colour('--bg');
    this.graph.accent = colour('--accent');
    this.graph.invalidate();
    if (this.strip) {
      Object.assign(this.strip, { line: colour('--line'), soft: colour('--soft'), accent: colour('--accent') });
      this.strip.draw();
    }
    this.legend();
    this.tables.refresh();
  }

  legend() {
    this.element.legend.replaceChildren(...this.colours.legend().map(([colour, text, share]) => {
      const swatch = element('i');
      swatch.style.background = colour;
      return element('span', { title: share && `${share} of the samples end in it` }, swatch, text, element('b', {}, share));
    }));
  }

  /* Another range or side: all numbers are others. */
  recounted() {
    this.history = this.history.filter(node => this.profile.width[node]);
    if (this.profile.diff)
      this.colours.paintChanges();
    this.graph.refresh();
    this.refreshTables();
    this.legend();
    this.showPath();
    this.showMatched();
    this.describe(this.graph.selected);
  }

  /* Tables of many functions wait until the range stays where it is for a moment. */
  refreshTables() {
    clearTimeout(this.later);
    this.later = 0;
    if (this.profile.num < 20000) {
      this.tables.refresh();
      return;
    }
    this.later = setTimeout(() => {
      this.later = 0;
      this.tables.refresh();
    }, 100);
  }

  pick(frame) {
    this.tables.frame = frame;
    this.tables.open('around');
    this.showFunction(frame, true);
  }

  /* Selects the widest node of a function, and zooms out as far as it takes to see it. */
  showFunction(frame) {
    const p = this.profile;
    let best = -1;
    for (let i = 1; i < p.num; i++) {
      if (p.frame[i] === frame && (best < 0 || p.width[i] > p.width[best]))
        best = i;
    }
    if (best < 0)
      return;
    if (best < this.graph.root || best >= p.end[this.graph.root])
      this.zoom(0);
    this.select(best);
    this.graph.reveal(best);
  }

  select(node) {
    this.graph.selected = node;
    this.graph.invalidate();
    if (node > 0)
      this.tables.pick(this.profile.frame[node]);
    this.describe(node);
  }

  zoom(node) {
    if (node === this.graph.root)
      return;
    this.history.push(this.graph.root);
    this.graph.zoomTo(node);
    this.showPath();
    this.showMatched();
  }

  back() {
    if (!this.history.length)
      return;
    this.graph.zoomTo(this.history.pop());
    this.showPath();
    this.showMatched();
  }

  showPath() {
    const p = this.profile, nodes = [];
    for (let i = this.graph.root; i >= 0; i = p.parent[i])
      nodes.unshift(i);
    const shown = nodes.length > 8 ? [...nodes.slice(0, 2), -1, ...nodes.slice(-5)] : nodes;
    this.element.path.replaceChildren(...shown.flatMap((node, i) => [
      i ? '›' : undefined,
      node < 0 ? '…' : element('button', { type: 'button', title: p.name(p.frame[node]), onclick: () => this.zoom(node) }, p.name(p.frame[node])),
    ]).filter(child => child !== undefined));
    this.element.back.disabled = !this.history.length;
    this.element.reset.disabled = !this.graph.root;
  }

  search(text, typed) {
    const p = this.profile, pattern = parseSearch(text);
    if (!typed)
      this.element.search.value = text;
    this.element.search.classList.toggle('bad', Boolean(pattern && pattern.bad));
    this.matches = null;
    if (pattern)
      this.matches = Uint8Array.from(p.names, (name, f) => pattern.test(name) || pattern.test(p.module(f)) ? 1 : 0);
    this.graph.matches = this.tables.matches = this.matches;
    this.graph.invalidate();
    if (this.tables.shown === 'functions')
      this.tables.refresh();
    this.showMatched();
  }

  /* What share of what is in sight. */
  showMatched() {
    const { matched, prev, next } = this.element, p = this.profile;
    prev.hidden = next.hidden = !this.matches;
    matched.textContent = '';
    if (!this.matches)
      return;
    const sum = p.share(this.matches), number = this.matches.reduce((a, b) => a + b, 0);
    matched.textContent = number ? `${percent(sum, p.width[0])} matched` : 'no match';
    matched.title = `${plural(sum, 'sample')}, ${plural(number, 'function')}`;
  }

  /* The next node that matches and is wide enough to be seen, in the order of the graph. */
  nextMatch(step) {
    const p = this.profile;
    if (!this.matches)
      return;
    const from = this.graph.selected > 0 ? this.graph.selected : step > 0 ? 0 : p.num;
    for (let round = 1; round <= p.num; round++) {
      const i = ((from + step * round) % p.num + p.num) % p.num;
      if (i && p.width[i] && this.matches[p.frame[i]]) {
        if (i < this.graph.root || i >= p.end[this.graph.root])
          this.zoom(0);
        this.select(i);
        this.graph.reveal(i);
        return;
      }
    }
  }

  facts(node) {
    const p = this.profile, frame = p.frame[node], total = p.width[node], seconds = p.seconds(total), whole = p.width[0];
    const ret = { name: p.name(frame), where: node ? [p.module(frame), KINDS[p.kind(frame)]].filter(Boolean).join(' · ') : '', lines: [] };
    ret.lines.push(`${percent(total, whole)} · ${plural(total, 'sample')}${Number.isNaN(seconds) ? '' : ' · ' + duration(seconds) + ' CPU'}`);
    const self = p.diff && p.side === 0 ? p.selfBefore[node] : p.self[node];
    if (self && self !== total)
      ret.lines.push(`self ${percent(self, whole)} · ${plural(self, 'sample')}`);
    if (p.diff) {
      const a = p.totalBefore[node], b = p.total[node], points = (b / (p.sumBefore && p.sum || 1) - a / (p.sumBefore || 1)) * 100;
      ret.lines.push(`before ${percent(a, p.sumBefore)} (${grouped(a)}) · after ${percent(b, p.sum)} (${grouped(b)}) · ${points > 0 ? '+' : points < 0 ? '−' : ''}${Math.abs(points).toFixed(2)} points${p.changed[node] || !node ? '' : ', within chance'}`);
    }
    if (this.graph.root && node > this.graph.root && node < p.end[this.graph.root])
      ret.lines.push(`${percent(total, p.width[this.graph.root])} of ${p.name(p.frame[this.graph.root])}`);
    return ret;
  }

  hover(node, event) {
    const { tip } = this.element;
    tip.hidden = node < 0;
    if (node < 0)
      return;
    const { name, where, lines } = this.facts(node);
    tip.replaceChildren(element('b', {}, name), ...[where, ...lines].filter(Boolean).map(line => element('span', {}, line)));
    const x = Math.min(event.clientX + 14, window.innerWidth - tip.offsetWidth - 8);
    const below = event.clientY + 20, y = below + tip.offsetHeight > window.innerHeight - 8 ? event.clientY - tip.offsetHeight - 12 : below;
    tip.style.left = Math.max(4, x) + 'px';
    tip.style.top = Math.max(4, y) + 'px';
  }

  describe(node) {
    const { status } = this.element;
    if (node < 0) {
      status.replaceChildren(element('em', {}, `${plural(this.profile.width[0], 'sample')}. Click a frame to zoom in, press ? for keys.`));
      return;
    }
    const { name, where, lines } = this.facts(node);
    status.replaceChildren(element('b', {}, name), element('em', {}, ['', where, ...lines].filter((text, i) => !i || text).join('  ·  ')));
  }

  key(event) {
    const typing = event.target === this.element.search;
    if (event.key === 'f' && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      this.element.search.select();
      return;
    }
    if (typing || event.ctrlKey || event.metaKey || event.altKey || this.element.keys.open)
      return;
    const keys = {
      '/': () => this.element.search.select(),
      n: () => this.nextMatch(1),
      N: () => this.nextMatch(-1),
      i: () => this.cycle('shape'),
      c: () => this.cycle('colour'),
      w: () => this.cycle('sides'),
      t: () => document.getElementById('theme').click(),
      f: () => this.tables.open(this.tables.shown === 'functions' ? 'around' : 'functions'),
      q: () => document.getElementById('quality').click(),
      0: () => this.zoom(0),
      '?': () => this.help(),
      Backspace: () => this.back(),
      Escape: () => (this.matches ? this.search('') : this.history.length ? this.back() : this.strip && this.strip.set(null)),
    };
    const inGraph = event.target === this.element.scroll || event.target === document.body;
    if (inGraph && event.key.startsWith('Arrow')) {
      const node = this.graph.neighbour(event.key);
      if (node >= 0) {
        if (node < this.graph.root)
          this.zoom(node);
        this.select(node);
        this.graph.reveal(node);
      }
    } else if (inGraph && event.key === 'Enter' && this.graph.selected >= 0) {
      this.zoom(this.graph.selected);
    } else if (keys[event.key]) {
      keys[event.key]();
    } else {
      return;
    }
    event.preventDefault();
  }

  help() {
    const { keys } = this.element;
    const rows = [['/', 'search: text, or a regular expression (with ^ $ | .* or \\)'], ['N  Shift+N', 'next, previous match'], ['← → ↑ ↓', 'from frame to frame'], ['Enter', 'zoom into the frame'],
      ['Backspace', 'back'], ['0', 'show everything'], ['I', 'icicle or flame'], ['C', 'colours'], ...(this.profile.diff ? [['W', 'widths before or after']] : []),
      ['F', 'functions, or callers and callees'], ['Q', 'quality'], ['T', 'light or dark'], ['Esc', 'end the search, then go back, then all samples'],
      ...(this.strip ? [['← →', 'on the time strip: move the range, with Shift its end']] : [])];
    keys.replaceChildren(element('dl', {}, ...rows.flatMap(([key, text]) => [element('dt', {}, ...key.split('  ').map(one => element('kbd', {}, one))), element('dd', {}, text)])));
    keys.showModal();
    keys.onclick = () => keys.close();
  }
}

window.ringfold = new App(JSON.parse(document.getElementById('data').textContent));
