/* Doubly linked lists under a spin lock, and lists that need none (K-139, K-140). */
#define FAMILY "lists"
#include "check.h"

IMPORT(LARGE_INTEGER, ExInterlockedAddLargeInteger, PLARGE_INTEGER, LARGE_INTEGER, PKSPIN_LOCK);
IMPORT(void, ExInterlockedAddLargeStatistic, PLARGE_INTEGER, ULONG);
IMPORT(ULONG, ExInterlockedAddUlong, PULONG, ULONG, PKSPIN_LOCK);
IMPORT(ULONG, ExfInterlockedAddUlong, PULONG, ULONG, PKSPIN_LOCK);
IMPORT(LONGLONG, ExInterlockedCompareExchange64, PLONGLONG, PLONGLONG, PLONGLONG, PKSPIN_LOCK);
IMPORT(PSINGLE_LIST_ENTRY, ExInterlockedPushEntryList, PSINGLE_LIST_ENTRY, PSINGLE_LIST_ENTRY, PKSPIN_LOCK);
IMPORT(PSINGLE_LIST_ENTRY, ExInterlockedPopEntryList, PSINGLE_LIST_ENTRY, PKSPIN_LOCK);
IMPORT(PSINGLE_LIST_ENTRY, ExfInterlockedPushEntryList, PSINGLE_LIST_ENTRY, PSINGLE_LIST_ENTRY, PKSPIN_LOCK);
IMPORT(PSINGLE_LIST_ENTRY, ExfInterlockedPopEntryList, PSINGLE_LIST_ENTRY, PKSPIN_LOCK);
IMPORT(PLIST_ENTRY, ExfInterlockedInsertHeadList, PLIST_ENTRY, PLIST_ENTRY, PKSPIN_LOCK);
IMPORT(PLIST_ENTRY, ExfInterlockedInsertTailList, PLIST_ENTRY, PLIST_ENTRY, PKSPIN_LOCK);
IMPORT(PLIST_ENTRY, ExfInterlockedRemoveHeadList, PLIST_ENTRY, PKSPIN_LOCK);
IMPORT(void, RtlInitializeSListHead, PSLIST_HEADER);
IMPORT(PSLIST_ENTRY, RtlFirstEntrySList, PSLIST_HEADER);
IMPORT(PSLIST_ENTRY, FirstEntrySList, PSLIST_HEADER);
IMPORT(PSLIST_ENTRY, InterlockedPushEntrySList, PSLIST_HEADER, PSLIST_ENTRY);
IMPORT(PSLIST_ENTRY, InterlockedPopEntrySList, PSLIST_HEADER);
IMPORT(PSLIST_ENTRY, InterlockedFlushSList, PSLIST_HEADER);
IMPORT(PSLIST_ENTRY, ExInterlockedPushEntrySList, PSLIST_HEADER, PSLIST_ENTRY, PKSPIN_LOCK);
IMPORT(PSLIST_ENTRY, ExInterlockedPopEntrySList, PSLIST_HEADER, PKSPIN_LOCK);
IMPORT(PSLIST_ENTRY, ExInterlockedFlushSList, PSLIST_HEADER);
IMPORT(void, ExInitializePagedLookasideList, PVOID, PVOID, PVOID, ULONG, SIZE_T, ULONG, USHORT);
IMPORT(void, ExDeletePagedLookasideList, PVOID);
IMPORT(NTSTATUS, ExInitializeLookasideListEx, PVOID, PVOID, PVOID, ULONG, ULONG, SIZE_T, ULONG, USHORT);
IMPORT(void, ExDeleteLookasideListEx, PVOID);
IMPORT(void, ExFlushLookasideListEx, PVOID);

typedef struct _ITEM {
    DECLSPEC_ALIGN(16) SLIST_ENTRY Single;
    LIST_ENTRY Double;
    ULONG Number;
} ITEM;

static ITEM Items[4];

