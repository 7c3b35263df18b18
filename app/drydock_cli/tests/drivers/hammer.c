/*
 * Two threads hammer each primitive at once, and what they did together must add up.
 *
 * The value Rounds under Parameters says how often; each primitive is turned that many times by each thread. Each has a processor of its
 * own, where the host has two.
 */
#define FAMILY "hammer"
#include "check.h"

IMPORT(void, KeSetSystemAffinityThread, KAFFINITY);
IMPORT(LONG, ExTryConvertSharedSpinLockExclusive, PLONG);
IMPORT(KIRQL, ExAcquireSpinLockShared, PLONG);
IMPORT(void, ExReleaseSpinLockShared, PLONG, KIRQL);
IMPORT(KIRQL, ExAcquireSpinLockExclusive, PLONG);
IMPORT(void, ExReleaseSpinLockExclusive, PLONG, KIRQL);
IMPORT(void, KeAcquireInStackQueuedSpinLock, PKSPIN_LOCK, PKLOCK_QUEUE_HANDLE);
IMPORT(void, KeReleaseInStackQueuedSpinLock, PKLOCK_QUEUE_HANDLE);
IMPORT(void, ExAcquirePushLockExclusiveEx, PULONG_PTR, ULONG);
IMPORT(void, ExAcquirePushLockSharedEx, PULONG_PTR, ULONG);
IMPORT(void, ExReleasePushLockEx, PULONG_PTR, ULONG);
IMPORT(PSINGLE_LIST_ENTRY, ExInterlockedPushEntryList, PSINGLE_LIST_ENTRY, PSINGLE_LIST_ENTRY, PKSPIN_LOCK);
IMPORT(PSINGLE_LIST_ENTRY, ExInterlockedPopEntryList, PSINGLE_LIST_ENTRY, PKSPIN_LOCK);

static ULONG Rounds = 1000;

/* Both threads begin a task together. */
typedef struct _TASK {
    void (*Routine)(ULONG Who);
    ULONG Who;
} TASK;

static volatile LONG Ready;

static void NTAPI Run(PVOID Context)
{
    TASK *task = Context;

    CALL(KeSetSystemAffinityThread)((KAFFINITY)1 << task->Who);
    InterlockedIncrement(&Ready);
    while (Ready < 2)
        ZwYieldExecution();
    task->Routine(task->Who);
    PsTerminateSystemThread(STATUS_SUCCESS);
}

static void Together(void (*Routine)(ULONG))
{
    TASK tasks[2] = {{Routine, 0}, {Routine, 1}};
    PKTHREAD threads[2];

    Ready = 0;
    threads[0] = Start(Run, &tasks[0]);
    threads[1] = Start(Run, &tasks[1]);
    CHECK(threads[0] != NULL && threads[1] != NULL);
    Join(threads[0]);
    Join(threads[1]);
}

/* Locks: a counter that two threads would miscount without one. */

static KSPIN_LOCK Spin;
static FAST_MUTEX Fast;
static KMUTEX Mutex;
static KSEMAPHORE Semaphore;
static KEVENT Event;
static ERESOURCE Resource;
static volatile ULONG Counter;

static void Count(void)
{
    ULONG seen = Counter;

    /* Long enough for the other thread to get in between. */
    YieldProcessor();
    Counter = seen + 1;
}

/* A macro, so that a check that fails tells its own line. */
#define COUNT_TOGETHER(Expected, Routine)                                                                              \
    do {                                                                                                               \
        Counter = 0;                                                                                                   \
        Together(Routine);                                                                                             \
        CHECK_NUMBER(Expected, Counter);                                                                               \
    } while (0)

static void WithSpinLock(ULONG Who)
{
    KIRQL old;
    ULONG i;

    for (i = 0; i < Rounds; i++) {
        if (Who == 0) {
            KeAcquireSpinLock(&Spin, &old);
            Count();
            KeReleaseSpinLock(&Spin, old);
        } else {
            KeRaiseIrql(DISPATCH_LEVEL, &old);
            KeAcquireSpinLockAtDpcLevel(&Spin);
            Count();
            KeReleaseSpinLockFromDpcLevel(&Spin);
            KeLowerIrql(old);
        }
    }
}

