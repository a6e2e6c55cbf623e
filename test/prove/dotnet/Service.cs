// A service with some of everything that makes managed stacks hard to name or to walk: two busy threads of work that
// needs JSON, LINQ, async, compiled regular expressions, expression trees, generics, exceptions, P/Invoke, a collectible
// assembly and dynamic methods, and one that spins in a leaf without a frame under a caller without one.
// usage: Service SECONDS [no-dynamic] [no-collectible | unloads] [idle]; unloads: 20 assemblies a second and more
// idle: it works for 4 s, and then only a thread beats that tells each 100 ms what its longest pause was.
using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.Linq;
using System.Linq.Expressions;
using System.Reflection;
using System.Reflection.Emit;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Text.Json;
using System.Text.RegularExpressions;
using System.Threading;
using System.Threading.Tasks;

namespace Shop;

public record Item(string Name, decimal Price, int Count);
public record Order(int Id, List<Item> Items, Dictionary<string, string> Tags);

public interface IPricing<T> { decimal Price(T of); }
public class ItemPricing : IPricing<Item>
{
    [MethodImpl(MethodImplOptions.NoInlining)]
    public decimal Price(Item of) => of.Price * of.Count;
}
public class Repository<TKey, TValue> where TKey : notnull
{
    readonly Dictionary<TKey, TValue> all = new();
    [MethodImpl(MethodImplOptions.NoInlining)]
    public void Put(TKey key, TValue value) => all[key] = value;
    [MethodImpl(MethodImplOptions.NoInlining)]
    public IEnumerable<TValue> Where(Func<TValue, bool> test)
    {
        foreach (var one in all.Values)
            if (test(one)) yield return one;
    }
}

