/* Physical memory that is mapped by its address, where there is any (K-200). */
#define FAMILY "io_space"
#include "check.h"

IMPORT(PVOID, MmMapIoSpaceEx, PHYSICAL_ADDRESS, SIZE_T, ULONG);

/* Where PCs have their I/O APIC. */
#define DEVICE 0xFEC00000LL

/* The value Keep under Parameters leaves one mapped, and takes one back that never was. */
static void Checks(PUNICODE_STRING RegistryPath)
{
    ULONG *memory = ExAllocatePoolWithTag(NonPagedPool, PAGE_SIZE, TEST_TAG);
    PHYSICAL_ADDRESS device = {.QuadPart = DEVICE}, own = MmGetPhysicalAddress(memory);
    volatile ULONG *mapped, *again;

    CHECK(MmMapIoSpace(device, 4096, MmNonCached) == NULL);
    CHECK(CALL(MmMapIoSpaceEx)(device, 4096, PAGE_READWRITE | PAGE_NOCACHE) == NULL);
    CHECK(MmMapIoSpace(own, 0, MmNonCached) == NULL);
    CHECK(MmMapIoSpace(own, 4, MmMaximumCacheType) == NULL);
    CHECK(CALL(MmMapIoSpaceEx)(own, 4, PAGE_READWRITE | PAGE_READONLY) == NULL);
    CHECK(CALL(MmMapIoSpaceEx)(own, 4, PAGE_READWRITE | PAGE_NOCACHE | PAGE_WRITECOMBINE) == NULL);

    /* What is memory can be reached through it, twice as well. */
    mapped = MmMapIoSpace(own, PAGE_SIZE, MmNonCached);
    again = CALL(MmMapIoSpaceEx)(own, PAGE_SIZE, PAGE_READWRITE);
    if (CHECK(mapped != NULL && again != NULL)) {
        memory[5] = 77;
        CHECK_NUMBER(77, mapped[5]);
        again[6] = 78;
        CHECK_NUMBER(78, memory[6]);
        MmUnmapIoSpace((PVOID)again, PAGE_SIZE);
        MmUnmapIoSpace((PVOID)mapped, PAGE_SIZE);
    }
    if (Setting(RegistryPath, L"Keep")) {
        MmMapIoSpace(own, 8, MmNonCached);
        MmUnmapIoSpace(memory, 16);
    }
    ExFreePoolWithTag(memory, TEST_TAG);
}