static void WithFastMutex(ULONG Who)
{
    ULONG i;

    (void)Who;
    for (i = 0; i < Rounds; i++) {
        if (i % 4 != 0 || !ExTryToAcquireFastMutex(&Fast))
            ExAcquireFastMutex(&Fast);
        Count();
        ExReleaseFastMutex(&Fast);
    }
}

static void WithMutex(ULONG Who)
{
    ULONG i;

    (void)Who;
    for (i = 0; i < Rounds; i++) {
        KeWaitForSingleObject(&Mutex, Executive, KernelMode, FALSE, NULL);
        Count();
        KeReleaseMutex(&Mutex, FALSE);
    }
}

static void WithSemaphore(ULONG Who)
{
    ULONG i;

    (void)Who;
    for (i = 0; i < Rounds; i++) {
        KeWaitForSingleObject(&Semaphore, Executive, KernelMode, FALSE, NULL);
        Count();
        KeReleaseSemaphore(&Semaphore, IO_NO_INCREMENT, 1, FALSE);
    }
}

static void WithEvent(ULONG Who)
{
    ULONG i;

    (void)Who;
    for (i = 0; i < Rounds; i++) {
        KeWaitForSingleObject(&Event, Executive, KernelMode, FALSE, NULL);
        Count();
        KeSetEvent(&Event, IO_NO_INCREMENT, FALSE);
    }
}

static volatile ULONG Twins[2];
static volatile LONG Torn;

/* One writes two words under the lock, both read them. */
static void WithResource(ULONG Who)
{
    ULONG i;

    for (i = 0; i < Rounds; i++) {
        KeEnterCriticalRegion();
        if (Who == 0 || i % 8 == 0) {
            ExAcquireResourceExclusiveLite(&Resource, TRUE);
            Count();
            Twins[0]++;
            YieldProcessor();
            Twins[1]++;
            ExConvertExclusiveToSharedLite(&Resource);
        } else {
            ExAcquireResourceSharedLite(&Resource, TRUE);
        }
        if (Twins[0] != Twins[1])
            InterlockedIncrement(&Torn);
        ExReleaseResourceLite(&Resource);
        KeLeaveCriticalRegion();
    }
}

static void WithQueuedSpinLock(ULONG Who)
{
    KLOCK_QUEUE_HANDLE handle;
    ULONG i;

    (void)Who;
    for (i = 0; i < Rounds; i++) {
        CALL(KeAcquireInStackQueuedSpinLock)(&Spin, &handle);
        Count();
        CALL(KeReleaseInStackQueuedSpinLock)(&handle);
    }
}

static KGUARDED_MUTEX Guarded;

static void WithGuardedMutex(ULONG Who)
{
    ULONG i;

    (void)Who;
    for (i = 0; i < Rounds; i++) {
        if (i % 4 != 0 || !KeTryToAcquireGuardedMutex(&Guarded))
            KeAcquireGuardedMutex(&Guarded);
        Count();
        KeReleaseGuardedMutex(&Guarded);
    }
}

/* As with the resource: who writes changes two words, who reads must see them alike. */
static void Write(void)
{
    Count();
    Twins[0]++;
    YieldProcessor();
    Twins[1]++;
}

static void Read(void)
{
    if (Twins[0] != Twins[1])
        InterlockedIncrement(&Torn);
}

static LONG ReaderWriter;
static ULONG_PTR Push;

