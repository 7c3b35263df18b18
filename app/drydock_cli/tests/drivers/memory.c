/* Pool and MDLs (K-107, K-108, K-112, K-146). */
#define FAMILY "memory"
#include "check.h"

static void Pool(void)
{
    PUCHAR small = ExAllocatePoolWithTag(NonPagedPool, 24, TEST_TAG);
    PUCHAR page = ExAllocatePoolWithTag(NonPagedPool, PAGE_SIZE, TEST_TAG);
    PUCHAR paged = ExAllocatePoolWithTag(PagedPool, 100, TEST_TAG);

    CHECK(small != NULL && page != NULL && paged != NULL);
    CHECK((ULONG_PTR)small % 16 == 0);
    CHECK((ULONG_PTR)page % PAGE_SIZE == 0);
    RtlFillMemory(small, 24, 0x11);
    RtlFillMemory(page, PAGE_SIZE, 0x22);
    CHECK(small[23] == 0x11 && page[0] == 0x22);
    ExFreePoolWithTag(small, TEST_TAG);
    ExFreePool(page);
    ExFreePoolWithTag(paged, 0);
    CHECK(ExAllocatePoolWithTag(NonPagedPool, (SIZE_T)1 << 46, TEST_TAG) == NULL);
}

static void Mdls(void)
{
    PUCHAR buffer = ExAllocatePoolWithTag(NonPagedPool, 3 * PAGE_SIZE, TEST_TAG);
    PUCHAR middle = buffer + PAGE_SIZE - 10;
    PMDL mdl = IoAllocateMdl(middle, PAGE_SIZE + 20, FALSE, FALSE, NULL);
    PMDL part = IoAllocateMdl(middle, PAGE_SIZE + 20, FALSE, FALSE, NULL);
    PUCHAR mapped;

    CHECK(mdl != NULL && part != NULL);
    CHECK_NUMBER(PAGE_SIZE + 20, MmGetMdlByteCount(mdl));
    CHECK_NUMBER(PAGE_SIZE - 10, MmGetMdlByteOffset(mdl));
    CHECK(MmGetMdlVirtualAddress(mdl) == middle);
    CHECK_NUMBER(3, ADDRESS_AND_SIZE_TO_SPAN_PAGES(middle, PAGE_SIZE + 20));
    MmBuildMdlForNonPagedPool(mdl);
    CHECK((mdl->MdlFlags & (MDL_SOURCE_IS_NONPAGED_POOL | MDL_PAGES_LOCKED)) == MDL_SOURCE_IS_NONPAGED_POOL);
    CHECK(mdl->MappedSystemVa == middle);
    mapped = MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority);
    CHECK(mapped != NULL);
    middle[PAGE_SIZE] = 0x5A;
    CHECK_NUMBER(0x5A, mapped[PAGE_SIZE]);
    IoBuildPartialMdl(mdl, part, middle + 10, 16);
    CHECK_NUMBER(16, MmGetMdlByteCount(part));
    CHECK(MmGetMdlVirtualAddress(part) == middle + 10);
    mapped = MmGetSystemAddressForMdlSafe(part, NormalPagePriority);
    middle[10] = 0x33;
    CHECK_NUMBER(0x33, mapped[0]);
    IoFreeMdl(part);
    IoFreeMdl(mdl);
    ExFreePoolWithTag(buffer, TEST_TAG);
}

static void Locked(void)
{
    PUCHAR paged = ExAllocatePoolWithTag(PagedPool, 64, TEST_TAG);
    PMDL mdl = IoAllocateMdl(paged, 64, FALSE, FALSE, NULL);

    MmProbeAndLockPages(mdl, KernelMode, IoWriteAccess);
    CHECK((mdl->MdlFlags & MDL_PAGES_LOCKED) != 0);
    CHECK(MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority) != NULL);
    MmUnlockPages(mdl);
    CHECK((mdl->MdlFlags & MDL_PAGES_LOCKED) == 0);
    IoFreeMdl(mdl);
    ExFreePoolWithTag(paged, TEST_TAG);
}

static void Checks(PUNICODE_STRING RegistryPath)
{
    UCHAR one[8] = {1, 2, 3, 4, 5, 6, 7, 8}, two[8] = {1, 2, 3, 4, 0, 6, 7, 8};

    (void)RegistryPath;
    CHECK_NUMBER(4, RtlCompareMemory(one, two, 8));
    RtlMoveMemory(one + 2, one, 6);
    CHECK(one[2] == 1 && one[7] == 6);
    RtlZeroMemory(one, 4);
    CHECK(one[3] == 0 && one[4] == 3);
    Pool();
    Mdls();
    Locked();
}
