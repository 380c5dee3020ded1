/* Products of bfloat16 in the processor's matrix tiles (Intel AMX): 16 rows by 16 columns at a time.

   The layout of panels and of pages is what a tile takes: 16 units below one another, 16 columns of each. An output is
   the sum over its steps of 32 numbers in order, whatever rows share its tile and whatever their number, so its bits
   depend on nothing else; they are not those of the vector instructions, so that a layer takes tiles for every number of
   rows or none. */
#include "tiles.h"

#if defined(__AMX_TILE__) && defined(__AMX_BF16__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>

enum { SIDE = 16, STEP_BYTES = SIDE * 4, PANEL_ROW = PANEL * 4, GATHERED_STEPS = 32 };
enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18 }; /* arch_prctl(2); asm/prctl.h */

int has_tiles(long units) {
    static int permitted = -1;
    if (permitted < 0) permitted = syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
    return permitted && units % SIDE == 0;
}

/* What has been written there is in memory: the compiler does not know that the next instructions read it. */
INLINE void written(const void *place) { __asm__ volatile("" : : "r"(place) : "memory"); }

/* Tiles 0 to 3 hold sums, 4 and 5 rows of x, 6 and 7 weights; with no `lower` rows 5 holds weights too. */
static void configure(long count, struct tiling *tiling) {
    if (count == tiling->rows) return;
    const long upper = count < SIDE ? count : SIDE, lower = count - upper;
    tiling->rows = count;
    struct { uint8_t palette, start_row, reserved[14]; uint16_t bytes[16]; uint8_t rows[16]; } shape = {.palette = 1};
    const long rest = lower ? lower : upper;
    const long rows[8] = {upper, upper, rest, rest, upper, lower ? lower : SIDE, SIDE, SIDE};
    for (int t = 0; t < 8; t++) shape.bytes[t] = STEP_BYTES, shape.rows[t] = (uint8_t)rows[t];
    written(&shape);
    _tile_loadconfig(&shape);
}

INLINE void clear(void) { _tile_zero(0); _tile_zero(1); _tile_zero(2); _tile_zero(3); }

/* Up to 16 rows by all 64 columns. Few rows wait for memory alone: meanwhile the next step's weights come from there. */
INLINE void add_narrow(const char *x, long x_stride, const char *w, long steps) {
    for (; steps > 0; steps--, x += STEP_BYTES, w += SIDE * PANEL_ROW) {
        UNROLL for (int line = 0; line < SIDE * PANEL_ROW; line += 64) __builtin_prefetch(w + SIDE * PANEL_ROW + line);
        _tile_loadd(4, x, x_stride);
        _tile_loadd(5, w, PANEL_ROW); _tile_dpbf16ps(0, 4, 5);
        _tile_loadd(6, w + STEP_BYTES, PANEL_ROW); _tile_dpbf16ps(1, 4, 6);
        _tile_loadd(7, w + 2 * STEP_BYTES, PANEL_ROW); _tile_dpbf16ps(2, 4, 7);
        _tile_loadd(5, w + 3 * STEP_BYTES, PANEL_ROW); _tile_dpbf16ps(3, 4, 5);
    }
}

/* 17 to 32 rows by 32 columns. Weights go past the L1 cache, where the rows stay for the other 32 columns. */
INLINE void add_square(const char *x, long x_stride, const char *w, long steps) {
    for (; steps > 0; steps--, x += STEP_BYTES, w += SIDE * PANEL_ROW) {
        _tile_loadd(4, x, x_stride);
        _tile_stream_loadd(6, w, PANEL_ROW); _tile_dpbf16ps(0, 4, 6);
        _tile_stream_loadd(7, w + STEP_BYTES, PANEL_ROW); _tile_dpbf16ps(1, 4, 7);
        _tile_loadd(5, x + SIDE * x_stride, x_stride);
        _tile_dpbf16ps(2, 5, 6); _tile_dpbf16ps(3, 5, 7);
    }
}

/* The bytes from each row to the next; 0 where they stand unevenly. */
static long stride_of(const unit_t *const *rows, long count) {
    const long stride = count > 1 ? (const char *)rows[1] - (const char *)rows[0] : STEP_BYTES;
    for (long r = 2; r < count; r++)
        if ((const char *)rows[r] - (const char *)rows[r - 1] != stride) return 0;
    return stride;
}

