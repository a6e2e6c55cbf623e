/* The tables beside the graph. Text from the profile becomes text nodes, never markup. */

const SHOWN_ROWS = 200;

function element(tag, attributes, ...children) {
  const ret = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name.startsWith('on'))
      ret.addEventListener(name.slice(2), value);
    else if (value === true)
      ret.setAttribute(name, '');
    else if (value !== undefined && value !== false)
      ret.setAttribute(name, value);
  }
  ret.append(...children.filter(child => child !== undefined));
  return ret;
}

class Tables {
  /* `on` has pick(frame): a function was chosen, and show(frame): zoom to where it is most. */
  constructor(profile, colours, on) {
    this.profile = profile;
    this.colours = colours;
    this.on = on;
    this.sort = profile.diff ? 'change' : 'self';
    this.down = true;
    this.limit = SHOWN_ROWS;
    this.frame = -1;
    this.matches = null;
    this.functions = document.getElementById('functions');
    this.around = document.getElementById('around');
    this.tabs = { functions: document.getElementById('tab-functions'), around: document.getElementById('tab-around') };
    for (const name of Object.keys(this.tabs))
      this.tabs[name].addEventListener('click', () => this.open(name));
    document.getElementById('tabs').addEventListener('keydown', event => {
      if (event.key === 'ArrowLeft' || event.key === 'ArrowRight') {
        const other = this.shown === 'functions' ? 'around' : 'functions';
        this.open(other);
        this.tabs[other].focus();
        event.stopPropagation();
      }
    });
    this.open('functions');
  }

  open(name) {
    this.shown = name;
    for (const tab of Object.keys(this.tabs)) {
      this.tabs[tab].setAttribute('aria-selected', String(tab === name));
      this.tabs[tab].tabIndex = tab === name ? 0 : -1;
      this[tab].hidden = tab !== name;
    }
    this.refresh();
  }

  pick(frame) {
    this.frame = frame;
    this.refresh();
  }

  refresh() {
    if (this.shown === 'functions')
      this.fillFunctions();
    else
      this.fillAround();
  }

  value(column, f) {
    const p = this.profile;
    if (column === 'name')
      return p.names[f];
    if (column === 'change')
      return Math.abs(p.functions.self[f] / (p.sum || 1) - p.functionsBefore.self[f] / (p.sumBefore || 1));
    return column === 'before' ? p.functionsBefore.self[f] : p.functions[column][f];
  }

  sorted() {
    const p = this.profile, column = this.sort, ret = [];
    for (let f = 0; f < p.names.length; f++) {
      const there = p.functions.total[f] || (p.diff && p.functionsBefore.total[f]);
      if (there && (p.frameKind[f] !== KIND_LABEL) && (!this.matches || this.matches[f]))
        ret.push([f, this.value(column, f)]);
    }
    const sign = this.down === (column !== 'name') ? -1 : 1;
    ret.sort((a, b) => (a[1] < b[1] ? -sign : a[1] > b[1] ? sign : p.functions.total[b[0]] - p.functions.total[a[0]] || a[0] - b[0]));
    return ret.map(pair => pair[0]);
  }

  heading(column, text, number) {
    const on = this.sort === column;
    return element('th', { class: number && 'n', scope: 'col', 'aria-sort': on && (this.down ? 'descending' : 'ascending') },
      element('button', { type: 'button', onclick: () => {
        this.down = on ? !this.down : true;
        this.sort = column;
        this.refresh();
      } }, text + (on ? (this.down ? ' ▾' : ' ▴') : '')));
  }

  fillFunctions() {
    const p = this.profile, frames = this.sorted(), max = frames.reduce((m, f) => Math.max(m, p.functions.self[f]), 0);
    if (!frames.length) {
      this.functions.replaceChildren(element('p', { class: 'empty' }, this.matches ? 'Nothing fits the search.' : 'No functions.'));
      return;
    }
    const head = p.diff
      ? [this.heading('change', 'Change', true), this.heading('before', 'Before', true), this.heading('self', 'After', true), this.heading('name', 'Function')]
      : [this.heading('self', 'Self', true), this.heading('total', 'Total', true), this.heading('name', 'Function')];
    const rows = frames.slice(0, this.limit).map(f => this.row(f, p.diff
      ? this.changeCells(p.functionsBefore.self[f], p.functions.self[f], p.data.changed_self[f])
      : [this.share(p.functions.self[f], max), this.share(p.functions.total[f])]));
    const kids = [element('table', {}, element('thead', {}, element('tr', {}, ...head)), element('tbody', {}, ...rows))];
    if (frames.length > this.limit)
      kids.push(element('button', { class: 'more', type: 'button', onclick: () => {
        this.limit += 1000;
        this.refresh();
      } }, `${plural(frames.length - this.limit, 'more function')}`));
    this.functions.replaceChildren(...kids);
  }

