// Pairs of a hash and a number, sorted by hashes that are spread evenly.

#include <stdint.h>
#include <stdlib.h>

typedef struct {
    uint64_t hash;
    int64_t number;
} Entry;

// By the hashes, and equal ones as they come: each goes to about its place, and then a little further. However the hashes
// are spread the order is right; evenly, the time grows as their number does. Returns 1 where there is no memory.
//   hashes uint64, numbers int64 [count]
int sort_entries(const Entry *entries, long count, uint64_t *hashes, int64_t *numbers) {
    uint32_t *places = calloc((size_t)count + 1, sizeof *places);
    Entry *spread = malloc(((size_t)count + 1) * sizeof *spread);
    int failed = !places || !spread;
    if (!failed) {
        uint64_t least = UINT64_MAX, most = 0;
        for (long i = 0; i < count; i++) {
            least = entries[i].hash < least ? entries[i].hash : least;
            most = entries[i].hash > most ? entries[i].hash : most;
        }
        // A little less than one place for each, so that rounding reaches none beyond the last.
        double scale = (double)count / ((double)(most - least) * (1 + 1e-9) + 1);
        for (long i = 0; i < count; i++) places[(uint64_t)((double)(entries[i].hash - least) * scale)]++;
        uint32_t before = 0;
        for (long i = 0; i < count; i++) {
            uint32_t here = places[i];
            places[i] = before;
            before += here;
        }
        for (long i = 0; i < count; i++)
            spread[places[(uint64_t)((double)(entries[i].hash - least) * scale)]++] = entries[i];
        for (long i = 0; i < count; i++) {
            Entry entry = spread[i];
            long j = i;
            for (; j && hashes[j - 1] > entry.hash; j--) {
                hashes[j] = hashes[j - 1];
                numbers[j] = numbers[j - 1];
            }
            hashes[j] = entry.hash;
            numbers[j] = entry.number;
        }
    }
    free(places);
    free(spread);
    return failed;
}
