/* Memory: the rest of pool, MDLs with pages of their own, contiguous and paged memory, sections (K-105 to K-110, K-146, K-151, K-200). */
#define FAMILY "pages"
#include "check.h"

IMPORT(PVOID, ExAllocatePool, ULONG, SIZE_T);
IMPORT(PVOID, ExAllocatePool2, ULONG64, SIZE_T, ULONG);
IMPORT(PVOID, ExAllocatePool3, ULONG64, SIZE_T, ULONG, PVOID, ULONG);
IMPORT(PVOID, ExAllocatePoolWithQuota, ULONG, SIZE_T);
IMPORT(PVOID, ExAllocatePoolWithQuotaTag, ULONG, SIZE_T, ULONG);
IMPORT(PVOID, ExAllocatePoolWithTagPriority, ULONG, SIZE_T, ULONG, ULONG);
IMPORT(PVOID, FsRtlAllocatePool, ULONG, SIZE_T);
IMPORT(PVOID, FsRtlAllocatePoolWithTag, ULONG, SIZE_T, ULONG);
IMPORT(PVOID, FsRtlAllocatePoolWithQuotaTag, ULONG, SIZE_T, ULONG);
IMPORT(void, ExFreePool2, PVOID, ULONG, PVOID, ULONG);
IMPORT(PVOID, MmMapLockedPages, PMDL, KPROCESSOR_MODE);
IMPORT(void, MmUnmapLockedPages, PVOID, PMDL);
IMPORT(SIZE_T, MmSizeOfMdl, PVOID, SIZE_T);
IMPORT(PMDL, MmCreateMdl, PMDL, PVOID, SIZE_T);
IMPORT(BOOLEAN, MmIsAddressValid, PVOID);
IMPORT(BOOLEAN, MmIsNonPagedSystemAddressValid, PVOID);
IMPORT(PHYSICAL_ADDRESS, MmGetPhysicalAddress, PVOID);
IMPORT(PVOID, MmAllocateContiguousMemory, SIZE_T, PHYSICAL_ADDRESS);
IMPORT(void, MmFreeContiguousMemory, PVOID);
IMPORT(PVOID, MmAllocateNonCachedMemory, SIZE_T);
IMPORT(void, MmFreeNonCachedMemory, PVOID, SIZE_T);
IMPORT(PMDL, MmAllocatePagesForMdl, PHYSICAL_ADDRESS, PHYSICAL_ADDRESS, PHYSICAL_ADDRESS, SIZE_T);
IMPORT(PMDL, MmAllocatePagesForMdlEx, PHYSICAL_ADDRESS, PHYSICAL_ADDRESS, PHYSICAL_ADDRESS, SIZE_T, ULONG, ULONG);
IMPORT(void, MmFreePagesFromMdl, PMDL);
IMPORT(PVOID, MmLockPagableDataSection, PVOID);
IMPORT(PVOID, MmLockPagableImageSection, PVOID);
IMPORT(void, MmUnlockPagableImageSection, PVOID);
IMPORT(PVOID, MmPageEntireDriver, PVOID);
IMPORT(void, MmResetDriverPaging, PVOID);
IMPORT(NTSTATUS, ZwCreateSection, PHANDLE, ACCESS_MASK, POBJECT_ATTRIBUTES, PLARGE_INTEGER, ULONG, ULONG, HANDLE);
IMPORT(NTSTATUS, ZwMapViewOfSection, HANDLE, HANDLE, PVOID *, ULONG_PTR, SIZE_T, PLARGE_INTEGER, PSIZE_T, ULONG, ULONG, ULONG);
IMPORT(NTSTATUS, ZwUnmapViewOfSection, HANDLE, PVOID);
IMPORT(NTSTATUS, MmMapViewInSystemSpace, PVOID, PVOID *, PSIZE_T);
IMPORT(NTSTATUS, MmUnmapViewInSystemSpace, PVOID);

static BOOLEAN IsZero(PUCHAR Block, SIZE_T Bytes)
{
    while (Bytes > 0 && Block[Bytes - 1] == 0)
        Bytes--;
    return Bytes == 0;
}

/* Fills the block, so that a later one of the same size is not zero by chance, and frees it. */
static void Use(PVOID Block, SIZE_T Bytes, ULONG Tag, int Line)
{
    if (Claim(Block != NULL && (ULONG_PTR)Block % 16 == 0, Line, "a block")) {
        RtlFillMemory(Block, Bytes, 0xEE);
        ExFreePoolWithTag(Block, Tag);
    }
}

/* Flags of ExAllocatePool2 and 3. */
#define FLAG_UNINITIALIZED 2
#define FLAG_NON_PAGED 0x40
#define FLAG_PAGED 0x100

