/* The most int8 and float32 multiply-accumulates a second that one core does, by each instruction that it has for them.
 * Twelve independent accumulators hide the latency; all operands stay in registers, so nothing waits for memory. They
 * stand in one assembly statement: as an array the compiler would keep them on the stack, and half the rate is lost. */
#include <immintrin.h>
#include <stdio.h>
#include <time.h>

/* Short turns, the fastest of which counts: a core that is shared is left alone for two milliseconds now and then. */
#define TURNS 100
#define STEPS 400000L
#define ACCUMULATORS 12

/* Operands of the statement: 0 to 11 accumulate, 12 is free for a step's own use, 13 and 14 are multiplied. */
#define TWELVE(STEP) STEP(0) STEP(1) STEP(2) STEP(3) STEP(4) STEP(5) STEP(6) STEP(7) STEP(8) STEP(9) STEP(10) STEP(11)
#define VNNI(N) "vpdpbusd %14, %13, %" #N "\n\t"
#define VEX_VNNI(N) "%{vex%} vpdpbusd %14, %13, %" #N "\n\t"
#define WIDE_ADD(N) "vpmaddwd %14, %13, %12\n\tvpaddd %12, %" #N ", %" #N "\n\t"
#define SSE_ADD(N) "movdqa %13, %12\n\tpmaddwd %14, %12\n\tpaddd %12, %" #N "\n\t"
#define FMA(N) "vfmadd231ps %14, %13, %" #N "\n\t"
#define SSE_FLOAT(N) "movaps %13, %12\n\tmulps %14, %12\n\taddps %12, %" #N "\n\t"

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static const char *separator = "";

static void tell(const char *name, const char *type, double macs_per_s)
{
    printf("%s\n {\"instructions\": \"%s\", \"type\": \"%s\", \"macs_per_s\": %.6g}", separator, name, type, macs_per_s);
    separator = ",";
}

#define MEASURE(NAME, TYPE, MACS, VECTOR, STEP, FIRST, SECOND)                                                         \
    do {                                                                                                               \
        VECTOR a = FIRST, b = SECOND, s = FIRST;                                                                       \
        VECTOR s0 = a, s1 = a, s2 = a, s3 = a, s4 = a, s5 = a, s6 = a, s7 = a, s8 = a, s9 = a, s10 = a, s11 = a;       \
        double best = 0.0;                                                                                             \
        for (int turn = 0; turn < TURNS; turn++) {                                                                     \
            double began_s = now_s();                                                                                  \
            for (long step = 0; step < STEPS; step++)                                                                  \
                __asm__ volatile(TWELVE(STEP)                                                                          \
                                 : "+x"(s0), "+x"(s1), "+x"(s2), "+x"(s3), "+x"(s4), "+x"(s5), "+x"(s6), "+x"(s7),     \
                                   "+x"(s8), "+x"(s9), "+x"(s10), "+x"(s11), "=&x"(s)                                  \
                                 : "x"(a), "x"(b));                                                                    \
            double rate = (double)(MACS) * ACCUMULATORS * (double)STEPS / (now_s() - began_s);                         \
            best = rate > best ? rate : best;                                                                          \
        }                                                                                                              \
        tell(NAME, TYPE, best);                                                                                        \
    } while (0)

int main(void)
{
    printf("[");
#if defined(__AVX512VNNI__)
    MEASURE("AVX-512 VNNI vpdpbusd", "int8", 64, __m512i, VNNI, _mm512_set1_epi8(1), _mm512_set1_epi8(2));
#endif
#if defined(__AVXVNNI__)
    MEASURE("AVX-VNNI vpdpbusd", "int8", 32, __m256i, VEX_VNNI, _mm256_set1_epi8(1), _mm256_set1_epi8(2));
#endif
#if defined(__AVX2__)
    /* int8 widened to int16 beforehand: exact, and what runtimes do without VNNI. */
    MEASURE("AVX2 vpmaddwd, vpaddd", "int8", 16, __m256i, WIDE_ADD, _mm256_set1_epi16(1), _mm256_set1_epi16(2));
#else
    MEASURE("SSE2 pmaddwd, paddd", "int8", 8, __m128i, SSE_ADD, _mm_set1_epi16(1), _mm_set1_epi16(2));
#endif
#if defined(__AVX512F__)
    MEASURE("AVX-512 vfmadd231ps", "float32", 16, __m512, FMA, _mm512_setzero_ps(), _mm512_set1_ps(1.0f));
#endif
#if defined(__FMA__)
    MEASURE("AVX2 vfmadd231ps", "float32", 8, __m256, FMA, _mm256_setzero_ps(), _mm256_set1_ps(1.0f));
#else
    MEASURE("SSE mulps, addps", "float32", 4, __m128, SSE_FLOAT, _mm_setzero_ps(), _mm_set1_ps(1.0f));
#endif
    printf("\n]\n");
    return 0;
}