static void Locked(void)
{
    LIST_ENTRY head;
    KSPIN_LOCK lock;
    PLIST_ENTRY entry;

    KeInitializeSpinLock(&lock);
    InitializeListHead(&head);
    CHECK(ExInterlockedInsertTailList(&head, &Items[0].Double, &lock) == NULL);
    CHECK(ExInterlockedInsertTailList(&head, &Items[1].Double, &lock) == &Items[0].Double);
    CHECK(ExInterlockedInsertHeadList(&head, &Items[2].Double, &lock) == &Items[0].Double);
    CHECK(head.Flink == &Items[2].Double && head.Blink == &Items[1].Double);
    entry = ExInterlockedRemoveHeadList(&head, &lock);
    CHECK(entry == &Items[2].Double);
    CHECK(ExInterlockedRemoveHeadList(&head, &lock) == &Items[0].Double);
    CHECK(ExInterlockedRemoveHeadList(&head, &lock) == &Items[1].Double);
    CHECK(ExInterlockedRemoveHeadList(&head, &lock) == NULL);
    CHECK(IsListEmpty(&head));
}

static void Sequenced(void)
{
    static DECLSPEC_ALIGN(16) SLIST_HEADER head;
    PSLIST_ENTRY all;
    ULONG i;

    ExInitializeSListHead(&head);
    CHECK_NUMBER(0, ExQueryDepthSList(&head));
    CHECK(InterlockedPopEntrySList(&head) == NULL);
    for (i = 0; i < 3; i++)
        CHECK(InterlockedPushEntrySList(&head, &Items[i].Single) == (i == 0 ? NULL : &Items[i - 1].Single));
    CHECK_NUMBER(3, ExQueryDepthSList(&head));
    CHECK(InterlockedPopEntrySList(&head) == &Items[2].Single);
    all = InterlockedFlushSList(&head);
    CHECK(all == &Items[1].Single && all->Next == &Items[0].Single && all->Next->Next == NULL);
    CHECK_NUMBER(0, ExQueryDepthSList(&head));
}

static void Lookaside(void)
{
    static NPAGED_LOOKASIDE_LIST list;
    PVOID one, two;

    ExInitializeNPagedLookasideList(&list, NULL, NULL, 0, 100, TEST_TAG, 0);
    one = ExAllocateFromNPagedLookasideList(&list);
    two = ExAllocateFromNPagedLookasideList(&list);
    CHECK(one != NULL && two != NULL && one != two);
    RtlFillMemory(one, 100, 1);
    ExFreeToNPagedLookasideList(&list, one);
    ExFreeToNPagedLookasideList(&list, two);
    ExDeleteNPagedLookasideList(&list);
}

/* The names without an i386 register convention, and those of a single link. */
static void OtherNames(void)
{
    SINGLE_LIST_ENTRY single = {NULL}, links[2];
    LIST_ENTRY head;
    KSPIN_LOCK lock;

    KeInitializeSpinLock(&lock);
    InitializeListHead(&head);
    CHECK(CALL(ExfInterlockedInsertTailList)(&head, &Items[0].Double, &lock) == NULL);
    CHECK(CALL(ExfInterlockedInsertHeadList)(&head, &Items[1].Double, &lock) == &Items[0].Double);
    CHECK(CALL(ExfInterlockedRemoveHeadList)(&head, &lock) == &Items[1].Double && head.Flink == &Items[0].Double);
    CHECK(CALL(ExInterlockedPushEntryList)(&single, &links[0], &lock) == NULL);
    CHECK(CALL(ExfInterlockedPushEntryList)(&single, &links[1], &lock) == &links[0]);
    CHECK(single.Next == &links[1] && links[1].Next == &links[0]);
    CHECK(CALL(ExInterlockedPopEntryList)(&single, &lock) == &links[1]);
    CHECK(CALL(ExfInterlockedPopEntryList)(&single, &lock) == &links[0]);
    CHECK(CALL(ExfInterlockedPopEntryList)(&single, &lock) == NULL);
}

