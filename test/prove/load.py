"""Recursion, generators, JSON, regular expressions, sorting: for scripts/prove.sh runtimes. usage: load.py SECONDS"""
import sys, time, json, re
end = time.time() + float(sys.argv[1])
class Tree:
    def __init__(self, d): self.kids = [Tree(d-1), Tree(d-1)] if d else []; self.value = d
    def total(self): return self.value + sum(k.total() for k in self.kids)
def fib(n): return n if n < 2 else fib(n-1) + fib(n-2)
def words(n): return sorted((f'w{i*7919%n}' for i in range(n)), key=lambda w: (len(w), w))
def parse(t): return json.loads(t)
def find(t): return [m.group(0) for m in re.finditer(r'w\d*[13579]', t)]
def step(i):
    x = Tree(9).total() + fib(15) + len(words(500))
    return x + len(parse(json.dumps({f'k{j}': j*i for j in range(200)}))) + len(find(' '.join(words(200))))
i = 0
while time.time() < end: i += step(i)
