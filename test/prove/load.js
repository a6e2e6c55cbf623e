// JSON, closures, regular expressions, sorting, recursion: what a service does.
const end = Date.now() + 1000 * Number(process.argv[2] || 10);
class Tree {
  constructor(depth) {
    this.kids = depth ? [new Tree(depth - 1), new Tree(depth - 1)] : [];
    this.value = depth;
  }
  sum() { return this.kids.reduce((acc, kid) => acc + kid.sum(), this.value); }
}
function parse(text) {
  const object = JSON.parse(text);
  return Object.keys(object).map((key) => `${key}:${object[key]}`).sort().join(';');
}
function words(count) {
  const list = [];
  for (let i = 0; i < count; i++) list.push(`w${(i * 7919) % count}`);
  return list.filter((word) => /w\d*[13579]$/.test(word)).sort((a, b) => a.localeCompare(b)).length;
}
let total = 0;
while (Date.now() < end) {
  total += new Tree(12).sum() + words(3000);
  const object = {};
  for (let i = 0; i < 500; i++) object[`key${i}`] = i * total % 1000;
  total += parse(JSON.stringify(object)).length;
}
if (total === 42) console.log(total);
