/* The driver's beginning. The tests call its exports one by one. */
#include "kernel.h"

TEST u32 DriverEntry(void *driver, void *path) { return 0; }

/* clang calls these for large structures. */
void *memset(void *to, int value, u64 length) {
    volatile u8 *bytes = to;
    while (length--) *bytes++ = (u8)value;
    return to;
}

void *memcpy(void *to, const void *from, u64 length) {
    volatile u8 *bytes = to;
    const u8 *source = from;
    while (length--) *bytes++ = *source++;
    return to;
}