static void WithReaderWriterSpinLock(ULONG Who)
{
    ULONG i;

    for (i = 0; i < Rounds; i++) {
        KIRQL old;

        if (Who == 0 || i % 8 == 0) {
            old = CALL(ExAcquireSpinLockExclusive)(&ReaderWriter);
            Write();
            CALL(ExReleaseSpinLockExclusive)(&ReaderWriter, old);
            continue;
        }
        old = CALL(ExAcquireSpinLockShared)(&ReaderWriter);
        Read();
        if (i % 8 == 1 && CALL(ExTryConvertSharedSpinLockExclusive)(&ReaderWriter)) {
            Twins[0]++;
            Twins[1]++;
            CALL(ExReleaseSpinLockExclusive)(&ReaderWriter, old);
        } else {
            CALL(ExReleaseSpinLockShared)(&ReaderWriter, old);
        }
    }
}

static void WithPushLock(ULONG Who)
{
    ULONG i;

    for (i = 0; i < Rounds; i++) {
        KeEnterCriticalRegion();
        if (Who == 0 || i % 8 == 0) {
            CALL(ExAcquirePushLockExclusiveEx)(&Push, 0);
            Write();
        } else {
            CALL(ExAcquirePushLockSharedEx)(&Push, 0);
            Read();
        }
        CALL(ExReleasePushLockEx)(&Push, 0);
        KeLeaveCriticalRegion();
    }
}

static void Locks(void)
{
    KeInitializeGuardedMutex(&Guarded);
    KeInitializeSpinLock(&Spin);
    ExInitializeFastMutex(&Fast);
    KeInitializeMutex(&Mutex, 0);
    KeInitializeSemaphore(&Semaphore, 1, 1);
    KeInitializeEvent(&Event, SynchronizationEvent, TRUE);
    ExInitializeResourceLite(&Resource);
    COUNT_TOGETHER(2 * Rounds, WithSpinLock);
    COUNT_TOGETHER(2 * Rounds, WithFastMutex);
    COUNT_TOGETHER(2 * Rounds, WithMutex);
    COUNT_TOGETHER(2 * Rounds, WithSemaphore);
    COUNT_TOGETHER(2 * Rounds, WithEvent);
    COUNT_TOGETHER(Rounds + (Rounds + 7) / 8, WithResource);
    COUNT_TOGETHER(2 * Rounds, WithQueuedSpinLock);
    COUNT_TOGETHER(2 * Rounds, WithGuardedMutex);
    COUNT_TOGETHER(Rounds + (Rounds + 7) / 8, WithReaderWriterSpinLock);
    COUNT_TOGETHER(Rounds + (Rounds + 7) / 8, WithPushLock);
    CHECK_NUMBER(0, Torn);
    CHECK(ReaderWriter == 0 && Push == 0);
    ExDeleteResourceLite(&Resource);
}

/* Signals: one thread's every signal is the other's turn. */

static KEVENT Turns[2];

static void PingPong(ULONG Who)
{
    ULONG i;

    for (i = 0; i < Rounds; i++) {
        KeWaitForSingleObject(&Turns[Who], Executive, KernelMode, FALSE, NULL);
        Count();
        KeSetEvent(&Turns[1 - Who], IO_NO_INCREMENT, FALSE);
    }
}

/* Notification events: each thread clears its own before it lets the other on. */
static void PingPongWithNotifications(ULONG Who)
{
    ULONG i;

    for (i = 0; i < Rounds; i++) {
        KeWaitForSingleObject(&Turns[Who], Executive, KernelMode, FALSE, NULL);
        KeClearEvent(&Turns[Who]);
        Count();
        KeSetEvent(&Turns[1 - Who], IO_NO_INCREMENT, FALSE);
    }
}

/* Wait for any of both: whoever gets a turn gives it back by the other event. */
static void WithAny(ULONG Who)
{
    PVOID objects[] = {&Turns[Who], &Turns[1 - Who]};
    ULONG i;

    for (i = 0; i < Rounds; i++) {
        NTSTATUS status = KeWaitForMultipleObjects(2, objects, WaitAny, Executive, KernelMode, FALSE, NULL, NULL);

        Count();
        KeSetEvent(objects[status == STATUS_WAIT_0], IO_NO_INCREMENT, FALSE);
    }
}

