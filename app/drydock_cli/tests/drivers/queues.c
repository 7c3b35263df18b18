/* Queues, mutants, DPCs seen from inside, stacks, processors (K-007, K-124, K-125, K-133, K-153). */
#define FAMILY "queues"
#include "check.h"

NTKERNELAPI VOID NTAPI KeInitializeQueue(PKQUEUE, ULONG);
NTKERNELAPI LONG NTAPI KeInsertQueue(PKQUEUE, PLIST_ENTRY);
NTKERNELAPI LONG NTAPI KeInsertHeadQueue(PKQUEUE, PLIST_ENTRY);
NTKERNELAPI PLIST_ENTRY NTAPI KeRemoveQueue(PKQUEUE, KPROCESSOR_MODE, PLARGE_INTEGER);
NTKERNELAPI PLIST_ENTRY NTAPI KeRundownQueue(PKQUEUE);
NTKERNELAPI LONG NTAPI KeReadStateQueue(PKQUEUE);
NTKERNELAPI ULONG NTAPI KeRemoveQueueEx(PKQUEUE, KPROCESSOR_MODE, BOOLEAN, PLARGE_INTEGER, PLIST_ENTRY *, ULONG);
NTKERNELAPI VOID NTAPI KeInitializeMutant(PRKMUTANT, BOOLEAN);
NTKERNELAPI LONG NTAPI KeReleaseMutant(PRKMUTANT, KPRIORITY, BOOLEAN, BOOLEAN);
NTKERNELAPI LONG NTAPI KeReadStateMutant(PRKMUTANT);
NTKERNELAPI ULONG NTAPI KeIsExecutingDpc(VOID);
NTKERNELAPI BOOLEAN NTAPI KeIsAttachedProcess(VOID);
NTKERNELAPI BOOLEAN NTAPI KeIsWaitListEmpty(PVOID);
NTKERNELAPI USHORT NTAPI KeQueryActiveGroupCount(VOID);
NTKERNELAPI USHORT NTAPI KeQueryHighestNodeNumber(VOID);
NTKERNELAPI KAFFINITY NTAPI KeQueryGroupAffinity(USHORT);

static KQUEUE Queue;
static LIST_ENTRY Entries[4];
static LONG Sum, Taken;

static void NTAPI Take(PVOID Context)
{
    (void)Context;
    for (;;) {
        PLIST_ENTRY entry = KeRemoveQueue(&Queue, KernelMode, NULL);

        if (entry == &Entries[3])
            break;
        InterlockedIncrement(&Taken);
        InterlockedAdd(&Sum, (LONG)(entry - Entries) + 1);
    }
    KeInsertQueue(&Queue, &Entries[3]);
    PsTerminateSystemThread(STATUS_SUCCESS);
}

static void Queues(void)
{
    LARGE_INTEGER now = {.QuadPart = 0}, soon = Milliseconds(2);
    PLIST_ENTRY first, taken[4];
    PKTHREAD one, two;

    KeInitializeQueue(&Queue, 0);
    CHECK_NUMBER(0, KeReadStateQueue(&Queue));
    CHECK_NUMBER(STATUS_TIMEOUT, (ULONG_PTR)KeRemoveQueue(&Queue, KernelMode, &now));
    CHECK_NUMBER(STATUS_TIMEOUT, (ULONG_PTR)KeRemoveQueue(&Queue, KernelMode, &soon));
    CHECK_NUMBER(0, KeInsertQueue(&Queue, &Entries[0]));
    CHECK_NUMBER(1, KeInsertQueue(&Queue, &Entries[1]));
    CHECK_NUMBER(2, KeInsertHeadQueue(&Queue, &Entries[2]));
    CHECK_NUMBER(3, KeReadStateQueue(&Queue));
    CHECK(KeRemoveQueue(&Queue, KernelMode, NULL) == &Entries[2]);
    CHECK(KeRemoveQueue(&Queue, KernelMode, &now) == &Entries[0]);
    CHECK_NUMBER(1, KeInsertQueue(&Queue, &Entries[0]));
    first = KeRundownQueue(&Queue);
    CHECK(first == &Entries[1] && first->Flink == &Entries[0] && Entries[0].Flink == first && first->Blink == &Entries[0]);
    CHECK_NUMBER(0, KeReadStateQueue(&Queue));
    CHECK(KeRundownQueue(&Queue) == NULL);
    KeInsertQueue(&Queue, &Entries[0]);
    KeInsertQueue(&Queue, &Entries[1]);
    CHECK_NUMBER(2, KeRemoveQueueEx(&Queue, KernelMode, FALSE, &now, taken, 4));
    CHECK(taken[0] == &Entries[0] && taken[1] == &Entries[1]);
    CHECK_NUMBER(STATUS_TIMEOUT, KeRemoveQueueEx(&Queue, KernelMode, FALSE, &now, taken, 4));

    one = Start(Take, NULL);
    two = Start(Take, NULL);
    for (int i = 0; i < 3; i++)
        KeInsertQueue(&Queue, &Entries[i]);
    while (KeReadStateQueue(&Queue) != 0)
        Sleep(1);
    KeInsertQueue(&Queue, &Entries[3]);
    Join(one);
    Join(two);
    CHECK_NUMBER(3, Taken);
    CHECK_NUMBER(6, Sum);
    CHECK_NUMBER(1, KeReadStateQueue(&Queue));
}

