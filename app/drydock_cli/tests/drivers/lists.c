/* Doubly linked lists under a spin lock, and lists that need none (K-139, K-140). */
#define FAMILY "lists"
#include "check.h"

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

static void Checks(PUNICODE_STRING RegistryPath)
{
    (void)RegistryPath;
    Locked();
    Sequenced();
    Lookaside();
}