static KSEMAPHORE Filled, Empty;

static void ProduceOrConsume(ULONG Who)
{
    ULONG i;

    for (i = 0; i < Rounds; i++) {
        KeWaitForSingleObject(Who == 0 ? &Empty : &Filled, Executive, KernelMode, FALSE, NULL);
        KeReleaseSemaphore(Who == 0 ? &Filled : &Empty, IO_NO_INCREMENT, 1, FALSE);
    }
}

static void Signals(void)
{
    KeInitializeEvent(&Turns[0], SynchronizationEvent, TRUE);
    KeInitializeEvent(&Turns[1], SynchronizationEvent, FALSE);
    Counter = 0;
    Together(PingPong);
    CHECK_NUMBER(2 * Rounds, Counter);
    CHECK(KeReadStateEvent(&Turns[0]) != 0 && KeReadStateEvent(&Turns[1]) == 0);
    KeInitializeEvent(&Turns[0], NotificationEvent, TRUE);
    KeInitializeEvent(&Turns[1], NotificationEvent, FALSE);
    COUNT_TOGETHER(2 * Rounds, PingPongWithNotifications);
    KeInitializeEvent(&Turns[0], SynchronizationEvent, TRUE);
    KeInitializeEvent(&Turns[1], SynchronizationEvent, FALSE);
    COUNT_TOGETHER(2 * Rounds, WithAny);
    KeInitializeSemaphore(&Filled, 0, 4);
    KeInitializeSemaphore(&Empty, 4, 4);
    Together(ProduceOrConsume);
    CHECK_NUMBER(0, KeReadStateSemaphore(&Filled));
    CHECK_NUMBER(4, KeReadStateSemaphore(&Empty));
}

/* Lists: an entry that is off the list belongs to one thread. */

#define NODES 8

typedef struct _NODE {
    DECLSPEC_ALIGN(16) SLIST_ENTRY Single;
    LIST_ENTRY Double;
    SINGLE_LIST_ENTRY Locked;
    volatile LONG Held;
} NODE;

static NODE Nodes[NODES];
static DECLSPEC_ALIGN(16) SLIST_HEADER Singles;
static LIST_ENTRY Doubles;
static volatile LONG HeldTwice;

static void Hold(NODE *Node)
{
    if (InterlockedIncrement(&Node->Held) != 1)
        InterlockedIncrement(&HeldTwice);
    YieldProcessor();
    InterlockedDecrement(&Node->Held);
}

static void WithSList(ULONG Who)
{
    ULONG i;

    (void)Who;
    for (i = 0; i < Rounds; i++) {
        PSLIST_ENTRY one = InterlockedPopEntrySList(&Singles), two = InterlockedPopEntrySList(&Singles);

        if (one != NULL) {
            Hold(CONTAINING_RECORD(one, NODE, Single));
            InterlockedPushEntrySList(&Singles, one);
        }
        if (two != NULL) {
            Hold(CONTAINING_RECORD(two, NODE, Single));
            InterlockedPushEntrySList(&Singles, two);
        }
    }
}

static void WithList(ULONG Who)
{
    ULONG i;

    for (i = 0; i < Rounds; i++) {
        PLIST_ENTRY entry = ExInterlockedRemoveHeadList(&Doubles, &Spin);

        if (entry == NULL)
            continue;
        Hold(CONTAINING_RECORD(entry, NODE, Double));
        if (Who == 0)
            ExInterlockedInsertTailList(&Doubles, entry, &Spin);
        else
            ExInterlockedInsertHeadList(&Doubles, entry, &Spin);
    }
}

static SINGLE_LIST_ENTRY LockedSingles;

static void WithSingleList(ULONG Who)
{
    ULONG i;

    (void)Who;
    for (i = 0; i < Rounds; i++) {
        PSINGLE_LIST_ENTRY entry = CALL(ExInterlockedPopEntryList)(&LockedSingles, &Spin);

        if (entry == NULL)
            continue;
        Hold(CONTAINING_RECORD(entry, NODE, Locked));
        CALL(ExInterlockedPushEntryList)(&LockedSingles, entry, &Spin);
    }
}