static void Pool(void)
{
    PUCHAR block;

    block = CALL(ExAllocatePool)(NonPagedPool, 100);
    CHECK(block != NULL);
    RtlFillMemory(block, 100, 0xEE);
    ExFreePool(block);
    block = CALL(ExAllocatePoolWithQuota)(NonPagedPool, 100);
    CHECK(block != NULL);
    ExFreePool(block);
    block = CALL(FsRtlAllocatePool)(NonPagedPool, 100);
    CHECK(block != NULL);
    ExFreePool(block);
    Use(CALL(ExAllocatePoolWithQuotaTag)(NonPagedPool, 100, TEST_TAG), 100, TEST_TAG, __LINE__);
    Use(CALL(ExAllocatePoolWithTagPriority)(NonPagedPool, 100, TEST_TAG, LowPoolPriority), 100, TEST_TAG, __LINE__);
    Use(CALL(FsRtlAllocatePoolWithTag)(PagedPool, 100, TEST_TAG), 100, TEST_TAG, __LINE__);
    Use(CALL(FsRtlAllocatePoolWithQuotaTag)(PagedPool, 100, TEST_TAG), 100, TEST_TAG, __LINE__);
    Use(CALL(ExAllocatePool2)(FLAG_NON_PAGED | FLAG_UNINITIALIZED, 100, TEST_TAG), 100, TEST_TAG, __LINE__);
    block = CALL(ExAllocatePool2)(FLAG_NON_PAGED, 100, TEST_TAG);
    CHECK(block != NULL && IsZero(block, 100));
    RtlFillMemory(block, 100, 0xEE);
    CALL(ExFreePool2)(block, TEST_TAG, NULL, 0);
    block = CALL(ExAllocatePool3)(FLAG_PAGED, 100, TEST_TAG, NULL, 0);
    CHECK(block != NULL && IsZero(block, 100));
    CALL(ExFreePool2)(block, TEST_TAG, NULL, 0);
    CHECK(CALL(ExAllocatePool2)(FLAG_NON_PAGED, (SIZE_T)1 << 46, TEST_TAG) == NULL);
}

static void Mdls(void)
{
    PUCHAR buffer = ExAllocatePoolWithTag(NonPagedPool, 2 * PAGE_SIZE, TEST_TAG), mapped;
    PHYSICAL_ADDRESS low = {.QuadPart = 0}, high = {.QuadPart = -1};
    UCHAR room[256];
    PMDL mdl = (PMDL)room, pages;

    CHECK_NUMBER(sizeof(MDL) + 2 * sizeof(PFN_NUMBER), CALL(MmSizeOfMdl)(buffer + 100, PAGE_SIZE));
    CHECK(CALL(MmCreateMdl)(mdl, buffer + 100, PAGE_SIZE) == mdl);
    CHECK(MmGetMdlByteCount(mdl) == PAGE_SIZE && MmGetMdlByteOffset(mdl) == 100 && MmGetMdlVirtualAddress(mdl) == buffer + 100);
    MmBuildMdlForNonPagedPool(mdl);
    mdl = CALL(MmCreateMdl)(NULL, buffer, 16);
    CHECK(mdl != NULL);
    IoFreeMdl(mdl);
    ExFreePoolWithTag(buffer, TEST_TAG);

    pages = CALL(MmAllocatePagesForMdl)(low, high, low, 2 * PAGE_SIZE);
    CHECK(pages != NULL && MmGetMdlByteCount(pages) == 2 * PAGE_SIZE && MmGetMdlByteOffset(pages) == 0);
    mapped = CALL(MmMapLockedPages)(pages, KernelMode);
    CHECK(mapped != NULL && IsZero(mapped, 2 * PAGE_SIZE));
    CHECK((pages->MdlFlags & MDL_MAPPED_TO_SYSTEM_VA) != 0 && pages->MappedSystemVa == mapped);
    RtlFillMemory(mapped, 2 * PAGE_SIZE, 0xEE);
    CALL(MmUnmapLockedPages)(mapped, pages);
    CHECK((pages->MdlFlags & MDL_MAPPED_TO_SYSTEM_VA) == 0);
    mapped = CALL(MmMapLockedPages)(pages, KernelMode);
    CHECK(mapped != NULL && mapped[2 * PAGE_SIZE - 1] == 0xEE);
    CALL(MmUnmapLockedPages)(mapped, pages);
    CALL(MmFreePagesFromMdl)(pages);
    ExFreePool(pages);
    pages = CALL(MmAllocatePagesForMdlEx)(low, high, low, PAGE_SIZE, MmCached, 0);
    CHECK(pages != NULL && MmGetMdlByteCount(pages) == PAGE_SIZE);
    CALL(MmFreePagesFromMdl)(pages);
    ExFreePool(pages);
}