/* Sums of up to 32 rows; those that stand unevenly are gathered, some steps of each at a time. */
static void multiply_rows(const unit_t *const *rows, long count, const char *w, long steps, floats *totals) {
    const long stride = stride_of(rows, count), square = count > SIDE;
    char gathered[MOST_IN_TILES * GATHERED_STEPS * STEP_BYTES];
    for (long half = 0; half < (square ? 2 : 1); half++) {
        clear();
        for (long done = 0, now; done < steps; done += now) {
            now = stride || steps - done < GATHERED_STEPS ? steps - done : GATHERED_STEPS;
            const long x_stride = stride ? stride : now * STEP_BYTES;
            const char *x = stride ? (const char *)rows[0] : gathered;
            for (long r = 0; !stride && r < count; r++)
                memcpy(gathered + r * x_stride, (const char *)rows[r] + done * STEP_BYTES, (size_t)x_stride);
            if (!stride) written(gathered);
            const char *columns = w + done * SIDE * PANEL_ROW + half * 2 * STEP_BYTES;
            if (square) add_square(x, x_stride, columns, now);
            else add_narrow(x, x_stride, columns, now);
        }
        char *out = (char *)totals + half * 2 * STEP_BYTES;
        char *rest = square ? out + SIDE * PANEL_ROW : out + 2 * STEP_BYTES;
        _tile_stored(0, out, PANEL_ROW); _tile_stored(1, out + STEP_BYTES, PANEL_ROW);
        _tile_stored(2, rest, PANEL_ROW); _tile_stored(3, rest + STEP_BYTES, PANEL_ROW);
    }
}

void multiply_panel_in_tiles(const struct matrix *matrix, long panel, const struct rows *rows, floats *totals,
                             struct tiling *tiling) {
    const char *w = matrix->panels + panel * panel_bytes(matrix);
    for (long first = 0, count; first < rows->count; first += count) {
        count = rows->count - first < MOST_IN_TILES ? rows->count - first : MOST_IN_TILES;
        configure(count, tiling);
        multiply_rows(rows->units + first, count, w, matrix->units / SIDE, totals + first * PANEL_VECTORS);
    }
}

void begin_tiles(long rows, struct tiling *tiling) { configure(rows < SIDE ? rows : SIDE, tiling); }

void end_tiling(struct tiling *tiling) {
    if (tiling->rows) _tile_release();
    tiling->rows = 0;
}

void score_page_in_tiles(const char *queries, long rows, long units, const char *keys, float *scores) {
    for (long first = 0; first < rows; first += SIDE, queries += SIDE * units * 4, scores += SIDE * PAGE) {
        _tile_zero(0);
        _tile_zero(1);
        for (long unit = 0; unit < units; unit += SIDE) {
            const char *w = keys + unit * PAGE * 4;
            _tile_loadd(4, queries + unit * 4, units * 4);
            _tile_loadd(6, w, PAGE * 4);
            _tile_dpbf16ps(0, 4, 6);
            _tile_loadd(7, w + STEP_BYTES, PAGE * 4);
            _tile_dpbf16ps(1, 4, 7);
        }
        _tile_stored(0, scores, PAGE * 4);
        _tile_stored(1, scores + SIDE, PAGE * 4);
    }
}

void gather_page_in_tiles(const float *probabilities, long rows, const char *values, long width, float *out) {
    for (long first = 0; first < rows; first += SIDE, probabilities += SIDE * PAGE, out += SIDE * width) {
        _tile_loadd(4, probabilities, PAGE * 4);
        for (long column = 0; column < width; column += SIDE) {
            _tile_loadd(0, out + column, width * 4);
            _tile_loadd(6, values + column * 4, width * 4);
            _tile_dpbf16ps(0, 4, 6);
            _tile_stored(0, out + column, width * 4);
        }
    }
}

#else

/* This processor has none. */
int has_tiles(long units) { return units < 0; }
void multiply_panel_in_tiles(const struct matrix *matrix, long panel, const struct rows *rows, floats *totals,
                             struct tiling *tiling) {
    (void)matrix, (void)panel, (void)rows, (void)totals, (void)tiling;
}
void begin_tiles(long rows, struct tiling *tiling) { (void)rows, (void)tiling; }
void end_tiling(struct tiling *tiling) { (void)tiling; }
void score_page_in_tiles(const char *queries, long rows, long units, const char *keys, float *scores) {
    (void)queries, (void)rows, (void)units, (void)keys, (void)scores;
}
void gather_page_in_tiles(const float *probabilities, long rows, const char *values, long width, float *out) {
    (void)probabilities, (void)rows, (void)values, (void)width, (void)out;
}

#endif
