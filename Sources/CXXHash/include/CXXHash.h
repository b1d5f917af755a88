// xxHash (XXH3), compiled into the caller: a fast digest that nobody has to be able to forge.
#ifndef CXXHASH_H
#define CXXHASH_H

#include <stddef.h>
#include <stdint.h>

uint64_t cxxhash_64(const void *bytes, size_t count, uint64_t seed);
/// The two halves of 128 bits, the higher one first.
void cxxhash_128(const void *bytes, size_t count, uint64_t seed, uint64_t halves[2]);

#endif
