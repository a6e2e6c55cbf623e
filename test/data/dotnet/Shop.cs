/* What precompiled code has of names and frames: see test/runtimes/test_r2r.c. */
using System;
using System.Collections.Generic;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Threading.Tasks;

namespace Shop
{
	public struct Price
	{
		public long Cents;
		public Price(long cents) { Cents = cents; }
	}

	public class Box<T>
	{
		T[] items = new T[4];

		public class Shelf<U>
		{
			[MethodImpl(MethodImplOptions.NoInlining)]
			public static int Count(T[] a, U[] b) => a.Length + b.Length;
		}

		[MethodImpl(MethodImplOptions.NoInlining)]
		public void Put(int at, T item) { items[at] = item; }
	}

	public static class Till
	{
		static long total;

		[DllImport("libc")]
		static extern int getpid();

		/* No frame at all. */
		[MethodImpl(MethodImplOptions.NoInlining)]
		public static long Leaf(long n)
		{
			for (int i = 0; i < 100; i++)
				n = n * 6364136223846793005 + 1442695040888963407;
			return n;
		}

		/* A frame of one word. */
		[MethodImpl(MethodImplOptions.NoInlining)]
		public static long Frameless(long n) => Leaf(n) + 1;

		/* All registers saved. */
		[MethodImpl(MethodImplOptions.NoInlining)]
		public static long Many(long a, long b, long c, long d, long e, long f)
		{
			long g = Leaf(a), h = Leaf(b), i = Leaf(c), j = Leaf(d), k = Leaf(e), l = Leaf(f);
			return g * a + h * b + i * c + j * d + k * e + l * f + Leaf(g + h) + Leaf(i + j) + Leaf(k + l) + g + h + i;
		}

		/* A frame register. */
		[MethodImpl(MethodImplOptions.NoInlining)]
		public static unsafe long Scratch(int n)
		{
			byte* p = stackalloc byte[n];
			for (int i = 0; i < n; i++)
				p[i] = (byte)i;
			return p[n / 2] + Leaf(n);
		}

		/* More than a page: the stack is probed. */
		[MethodImpl(MethodImplOptions.NoInlining)]
		public static unsafe long Large()
		{
			Big big = default;
			Fill(ref big);
			return big.Bytes[5];
		}
		public unsafe struct Big { public fixed byte Bytes[20000]; }
		[MethodImpl(MethodImplOptions.NoInlining)]
		public static unsafe void Fill(ref Big big) { big.Bytes[5] = 7; }

		/* Funclets. */
		[MethodImpl(MethodImplOptions.NoInlining)]
		public static int Catches(int n)
		{
			try {
				if (n % 2 == 0)
					throw new InvalidOperationException("odd");
				return n;
			} catch (InvalidOperationException e) when (e.Message.Length > n) {
				return e.Message.Length;
			} finally {
				total++;
			}
		}

		[MethodImpl(MethodImplOptions.NoInlining)]
		public static async Task<long> TotalAsync(int n)
		{
			for (int i = 0; i < n; i++) {
				await Task.Yield();
				total += i;
			}
			return total;
		}

		[MethodImpl(MethodImplOptions.NoInlining)]
		public static Func<long, long> Adder(long by) => n => n + by + Leaf(n);

		[MethodImpl(MethodImplOptions.NoInlining)]
		public static T Pick<T>(T[] of, int at) => of[at];

		public static long Run()
		{
			var prices = new Box<Price>();
			prices.Put(1, new Price(3));
			new Box<string>().Put(1, "a");
			long sum = Pick(new Price[] { new Price(4) }, 0).Cents + Pick(new[] { "b" }, 0).Length;
			sum += Box<Price>.Shelf<int>.Count(new Price[2], new int[3]);
			sum += Box<string>.Shelf<Price[,]>.Count(new string[2], new Price[2][,]);
			return sum + Adder(3)(4) + Many(1, 2, 3, 4, 5, 6) + Scratch(100) + Large() + Frameless(1) + Catches(2) + getpid();
		}
	}
}
