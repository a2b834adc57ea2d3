/* Counts what is allocated, loaded in front of the C library; see counting.py. */

#include <stddef.h>

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t number, size_t size);
extern void *__libc_realloc(void *old, size_t size);

static unsigned long count;
static unsigned long octets;

void *malloc(size_t size)
{
    count++;
    octets += size;
    return __libc_malloc(size);
}

void *calloc(size_t number, size_t size)
{
    count++;
    octets += number * size;
    return __libc_calloc(number, size);
}

void *realloc(void *old, size_t size)
{
    count++;
    octets += size;
    return __libc_realloc(old, size);
}

unsigned long allocations(void)
{
    return count;
}

unsigned long allocated(void)
{
    return octets;
}