static KQUEUE Narrow;
static LONG Begun;
static volatile LONG IsToWait;
static KEVENT BegunTwice, Finish;

/* Takes one entry. The first to do so keeps busy, and then waits for something else. */
static void NTAPI TakeFromNarrow(PVOID Context)
{
    (void)Context;
    KeRemoveQueue(&Narrow, KernelMode, NULL);
    if (InterlockedIncrement(&Begun) == 2)
        KeSetEvent(&BegunTwice, IO_NO_INCREMENT, FALSE);
    while (!IsToWait)
        ZwYieldExecution();
    KeWaitForSingleObject(&Finish, Executive, KernelMode, FALSE, NULL);
    PsTerminateSystemThread(STATUS_SUCCESS);
}

/* As many threads as a queue is made for are busy with it; one that waits or has ended is not. */
static void Busy(void)
{
    LARGE_INTEGER now = {.QuadPart = 0};
    PKTHREAD one, two;

    KeInitializeQueue(&Narrow, 1);
    KeInitializeEvent(&BegunTwice, NotificationEvent, FALSE);
    KeInitializeEvent(&Finish, NotificationEvent, FALSE);
    one = Start(TakeFromNarrow, NULL);
    two = Start(TakeFromNarrow, NULL);
    KeInsertQueue(&Narrow, &Entries[0]);
    KeInsertQueue(&Narrow, &Entries[1]);
    while (Begun == 0)
        ZwYieldExecution();
    for (int i = 0; i < 200; i++)
        ZwYieldExecution();
    CHECK_NUMBER(1, Begun);
    CHECK_NUMBER(1, KeReadStateQueue(&Narrow));
    CHECK_NUMBER(STATUS_TIMEOUT, (ULONG_PTR)KeRemoveQueue(&Narrow, KernelMode, &now));
    IsToWait = TRUE;
    KeWaitForSingleObject(&BegunTwice, Executive, KernelMode, FALSE, NULL);
    CHECK_NUMBER(0, KeReadStateQueue(&Narrow));
    KeSetEvent(&Finish, IO_NO_INCREMENT, FALSE);
    Join(one);
    Join(two);
    KeInsertQueue(&Narrow, &Entries[0]);
    KeInsertQueue(&Narrow, &Entries[1]);
    CHECK(KeRemoveQueue(&Narrow, KernelMode, &now) == &Entries[0]);
    /* Who comes back is busy no more. */
    CHECK(KeRemoveQueue(&Narrow, KernelMode, &now) == &Entries[1]);
    KeRundownQueue(&Narrow);
}

static KMUTANT Mutant;
static NTSTATUS Others;

static KEVENT Never;

static void NTAPI AwaitMutant(PVOID Context)
{
    PVOID objects[2] = {&Never, &Mutant};

    (void)Context;
    Others = KeWaitForMultipleObjects(2, objects, WaitAny, Executive, KernelMode, FALSE, NULL, NULL);
    KeReleaseMutant(&Mutant, 0, FALSE, FALSE);
    PsTerminateSystemThread(STATUS_SUCCESS);
}

static void NTAPI TryMutant(PVOID Context)
{
    LARGE_INTEGER now = {.QuadPart = 0};

    (void)Context;
    Others = KeWaitForSingleObject(&Mutant, Executive, KernelMode, FALSE, &now);
    if (Others == STATUS_SUCCESS)
        KeReleaseMutant(&Mutant, 0, FALSE, FALSE);
    PsTerminateSystemThread(STATUS_SUCCESS);
}

