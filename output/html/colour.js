/* What colour a frame has: by kind, by module, or by how it changed. */

/* Hue, saturation; by kind, in the order of KINDS. */
const KIND_HUES = [[218, 16], [212, 62], [27, 78], [140, 40], [184, 46], [268, 52], [0, 22], [352, 62]];
const MODULE_HUES = [212, 27, 140, 268, 184, 340, 48, 96, 236, 300, 8, 162];
const NO_MODULE = [218, 10];

/* "#rrggbb": what canvases take quickest. Degrees, percent. */
function hsl(hue, saturation, lightness) {
  const s = Math.min(100, saturation) / 100, l = lightness / 100, a = s * Math.min(l, 1 - l);
  const part = n => {
    const k = (n + (hue + 360) / 30) % 12;
    return Math.round(255 * (l - a * Math.max(-1, Math.min(k - 3, 9 - k, 1)))).toString(16).padStart(2, '0');
  };
  return '#' + part(0) + part(8) + part(4);
}

class Colours {
  constructor(profile) {
    this.profile = profile;
    this.by = profile.diff ? 'change' : 'kind';
    this.jitter = Int32Array.from(profile.names, text => {
      let hash = 0;
      for (let i = 0; i < text.length; i++)
        hash = hash * 31 + text.charCodeAt(i) | 0;
      return hash ^ hash >>> 15;
    });
    this.rankModules();
    this.refresh(false);
  }

  /* The modules with the most samples of their own get the hues that are easiest to tell apart. */
  rankModules() {
    const p = this.profile, self = new Float64Array(p.modules.length);
    for (let i = 1; i < p.num; i++)
      self[p.frameModule[p.frame[i]]] += p.selfAll[i];
    const order = [...self.keys()].filter(m => p.modules[m]).sort((a, b) => self[b] - self[a]);
    this.moduleHue = p.modules.map(() => NO_MODULE);
    order.forEach((m, i) => {
      this.moduleHue[m] = [MODULE_HUES[i % MODULE_HUES.length], i < MODULE_HUES.length ? 56 : 24];
    });
    this.topModules = order.slice(0, MODULE_HUES.length);
  }

  refresh(dark) {
    const p = this.profile;
    this.dark = dark;
    this.text = dark ? '#f3f5fa' : '#131924';
    this.faded = dark ? .38 : .34; /* opacity */
    this.frames = p.names.map((_, f) => {
      const [hue, saturation] = this.by === 'module' ? this.moduleHue[p.frameModule[f]] : KIND_HUES[p.frameKind[f]];
      return this.css(hue, saturation, this.jitter[f]);
    });
    this.root = this.css(218, 10, 0);
    this.hit = dark ? '#b0178a' : '#f48fdb';
    if (p.diff)
      this.paintChanges();
  }

  css(hue, saturation, jitter = 0) {
    if (saturation < 20) /* what is no code: plain */
      return this.dark ? hsl(hue, saturation, 24 + (jitter & 3)) : hsl(hue, saturation, 87 + (jitter & 3));
    const h = hue + (jitter & 15) - 8, l = (jitter >>> 4 & 15) / 15 * 7 - 3.5;
    return this.dark ? hsl(h, saturation * .78, 37 + l) : hsl(h, Math.min(saturation * 1.15, 90), 75 + l);
  }

  /* Grew: red, shrank: blue, the stronger the larger the change of its share; grey is within chance. */
  change(before, after, changed) {
    const p = this.profile, a = before / (p.sumBefore || 1), b = after / (p.sum || 1);
    if (!changed || a === b)
      return this.dark ? hsl(218, 8, 30) : hsl(218, 12, 86);
    const strength = Math.min(1, .3 + Math.sqrt(Math.abs(b - a)) * 1.1 + (a && b ? 0 : .25));
    const hue = b > a ? 4 : 216;
    return this.dark ? hsl(hue, 40 + 30 * strength, 26 + 20 * strength) : hsl(hue, 70 + 15 * strength, 90 - 32 * strength);
  }

  paintChanges() {
    const p = this.profile;
    this.nodes = Array.from({ length: p.num }, (_, i) => this.change(p.totalBefore[i], p.total[i], p.changed[i]));
  }

  of(node) {
    if (node === 0)
      return this.root;
    return this.by === 'change' ? this.nodes[node] : this.frames[this.profile.frame[node]];
  }

  /* [colour, text, share of the samples' last frames] */
  legend() {
    const p = this.profile;
    if (this.by === 'change')
      return [[this.change(0, p.sum, 1), 'grew'], [this.change(p.sumBefore, 0, 1), 'shrank'], [this.change(1, 1, 0), 'within chance']]
        .map(([colour, text]) => [colour, text, '']);
    const byModule = this.by === 'module';
    const self = new Float64Array(byModule ? p.modules.length : KINDS.length);
    for (let f = 0; f < p.names.length; f++)
      self[byModule ? p.frameModule[f] : p.frameKind[f]] += p.functions.self[f];
    if (!byModule)
      return KINDS.map((kind, k) => [this.css(...KIND_HUES[k]), kind, self[k]])
        .filter(([, , sum]) => sum).map(([colour, kind, sum]) => [colour, kind, percent(sum, p.sum)]);
    return this.topModules.filter(m => self[m])
      .map(m => [this.css(...this.moduleHue[m]), p.modules[m], percent(self[m], p.sum)]);
  }
}
