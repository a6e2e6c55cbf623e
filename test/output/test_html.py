#!/usr/bin/env python3
"""usage: test_html.py RENDER DATA-DIRECTORY [SCREENSHOT-DIRECTORY]

The page that -o NAME.html writes, driven in headless Chromium: what it shows, keys, mouse, hostile names, and that it
stays fluid with 100,000 frames. With a third argument pictures of it are left there.
"""
import os
import random
import subprocess
import sys
import tempfile
from xml.etree import ElementTree

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import chrome

render, data = sys.argv[1:3]
pictures = sys.argv[3] if len(sys.argv) > 3 else None
failures = 0


def check(got, want, what):
    global failures
    if got != want:
        failures += 1
        print(f'FAILED: {what}\n  want {want!r}\n  got  {got!r}', file=sys.stderr)


def page(folder, fixture, name):
    path = os.path.join(folder, name + '.html')
    with open(path, 'wb') as out:
        subprocess.run([render, fixture, 'html'], stdout=out, check=True)
    return path


def settle(browser):
    """Until nothing moves any more."""
    browser.wait('!ringfold.graph.pending && !ringfold.graph.animation && !ringfold.later && !(ringfold.strip && ringfold.strip.pending)')


def node(browser, *names):
    """The place on the screen of the node with these names from the root; scrolled into sight."""
    browser.js(f'''(() => {{
      const p = ringfold.profile, names = {list(names)!r};
      let at = 0;
      for (const name of names) {{
        let child = at + 1;
        while (child < p.end[at] && p.name(p.frame[child]) !== name)
          child = p.end[child];
        if (child >= p.end[at]) throw new Error('no ' + name);
        at = child;
      }}
      ringfold.graph.reveal(at);
      window.found = at;
    }})()''')
    settle(browser)
    return browser.js('''(() => {
      const g = ringfold.graph, p = ringfold.profile, box = g.canvas.getBoundingClientRect();
      return [box.left + ((p.x[found] + p.width[found] / 2) - g.from) * g.scale, box.top + g.rowTop(p.depth[found]) - g.scroll.scrollTop + 9, found];
    })()''')


def text(browser, selector):
    return browser.js(f'document.querySelector({selector!r}).textContent')


def rows(browser, selector):
    return browser.js(f'''[...document.querySelectorAll({selector!r} + ' tbody tr')].map(row => [...row.cells].map(cell =>
      cell.className === 'f' ? cell.childNodes[1].textContent : cell.textContent))''')


