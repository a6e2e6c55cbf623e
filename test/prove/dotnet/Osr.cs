// Loops that are entered once: their methods go on by on-stack replacement, in the frame of the version that was compiled
// first. With many registers and calls, without any call, and with what handles exceptions.
// usage: Osr SECONDS
using System;
using System.Runtime.CompilerServices;

namespace Shop;

public static class Osr
{
    [MethodImpl(MethodImplOptions.NoInlining)]
    static long Leaf(long x, int n)
    {
        for (int i = 0; i < n; i++) x = x * 6364136223846793005L + 1442695040888963407L;
        return x;
    }
    [MethodImpl(MethodImplOptions.NoInlining)]
    static long Calls(long a, long b, long c, double d, DateTime end)
    {
        long s = 0, t = 1, u = 2, v = 3;
        while (DateTime.UtcNow < end)
            for (int i = 0; i < 2000; i++) { s += Leaf(a + i, 200); t ^= s + b; u += t * c; v -= u; d += v * 1e-9; }
        return s + t + u + v + (long)d;
    }
    [MethodImpl(MethodImplOptions.NoInlining)]
    static long Plain(long n)
    {
        long s = 1;
        for (long i = 0; i < n; i++) { s ^= s << 13; s ^= s >> 7; s ^= s << 17; }
        return s;
    }
    [MethodImpl(MethodImplOptions.NoInlining)]
    static long Handles(DateTime end)
    {
        long s = 0;
        while (DateTime.UtcNow < end)
            try { s += Leaf(s, 5000); } finally { s ^= Leaf(s, 300); }
        return s;
    }
    [MethodImpl(MethodImplOptions.NoInlining)]
    static long Caller(double seconds, int which)
    {
        var end = DateTime.UtcNow.AddSeconds(seconds);
        return which + (which == 0 ? Calls(1, 2, 3, 4.5, end) : which == 1 ? Plain((long)(seconds * 3e8)) : Handles(end));
    }
    public static void Main(string[] args)
    {
        Console.WriteLine("ready");
        long sum = 0;
        for (int which = 0; which < 3; which++) sum += Caller(double.Parse(args[0]) / 3, which) * 3;
        Console.WriteLine(sum);
    }
}