static void Lists(void)
{
    ULONG i, count = 0;

    ExInitializeSListHead(&Singles);
    InitializeListHead(&Doubles);
    for (i = 0; i < NODES; i++) {
        InterlockedPushEntrySList(&Singles, &Nodes[i].Single);
        InsertTailList(&Doubles, &Nodes[i].Double);
        CALL(ExInterlockedPushEntryList)(&LockedSingles, &Nodes[i].Locked, &Spin);
    }
    Together(WithSList);
    CHECK_NUMBER(NODES, ExQueryDepthSList(&Singles));
    Together(WithList);
    while (ExInterlockedRemoveHeadList(&Doubles, &Spin) != NULL)
        count++;
    CHECK_NUMBER(NODES, count);
    Together(WithSingleList);
    for (count = 0; CALL(ExInterlockedPopEntryList)(&LockedSingles, &Spin) != NULL; count++)
        ;
    CHECK_NUMBER(NODES, count);
    CHECK_NUMBER(0, HeldTwice);
}

/* Memory: what one thread wrote to its block is there when it frees it. */

static NPAGED_LOOKASIDE_LIST Lookaside;
static volatile LONG Overwritten;

static BOOLEAN IsFilled(PUCHAR Block, ULONG Bytes, UCHAR With)
{
    while (Bytes > 0 && Block[Bytes - 1] == With)
        Bytes--;
    return Bytes == 0;
}

static void WithMemory(ULONG Who)
{
    UCHAR mark = (UCHAR)(0xA0 + Who);
    ULONG i;

    for (i = 0; i < Rounds; i++) {
        ULONG bytes = 16 + i * 37 % 600;
        PUCHAR block = ExAllocatePoolWithTag(NonPagedPool, bytes, TEST_TAG);
        PUCHAR entry = ExAllocateFromNPagedLookasideList(&Lookaside);

        if (block == NULL || entry == NULL) {
            InterlockedIncrement(&Overwritten);
            return;
        }
        RtlFillMemory(block, bytes, mark);
        RtlFillMemory(entry, 64, mark);
        YieldProcessor();
        if (!IsFilled(block, bytes, mark) || !IsFilled(entry, 64, mark))
            InterlockedIncrement(&Overwritten);
        ExFreePoolWithTag(block, TEST_TAG);
        ExFreeToNPagedLookasideList(&Lookaside, entry);
    }
}

static void Memory(void)
{
    ExInitializeNPagedLookasideList(&Lookaside, NULL, NULL, 0, 64, TEST_TAG, 0);
    Together(WithMemory);
    ExDeleteNPagedLookasideList(&Lookaside);
    CHECK_NUMBER(0, Overwritten);
}

/* Timers, DPCs and work items: each that was taken in runs once. */

static KTIMER Timer;
static KDPC TimerDpc, Dpc;
static volatile LONG Queued, Ran;

static void NTAPI OnDpc(PKDPC This, PVOID Context, PVOID One, PVOID Two)
{
    (void)This, (void)Context, (void)One, (void)Two;
    InterlockedIncrement(&Ran);
}

static void WithDpc(ULONG Who)
{
    ULONG i;

    for (i = 0; i < Rounds; i++) {
        if (KeInsertQueueDpc(&Dpc, NULL, NULL))
            InterlockedIncrement(&Queued);
        if (Who == 1 && KeRemoveQueueDpc(&Dpc))
            InterlockedDecrement(&Queued);
    }
}

static volatile LONG Set, Ended;

/* One sets the timer, which replaces one that is set; the other cancels it. */
static void WithTimer(ULONG Who)
{
    LARGE_INTEGER soon = {.QuadPart = -10};
    ULONG i;

    for (i = 0; i < Rounds; i++) {
        if (Who == 0) {
            InterlockedIncrement(&Set);
            if (KeSetTimer(&Timer, soon, &TimerDpc))
                InterlockedIncrement(&Ended);
        } else if (KeCancelTimer(&Timer)) {
            InterlockedIncrement(&Ended);
        }
    }
}