def test_basic(browser, folder):
    browser.open(page(folder, f'{data}/basic.profile', 'basic'))
    check(browser.complaints(), [], 'the page complains')
    check(len(browser.requests()), 1, 'the page asks for nothing but itself')
    check(text(browser, '#title'), 'all processes: cpu-clock at 99 Hz for 5.002 s', 'title')
    check(text(browser, '#summary'), '1,260 samples, 3 lost (0.2 %), throttled 1 time, 99.0 % of user stacks complete', 'quality')
    check(browser.js('document.getElementById("grade").className'), 'good', 'grade')
    check(browser.js('document.getElementById("strip").hidden'), True, 'no strip without samples')
    check(browser.js('ringfold.profile.sum'), 1160, 'all samples')
    check(rows(browser, '#functions')[:3], [['43.1 %', '61.2 %', 'parse(std::string const&, int)'],
                                            ['17.2 %', '17.2 %', '[libc.so.6]'], ['12.9 %', '17.2 %', 'fib']], 'hottest functions')

    # Search, and what it matches in the zoomed part.
    browser.key('/')
    browser.type('fib')
    check(text(browser, '#matched'), '17.2 % matched', 'search')
    check(browser.js('document.getElementById("matched").title'), '200 samples, 1 function', 'samples of the search')
    check(len(rows(browser, '#functions')), 1, 'the table follows the search')
    browser.key('Enter')
    check(browser.js('ringfold.profile.name(ringfold.profile.frame[ringfold.graph.selected])'), 'fib', 'first match')
    browser.key('Escape')
    check(text(browser, '#matched'), '', 'search ended')
    browser.js('ringfold.search("^(vfs_|parse)")')
    check(text(browser, '#matched'), '71.6 % matched', 'search by a regular expression')
    browser.js('ringfold.search("|parse(std")')
    check(browser.js('document.getElementById("search").classList.contains("bad")'), True, 'no regular expression')
    browser.js('ringfold.search("parse(std")')
    check(text(browser, '#matched'), '61.2 % matched', 'brackets are text')
    browser.js('ringfold.search("[libc.so.6]")')
    check(text(browser, '#matched'), '17.2 % matched', 'a name with brackets')
    browser.js('ringfold.search("")')

    # A click zooms and selects; back, reset.
    x, y, found = node(browser, 'my worker', '_start', 'main', 'fib')
    browser.click(x, y)
    settle(browser)
    check(browser.js('[ringfold.graph.root, ringfold.graph.selected]'), [found, found], 'zoom by a click')
    check(browser.js('[ringfold.graph.from, ringfold.graph.to]'), browser.js('[ringfold.profile.x[found], ringfold.profile.x[found] + 200]'), 'in sight')
    check(browser.js('[...document.querySelectorAll("#path button")].map(b => b.textContent)'), ['all', 'my worker', '_start', 'main', 'fib'], 'path')
    check('17.2 % · 200 samples · 2.02 s CPU' in text(browser, '#status'), True, 'what the status tells')
    browser.mouse('mouseMoved', x, y + 1)
    check(browser.js('!document.getElementById("tip").hidden && document.querySelector("#tip b").textContent'), 'fib', 'tooltip')
    browser.key('Backspace')
    settle(browser)
    check(browser.js('[ringfold.graph.root, ringfold.graph.from, ringfold.graph.to]'), [0, 0, 1160], 'back')

    # The neighbours by keys.
    browser.js('document.getElementById("scroll").focus()')
    for key, want in (('ArrowDown', 'fib'), ('ArrowUp', 'fib'), ('ArrowUp', 'main'), ('ArrowDown', 'parse(std::string const&, int)'), ('ArrowLeft', 'fib')):
        browser.key(key)
        check(browser.js('ringfold.profile.name(ringfold.profile.frame[ringfold.graph.selected])'), want, f'{key} goes to')
    browser.key('Enter')
    settle(browser)
    check(browser.js('ringfold.profile.name(ringfold.profile.frame[ringfold.graph.root])'), 'fib', 'Enter zooms')
    browser.key('0')
    settle(browser)
    check(browser.js('ringfold.graph.root'), 0, '0 shows all')
    browser.key('i')
    check(browser.js('ringfold.graph.inverted'), False, 'i turns it round')
    browser.key('i')
    browser.key('c')
    check(browser.js('ringfold.colours.by'), 'module', 'c colours by module')
    browser.key('c')
    browser.key('?')
    check(browser.js('document.getElementById("keys").open'), True, '? lists the keys')
    browser.key('Escape')
    browser.wait('!document.getElementById("keys").open')

    # Callers and callees of a recursive function: what it calls adds up to its total.
    browser.js('ringfold.pick(ringfold.profile.names.indexOf("fib"))')
    check(rows(browser, '#around'), [['100.0 %', 'main'], ['75.0 %', 'fib'], ['25.0 %', 'std::move']], 'callers and callees')
    theme = browser.js('document.documentElement.dataset.theme')
    browser.key('t')
    check(browser.js('document.documentElement.dataset.theme'), 'dark' if theme == 'light' else 'light', 't changes the theme')
    check(browser.complaints(), [], 'the page complains')


