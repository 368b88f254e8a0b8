/* Masking and UTF-8 for _codec.pyx: the loops over payload bytes, in C.
 *
 * Masking has one portable path and, where the compiler knows them, SSE2, AVX2, AVX-512 (x86-64) and NEON (aarch64)
 * ones. Each is compiled for its own instruction set by a function attribute and picked at run time, so that one binary
 * runs on every machine. No path loads or stores a byte outside of the n bytes it was given.
 */
#ifndef WSLOWLEVEL_KERNELS_H
#define WSLOWLEVEL_KERNELS_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* -- Masking (RFC 6455 5.3) ------------------------------------------------------------------------------------------
 *
 * A kernel writes n bytes of src, XORed with the key, to dst; dst and src are the same or do not overlap. The key is
 * four bytes in memory order, already rotated so that its first byte masks the first of src. Every vector path ends in
 * the next narrower one, so that each store is as wide as the bytes left allow. */

typedef void (*ws_mask_kernel)(uint8_t *dst, const uint8_t *src, size_t n, uint32_t key);

static inline void ws_mask_tail(uint8_t *dst, const uint8_t *src, size_t n, uint32_t key) {
    uint8_t octets[4];
    memcpy(octets, &key, 4);
    for (size_t i = 0; i < n; i++) dst[i] = src[i] ^ octets[i & 3];
}

static inline void ws_mask_portable(uint8_t *dst, const uint8_t *src, size_t n, uint32_t key) {
    const uint64_t keys = ((uint64_t)key << 32) | key;
    size_t i = 0;
    for (; n - i >= 8; i += 8) {
        uint64_t word;
        memcpy(&word, src + i, 8);
        word ^= keys;
        memcpy(dst + i, &word, 8);
    }
    if (n - i >= 4) {
        uint32_t word;
        memcpy(&word, src + i, 4);
        word ^= key;
        memcpy(dst + i, &word, 4);
        i += 4;
    }
    ws_mask_tail(dst + i, src + i, n - i, key);
}

#if defined(__x86_64__) || defined(_M_X64)
#define WS_HAVE_SSE2 1 /* part of x86-64 itself */
#include <immintrin.h>

static void ws_mask_sse2(uint8_t *dst, const uint8_t *src, size_t n, uint32_t key) {
    const __m128i keys = _mm_set1_epi32((int)key);
    size_t i = 0;
    for (; n - i >= 16; i += 16) {
        __m128i block = _mm_loadu_si128((const __m128i *)(src + i));
        _mm_storeu_si128((__m128i *)(dst + i), _mm_xor_si128(block, keys));
    }
    ws_mask_portable(dst + i, src + i, n - i, key);
}

#if defined(__GNUC__) || defined(__clang__)
#define WS_HAVE_AVX 1

__attribute__((target("avx2")))
static void ws_mask_avx2(uint8_t *dst, const uint8_t *src, size_t n, uint32_t key) {
    const __m256i keys = _mm256_set1_epi32((int)key);
    size_t i = 0;
    for (; n - i >= 64; i += 64) {
        __m256i a = _mm256_loadu_si256((const __m256i *)(src + i));
        __m256i b = _mm256_loadu_si256((const __m256i *)(src + i + 32));
        _mm256_storeu_si256((__m256i *)(dst + i), _mm256_xor_si256(a, keys));
        _mm256_storeu_si256((__m256i *)(dst + i + 32), _mm256_xor_si256(b, keys));
    }
    if (n - i >= 32) {
        __m256i a = _mm256_loadu_si256((const __m256i *)(src + i));
        _mm256_storeu_si256((__m256i *)(dst + i), _mm256_xor_si256(a, keys));
        i += 32;
    }
    ws_mask_sse2(dst + i, src + i, n - i, key);
}

__attribute__((target("avx512f,avx512bw")))
static void ws_mask_avx512(uint8_t *dst, const uint8_t *src, size_t n, uint32_t key) {
    const __m512i keys = _mm512_set1_epi32((int)key);
    size_t i = 0;
    for (; n - i >= 64; i += 64) {
        __m512i block = _mm512_loadu_si512((const void *)(src + i));
        _mm512_storeu_si512((void *)(dst + i), _mm512_xor_si512(block, keys));
    }
    if (n - i) { /* a masked load and store touch the bytes left, and no other */
        const __mmask64 left = ~(__mmask64)0 >> (64 - (n - i));
        __m512i block = _mm512_maskz_loadu_epi8(left, (const void *)(src + i));
        _mm512_mask_storeu_epi8((void *)(dst + i), left, _mm512_xor_si512(block, keys));
    }
}
#endif
#endif

#if defined(__aarch64__) || defined(_M_ARM64)
#define WS_HAVE_NEON 1 /* part of aarch64 itself */
#include <arm_neon.h>