/* Who takes an abandoned mutant first is told, and nobody after. */
static void Abandoned(void)
{
    LARGE_INTEGER now = {.QuadPart = 0};
    PVOID objects[2] = {&Never, &Mutant};
    HANDLE thread;

    KeInitializeEvent(&Never, NotificationEvent, FALSE);
    CHECK_STATUS(STATUS_SUCCESS, KeWaitForSingleObject(&Mutant, Executive, KernelMode, FALSE, NULL));
    CHECK_STATUS(STATUS_SUCCESS, KeWaitForSingleObject(&Mutant, Executive, KernelMode, FALSE, NULL));
    thread = Start(AwaitMutant, NULL);
    Sleep(1);
    CHECK_NUMBER(-1, KeReleaseMutant(&Mutant, 0, TRUE, FALSE));
    Join(thread);
    CHECK_STATUS(STATUS_ABANDONED_WAIT_0 + 1, Others);
    CHECK_NUMBER(1, KeReadStateMutant(&Mutant));
    CHECK_STATUS(STATUS_SUCCESS, KeWaitForSingleObject(&Mutant, Executive, KernelMode, FALSE, &now));

    KeReleaseMutant(&Mutant, 0, TRUE, FALSE);
    CHECK_STATUS(STATUS_ABANDONED_WAIT_0, KeWaitForSingleObject(&Mutant, Executive, KernelMode, FALSE, &now));
    KeReleaseMutant(&Mutant, 0, TRUE, FALSE);
    CHECK_STATUS(STATUS_ABANDONED_WAIT_0 + 1,
                 KeWaitForMultipleObjects(2, objects, WaitAny, Executive, KernelMode, FALSE, &now, NULL));
    KeReleaseMutant(&Mutant, 0, TRUE, FALSE);
    CHECK_STATUS(STATUS_TIMEOUT, KeWaitForMultipleObjects(2, objects, WaitAll, Executive, KernelMode, FALSE, &now, NULL));
    KeSetEvent(&Never, 0, FALSE);
    CHECK_STATUS(STATUS_ABANDONED_WAIT_0,
                 KeWaitForMultipleObjects(2, objects, WaitAll, Executive, KernelMode, FALSE, &now, NULL));
    CHECK_NUMBER(0, KeReleaseMutant(&Mutant, 0, FALSE, FALSE));
}

static void Mutants(void)
{
    KeInitializeMutant(&Mutant, TRUE);
    CHECK_NUMBER(0, KeReadStateMutant(&Mutant));
    Join(Start(TryMutant, NULL));
    CHECK_STATUS(STATUS_TIMEOUT, Others);
    CHECK_NUMBER(0, KeReleaseMutant(&Mutant, 0, FALSE, FALSE));
    CHECK_NUMBER(1, KeReadStateMutant(&Mutant));
    Join(Start(TryMutant, NULL));
    CHECK_STATUS(STATUS_SUCCESS, Others);
    Abandoned();
}

static ULONG Inside;

static void NTAPI OnDpc(PKDPC Dpc, PVOID Context, PVOID One, PVOID Two)
{
    (void)Dpc, (void)Context, (void)One, (void)Two;
    Inside = KeIsExecutingDpc();
}

static VOID NTAPI Callout(PVOID Parameter)
{
    *(ULONG *)Parameter += 1;
}

static BOOLEAN NTAPI OnNmi(PVOID Context, BOOLEAN Handled)
{
    (void)Context;
    return Handled;
}

static void Rest(void)
{
    KDPC dpc;
    KEVENT event;
    ULONG calls = 0;
    PVOID nmi;

    KeInitializeDpc(&dpc, OnDpc, NULL);
    CHECK(KeInsertQueueDpc(&dpc, NULL, NULL));
    KeFlushQueuedDpcs();
    CHECK(Inside != 0);
    CHECK_NUMBER(0, KeIsExecutingDpc());
    CHECK(!KeIsAttachedProcess());
    KeInitializeEvent(&event, NotificationEvent, FALSE);
    CHECK(KeIsWaitListEmpty(&event));
    CHECK_STATUS(STATUS_SUCCESS, KeExpandKernelStackAndCallout(Callout, &calls, 8192));
    CHECK_NUMBER(1, calls);
    CHECK_STATUS(STATUS_INVALID_PARAMETER_3, KeExpandKernelStackAndCallout(Callout, &calls, 1 << 20));
    CHECK_NUMBER(1, calls);
    CHECK_NUMBER(1, KeQueryActiveGroupCount());
    CHECK_NUMBER(0, KeQueryHighestNodeNumber());
    CHECK(KeQueryGroupAffinity(0) == KeQueryActiveProcessors());
    CHECK(KeQueryGroupAffinity(1) == 0);
    nmi = KeRegisterNmiCallback(OnNmi, NULL);
    CHECK(nmi != NULL);
    CHECK_STATUS(STATUS_SUCCESS, KeDeregisterNmiCallback(nmi));
    CHECK_STATUS(STATUS_INVALID_HANDLE, KeDeregisterNmiCallback(nmi));
}

static void Checks(PUNICODE_STRING RegistryPath)
{
    (void)RegistryPath;
    Queues();
    Busy();
    Mutants();
    Rest();
}
