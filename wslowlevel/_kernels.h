/* Masking and UTF-8 for _codec.pyx: the loops over payload bytes, in C.
 *
 * Each has one portable path and, where the compiler knows them, paths for SSE2, SSSE3, AVX2, AVX-512 (x86-64) and NEON
 * (aarch64). Each is compiled for its own instruction set by a function attribute and picked at run time, so that one
 * binary runs on every machine. No path loads or stores a byte outside of the n bytes it was given.
 *
 * The parts: masking -> UTF-8, byte by byte -> UTF-8, in blocks -> the choice among the paths.
 */
#ifndef WSLOWLEVEL_KERNELS_H
#define WSLOWLEVEL_KERNELS_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__) || defined(_M_X64)
#define WS_HAVE_SSE2 1 /* part of x86-64 itself */
#include <immintrin.h>
#if defined(__GNUC__) || defined(__clang__)
#define WS_HAVE_TARGETS 1 /* functions for instruction sets that not every x86-64 has */
#define WS_TARGET(sets) __attribute__((target(sets)))
#endif
#elif defined(__aarch64__) || defined(_M_ARM64)
#define WS_HAVE_NEON 1 /* part of aarch64 itself */
#include <arm_neon.h>
#endif

/* -- Masking (RFC 6455 5.3) ------------------------------------------------------------------------------------------
 *
 * Everything here writes n bytes of src, XORed with the key, to dst; dst and src are the same or do not overlap. The
 * key is four bytes in memory order, already rotated so that its first byte masks the first of src.
 *
 * Under 32 bytes there is a word at the start and one that ends where the n bytes end, and may overlap the first. Both
 * are loaded before one is stored, for dst may be src. */

/* The key as it masks what stands so many bytes further on. */
static inline uint32_t ws_rotated(uint32_t key, size_t offset) {
    const uint64_t twice = ((uint64_t)key << 32) | key;
    uint8_t octets[8];
    memcpy(octets, &twice, 8);
    memcpy(&key, octets + (offset & 3), 4);
    return key;
}

static inline uint64_t ws_masked_word(const uint8_t *src, uint32_t key) {
    uint64_t word;
    memcpy(&word, src, 8);
    return word ^ (((uint64_t)key << 32) | key);
}

/* Under 32 bytes. */
static inline void ws_mask_short(uint8_t *dst, const uint8_t *src, size_t n, uint32_t key) {
    const uint32_t last_key = ws_rotated(key, n);
    if (n >= 16) {
        const uint64_t words[4] = {ws_masked_word(src, key), ws_masked_word(src + 8, key),
                                   ws_masked_word(src + n - 16, last_key), ws_masked_word(src + n - 8, last_key)};
        memcpy(dst, words, 16);
        memcpy(dst + n - 16, words + 2, 16);
    } else if (n >= 8) {
        const uint64_t words[2] = {ws_masked_word(src, key), ws_masked_word(src + n - 8, last_key)};
        memcpy(dst, words, 8);
        memcpy(dst + n - 8, words + 1, 8);
    } else if (n >= 4) {
        uint32_t first, last;
        memcpy(&first, src, 4);
        memcpy(&last, src + n - 4, 4);
        first ^= key;
        last ^= last_key;
        memcpy(dst, &first, 4);
        memcpy(dst + n - 4, &last, 4);
    } else {
        uint8_t octets[4];
        memcpy(octets, &key, 4);
        if (n > 0) dst[0] = src[0] ^ octets[0];
        if (n > 1) dst[1] = src[1] ^ octets[1];
        if (n > 2) dst[2] = src[2] ^ octets[2];
    }
}

/* The paths for 32 bytes or more. */
typedef void (*ws_mask_kernel)(uint8_t *dst, const uint8_t *src, size_t n, uint32_t key);

static void ws_mask_portable(uint8_t *dst, const uint8_t *src, size_t n, uint32_t key) {
    size_t i = 0;
    for (; n - i >= 8; i += 8) {
        const uint64_t word = ws_masked_word(src + i, key);
        memcpy(dst + i, &word, 8);
    }
    ws_mask_short(dst + i, src + i, n - i, key);
}