typedef struct _WORK {
    WORK_QUEUE_ITEM Item;
    KEVENT Done;
} WORK;

static void NTAPI OnWork(PVOID Context)
{
    WORK *work = Context;

    InterlockedIncrement(&Ran);
    KeSetEvent(&work->Done, IO_NO_INCREMENT, FALSE);
}

static void WithWork(ULONG Who)
{
    WORK work;
    ULONG i;

    KeInitializeEvent(&work.Done, SynchronizationEvent, FALSE);
    for (i = 0; i < Rounds; i++) {
        ExInitializeWorkItem(&work.Item, OnWork, &work);
        ExQueueWorkItem(&work.Item, Who == 0 ? DelayedWorkQueue : CriticalWorkQueue);
        KeWaitForSingleObject(&work.Done, Executive, KernelMode, FALSE, NULL);
    }
}

static void Calls(void)
{
    LARGE_INTEGER moment = Milliseconds(20);

    KeInitializeDpc(&Dpc, OnDpc, NULL);
    KeInitializeDpc(&TimerDpc, OnDpc, NULL);
    KeInitializeTimer(&Timer);
    Together(WithDpc);
    KeFlushQueuedDpcs();
    CHECK_NUMBER(Queued, Ran);
    Ran = 0;
    Together(WithTimer);
    KeDelayExecutionThread(KernelMode, FALSE, &moment);
    if (KeCancelTimer(&Timer))
        InterlockedIncrement(&Ended);
    KeFlushQueuedDpcs();
    /* A DPC that is queued still when its timer expires again is not queued twice. */
    CHECK(Ran <= Set - Ended && Set == (LONG)Rounds);
    Ran = 0;
    Together(WithWork);
    CHECK_NUMBER(2 * Rounds, Ran);
}

/* Protection that ends: nobody is inside once it has been waited for, and nobody gets in then. */

static EX_RUNDOWN_REF Rundown;
static IO_REMOVE_LOCK RemoveLock;
static volatile LONG Inside, InsideTooLate, Over;

/* One uses what it protects until that is over; the other waits for its end, and lets it begin again. */
static void WithRundown(ULONG Who)
{
    ULONG i;

    for (i = 0; i < Rounds; i++) {
        if (Who == 0) {
            if (!ExAcquireRundownProtection(&Rundown))
                continue;
            InterlockedIncrement(&Inside);
            YieldProcessor();
            if (Over)
                InterlockedIncrement(&InsideTooLate);
            InterlockedDecrement(&Inside);
            ExReleaseRundownProtection(&Rundown);
        } else {
            ExWaitForRundownProtectionRelease(&Rundown);
            Over = TRUE;
            if (Inside != 0)
                InterlockedIncrement(&InsideTooLate);
            Over = FALSE;
            ExReInitializeRundownProtection(&Rundown);
        }
    }
}

static void WithRemoveLock(ULONG Who)
{
    ULONG i;

    if (Who == 0) {
        for (i = 0; NT_SUCCESS(IoAcquireRemoveLock(&RemoveLock, &RemoveLock)); i++) {
            InterlockedIncrement(&Inside);
            YieldProcessor();
            if (Over)
                InterlockedIncrement(&InsideTooLate);
            InterlockedDecrement(&Inside);
            IoReleaseRemoveLock(&RemoveLock, &RemoveLock);
        }
    } else {
        for (i = 0; i < Rounds; i++) {
            IoAcquireRemoveLock(&RemoveLock, &Nodes);
            IoReleaseRemoveLock(&RemoveLock, &Nodes);
        }
        IoAcquireRemoveLock(&RemoveLock, &Nodes);
        IoReleaseRemoveLockAndWait(&RemoveLock, &Nodes);
        Over = TRUE;
        if (Inside != 0)
            InterlockedIncrement(&InsideTooLate);
    }
}