def test_range(browser, folder):
    """A burst of a, then one of b: each range shows its own."""
    fixture = os.path.join(folder, 'range.profile')
    with open(fixture, 'w') as out:
        print('frame\tlabel\tapp\t-\nframe\tnative\ta\tapp\nframe\tnative\tb\tapp\nframe\tkernel\tk\t[kernel]', file=out)
        for i in range(1000):
            print(f'sample\t{5000000000 + i * 2000000}\t1\t0\t7\t7\t0\tapp\t{"1 2" if i < 500 else "1 3" if i < 900 else "1 3 4"}', file=out)
    browser.open(page(folder, fixture, 'range'))
    check(browser.js('document.getElementById("strip").hidden'), False, 'strip')
    check(browser.js('ringfold.profile.sum'), 1000, 'all samples')
    box = browser.js('(b => [b.left, b.width, b.top + 20])(document.getElementById("time").getBoundingClientRect())')
    browser.drag(box[0] + box[1] * .25, box[0] + box[1] * .75, box[2])
    settle(browser)
    total = browser.js('ringfold.profile.sum')
    check(abs(total - 500) <= 4, True, f'half of the samples, not {total}')
    check(browser.js('ringfold.profile.functions.self.reduce((a, b) => a + b)'), total, 'the functions follow')
    check(browser.js('ringfold.graph.to'), total, 'the graph follows')
    shares = rows(browser, '#functions')
    check(sorted(row[2] for row in shares), ['a', 'b'], 'both are in the middle')
    check(text(browser, '#range').endswith(f'{total} samples ({total / 10:.1f} %)'), True, 'what the range tells: ' + text(browser, '#range'))
    browser.js('document.getElementById("time").focus()')
    for _ in range(30):
        browser.key('ArrowRight')
    settle(browser)
    check([row[2] for row in rows(browser, '#functions')], ['b', 'k'], 'the range moved to the end by keys')
    browser.key('Escape')
    settle(browser)
    check(browser.js('ringfold.profile.sum'), 1000, 'all samples again')
    check(browser.complaints(), [], 'the page complains')


def test_hostile(browser, folder):
    """Names are text, whatever they hold, and nothing of them runs."""
    evil = ['<script>window.evil=1</script>', '</script><img src=x onerror=window.evil=1>', '"\'`${evil}\\', 'two\\x0alines', '&lt;b&gt;', '\\xff\\xfe<!--', '__proto__', '<svg onload=evil=1>']
    fixture = os.path.join(folder, 'evil.profile')
    with open(fixture, 'w') as out:
        print('stat\tstart_ns\t1700000000000000000\nstat\ttargets\tcommand </title><script>window.evil=1</script>\nstat\tevent\t"</script>\nnote\t</script><img src=x onerror=evil=1>', file=out)
        for name in evil:
            print(f'frame\tnative\t{name}\t{name}', file=out)
        for i in range(len(evil)):
            print(f'stack\t{len(evil) - i}\t{i + 1}', file=out)
    for path in page(folder, fixture, 'evil'), page(folder, f'{data}/hostile.profile', 'hostile'):
        browser.open(path)
        check(browser.complaints(), [], 'the page complains')
        check(browser.js('typeof window.evil'), 'undefined', 'something ran')
        check(browser.js('document.querySelectorAll("img, svg, script:not([type]) ~ script").length'), 0, 'something became an element')
        check(len(browser.requests()), 1, 'something was asked for')
    browser.open(page(folder, fixture, 'evil'))
    check('recorded: ' in text(browser, '#notes') and '2023' in text(browser, '#notes'), True, 'when it was recorded')
    check(text(browser, '#title'), 'command </title><script>window.evil=1</script>: "</script>', 'title')
    names = [row[2] for row in rows(browser, '#functions')]
    check(names, ['<script>window.evil=1</script>', '</script><img src=x onerror=window.evil=1>', '"\'`${evil}\\', 'two?lines', '&lt;b&gt;', '??<!--', '__proto__', '<svg onload=evil=1>'], 'names')
    for i in range(len(evil)):
        browser.js(f'ringfold.pick({i}); ringfold.search(ringfold.profile.names[{i}])')
        check(text(browser, '#matched') != 'no match', True, f'{evil[i]} is not found by itself')
        check(text(browser, '#around h2'), names[i], 'name in the tables')
    check(browser.js('typeof window.evil'), 'undefined', 'something ran')


