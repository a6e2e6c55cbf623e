import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;
import java.util.stream.IntStream;

/** Streams, maps, recursion and strings on two threads. */
public class Load {
    static abstract class Node { abstract double value(int x); }
    static class Leaf extends Node { double value(int x) { return x * 0.5; } }
    static class Sum extends Node {
        final Node a, b;
        Sum(Node a, Node b) { this.a = a; this.b = b; }
        double value(int x) { return a.value(x + 1) + b.value(x - 1); }
    }

    static Node build(int depth) {
        return depth == 0 ? new Leaf() : new Sum(build(depth - 1), build(depth - 1));
    }

    static int words(int count) {
        Map<Integer, List<String>> groups = IntStream.range(0, count).mapToObj(i -> "w" + i * 7919 % count)
            .collect(Collectors.groupingBy(String::length));
        Map<String, Integer> all = new HashMap<>();
        groups.forEach((key, list) -> list.forEach(word -> all.merge(word, key, Integer::sum)));
        return all.size();
    }

    public static void main(String[] args) throws Exception {
        long end = System.nanoTime() + Long.parseLong(args[0]) * 1_000_000_000L;
        List<Thread> threads = new ArrayList<>();
        for (int i = 0; i < 2; i++) {
            Thread thread = new Thread(() -> {
                double total = 0;
                Node tree = build(12);
                while (System.nanoTime() < end) total += tree.value(3) + words(2000);
                if (total == 42) System.out.println(total);
            });
            thread.start();
            threads.add(thread);
        }
        for (Thread thread : threads) thread.join();
    }
}