#ifdef WS_HAVE_SSE2
static void ws_mask_sse2(uint8_t *dst, const uint8_t *src, size_t n, uint32_t key) {
    const __m128i keys = _mm_set1_epi32((int)key);
    size_t i = 0;
    for (; n - i >= 32; i += 32) {
        __m128i a = _mm_loadu_si128((const __m128i *)(src + i));
        __m128i b = _mm_loadu_si128((const __m128i *)(src + i + 16));
        _mm_storeu_si128((__m128i *)(dst + i), _mm_xor_si128(a, keys));
        _mm_storeu_si128((__m128i *)(dst + i + 16), _mm_xor_si128(b, keys));
    }
    ws_mask_short(dst + i, src + i, n - i, key);
}
#endif

#ifdef WS_HAVE_TARGETS
WS_TARGET("avx2")
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
    ws_mask_short(dst + i, src + i, n - i, key);
}

WS_TARGET("avx512f,avx512bw")
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

#ifdef WS_HAVE_NEON
static void ws_mask_neon(uint8_t *dst, const uint8_t *src, size_t n, uint32_t key) {
    const uint8x16_t keys = vreinterpretq_u8_u32(vdupq_n_u32(key));
    size_t i = 0;
    for (; n - i >= 32; i += 32) {
        uint8x16_t a = vld1q_u8(src + i), b = vld1q_u8(src + i + 16);
        vst1q_u8(dst + i, veorq_u8(a, keys));
        vst1q_u8(dst + i + 16, veorq_u8(b, keys));
    }
    ws_mask_short(dst + i, src + i, n - i, key);
}
#endif

/* -- UTF-8, byte by byte (RFC 3629 4) --------------------------------------------------------------------------------
 *
 * Between two calls the state says how many continuation bytes are due, and between which bounds the next one lies:
 * after E0, ED, F0 and F4 they are narrower than 80-BF, which keeps out overlong forms, surrogates and everything
 * above U+10FFFF. The state, ws_utf8, is declared in _codec.pxd, for decoders hold one. */

#ifdef WS_HAVE_SSE2
static inline int ws_is_ascii_sse2(const uint8_t *p) {
    const __m128i *block = (const __m128i *)p;
    const __m128i all = _mm_or_si128(_mm_or_si128(_mm_loadu_si128(block), _mm_loadu_si128(block + 1)),
                                     _mm_or_si128(_mm_loadu_si128(block + 2), _mm_loadu_si128(block + 3)));
    return !_mm_movemask_epi8(all);
}
#endif

#ifdef WS_HAVE_NEON
static inline int ws_is_ascii_neon(const uint8_t *p) {
    const uint8x16_t all = vorrq_u8(vorrq_u8(vld1q_u8(p), vld1q_u8(p + 16)),
                                    vorrq_u8(vld1q_u8(p + 32), vld1q_u8(p + 48)));
    return vmaxvq_u8(all) < 0x80;
}
#endif

