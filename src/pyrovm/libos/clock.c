/* Time from the TSC, as the VMM says in the boot information; and random numbers. */
#include "cpu.h"

static struct {
	u32 sequence;
	u64 multiplier; /* ns per 2^32 ticks */
	u64 tsc_base, monotonic_base, realtime_base;
} clock = { .sequence = 1 };

static u64 read_tsc(void)
{
	u32 low, high;

	__asm__ volatile("lfence; rdtsc" : "=a"(low), "=d"(high));
	return (u64)high << 32 | low;
}

static void reload(void)
{
	volatile struct pv_boot *boot = boot_info;
	u32 before;

	do {
		before = boot->clock_sequence;
		__asm__ volatile("" : : : "memory");
		clock.multiplier = (1000000ULL << 32) / boot->tsc_khz;
		clock.tsc_base = boot->tsc_base;
		clock.monotonic_base = boot->monotonic_base_ns;
		clock.realtime_base = boot->realtime_base_ns;
		__asm__ volatile("" : : : "memory");
	} while (before & 1 || before != boot->clock_sequence);
	clock.sequence = before;
	if (!clock.tsc_base)
		clock.tsc_base = boot->tsc_base = read_tsc();
}

static u64 since_base(void)
{
	u64 tsc;

	if (unlikely(((volatile struct pv_boot *)boot_info)->clock_sequence != clock.sequence))
		reload();
	tsc = read_tsc();
	if ((s64)(tsc - clock.tsc_base) < 0)
		return 0;
	return (u64)(((unsigned __int128)(tsc - clock.tsc_base) * clock.multiplier) >> 32);
}

u64 clock_monotonic(void)
{
	static u64 latest; /* CPUs may be some ns apart */
	u64 now = since_base() + clock.monotonic_base;

	if (!cpus_are_many)
		return now;
	latest = MAX(latest, now);
	return latest;
}

u64 clock_realtime(void)
{
	return since_base() + clock.realtime_base;
}

/* ------------------------------------------------------------------------------------ random
 *
 * ChaCha20 (RFC 8439, 2.3) keyed with the VMM's seed; the key is replaced after each request, so that
 * what is in memory later does not tell what was handed out before.
 */
static u32 key[8], nonce[3];
static bool is_keyed;
static u32 keyed_generation;

static inline u32 rotate(u32 x, unsigned n) { return x << n | x >> (32 - n); }

static void quarter(u32 *x, int a, int b, int c, int d)
{
	x[a] += x[b], x[d] = rotate(x[d] ^ x[a], 16);
	x[c] += x[d], x[b] = rotate(x[b] ^ x[c], 12);
	x[a] += x[b], x[d] = rotate(x[d] ^ x[a], 8);
	x[c] += x[d], x[b] = rotate(x[b] ^ x[c], 7);
}

static void block(u32 counter, u8 out[64])
{
	u32 start[16] = { 0x61707865, 0x3320646e, 0x79622d32, 0x6b206574 }, x[16];

	memcpy(start + 4, key, sizeof(key));
	start[12] = counter;
	memcpy(start + 13, nonce, sizeof(nonce));
	memcpy(x, start, sizeof(x));
	for (int i = 0; i < 10; i++) {
		quarter(x, 0, 4, 8, 12), quarter(x, 1, 5, 9, 13);
		quarter(x, 2, 6, 10, 14), quarter(x, 3, 7, 11, 15);
		quarter(x, 0, 5, 10, 15), quarter(x, 1, 6, 11, 12);
		quarter(x, 2, 7, 8, 13), quarter(x, 3, 4, 9, 14);
	}
	for (int i = 0; i < 16; i++)
		x[i] += start[i];
	memcpy(out, x, 64);
}

void random_bytes(void *to, size_t n)
{
	u8 out[64];
	u32 counter = 1;

	if (!is_keyed || keyed_generation != boot_info->generation) {
		u32 seed[16];

		memcpy(seed, boot_info->seed, sizeof(seed));
		for (int i = 0; i < 8; i++)
			key[i] ^= seed[i] ^ seed[i + 8];
		nonce[0] ^= (u32)clock_realtime();
		is_keyed = true;
		keyed_generation = boot_info->generation;
		memset(boot_info->seed, 0, sizeof(boot_info->seed));
	}
	for (u8 *at = to; n > 0;) {
		size_t some = MIN(n, sizeof(out));

		block(counter++, out);
		memcpy(at, out, some);
		at += some;
		n -= some;
	}
	block(0, out);
	memcpy(key, out, sizeof(key));
	nonce[1]++;
}

u64 random_u64(void)
{
	u64 value;

	random_bytes(&value, sizeof(value));
	return value;
}
