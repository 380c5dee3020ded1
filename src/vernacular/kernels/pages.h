/* Pages of keys and values, as attention.c describes them. */
#pragma once

#include "vectors.h"

enum { PAGE = 32 };

INLINE long padded(long width) { return (width + 15) / 16 * 16; }