static inline size_t ws_ascii_prefix(const uint8_t *p, size_t n) {
    size_t i = 0;
#if defined(WS_HAVE_SSE2)
    while (n - i >= 64 && ws_is_ascii_sse2(p + i)) i += 64;
    if (i && n - i < 64 && ws_is_ascii_sse2(p + n - 64)) return n; /* the last one overlaps */
#elif defined(WS_HAVE_NEON)
    while (n - i >= 64 && ws_is_ascii_neon(p + i)) i += 64;
    if (i && n - i < 64 && ws_is_ascii_neon(p + n - 64)) return n; /* the last one overlaps */
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

/* Takes one byte; 0 if it cannot be part of the text. */
static inline int ws_utf8_step(ws_utf8 *state, uint8_t byte) {
    if (state->due) {
        if (byte < state->lowest || byte > state->highest) return 0;
        state->lowest = 0x80;
        state->highest = 0xBF;
        state->due--;
        return 1;
    }
    return byte < 0x80 || ws_utf8_lead(state, byte);
}

/* Looks at the bytes from i on; returns the index of the first that cannot be part of the text, n if there is none. */
static size_t ws_utf8_stepwise(ws_utf8 *state, const uint8_t *p, size_t i, size_t n) {
    while (i < n) {
        if (!state->due && p[i] < 0x80) {
            i += ws_ascii_prefix(p + i, n - i);
        } else {
            if (!ws_utf8_step(state, p[i])) return i;
            i++;
        }
    }
    return n;
}

/* -- UTF-8, in blocks ------------------------------------------------------------------------------------------------
 *
 * The method of Keiser and Lemire, "Validating UTF-8 in less than one instruction per byte" (2020), for many bytes at
 * once. Every fault but one shows in two neighbouring bytes: in the two halves of the first and the upper half of the
 * second. Each of the three looks up which faults it allows, a bit each; what all three allow has happened. The fault
 * left is a continuation byte too many or too few after the second byte of a character: two in a row are a fault,
 * unless the byte two before starts a character of three bytes or more, or the byte three before one of four. */

enum {
    WS_TOO_SHORT = 1 << 0,  /* a lead byte, and no continuation byte */
    WS_TOO_LONG = 1 << 1,   /* ASCII, and a continuation byte */
    WS_OVERLONG_2 = 1 << 2, /* C0 or C1, and a continuation byte */
    WS_OVERLONG_3 = 1 << 3, /* E0, and 80-9F */
    WS_SURROGATE = 1 << 4,  /* ED, and A0-BF */
    WS_FOUR_LOW = 1 << 5,   /* F0 or F5-FF, and 80-8F */
    WS_FOUR_HIGH = 1 << 6,  /* F4-FF, and 90-BF */
    WS_CONTINUED = 1 << 7,  /* two continuation bytes */

    WS_ANY_LOW = WS_TOO_SHORT | WS_TOO_LONG | WS_CONTINUED,
    WS_ANY_TAIL = WS_TOO_LONG | WS_OVERLONG_2 | WS_CONTINUED,
};

#define WS_FOUR_TIMES(value) value, value, value, value

static const uint8_t ws_first_upper[16] = {
    WS_FOUR_TIMES(WS_TOO_LONG),
    WS_FOUR_TIMES(WS_TOO_LONG),
    WS_FOUR_TIMES(WS_CONTINUED),
    WS_TOO_SHORT | WS_OVERLONG_2,
    WS_TOO_SHORT,
    WS_TOO_SHORT | WS_OVERLONG_3 | WS_SURROGATE,
    WS_TOO_SHORT | WS_FOUR_LOW | WS_FOUR_HIGH,
};
static const uint8_t ws_first_lower[16] = {
    WS_ANY_LOW | WS_OVERLONG_2 | WS_OVERLONG_3 | WS_FOUR_LOW,
    WS_ANY_LOW | WS_OVERLONG_2,
    WS_ANY_LOW,
    WS_ANY_LOW,
    WS_ANY_LOW | WS_FOUR_HIGH,
    WS_FOUR_TIMES(WS_ANY_LOW | WS_FOUR_LOW | WS_FOUR_HIGH),
    WS_FOUR_TIMES(WS_ANY_LOW | WS_FOUR_LOW | WS_FOUR_HIGH),
    WS_ANY_LOW | WS_FOUR_LOW | WS_FOUR_HIGH | WS_SURROGATE,
    WS_ANY_LOW | WS_FOUR_LOW | WS_FOUR_HIGH,
    WS_ANY_LOW | WS_FOUR_LOW | WS_FOUR_HIGH,
};
static const uint8_t ws_second_upper[16] = {
    WS_FOUR_TIMES(WS_TOO_SHORT),
    WS_FOUR_TIMES(WS_TOO_SHORT),
    WS_ANY_TAIL | WS_OVERLONG_3 | WS_FOUR_LOW,
    WS_ANY_TAIL | WS_OVERLONG_3 | WS_FOUR_HIGH,
    WS_ANY_TAIL | WS_SURROGATE | WS_FOUR_HIGH,
    WS_ANY_TAIL | WS_SURROGATE | WS_FOUR_HIGH,
    WS_FOUR_TIMES(WS_TOO_SHORT),
};

/* Each path looks at the bytes from i on, of which at least three came before, and returns the index up to which no
 * byte is wrong: n, or one shortly before a fault. Fewer bytes than a block at the end are looked at together with
 * those before them. Blocks of ASCII need no look when blocks of ASCII came before. */
typedef size_t (*ws_utf8_kernel)(const uint8_t *p, size_t i, size_t n);

#ifdef WS_HAVE_TARGETS
WS_TARGET("ssse3")
static inline int ws_utf8_is_faulty_ssse3(const uint8_t *p) {
    const __m128i half = _mm_set1_epi8(0x0F);
    const __m128i byte = _mm_loadu_si128((const __m128i *)p);
    const __m128i one_before = _mm_loadu_si128((const __m128i *)(p - 1));
    const __m128i two_before = _mm_loadu_si128((const __m128i *)(p - 2));
    const __m128i three_before = _mm_loadu_si128((const __m128i *)(p - 3));
    const __m128i by_first_upper = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)ws_first_upper),
                                                    _mm_and_si128(_mm_srli_epi16(one_before, 4), half));
    const __m128i by_first_lower = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)ws_first_lower),
                                                    _mm_and_si128(one_before, half));
    const __m128i by_second_upper = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)ws_second_upper),
                                                     _mm_and_si128(_mm_srli_epi16(byte, 4), half));
    const __m128i faults = _mm_and_si128(_mm_and_si128(by_first_upper, by_first_lower), by_second_upper);
    /* Bit 7, that of WS_CONTINUED, where two continuation bytes in a row are due. */
    const __m128i due = _mm_and_si128(_mm_or_si128(_mm_subs_epu8(two_before, _mm_set1_epi8(0xE0 - 0x80)),
                                                   _mm_subs_epu8(three_before, _mm_set1_epi8((char)(0xF0 - 0x80)))),
                                      _mm_set1_epi8((char)WS_CONTINUED));
    return _mm_movemask_epi8(_mm_cmpeq_epi8(faults, due)) != 0xFFFF;
}