static void Protections(void)
{
    ExInitializeRundownProtection(&Rundown);
    Together(WithRundown);
    IoInitializeRemoveLock(&RemoveLock, TEST_TAG, 0, 0);
    Together(WithRemoveLock);
    CHECK(Over && Inside == 0);
    CHECK_NUMBER(0, InsideTooLate);
}

/* A cancel-safe queue: each packet is ended once, by whoever takes it off or by its cancellation. */

static LIST_ENTRY Packets;
static KSPIN_LOCK PacketsLock;
static IO_CSQ Csq;
static PDEVICE_OBJECT Device;
static volatile LONG Completed, Finished;

static void Finish(PIRP Irp, NTSTATUS Status)
{
    InterlockedIncrement(&Finished);
    Irp->IoStatus.Status = Status;
    Irp->IoStatus.Information = 0;
    IoCompleteRequest(Irp, IO_NO_INCREMENT);
}

static void NTAPI CsqInsert(PIO_CSQ Queue, PIRP Irp)
{
    (void)Queue;
    InsertTailList(&Packets, &Irp->Tail.Overlay.ListEntry);
}

static void NTAPI CsqRemove(PIO_CSQ Queue, PIRP Irp)
{
    (void)Queue;
    RemoveEntryList(&Irp->Tail.Overlay.ListEntry);
}

static PIRP NTAPI CsqPeek(PIO_CSQ Queue, PIRP Irp, PVOID Context)
{
    PLIST_ENTRY next = Irp == NULL ? Packets.Flink : Irp->Tail.Overlay.ListEntry.Flink;

    (void)Queue, (void)Context;
    return next == &Packets ? NULL : CONTAINING_RECORD(next, IRP, Tail.Overlay.ListEntry);
}

static void NTAPI CsqAcquire(PIO_CSQ Queue, PKIRQL Irql)
{
    (void)Queue;
    KeAcquireSpinLock(&PacketsLock, Irql);
}

static void NTAPI CsqRelease(PIO_CSQ Queue, KIRQL Irql)
{
    (void)Queue;
    KeReleaseSpinLock(&PacketsLock, Irql);
}

static void NTAPI CsqCancelled(PIO_CSQ Queue, PIRP Irp)
{
    (void)Queue;
    Finish(Irp, STATUS_CANCELLED);
}

static NTSTATUS NTAPI Enqueue(PDEVICE_OBJECT Of, PIRP Irp)
{
    (void)Of;
    IoCsqInsertIrp(&Csq, Irp, NULL);
    return STATUS_PENDING;
}

static NTSTATUS NTAPI OnCompletion(PDEVICE_OBJECT Of, PIRP Irp, PVOID Done)
{
    (void)Of, (void)Irp;
    InterlockedIncrement(&Completed);
    KeSetEvent(Done, IO_NO_INCREMENT, FALSE);
    return STATUS_MORE_PROCESSING_REQUIRED;
}

/* One sends and cancels, the other takes off and ends what it finds. */
static void WithCancelSafeQueue(ULONG Who)
{
    KEVENT done;
    ULONG i;

    KeInitializeEvent(&done, SynchronizationEvent, FALSE);
    for (i = 0; Who == 0 && i < Rounds; i++) {
        PIRP irp = IoAllocateIrp(1, FALSE);

        IoGetNextIrpStackLocation(irp)->MajorFunction = IRP_MJ_READ;
        IoSetCompletionRoutine(irp, OnCompletion, &done, TRUE, TRUE, TRUE);
        IoCallDriver(Device, irp);
        if (i % 2 == 0)
            IoCancelIrp(irp);
        KeWaitForSingleObject(&done, Executive, KernelMode, FALSE, NULL);
        IoFreeIrp(irp);
    }
    while (Who == 1 && Completed < (LONG)Rounds) {
        PIRP irp = IoCsqRemoveNextIrp(&Csq, NULL);

        if (irp != NULL)
            Finish(irp, STATUS_SUCCESS);
        else
            ZwYieldExecution();
    }
}