static void ws_mask_neon(uint8_t *dst, const uint8_t *src, size_t n, uint32_t key) {
    const uint8x16_t keys = vreinterpretq_u8_u32(vdupq_n_u32(key));
    size_t i = 0;
    for (; n - i >= 32; i += 32) {
        uint8x16_t a = vld1q_u8(src + i), b = vld1q_u8(src + i + 16);
        vst1q_u8(dst + i, veorq_u8(a, keys));
        vst1q_u8(dst + i + 16, veorq_u8(b, keys));
    }
    if (n - i >= 16) {
        vst1q_u8(dst + i, veorq_u8(vld1q_u8(src + i), keys));
        i += 16;
    }
    ws_mask_portable(dst + i, src + i, n - i, key);
}
#endif

/* The kernel at an index, from the narrowest to the widest; its name is NULL where this machine does not have it, and
 * where the list ends. */
typedef struct {
    const char *name;
    ws_mask_kernel run;
} ws_kernel;

#define WS_KERNEL_COUNT 5

static ws_kernel ws_kernel_at(int index) {
    ws_kernel none = {NULL, NULL};
    switch (index) {
        case 0: { ws_kernel k = {"portable", ws_mask_portable}; return k; }
#ifdef WS_HAVE_SSE2
        case 1: { ws_kernel k = {"sse2", ws_mask_sse2}; return k; }
#endif
#ifdef WS_HAVE_AVX
        case 2: if (__builtin_cpu_supports("avx2")) { ws_kernel k = {"avx2", ws_mask_avx2}; return k; } break;
        case 3:
            if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")) {
                ws_kernel k = {"avx512", ws_mask_avx512};
                return k;
            }
            break;
#endif
#ifdef WS_HAVE_NEON
        case 4: { ws_kernel k = {"neon", ws_mask_neon}; return k; }
#endif
        default: break;
    }
    return none;
}

static ws_kernel ws_kernel_in_use = {"portable", ws_mask_portable};

/* Below this many bytes the call through a pointer costs more than wide registers bring. */
#define WS_DISPATCH_FROM 32

static inline uint32_t ws_rotated_key(const uint8_t key[4], size_t offset) {
    uint8_t octets[4];
    uint32_t rotated;
    for (size_t i = 0; i < 4; i++) octets[i] = key[(offset + i) & 3];
    memcpy(&rotated, octets, 4);
    return rotated;
}

static inline void ws_mask(uint8_t *dst, const uint8_t *src, size_t n, const uint8_t key[4], size_t offset) {
    const uint32_t rotated = ws_rotated_key(key, offset);
    if (n < WS_DISPATCH_FROM) ws_mask_portable(dst, src, n, rotated);
    else ws_kernel_in_use.run(dst, src, n, rotated);
}

/* -- UTF-8 (RFC 3629 4) ----------------------------------------------------------------------------------------------
 *
 * Between two calls the state says how many continuation bytes are due, and between which bounds the next one lies:
 * after E0, ED, F0 and F4 they are narrower than 80-BF, which keeps out overlong forms, surrogates and everything
 * above U+10FFFF. */

typedef struct {
    uint8_t due, lowest, highest;
} ws_utf8;

static inline size_t ws_ascii_prefix(const uint8_t *p, size_t n) {
    size_t i = 0;
#ifdef WS_HAVE_SSE2
    for (; n - i >= 64; i += 64) {
        const __m128i *block = (const __m128i *)(p + i);
        __m128i both = _mm_or_si128(_mm_or_si128(_mm_loadu_si128(block), _mm_loadu_si128(block + 1)),
                                    _mm_or_si128(_mm_loadu_si128(block + 2), _mm_loadu_si128(block + 3)));
        if (_mm_movemask_epi8(both)) break;
    }
#endif
    for (; n - i >= 8; i += 8) {
        uint64_t word;
        memcpy(&word, p + i, 8);
        if (word & UINT64_C(0x8080808080808080)) break;
    }
    while (i < n && p[i] < 0x80) i++;
    return i;
}

/* What a lead byte asks of the bytes after it; 0 if it starts no character. */
static inline int ws_utf8_lead(ws_utf8 *state, uint8_t byte) {
    state->lowest = 0x80;
    state->highest = 0xBF;
    if (byte < 0xC2) return 0;
    if (byte < 0xE0) {
        state->due = 1;
    } else if (byte < 0xF0) {
        state->due = 2;
        if (byte == 0xE0) state->lowest = 0xA0;
        if (byte == 0xED) state->highest = 0x9F;
    } else if (byte < 0xF5) {
        state->due = 3;
        if (byte == 0xF0) state->lowest = 0x90;
        if (byte == 0xF4) state->highest = 0x8F;
    } else {
        return 0;
    }
    return 1;
}

/* Returns the index of the first byte that cannot be part of the text, n if there is none. */
static size_t ws_utf8_check(ws_utf8 *state, const uint8_t *p, size_t n) {
    size_t i = 0;
    while (i < n) {
        if (state->due) {
            if (p[i] < state->lowest || p[i] > state->highest) return i;
            state->lowest = 0x80;
            state->highest = 0xBF;
            state->due--;
            i++;
        } else if (p[i] < 0x80) {
            i += ws_ascii_prefix(p + i, n - i);
        } else {
            if (!ws_utf8_lead(state, p[i])) return i;
            i++;
        }
    }
    return n;
}

#endif