WS_TARGET("ssse3")
static size_t ws_utf8_ssse3(const uint8_t *p, size_t i, size_t n) {
    int ascii = 0;
    for (; n - i >= 64; i += 64) {
        const int ascii_before = ascii;
        ascii = ws_is_ascii_sse2(p + i);
        if (ascii && ascii_before) continue;
        if (ws_utf8_is_faulty_ssse3(p + i) | ws_utf8_is_faulty_ssse3(p + i + 16) |
            ws_utf8_is_faulty_ssse3(p + i + 32) | ws_utf8_is_faulty_ssse3(p + i + 48)) return i;
    }
    for (; n - i >= 16; i += 16) {
        if (ws_utf8_is_faulty_ssse3(p + i)) return i;
    }
    return i < n && ws_utf8_is_faulty_ssse3(p + n - 16) ? i : n;
}

WS_TARGET("avx2")
static inline __m256i ws_lookup_avx2(const uint8_t table[16], __m256i halves) {
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)table)),
                               _mm256_and_si256(halves, _mm256_set1_epi8(0x0F)));
}

WS_TARGET("avx2")
static inline int ws_utf8_is_faulty_avx2(const uint8_t *p) {
    const __m256i byte = _mm256_loadu_si256((const __m256i *)p);
    const __m256i one_before = _mm256_loadu_si256((const __m256i *)(p - 1));
    const __m256i two_before = _mm256_loadu_si256((const __m256i *)(p - 2));
    const __m256i three_before = _mm256_loadu_si256((const __m256i *)(p - 3));
    const __m256i faults = _mm256_and_si256(
        _mm256_and_si256(ws_lookup_avx2(ws_first_upper, _mm256_srli_epi16(one_before, 4)),
                         ws_lookup_avx2(ws_first_lower, one_before)),
        ws_lookup_avx2(ws_second_upper, _mm256_srli_epi16(byte, 4)));
    const __m256i due = _mm256_and_si256(
        _mm256_or_si256(_mm256_subs_epu8(two_before, _mm256_set1_epi8(0xE0 - 0x80)),
                        _mm256_subs_epu8(three_before, _mm256_set1_epi8((char)(0xF0 - 0x80)))),
        _mm256_set1_epi8((char)WS_CONTINUED));
    const __m256i wrong = _mm256_xor_si256(faults, due);
    return !_mm256_testz_si256(wrong, wrong);
}