  share(count, max, whole = this.profile.sum) {
    const cell = element('td', { class: 'n', title: plural(count, 'sample') });
    if (max && count) {
      const bar = element('u');
      bar.style.width = count / max * 100 + '%';
      cell.append(bar);
    }
    cell.append(element('b', {}, percent(count, whole)));
    return cell;
  }

  changeCells(before, after, changed) {
    const p = this.profile, points = (after / (p.sum || 1) - before / (p.sumBefore || 1)) * 100;
    const way = !changed ? 'n' : points > 0 ? 'n grew' : 'n shrank';
    const text = (points > 0 ? '+' : points < 0 ? '−' : '') + Math.abs(points).toFixed(2);
    return [
      element('td', { class: way, title: changed ? 'points of the share' : 'within what chance does' }, changed ? text : '~ ' + text),
      element('td', { class: 'n', title: plural(before, 'sample') }, percent(before, p.sumBefore)),
      element('td', { class: 'n', title: plural(after, 'sample') }, percent(after, p.sum))];
  }

  row(frame, cells, note) {
    const p = this.profile, dot = element('i'), name = p.name(frame), module = p.module(frame);
    dot.style.background = frame < 0 || this.colours.by === 'change' ? 'transparent' : this.colours.frames[frame];
    const text = element('td', { class: 'f', title: name + (module ? `\n${module}` : '') }, dot, name,
      element('small', {}, [name === module || name === `[${module}]` ? '' : module, note].filter(Boolean).join(' · ')));
    const choose = () => frame >= 0 && this.on.pick(frame);
    return element('tr', { tabindex: 0, class: frame === this.frame && frame >= 0 && 'on', 'data-frame': frame, onclick: choose, onkeydown: event => {
      if (event.key === 'Enter' || event.key === ' ') {
        choose();
        event.preventDefault();
      }
      const other = event.key === 'ArrowDown' ? event.currentTarget.nextElementSibling : event.key === 'ArrowUp' ? event.currentTarget.previousElementSibling : null;
      if (other) {
        other.focus();
        event.preventDefault();
      }
    } }, ...cells, text);
  }

  fillAround() {
    const p = this.profile, frame = this.frame;
    if (frame < 0) {
      this.around.replaceChildren(element('p', { class: 'empty' }, 'Choose a frame in the graph or a function in the table.'));
      return;
    }
    const { callers, callees, self } = p.around(frame), total = p.functions.total[frame];
    const seconds = p.seconds(total), module = p.module(frame);
    const facts = [`${percent(total, p.sum)} in all (${plural(total, 'sample')}${Number.isNaN(seconds) ? '' : ', ' + duration(seconds)})`,
      `${percent(p.functions.self[frame], p.sum)} self`];
    if (p.diff)
      facts.push(`before: ${percent(p.functionsBefore.total[frame], p.sumBefore)}`);
    const card = element('div', { class: 'card' }, element('h2', {}, p.name(frame)),
      element('p', {}, [module, KINDS[p.kind(frame)]].filter(Boolean).join(' · ')), element('p', {}, facts.join(' · ')),
      element('div', { class: 'acts' },
        element('button', { type: 'button', onclick: () => this.on.show(frame) }, 'Show in the graph'),
        element('button', { type: 'button', onclick: () => this.on.search(frame) }, 'Search for it')));
    const table = rows => element('table', {}, element('tbody', {}, ...rows.slice(0, SHOWN_ROWS).map(row => this.row(row.frame,
      p.diff ? this.changeCells(row.before, row.total, p.surely(row.before, row.total)) : [this.share(row.total, total, total)],
      row.frame === frame ? 'itself' : ''))));
    const within = element('p', { class: 'empty' }, `It ends in its own code: ${percent(self, p.sum)}.`);
    this.around.replaceChildren(card, element('h3', {}, `Called by (${callers.length})`), table(callers),
      element('h3', {}, `Calls (${callees.length})`), callees.length ? table(callees) : within);
  }
}