static void Numbers(void)
{
    LARGE_INTEGER large = {.QuadPart = 0xFFFFFFFF}, add = {.QuadPart = 2};
    LONGLONG word = 5, expected = 5, other = 7;
    ULONG count = 10;
    KSPIN_LOCK lock;

    KeInitializeSpinLock(&lock);
    CHECK_NUMBER(0xFFFFFFFF, CALL(ExInterlockedAddLargeInteger)(&large, add, &lock).QuadPart);
    CALL(ExInterlockedAddLargeStatistic)(&large, 3);
    CHECK_NUMBER(0x100000004, large.QuadPart);
    CHECK_NUMBER(10, CALL(ExInterlockedAddUlong)(&count, 5, &lock));
    CHECK_NUMBER(15, CALL(ExfInterlockedAddUlong)(&count, 5, &lock));
    CHECK_NUMBER(20, count);
    CHECK(CALL(ExInterlockedCompareExchange64)(&word, &other, &expected, &lock) == 5 && word == 7);
    CHECK(CALL(ExInterlockedCompareExchange64)(&word, &other, &expected, &lock) == 7 && word == 7);
}

static void SequencedByOtherNames(void)
{
    static DECLSPEC_ALIGN(16) SLIST_HEADER head;
    KSPIN_LOCK lock;

    KeInitializeSpinLock(&lock);
    head.Alignment = 77;
    CALL(RtlInitializeSListHead)(&head);
    CHECK(CALL(RtlFirstEntrySList)(&head) == NULL && CALL(InterlockedPopEntrySList)(&head) == NULL);
    CHECK(CALL(InterlockedPushEntrySList)(&head, &Items[0].Single) == NULL);
    CHECK(CALL(ExInterlockedPushEntrySList)(&head, &Items[1].Single, &lock) == &Items[0].Single);
    CHECK(CALL(RtlFirstEntrySList)(&head) == &Items[1].Single && CALL(FirstEntrySList)(&head) == &Items[1].Single);
    CHECK(CALL(ExInterlockedPopEntrySList)(&head, &lock) == &Items[1].Single);
    CHECK(CALL(InterlockedFlushSList)(&head) == &Items[0].Single && CALL(ExInterlockedFlushSList)(&head) == NULL);
}

static LONG Allocations;

static PVOID NTAPI Allocate(POOL_TYPE Type, SIZE_T Bytes, ULONG Tag)
{
    Allocations++;
    return ExAllocatePoolWithTag(Type, Bytes, Tag);
}

static void NTAPI Free(PVOID Block)
{
    Allocations--;
    ExFreePool(Block);
}

static PVOID NTAPI AllocateEx(POOL_TYPE Type, SIZE_T Bytes, ULONG Tag, PVOID List)
{
    (void)List;
    return Allocate(Type, Bytes, Tag);
}

static void NTAPI FreeEx(PVOID Block, PVOID List)
{
    (void)List;
    Free(Block);
}

/* The driver's own routines are asked when a list is empty, full or flushed. */
static void LookasideOfOtherKinds(void)
{
    static PAGED_LOOKASIDE_LIST paged;
    static LOOKASIDE_LIST_EX list;
    PVOID block;

    CALL(ExInitializePagedLookasideList)(&paged, Allocate, Free, 0, 64, TEST_TAG, 0);
    block = ExAllocateFromPagedLookasideList(&paged);
    CHECK(block != NULL && Allocations == 1);
    ExFreeToPagedLookasideList(&paged, block);
    CHECK(ExAllocateFromPagedLookasideList(&paged) == block && Allocations == 1);
    ExFreeToPagedLookasideList(&paged, block);
    CALL(ExDeletePagedLookasideList)(&paged);
    CHECK_NUMBER(0, Allocations);
    CHECK_STATUS(STATUS_SUCCESS, CALL(ExInitializeLookasideListEx)(&list, AllocateEx, FreeEx, NonPagedPool, 0, 64, TEST_TAG, 0));
    block = ExAllocateFromLookasideListEx(&list);
    CHECK(block != NULL && Allocations == 1);
    ExFreeToLookasideListEx(&list, block);
    CHECK_NUMBER(1, Allocations);
    CALL(ExFlushLookasideListEx)(&list);
    CHECK_NUMBER(0, Allocations);
    block = ExAllocateFromLookasideListEx(&list);
    ExFreeToLookasideListEx(&list, block);
    CALL(ExDeleteLookasideListEx)(&list);
    CHECK_NUMBER(0, Allocations);
}

static void Checks(PUNICODE_STRING RegistryPath)
{
    (void)RegistryPath;
    Locked();
    Sequenced();
    Lookaside();
    OtherNames();
    Numbers();
    SequencedByOtherNames();
    LookasideOfOtherKinds();
}