WS_TARGET("avx2")
static inline int ws_is_ascii_avx2(const uint8_t *p) {
    const __m256i *block = (const __m256i *)p;
    const __m256i all = _mm256_or_si256(
        _mm256_or_si256(_mm256_loadu_si256(block), _mm256_loadu_si256(block + 1)),
        _mm256_or_si256(_mm256_loadu_si256(block + 2), _mm256_loadu_si256(block + 3)));
    return !_mm256_movemask_epi8(all);
}

WS_TARGET("avx2")
static size_t ws_utf8_avx2(const uint8_t *p, size_t i, size_t n) {
    int ascii = 0;
    for (; n - i >= 128; i += 128) {
        const int ascii_before = ascii;
        ascii = ws_is_ascii_avx2(p + i);
        if (ascii && ascii_before) continue;
        if (ws_utf8_is_faulty_avx2(p + i) | ws_utf8_is_faulty_avx2(p + i + 32) |
            ws_utf8_is_faulty_avx2(p + i + 64) | ws_utf8_is_faulty_avx2(p + i + 96)) return i;
    }
    for (; n - i >= 32; i += 32) {
        if (ws_utf8_is_faulty_avx2(p + i)) return i;
    }
    return i < n && ws_utf8_is_faulty_avx2(p + n - 32) ? i : n;
}
#endif

#ifdef WS_HAVE_NEON
static inline uint8x16_t ws_lookup_neon(const uint8_t table[16], uint8x16_t halves) {
    return vqtbl1q_u8(vld1q_u8(table), halves);
}

static inline int ws_utf8_is_faulty_neon(const uint8_t *p) {
    const uint8x16_t byte = vld1q_u8(p), one_before = vld1q_u8(p - 1);
    const uint8x16_t two_before = vld1q_u8(p - 2), three_before = vld1q_u8(p - 3);
    const uint8x16_t faults = vandq_u8(
        vandq_u8(ws_lookup_neon(ws_first_upper, vshrq_n_u8(one_before, 4)),
                 ws_lookup_neon(ws_first_lower, vandq_u8(one_before, vdupq_n_u8(0x0F)))),
        ws_lookup_neon(ws_second_upper, vshrq_n_u8(byte, 4)));
    const uint8x16_t due = vandq_u8(
        vorrq_u8(vqsubq_u8(two_before, vdupq_n_u8(0xE0 - 0x80)), vqsubq_u8(three_before, vdupq_n_u8(0xF0 - 0x80))),
        vdupq_n_u8(WS_CONTINUED));
    return vmaxvq_u8(veorq_u8(faults, due)) != 0;
}

static size_t ws_utf8_neon(const uint8_t *p, size_t i, size_t n) {
    int ascii = 0;
    for (; n - i >= 64; i += 64) {
        const int ascii_before = ascii;
        ascii = ws_is_ascii_neon(p + i);
        if (ascii && ascii_before) continue;
        if (ws_utf8_is_faulty_neon(p + i) | ws_utf8_is_faulty_neon(p + i + 16) |
            ws_utf8_is_faulty_neon(p + i + 32) | ws_utf8_is_faulty_neon(p + i + 48)) return i;
    }
    for (; n - i >= 16; i += 16) {
        if (ws_utf8_is_faulty_neon(p + i)) return i;
    }
    return i < n && ws_utf8_is_faulty_neon(p + n - 16) ? i : n;
}
#endif