def test_svg(browser, folder):
    """Static pictures: well-formed, every frame with its tooltip, names as text."""
    for name in 'basic', 'hostile', 'timeline':
        path = os.path.join(folder, name + '.svg')
        with open(path, 'wb') as out:
            subprocess.run([render, f'{data}/{name}.profile', 'svg'], stdout=out, check=True)
        ElementTree.parse(path)
        browser.open(path)
        check(browser.js('document.querySelectorAll("parsererror, script, [onload], image, foreignObject").length'), 0, f'{name}.svg: what it holds')
        check(browser.js('document.documentElement.tagName'), 'svg', f'{name}.svg')
        check(browser.js('[...document.querySelectorAll("g")].every(g => g.querySelector("title") && g.querySelector("rect"))'), True, 'tooltips')
        check(browser.complaints(), [], 'the picture complains')
        if name == 'hostile':
            check(browser.js(r'[...document.querySelectorAll("title")].filter(t => t.textContent.startsWith("<script>alert(1)</script>&\"\'\\")).length'), 1, 'a name in its tooltip')
        if name == 'basic':
            check(browser.js('[...document.querySelectorAll("g title")].map(t => t.textContent).find(t => t.startsWith("main"))'), 'main\napp\n79.2 %, 919 samples, self 0.8 %', 'tooltip')
            check(browser.js('(r => Math.round(r.width))([...document.querySelectorAll("g")].find(g => g.textContent.startsWith("main")).querySelector("rect").getBoundingClientRect())'), 934, 'width')


def big_fixture(path, want):
    """A tree of `want` frames as programs have them: deep, with many thin branches."""
    random.seed(7)
    num, names = 0, 4000
    with open(path, 'w') as out:
        print('frame\tlabel\tbig\t-', file=out)
        for i in range(names):
            print(f'frame\t{random.choice(["native", "native", "kernel", "jit", "inlined"])}\tnamespace{i % 50}::Class{i % 333}::method_{i}(int, char const*)\tlib{i % 40}.so', file=out)
        seen, stacks = {(1,)}, [(1,)]
        num = 1
        while num < want:
            stack = random.choice(stacks[-2000:]) if random.random() < .7 else random.choice(stacks)
            stack = stack[:random.randint(1, len(stack))]
            for _ in range(random.randint(1, 12)):
                if len(stack) >= 60 or num >= want:
                    break
                stack += (random.randint(2, names),)
                if stack not in seen:
                    seen.add(stack)
                    num += 1
            stacks.append(stack)
            print(f'sample\t{10**9 + len(stacks) * 1000000}\t1\t0\t7\t7\t0\tbig\t{" ".join(map(str, stack))}', file=out)
    return num


def test_big_svg(browser, folder):
    """100,000 frames as a picture: few elements, and every frame is a box, a part of a path, or counted as left out."""
    fixture, path = os.path.join(folder, 'big.profile'), os.path.join(folder, 'big.svg')
    num = big_fixture(fixture, 100000)
    with open(path, 'wb') as out:
        subprocess.run([render, fixture, 'svg'], stdout=out, check=True)
    browser.open(path)
    if pictures:
        browser.screenshot(f'{pictures}/big-svg.png')
    check(browser.js('document.documentElement.firstElementChild.tagName'), 'title', 'a title before all others')
    boxes = browser.js('document.querySelectorAll("g").length')
    thin = browser.js('[...document.querySelectorAll("path")].map(p => p.getAttribute("d").split("M").length - 1).reduce((a, b) => a + b, 0)')
    note = browser.js('[...document.querySelectorAll("text")].pop().textContent')
    check(note.endswith(' frames are too narrow or too high to be drawn'), True, 'what is left out')
    check(boxes + thin + int(note.split()[0].replace(',', '')), num + 1, 'frames in all')
    check(boxes > 100 and thin > 1000, True, 'boxes and paths')
    check(browser.js('document.querySelectorAll("*").length') < 10000, True, 'elements')
    check(os.path.getsize(path) < 2 << 20, True, 'size')


