#include "CXXHash.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

uint64_t cxxhash_64(const void *bytes, size_t count, uint64_t seed) {
  return seed ? XXH3_64bits_withSeed(bytes, count, seed) : XXH3_64bits(bytes, count);
}

void cxxhash_128(const void *bytes, size_t count, uint64_t seed, uint64_t halves[2]) {
  XXH128_hash_t hash = XXH3_128bits_withSeed(bytes, count, seed);
  halves[0] = hash.high64;
  halves[1] = hash.low64;
}