/* -- The choice ------------------------------------------------------------------------------------------------------
 *
 * The paths at an index, from the narrowest to the widest; the name is NULL where this machine does not have them. */

typedef struct {
    const char *name;
    ws_mask_kernel mask;
    ws_utf8_kernel utf8; /* NULL for none: byte by byte */
} ws_kernel;

#define WS_KERNEL_COUNT 6

static ws_kernel ws_kernel_at(int index) {
    static const ws_kernel kernels[WS_KERNEL_COUNT] = {
        {"portable", ws_mask_portable, NULL},
#ifdef WS_HAVE_SSE2
        {"sse2", ws_mask_sse2, NULL},
#endif
#ifdef WS_HAVE_TARGETS
        {"ssse3", ws_mask_sse2, ws_utf8_ssse3},
        {"avx2", ws_mask_avx2, ws_utf8_avx2},
        {"avx512", ws_mask_avx512, ws_utf8_avx2},
#endif
#ifdef WS_HAVE_NEON
        {"neon", ws_mask_neon, ws_utf8_neon},
#endif
    };
    ws_kernel none = {NULL, NULL, NULL};
#ifdef WS_HAVE_TARGETS
    if (index == 2 && !__builtin_cpu_supports("ssse3")) return none;
    if (index == 3 && !__builtin_cpu_supports("avx2")) return none;
    if (index == 4 && !(__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw"))) return none;
#endif
    return index >= 0 && index < WS_KERNEL_COUNT ? kernels[index] : none;
}

static ws_kernel ws_kernel_in_use = {"portable", ws_mask_portable, NULL};

static inline void ws_mask_run(uint8_t *dst, const uint8_t *src, size_t n, uint32_t key) {
    if (n < 32) ws_mask_short(dst, src, n, key);
    else ws_kernel_in_use.mask(dst, src, n, key);
}

/* From this many bytes on, blocks that end where a cache line ends bring more than the bytes before the first one cost. */
#define WS_ALIGN_FROM 512
#define WS_CACHE_LINE 64

static inline void ws_mask(uint8_t *dst, const uint8_t *src, size_t n, const uint8_t key[4], size_t offset) {
    uint32_t octets;
    size_t before = 0;
    memcpy(&octets, key, 4);
    if (n >= WS_ALIGN_FROM) {
        before = (0 - (uintptr_t)dst) % WS_CACHE_LINE;
        ws_mask_run(dst, src, before, ws_rotated(octets, offset));
    }
    ws_mask_run(dst + before, src + before, n - before, ws_rotated(octets, offset + before));
}

/* From this many bytes on blocks bring more than they cost; a block, and the six bytes before the first one, fit. */
#define WS_UTF8_FROM 48

/* Returns the index of the first byte that cannot be part of the text, n if there is none. */
static size_t ws_utf8_check(ws_utf8 *state, const uint8_t *p, size_t n) {
    size_t i = 0, start;
    if (!state->due) i = ws_ascii_prefix(p, n);
    if (n - i < WS_UTF8_FROM || !ws_kernel_in_use.utf8) return ws_utf8_stepwise(state, p, i, n);
    for (; i < 3 || state->due; i++) {
        if (!ws_utf8_step(state, p[i])) return i;
    }
    start = i;
    i = ws_kernel_in_use.utf8(p, start, n);
    /* Byte by byte from the start of the character that the blocks may have left unfinished, or not have judged. */
    for (int back = 0; back < 3 && i > start && (p[i - 1] & 0xC0) == 0x80; back++) i--;
    if (i > start && p[i - 1] >= 0xC0) i--;
    return ws_utf8_stepwise(state, p, i, n);
}

/* -- Memory ----------------------------------------------------------------------------------------------------------
 *
 * glibc gives a large block back to the system when it is freed, and gets the next one from there, page by page, until
 * it has seen a block of that size freed once: from then on it keeps as much. It may as well see one at the first large
 * message, of the size of the largest that are to come. Nothing is written to it, so that it costs two system calls. */

static inline void ws_keep_blocks_of(size_t n) {
    void *volatile block = malloc(n);
    free(block);
}

#endif