def test_fluid(browser, folder):
    """100,000 frames: every frame drawn in less than 100 ms while it is zoomed, scrolled and searched."""
    fixture = os.path.join(folder, 'big.profile')
    num = big_fixture(fixture, 100000)
    path = page(folder, fixture, 'big')
    browser.open(path)
    check(browser.js('ringfold.profile.num - 1'), num, 'nodes')
    if pictures:
        browser.screenshot(f'{pictures}/big.png')
    measure = '''new Promise(done => {
      const g = ringfold.graph, p = ringfold.profile, times = [], draws = [];
      let last = performance.now(), wide = [];
      for (let i = 1; i < p.num && wide.length < 12; i++)
        if (p.width[i] > p.width[0] / 300 && p.depth[i] > 3) wide.push(i);
      function frame(now) {
        times.push(now - last);
        draws.push(g.frameMs);
        last = now;
        const n = times.length;
        if (n % 12 === 1) ringfold.zoom(n % 24 === 1 ? wide[n % wide.length] : 0);
        if (n === 40) ringfold.search('method_1');
        if (n > 50) g.scroll.scrollTop = (n % 10) * 40;
        g.invalidate();
        if (n < 90) requestAnimationFrame(frame);
        else done([times.slice(2), draws]);
      }
      requestAnimationFrame(frame);
    })'''
    best, cpus = None, []
    for _ in range(8):  # the machine may be busy: then what it took of a CPU counts
        before = browser.cpu_ms()
        times, draws = browser.js(measure)
        cpus.append((browser.cpu_ms() - before) / 90)
        middle = sorted(times)[len(times) // 2]
        worst = sorted(draws)[len(draws) * 95 // 100]
        best = (min(best[0], middle), min(best[1], worst)) if best else (middle, worst)
        if best[0] < 80 and best[1] < 80:
            break
    print(f'100,000 frames: {best[0]:.0f} ms from frame to frame (median), {best[1]:.0f} ms to draw (95 of 100), {min(cpus):.0f} ms of a CPU, page of {os.path.getsize(path) >> 10} KiB')
    check(max(best) < 100 or min(cpus) < 50, True, 'a frame takes 100 ms')
    drag = '''new Promise(done => {
      const bins = ringfold.profile.time.bins;
      let n = 0, start = performance.now();
      const step = () => {
        ringfold.strip.set([n * 5, Math.floor(bins / 2) + n * 5]);
        if (++n < 30) requestAnimationFrame(step);
        else done((performance.now() - start) / 30);
      };
      step();
    })'''
    steps, cpus = [], []
    while not steps or (steps[-1] > 80 and len(steps) < 8):
        before = browser.cpu_ms()
        steps.append(browser.js(drag))
        cpus.append((browser.cpu_ms() - before) / 30)
    print(f'dragging a range over them: {min(steps):.0f} ms a step, {min(cpus):.0f} of a CPU')
    check(min(steps) < 100 or min(cpus) < 50, True, 'a step takes 100 ms')
    check(browser.complaints(), [], 'the page complains')


def main():
    if not chrome.find():
        print('no chromium here (scripts/deps.sh test installs it): skipped')
        return 77
    with tempfile.TemporaryDirectory() as folder:
        browser = chrome.Chrome()
        try:
            for test in test_basic, test_range, test_hostile, test_svg, test_big_svg, test_fluid:
                test(browser, folder)
        finally:
            browser.close()
    return 1 if failures else 0


sys.exit(main())