// A leaf and a caller that need no frame: what a walk by rbp alone loses.
public static class Hot
{
    static volatile int sink;
    [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
    public static ulong Spin(ulong x, int n)
    {
        for (int i = 0; i < n; i++) { x ^= x << 13; x ^= x >> 7; x ^= x << 17; }
        return x;
    }
    [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
    public static ulong Fold(ulong x) => Spin(x, 20000) + 1;
    [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
    public static ulong Round(ulong x) => Fold(x) ^ 3;
    public static void Run(CancellationToken stop)
    {
        ulong x = 88172645463325252;
        while (!stop.IsCancellationRequested) x = Round(x);
        sink = (int)x;
    }
}

public static class Program
{
    [DllImport("libc")] static extern unsafe void qsort(int* at, nint n, nint size, delegate* unmanaged<int*, int*, int> compare);
    [DllImport("libc", SetLastError = true)] static extern int getppid();

    [UnmanagedCallersOnly]
    static unsafe int Compare(int* a, int* b) => *a < *b ? -1 : *a > *b ? 1 : 0;

    [MethodImpl(MethodImplOptions.NoInlining)]
    static unsafe int Native(Random random)
    {
        Span<int> values = stackalloc int[400];
        for (int i = 0; i < values.Length; i++) values[i] = random.Next();
        fixed (int* at = values) qsort(at, values.Length, 4, &Compare);
        return values[0] + getppid();
    }

    static readonly Regex words = new(@"(?<word>\b[a-z]+(ing|ed|er)\b)|(\d{2,4}-\d{2}-\d{2})", RegexOptions.Compiled);
    const string text = "The walker walked while ringing and being called on 2026-11-21; nobody answered the sleeping caller in 1999-01-02.";

    [MethodImpl(MethodImplOptions.NoInlining)]
    static int Match() => words.Matches(text).Sum(m => m.Length);

    [MethodImpl(MethodImplOptions.NoInlining)]
    static decimal Json(Order order)
    {
        var copy = JsonSerializer.Deserialize<Order>(JsonSerializer.Serialize(order));
        return copy.Items.GroupBy(i => i.Name[0]).OrderBy(g => g.Key).Select(g => g.Sum(i => i.Price * i.Count)).Max();
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    static Func<int, int> Compile()
    {
        var x = Expression.Parameter(typeof(int), "x");
        var sum = Expression.Variable(typeof(int), "sum");
        var i = Expression.Variable(typeof(int), "i");
        var end = Expression.Label();
        return Expression.Lambda<Func<int, int>>(Expression.Block(new[] { sum, i },
            Expression.Loop(Expression.IfThenElse(Expression.LessThan(i, x),
                Expression.Block(Expression.AddAssign(sum, Expression.Multiply(i, i)), Expression.PostIncrementAssign(i)),
                Expression.Break(end)), end), sum), x).Compile();
    }

    static int made;
    // New code all the time, which is freed again: its addresses are used again for other methods.
    [MethodImpl(MethodImplOptions.NoInlining)]
    static int Dynamic(int n)
    {
        var name = "Made" + made++;
        var method = new DynamicMethod(name, typeof(int), new[] { typeof(int) }, typeof(Program).Module);
        var il = method.GetILGenerator();
        var again = il.DefineLabel();
        il.DeclareLocal(typeof(int));
        il.MarkLabel(again);
        for (int k = 0; k < 1 + made % 7; k++)
        {
            il.Emit(OpCodes.Ldloc_0); il.Emit(OpCodes.Ldarg_0); il.Emit(OpCodes.Ldc_I4, k * 7 + 3); il.Emit(OpCodes.Mul);
            il.Emit(OpCodes.Add); il.Emit(OpCodes.Stloc_0);
        }
        il.Emit(OpCodes.Ldarg_0); il.Emit(OpCodes.Ldc_I4_1); il.Emit(OpCodes.Sub); il.Emit(OpCodes.Dup); il.Emit(OpCodes.Starg_S, (byte)0);
        il.Emit(OpCodes.Brtrue, again);
        il.Emit(OpCodes.Ldloc_0); il.Emit(OpCodes.Ret);
        return ((Func<int, int>)method.CreateDelegate(typeof(Func<int, int>)))(n);
    }

    // A collectible assembly: made, run, dropped.
    [MethodImpl(MethodImplOptions.NoInlining)]
    static int Collectible(int round)
    {
        var assembly = AssemblyBuilder.DefineDynamicAssembly(new AssemblyName("Plugin" + round), AssemblyBuilderAccess.RunAndCollect);
        var type = assembly.DefineDynamicModule("Main").DefineType("Plugin.Work" + round, TypeAttributes.Public);
        var il = type.DefineMethod("Run", MethodAttributes.Public | MethodAttributes.Static, typeof(int), new[] { typeof(int) }).GetILGenerator();
        var again = il.DefineLabel();
        il.DeclareLocal(typeof(int));
        il.MarkLabel(again);
        il.Emit(OpCodes.Ldloc_0); il.Emit(OpCodes.Ldarg_0); il.Emit(OpCodes.Xor); il.Emit(OpCodes.Stloc_0);
        il.Emit(OpCodes.Ldarg_0); il.Emit(OpCodes.Ldc_I4_1); il.Emit(OpCodes.Sub); il.Emit(OpCodes.Dup); il.Emit(OpCodes.Starg_S, (byte)0);
        il.Emit(OpCodes.Brtrue, again);
        il.Emit(OpCodes.Ldloc_0); il.Emit(OpCodes.Ret);
        return (int)type.CreateType().GetMethod("Run").Invoke(null, new object[] { 200000 });
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    static int Throw(int depth)
    {
        try
        {
            if (depth > 0) return Throw(depth - 1);
            throw new InvalidOperationException("no stock");
        }
        catch (InvalidOperationException e) when (e.Message.Length > depth + 3)
        {
            return (int)Hot.Spin((ulong)e.Message.Length, 3000);
        }
        finally
        {
            made += (int)(Hot.Spin(7, 500) & 1);
        }
    }

    static async Task<decimal> PriceAsync(Order order, int depth)
    {
        await Task.Yield();
        return depth == 0 ? Json(order) : await PriceAsync(order, depth - 1);
    }

    static async Task WorkAsync(bool dynamic, bool collectible, bool often, CancellationToken stop)
    {
        var random = new Random(1);
        var compiled = Compile();
        var pricing = new ItemPricing();
        var orders = new Repository<int, Order>();
        for (int round = 0; !stop.IsCancellationRequested; round++)
        {
            var order = new Order(round, Enumerable.Range(0, 20).Select(i => new Item("item" + i, i * 1.5m, i)).ToList(),
                new() { ["a"] = "b" });
            orders.Put(round % 100, order);
            decimal sum = await PriceAsync(order, 3);
            sum += orders.Where(o => o.Id % 3 == 0).Sum(o => o.Items.Sum(i => pricing.Price(i)));
            for (int i = 0; i < 10; i++) sum += Match();
            sum += compiled(20000) + Native(random);
            if (dynamic && round % 25 == 0) sum += Dynamic(1000000);
            if (round % 20 == 0) sum += Throw(3);
            // Now and then: methods of a process that unloads all the time are not asked for (app/managed.c).
            if (collectible && round % (often ? 500 : 100000) == 0) sum += Collectible(round);
            if (round % 200 == 199) GC.Collect();
        }
    }

    // One beat each half millisecond; a line each 100 ms: when, by CLOCK_MONOTONIC in ns, and the longest pause in us.
    static void Beat(CancellationToken stop)
    {
        long last = Stopwatch.GetTimestamp(), told = last, longest = 0;
        while (!stop.IsCancellationRequested)
        {
            long now = Stopwatch.GetTimestamp();
            longest = Math.Max(longest, now - last);
            last = now;
            if (now - told > Stopwatch.Frequency / 10)
            {
                Console.WriteLine($"beat {now} {longest / 1000}");
                told = now; longest = 0; last = Stopwatch.GetTimestamp();
            }
        }
    }

    static int Idle(CancellationToken stop)
    {
        using var work = new CancellationTokenSource(TimeSpan.FromSeconds(4));
        WorkAsync(true, false, false, work.Token).Wait();
        Console.WriteLine("ready");
        Beat(stop);
        return 0;
    }

    public static int Main(string[] args)
    {
        using var stop = new CancellationTokenSource(TimeSpan.FromSeconds(args.Length > 0 ? double.Parse(args[0]) : 60));
        if (args.Contains("idle")) return Idle(stop.Token);
        var hot = new Thread(() => Hot.Run(stop.Token)) { Name = "hot" };
        hot.Start();
        Console.WriteLine("ready");
        WorkAsync(!args.Contains("no-dynamic"), !args.Contains("no-collectible"), args.Contains("unloads"), stop.Token).Wait();
        hot.Join();
        return 0;
    }
}
