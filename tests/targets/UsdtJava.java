// SPDX-License-Identifier: MIT
import java.lang.management.ManagementFactory;
import java.lang.management.MemoryPoolMXBean;

class ProbedThing {
	long number;
}

/** What HotSpot's own USDT probes see. Says what they should see: see usdt.sh. */
public class UsdtJava {
	static final int COLLECTIONS = 5, SLEEPS = 20, WAITS = 10, CALLS = 30000;

	static int probedMethod(int n, ProbedThing thing) {
		thing.number += n;
		return n + 1;
	}

	static long work() {
		ProbedThing lock = new ProbedThing();
		long sum = 0;

		for (int i = 0; i < CALLS; i++) {
			ProbedThing thing = i % 10 == 0 ? new ProbedThing() : lock;

			sum += probedMethod(i, thing);
		}
		return sum;
	}

	static void await() throws InterruptedException {
		ProbedThing lock = new ProbedThing();

		for (int i = 1; i <= WAITS; i++)
			synchronized (lock) {
				lock.wait(i);
			}
	}

	public static void main(String[] args) throws Exception {
		/* All that this needs is loaded before anybody counts. */
		var pools = ManagementFactory.getMemoryPoolMXBeans();
		long sum;

		System.out.println("ready");
		System.in.read();
		for (int i = 0; i < COLLECTIONS; i++)
			System.gc();
		for (int i = 1; i <= SLEEPS; i++)
			Thread.sleep(i);
		await();
		sum = work();
		if (sum != (long)CALLS * (CALLS + 1) / 2)
			System.exit(1);
		System.out.printf("expect gc__begin - %d %d%n", COLLECTIONS, COLLECTIONS);
		System.out.printf("expect gc__end - %d 0%n", COLLECTIONS);
		for (MemoryPoolMXBean pool : pools)
			System.out.printf("expect mem__pool__gc__begin %s %d %d%n", pool.getName().replace(' ', '_'), COLLECTIONS,
					COLLECTIONS * pool.getUsage().getMax());
		System.out.printf("expect thread__sleep__begin - %d %d%n", SLEEPS, SLEEPS * (SLEEPS + 1) / 2);
		System.out.printf("expect thread__sleep__end - %d 0%n", SLEEPS);
		System.out.printf("expect monitor__wait ProbedThing %d %d%n", WAITS, WAITS * (WAITS + 1) / 2);
		System.out.printf("expect object__alloc ProbedThing %d %d%n", CALLS / 10 + 2,
				(CALLS / 10 + 2) * "ProbedThing".length());
		for (String probe : new String[] {"entry", "return"})
			System.out.printf("expect method__%s probedMethod %d %d%n", probe, CALLS, CALLS * "(ILProbedThing;)I".length());
		System.out.println("done");
		System.in.read();
		System.exit(0);
	}
}