static void CancelSafeQueue(void)
{
    InitializeListHead(&Packets);
    KeInitializeSpinLock(&PacketsLock);
    IoCsqInitialize(&Csq, CsqInsert, CsqRemove, CsqPeek, CsqAcquire, CsqRelease, CsqCancelled);
    Self->MajorFunction[IRP_MJ_READ] = Enqueue;
    CHECK_STATUS(STATUS_SUCCESS, IoCreateDevice(Self, 0, NULL, FILE_DEVICE_UNKNOWN, 0, FALSE, &Device));
    Together(WithCancelSafeQueue);
    CHECK(Completed == (LONG)Rounds && Finished == (LONG)Rounds && IsListEmpty(&Packets));
    IoDeleteDevice(Device);
}

/* Handles and the registry: a thread's own stay its own. */

static HANDLE Key;
static volatile LONG Wrong;

static void WithHandles(ULONG Who)
{
    UNICODE_STRING names[2] = {RTL_CONSTANT_STRING(L"One"), RTL_CONSTANT_STRING(L"Two")};
    UCHAR buffer[32];
    KEY_VALUE_PARTIAL_INFORMATION *value = (PVOID)buffer;
    ULONG i, length;

    for (i = 0; i < Rounds; i++) {
        OBJECT_ATTRIBUTES attributes;
        HANDLE handle = NULL;
        PVOID object = NULL;

        InitializeObjectAttributes(&attributes, NULL, OBJ_KERNEL_HANDLE, NULL, NULL);
        if (!NT_SUCCESS(ZwCreateEvent(&handle, EVENT_ALL_ACCESS, &attributes, NotificationEvent, Who != 0)) ||
            !NT_SUCCESS(ObReferenceObjectByHandle(handle, 0, *ExEventObjectType, KernelMode, &object, NULL)) ||
            (KeReadStateEvent(object) != 0) != (Who != 0) || !NT_SUCCESS(ZwClose(handle)))
            InterlockedIncrement(&Wrong);
        if (object != NULL)
            ObDereferenceObject(object);
        if (!NT_SUCCESS(ZwSetValueKey(Key, &names[Who], 0, REG_DWORD, &i, sizeof(i))) ||
            !NT_SUCCESS(ZwQueryValueKey(Key, &names[Who], KeyValuePartialInformation, buffer, sizeof(buffer), &length)) ||
            *(PULONG)value->Data != i)
            InterlockedIncrement(&Wrong);
    }
}

static void Checks(PUNICODE_STRING RegistryPath)
{
    WCHAR room[128];
    UNICODE_STRING path = {0, sizeof(room), room};
    OBJECT_ATTRIBUTES attributes;
    RTL_QUERY_REGISTRY_TABLE table[] = {
        {NULL, RTL_QUERY_REGISTRY_DIRECT, L"Rounds", &Rounds, REG_NONE, NULL, 0},
        {NULL, 0, NULL, NULL, 0, NULL, 0},
    };

    RtlCopyUnicodeString(&path, RegistryPath);
    RtlAppendUnicodeToString(&path, L"\\Parameters");
    RtlQueryRegistryValues(RTL_REGISTRY_ABSOLUTE, path.Buffer, table, NULL, NULL);
    InitializeObjectAttributes(&attributes, &path, OBJ_CASE_INSENSITIVE | OBJ_KERNEL_HANDLE, NULL, NULL);
    CHECK_STATUS(STATUS_SUCCESS, ZwOpenKey(&Key, KEY_ALL_ACCESS, &attributes));
    Locks();
    Signals();
    Lists();
    Memory();
    Calls();
    Protections();
    CancelSafeQueue();
    Together(WithHandles);
    CHECK_NUMBER(0, Wrong);
    ZwClose(Key);
}