static void Kinds(void)
{
    PHYSICAL_ADDRESS high = {.QuadPart = -1};
    PUCHAR contiguous = CALL(MmAllocateContiguousMemory)(3 * PAGE_SIZE, high), uncached;
    PUCHAR paged = ExAllocatePoolWithTag(PagedPool, 64, TEST_TAG);
    PVOID section;

    CHECK(contiguous != NULL && (ULONG_PTR)contiguous % PAGE_SIZE == 0);
    RtlFillMemory(contiguous, 3 * PAGE_SIZE, 0x11);
    CHECK(CALL(MmIsAddressValid)(contiguous) && CALL(MmIsNonPagedSystemAddressValid)(contiguous));
    CHECK(!CALL(MmIsAddressValid)(NULL) && !CALL(MmIsAddressValid)((PVOID)0x8000000000000000ULL));
    CHECK(CALL(MmIsAddressValid)(paged) && !CALL(MmIsNonPagedSystemAddressValid)(NULL));
    CHECK_NUMBER(2 * PAGE_SIZE + 5, CALL(MmGetPhysicalAddress)(contiguous + 2 * PAGE_SIZE + 5).QuadPart -
                                        CALL(MmGetPhysicalAddress)(contiguous).QuadPart);
    CALL(MmFreeContiguousMemory)(contiguous);
    uncached = CALL(MmAllocateNonCachedMemory)(PAGE_SIZE + 1);
    CHECK(uncached != NULL && (ULONG_PTR)uncached % PAGE_SIZE == 0);
    uncached[PAGE_SIZE] = 1;
    CALL(MmFreeNonCachedMemory)(uncached, PAGE_SIZE + 1);
    ExFreePoolWithTag(paged, TEST_TAG);

    section = CALL(MmLockPagableDataSection)(Kinds);
    CHECK(section != NULL && CALL(MmIsAddressValid)(Kinds));
    CALL(MmUnlockPagableImageSection)(section);
    section = CALL(MmLockPagableImageSection)(Kinds);
    CHECK(section != NULL);
    CALL(MmUnlockPagableImageSection)(section);
    section = CALL(MmPageEntireDriver)(Kinds);
    CHECK(section != NULL && section <= (PVOID)Kinds);
    CALL(MmResetDriverPaging)(Kinds);
}

static void Sections(void)
{
    LARGE_INTEGER bytes = {.QuadPart = 3 * PAGE_SIZE}, offset = {.QuadPart = 0};
    OBJECT_ATTRIBUTES attributes;
    PUCHAR view = NULL, other = NULL;
    SIZE_T size = 0;
    PVOID object = NULL;
    HANDLE section;

    InitializeObjectAttributes(&attributes, NULL, OBJ_KERNEL_HANDLE, NULL, NULL);
    CHECK_STATUS(STATUS_SUCCESS, CALL(ZwCreateSection)(&section, SECTION_ALL_ACCESS, &attributes, &bytes, PAGE_READWRITE, SEC_COMMIT, NULL));
    CHECK_STATUS(STATUS_SUCCESS, CALL(ZwMapViewOfSection)(section, ZwCurrentProcess(), (PVOID *)&view, 0, 0, &offset, &size, ViewUnmap, 0, PAGE_READWRITE));
    CHECK(view != NULL && size == 3 * PAGE_SIZE && IsZero(view, size));
    view[2 * PAGE_SIZE] = 0x5A;
    CHECK_STATUS(STATUS_SUCCESS, ObReferenceObjectByHandle(section, SECTION_ALL_ACCESS, NULL, KernelMode, &object, NULL));
    size = 0;
    CHECK_STATUS(STATUS_SUCCESS, CALL(MmMapViewInSystemSpace)(object, (PVOID *)&other, &size));
    CHECK(other != NULL && size == 3 * PAGE_SIZE && other[2 * PAGE_SIZE] == 0x5A);
    CHECK_STATUS(STATUS_SUCCESS, CALL(ZwUnmapViewOfSection)(ZwCurrentProcess(), view));
    CHECK_STATUS(STATUS_SUCCESS, ZwClose(section));
    CHECK_NUMBER(0x5A, other[2 * PAGE_SIZE]);
    CHECK_STATUS(STATUS_SUCCESS, CALL(MmUnmapViewInSystemSpace)(other));
    CHECK_STATUS(STATUS_NOT_MAPPED_VIEW, CALL(ZwUnmapViewOfSection)(ZwCurrentProcess(), view));
    ObDereferenceObject(object);
}

static void Checks(PUNICODE_STRING RegistryPath)
{
    (void)RegistryPath;
    Pool();
    Mdls();
    Kinds();
    Sections();
}
