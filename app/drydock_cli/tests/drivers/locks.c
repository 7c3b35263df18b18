/* Locks: spin, queued and reader-writer spin locks, push locks, mutexes, regions, resources, rundown (K-120, K-121, K-142, K-145). */
#define FAMILY "locks"
#include "check.h"

IMPORT(void, KeAcquireSpinLock, PKSPIN_LOCK, PKIRQL);
IMPORT(KIRQL, KfAcquireSpinLock, PKSPIN_LOCK);
IMPORT(void, KfReleaseSpinLock, PKSPIN_LOCK, KIRQL);
IMPORT(void, KefAcquireSpinLockAtDpcLevel, PKSPIN_LOCK);
IMPORT(void, KefReleaseSpinLockFromDpcLevel, PKSPIN_LOCK);
IMPORT(BOOLEAN, KeTryToAcquireSpinLockAtDpcLevel, PKSPIN_LOCK);
IMPORT(BOOLEAN, KeTestSpinLock, PKSPIN_LOCK);
IMPORT(KIRQL, KeAcquireSpinLockForDpc, PKSPIN_LOCK);
IMPORT(void, KeReleaseSpinLockForDpc, PKSPIN_LOCK, KIRQL);
IMPORT(void, KeAcquireInStackQueuedSpinLock, PKSPIN_LOCK, PKLOCK_QUEUE_HANDLE);
IMPORT(void, KeReleaseInStackQueuedSpinLock, PKLOCK_QUEUE_HANDLE);
IMPORT(void, KeAcquireInStackQueuedSpinLockForDpc, PKSPIN_LOCK, PKLOCK_QUEUE_HANDLE);
IMPORT(void, KeReleaseInStackQueuedSpinLockForDpc, PKLOCK_QUEUE_HANDLE);
IMPORT(void, KeAcquireInStackQueuedSpinLockAtDpcLevel, PKSPIN_LOCK, PKLOCK_QUEUE_HANDLE);
IMPORT(void, KeReleaseInStackQueuedSpinLockFromDpcLevel, PKLOCK_QUEUE_HANDLE);
IMPORT(KIRQL, ExAcquireSpinLockShared, PLONG);
IMPORT(void, ExReleaseSpinLockShared, PLONG, KIRQL);
IMPORT(void, ExAcquireSpinLockSharedAtDpcLevel, PLONG);
IMPORT(void, ExReleaseSpinLockSharedFromDpcLevel, PLONG);
IMPORT(KIRQL, ExAcquireSpinLockExclusive, PLONG);
IMPORT(void, ExReleaseSpinLockExclusive, PLONG, KIRQL);
IMPORT(void, ExAcquireSpinLockExclusiveAtDpcLevel, PLONG);
IMPORT(void, ExReleaseSpinLockExclusiveFromDpcLevel, PLONG);
IMPORT(LONG, ExTryConvertSharedSpinLockExclusive, PLONG);
IMPORT(KIRQL, KeGetCurrentIrql, void);
IMPORT(KIRQL, KfRaiseIrql, KIRQL);
IMPORT(void, KfLowerIrql, KIRQL);
IMPORT(void, KeRaiseIrql, KIRQL, PKIRQL);
IMPORT(KIRQL, KeRaiseIrqlToDpcLevel, void);
IMPORT(void, KeLowerIrql, KIRQL);
IMPORT(void, FsRtlEnterFileSystem, void);
IMPORT(void, FsRtlExitFileSystem, void);
IMPORT(void, KeEnterGuardedRegion, void);
IMPORT(void, KeLeaveGuardedRegion, void);
IMPORT(BOOLEAN, KeAreApcsDisabled, void);
IMPORT(BOOLEAN, KeAreAllApcsDisabled, void);
IMPORT(void, ExAcquireFastMutexUnsafe, PFAST_MUTEX);
IMPORT(void, ExReleaseFastMutexUnsafe, PFAST_MUTEX);
IMPORT(void, ExEnterCriticalRegionAndAcquireFastMutexUnsafe, PFAST_MUTEX);
IMPORT(void, ExReleaseFastMutexUnsafeAndLeaveCriticalRegion, PFAST_MUTEX);
IMPORT(void, KeInitializeGuardedMutex, PKGUARDED_MUTEX);
IMPORT(void, KeAcquireGuardedMutex, PKGUARDED_MUTEX);
IMPORT(void, KeReleaseGuardedMutex, PKGUARDED_MUTEX);
IMPORT(BOOLEAN, KeTryToAcquireGuardedMutex, PKGUARDED_MUTEX);
IMPORT(void, KeAcquireGuardedMutexUnsafe, PKGUARDED_MUTEX);
IMPORT(void, KeReleaseGuardedMutexUnsafe, PKGUARDED_MUTEX);
IMPORT(NTSTATUS, ExReinitializeResourceLite, PERESOURCE);
IMPORT(BOOLEAN, ExAcquireSharedWaitForExclusive, PERESOURCE, BOOLEAN);
IMPORT(PVOID, ExEnterCriticalRegionAndAcquireResourceExclusive, PERESOURCE);
IMPORT(PVOID, ExEnterCriticalRegionAndAcquireResourceShared, PERESOURCE);
IMPORT(void, ExReleaseResourceAndLeaveCriticalRegion, PERESOURCE);
IMPORT(void, ExReleaseResourceForThreadLite, PERESOURCE, ERESOURCE_THREAD);
IMPORT(ULONG, ExGetSharedWaiterCount, PERESOURCE);
IMPORT(void, ExInitializePushLock, PULONG_PTR);
IMPORT(void, ExAcquirePushLockExclusiveEx, PULONG_PTR, ULONG);
IMPORT(void, ExAcquirePushLockSharedEx, PULONG_PTR, ULONG);
IMPORT(void, ExReleasePushLockExclusiveEx, PULONG_PTR, ULONG);
IMPORT(void, ExReleasePushLockSharedEx, PULONG_PTR, ULONG);
IMPORT(void, ExReleasePushLockEx, PULONG_PTR, ULONG);
IMPORT(void, ExfAcquirePushLockExclusive, PULONG_PTR);
IMPORT(void, ExfAcquirePushLockShared, PULONG_PTR);
IMPORT(void, ExfReleasePushLock, PULONG_PTR);
IMPORT(void, ExfReleasePushLockExclusive, PULONG_PTR);
IMPORT(void, ExfReleasePushLockShared, PULONG_PTR);
IMPORT(void, ExInitializeRundownProtection, PEX_RUNDOWN_REF);
IMPORT(void, ExReInitializeRundownProtection, PEX_RUNDOWN_REF);
IMPORT(BOOLEAN, ExAcquireRundownProtection, PEX_RUNDOWN_REF);
IMPORT(BOOLEAN, ExAcquireRundownProtectionEx, PEX_RUNDOWN_REF, ULONG);
IMPORT(void, ExReleaseRundownProtection, PEX_RUNDOWN_REF);
IMPORT(void, ExReleaseRundownProtectionEx, PEX_RUNDOWN_REF, ULONG);
IMPORT(void, ExWaitForRundownProtectionRelease, PEX_RUNDOWN_REF);
IMPORT(void, ExRundownCompleted, PEX_RUNDOWN_REF);

#define IRQL() CALL(KeGetCurrentIrql)()

/* What another thread does to a lock that this one may hold, and whether it has got through. */
typedef struct _OTHER {
    void (*Routine)(void);
    KEVENT Entered;
    KEVENT Through;
    PKTHREAD Thread;
} OTHER;

static void NTAPI RunOther(PVOID Context)
{
    OTHER *other = Context;

    KeSetEvent(&other->Entered, IO_NO_INCREMENT, FALSE);
    other->Routine();
    KeSetEvent(&other->Through, IO_NO_INCREMENT, FALSE);
    PsTerminateSystemThread(STATUS_SUCCESS);
}

static void StartOther(OTHER *Other, void (*Routine)(void))
{
    Other->Routine = Routine;
    KeInitializeEvent(&Other->Entered, NotificationEvent, FALSE);
    KeInitializeEvent(&Other->Through, NotificationEvent, FALSE);
    Other->Thread = Start(RunOther, Other);
    KeWaitForSingleObject(&Other->Entered, Executive, KernelMode, FALSE, NULL);
}

static BOOLEAN GetsThroughWithin(OTHER *Other, ULONG Time)
{
    LARGE_INTEGER time = Milliseconds(Time);

    return KeWaitForSingleObject(&Other->Through, Executive, KernelMode, FALSE, &time) == STATUS_SUCCESS;
}

/* Whether the other is still held up after a moment: one that a lock holds up is so after any time. */
static BOOLEAN IsHeldUp(OTHER *Other)
{
    return !GetsThroughWithin(Other, 20);
}

/* Whether another thread gets through by itself. */
static BOOLEAN GetsThrough(void (*Routine)(void))
{
    OTHER other;

    StartOther(&other, Routine);
    Join(other.Thread);
    return KeReadStateEvent(&other.Through) != 0;
}

static void Levels(void)
{
    KIRQL old = 77;

    CHECK_NUMBER(PASSIVE_LEVEL, IRQL());
    CHECK_NUMBER(PASSIVE_LEVEL, CALL(KfRaiseIrql)(APC_LEVEL));
    CHECK_NUMBER(APC_LEVEL, IRQL());
    CALL(KeRaiseIrql)(DISPATCH_LEVEL, &old);
    CHECK(old == APC_LEVEL && IRQL() == DISPATCH_LEVEL);
    CHECK_NUMBER(DISPATCH_LEVEL, CALL(KeRaiseIrqlToDpcLevel)());
    CALL(KfLowerIrql)(APC_LEVEL);
    CHECK_NUMBER(APC_LEVEL, IRQL());
    CHECK_NUMBER(APC_LEVEL, CALL(KeRaiseIrqlToDpcLevel)());
    CALL(KeLowerIrql)(PASSIVE_LEVEL);
    CHECK_NUMBER(PASSIVE_LEVEL, IRQL());
}

static void Regions(void)
{
    CHECK(!CALL(KeAreApcsDisabled)() && !CALL(KeAreAllApcsDisabled)());
    CALL(FsRtlEnterFileSystem)();
    CHECK(CALL(KeAreApcsDisabled)());
    CALL(KeEnterGuardedRegion)();
    CHECK(CALL(KeAreApcsDisabled)() && CALL(KeAreAllApcsDisabled)());
    CALL(KeLeaveGuardedRegion)();
    CHECK(CALL(KeAreApcsDisabled)());
    CALL(FsRtlExitFileSystem)();
    CHECK(!CALL(KeAreApcsDisabled)() && !CALL(KeAreAllApcsDisabled)());
}

static void SpinLocks(void)
{
    KSPIN_LOCK spin;
    KIRQL old = 77;

    KeInitializeSpinLock(&spin);
    CHECK(CALL(KeTestSpinLock)(&spin));
    CALL(KeAcquireSpinLock)(&spin, &old);
    CHECK(old == PASSIVE_LEVEL && IRQL() == DISPATCH_LEVEL && !CALL(KeTestSpinLock)(&spin));
    CHECK(!CALL(KeTryToAcquireSpinLockAtDpcLevel)(&spin));
    CALL(KfReleaseSpinLock)(&spin, old);
    CHECK(IRQL() == PASSIVE_LEVEL && CALL(KeTestSpinLock)(&spin));
    CHECK_NUMBER(PASSIVE_LEVEL, CALL(KfAcquireSpinLock)(&spin));
    CHECK(IRQL() == DISPATCH_LEVEL);
    CALL(KefReleaseSpinLockFromDpcLevel)(&spin);
    CHECK(IRQL() == DISPATCH_LEVEL && CALL(KeTryToAcquireSpinLockAtDpcLevel)(&spin));
    CHECK(!CALL(KeTestSpinLock)(&spin));
    CALL(KefReleaseSpinLockFromDpcLevel)(&spin);
    CALL(KefAcquireSpinLockAtDpcLevel)(&spin);
    CHECK(!CALL(KeTestSpinLock)(&spin));
    CALL(KfReleaseSpinLock)(&spin, PASSIVE_LEVEL);
    old = CALL(KeAcquireSpinLockForDpc)(&spin);
    CHECK(old == PASSIVE_LEVEL && IRQL() == DISPATCH_LEVEL && !CALL(KeTestSpinLock)(&spin));
    CALL(KeReleaseSpinLockForDpc)(&spin, old);
    CHECK(IRQL() == PASSIVE_LEVEL && CALL(KeTestSpinLock)(&spin));
}

static void QueuedSpinLocks(void)
{
    KSPIN_LOCK spin, inner;
    KLOCK_QUEUE_HANDLE one, two;

    KeInitializeSpinLock(&spin);
    KeInitializeSpinLock(&inner);
    CALL(KeAcquireInStackQueuedSpinLock)(&spin, &one);
    CHECK(IRQL() == DISPATCH_LEVEL && one.OldIrql == PASSIVE_LEVEL && !CALL(KeTestSpinLock)(&spin));
    CALL(KeAcquireInStackQueuedSpinLockAtDpcLevel)(&inner, &two);
    CHECK(!CALL(KeTestSpinLock)(&inner));
    CALL(KeReleaseInStackQueuedSpinLockFromDpcLevel)(&two);
    CHECK(IRQL() == DISPATCH_LEVEL && CALL(KeTestSpinLock)(&inner) && !CALL(KeTestSpinLock)(&spin));
    CALL(KeReleaseInStackQueuedSpinLock)(&one);
    CHECK(IRQL() == PASSIVE_LEVEL && CALL(KeTestSpinLock)(&spin));
    CALL(KeAcquireInStackQueuedSpinLockForDpc)(&spin, &one);
    CHECK(IRQL() == DISPATCH_LEVEL && !CALL(KeTestSpinLock)(&spin));
    CALL(KeReleaseInStackQueuedSpinLockForDpc)(&one);
    CHECK(IRQL() == PASSIVE_LEVEL && CALL(KeTestSpinLock)(&spin));
}

static LONG ReaderWriter;

static void ReadShared(void)
{
    CALL(ExReleaseSpinLockShared)(&ReaderWriter, CALL(ExAcquireSpinLockShared)(&ReaderWriter));
}

static void ReaderWriterSpinLocks(void)
{
    /* As if this many read. An answer of which only one byte is set would not be 0 here. */
    LONG crowded = 0x300;
    KIRQL old = CALL(ExAcquireSpinLockShared)(&ReaderWriter);

    CHECK(old == PASSIVE_LEVEL && IRQL() == DISPATCH_LEVEL && ReaderWriter != 0);
    CALL(ExAcquireSpinLockSharedAtDpcLevel)(&ReaderWriter);
    /* Two readers: neither becomes the writer. */
    CHECK(!CALL(ExTryConvertSharedSpinLockExclusive)(&ReaderWriter));
    CHECK(!CALL(ExTryConvertSharedSpinLockExclusive)(&crowded) && crowded == 0x300);
    CALL(ExReleaseSpinLockSharedFromDpcLevel)(&ReaderWriter);
    CHECK(CALL(ExTryConvertSharedSpinLockExclusive)(&ReaderWriter));
    CALL(ExReleaseSpinLockExclusive)(&ReaderWriter, old);
    CHECK(IRQL() == PASSIVE_LEVEL && ReaderWriter == 0);
    CHECK(GetsThrough(ReadShared));
    old = CALL(ExAcquireSpinLockExclusive)(&ReaderWriter);
    CHECK(old == PASSIVE_LEVEL && IRQL() == DISPATCH_LEVEL && ReaderWriter != 0);
    CALL(ExReleaseSpinLockExclusiveFromDpcLevel)(&ReaderWriter);
    CHECK(IRQL() == DISPATCH_LEVEL && ReaderWriter == 0);
    CALL(ExAcquireSpinLockExclusiveAtDpcLevel)(&ReaderWriter);
    CHECK(ReaderWriter != 0);
    CALL(ExReleaseSpinLockExclusive)(&ReaderWriter, old);
    CHECK(GetsThrough(ReadShared) && ReaderWriter == 0);
}

static ULONG_PTR Push;

static void PushShared(void)
{
    KeEnterCriticalRegion();
    CALL(ExAcquirePushLockSharedEx)(&Push, 0);
    CALL(ExReleasePushLockSharedEx)(&Push, 0);
    KeLeaveCriticalRegion();
}

static void PushExclusive(void)
{
    KeEnterCriticalRegion();
    CALL(ExAcquirePushLockExclusiveEx)(&Push, 0);
    CALL(ExReleasePushLockExclusiveEx)(&Push, 0);
    KeLeaveCriticalRegion();
}

/* Takes a lock, sees whom it holds up, and lets it go. */
#define HOLDS_UP(Expected, Acquire, Release, Routine)                                                                  \
    do {                                                                                                               \
        OTHER other;                                                                                                   \
        KeEnterCriticalRegion();                                                                                       \
        Acquire;                                                                                                       \
        StartOther(&other, Routine);                                                                                   \
        CHECK(Expected ? IsHeldUp(&other) : GetsThroughWithin(&other, 60000));                                         \
        Release;                                                                                                       \
        KeLeaveCriticalRegion();                                                                                       \
        Join(other.Thread);                                                                                            \
    } while (0)

static void PushLocks(void)
{
    Push = 77;
    CALL(ExInitializePushLock)(&Push);
    CHECK_NUMBER(0, Push);
    HOLDS_UP(TRUE, CALL(ExAcquirePushLockExclusiveEx)(&Push, 0), CALL(ExReleasePushLockEx)(&Push, 0), PushShared);
    HOLDS_UP(TRUE, CALL(ExAcquirePushLockSharedEx)(&Push, 0), CALL(ExReleasePushLockEx)(&Push, 0), PushExclusive);
    HOLDS_UP(FALSE, CALL(ExAcquirePushLockSharedEx)(&Push, 0), CALL(ExReleasePushLockSharedEx)(&Push, 0), PushShared);
    HOLDS_UP(TRUE, CALL(ExfAcquirePushLockExclusive)(&Push), CALL(ExfReleasePushLockExclusive)(&Push), PushExclusive);
    HOLDS_UP(TRUE, CALL(ExfAcquirePushLockExclusive)(&Push), CALL(ExfReleasePushLock)(&Push), PushShared);
    HOLDS_UP(FALSE, CALL(ExfAcquirePushLockShared)(&Push), CALL(ExfReleasePushLockShared)(&Push), PushShared);
    HOLDS_UP(TRUE, CALL(ExfAcquirePushLockShared)(&Push), CALL(ExfReleasePushLock)(&Push), PushExclusive);
    CHECK_NUMBER(0, Push);
}

static FAST_MUTEX Fast;
static KGUARDED_MUTEX Guarded;

static void TakeFast(void)
{
    ExAcquireFastMutex(&Fast);
    ExReleaseFastMutex(&Fast);
}

static void TakeGuarded(void)
{
    CALL(KeAcquireGuardedMutex)(&Guarded);
    CALL(KeReleaseGuardedMutex)(&Guarded);
}

static void Mutexes(void)
{
    ExInitializeFastMutex(&Fast);
    HOLDS_UP(TRUE, CALL(ExAcquireFastMutexUnsafe)(&Fast), CALL(ExReleaseFastMutexUnsafe)(&Fast), TakeFast);
    CALL(ExEnterCriticalRegionAndAcquireFastMutexUnsafe)(&Fast);
    CHECK(CALL(KeAreApcsDisabled)() && IRQL() == PASSIVE_LEVEL && !ExTryToAcquireFastMutex(&Fast));
    CALL(ExReleaseFastMutexUnsafeAndLeaveCriticalRegion)(&Fast);
    CHECK(!CALL(KeAreApcsDisabled)() && GetsThrough(TakeFast));

    CALL(KeInitializeGuardedMutex)(&Guarded);
    HOLDS_UP(TRUE, CALL(KeAcquireGuardedMutex)(&Guarded), CALL(KeReleaseGuardedMutex)(&Guarded), TakeGuarded);
    CHECK(CALL(KeTryToAcquireGuardedMutex)(&Guarded));
    CHECK(CALL(KeAreAllApcsDisabled)() && IRQL() == PASSIVE_LEVEL);
    CHECK(!CALL(KeTryToAcquireGuardedMutex)(&Guarded));
    CALL(KeReleaseGuardedMutex)(&Guarded);
    CHECK(!CALL(KeAreAllApcsDisabled)());
    CALL(KeEnterGuardedRegion)();
    CALL(KeAcquireGuardedMutexUnsafe)(&Guarded);
    CHECK(!CALL(KeTryToAcquireGuardedMutex)(&Guarded));
    CALL(KeReleaseGuardedMutexUnsafe)(&Guarded);
    CALL(KeLeaveGuardedRegion)();
    CHECK(GetsThrough(TakeGuarded));
}

static ERESOURCE Resource;

static void TakeShared(void)
{
    CALL(ExEnterCriticalRegionAndAcquireResourceShared)(&Resource);
    CALL(ExReleaseResourceAndLeaveCriticalRegion)(&Resource);
}

static void TakeExclusive(void)
{
    CALL(ExEnterCriticalRegionAndAcquireResourceExclusive)(&Resource);
    CALL(ExReleaseResourceAndLeaveCriticalRegion)(&Resource);
}

/* Waits behind a waiting writer, and asks without waiting. */
static void WaitForExclusive(void)
{
    KeEnterCriticalRegion();
    CHECK(!CALL(ExAcquireSharedWaitForExclusive)(&Resource, FALSE));
    CHECK(CALL(ExAcquireSharedWaitForExclusive)(&Resource, TRUE));
    ExReleaseResourceLite(&Resource);
    KeLeaveCriticalRegion();
}

/* Whether a count becomes 1: a waiter counts itself when it waits, which is after it has entered. */
static BOOLEAN BecomesOne(ULONG(NTAPI *Counts)(PERESOURCE))
{
    ULONG i;

    for (i = 0; i < 1000 && Counts(&Resource) != 1; i++)
        Sleep(1);
    return Counts(&Resource) == 1;
}

static void Resources(void)
{
    OTHER writer, reader;

    ExInitializeResourceLite(&Resource);
    CALL(ExEnterCriticalRegionAndAcquireResourceExclusive)(&Resource);
    CHECK(CALL(KeAreApcsDisabled)() && ExIsResourceAcquiredExclusiveLite(&Resource));
    StartOther(&reader, TakeShared);
    CHECK(BecomesOne(CALL(ExGetSharedWaiterCount)));
    CHECK(IsHeldUp(&reader));
    CALL(ExReleaseResourceAndLeaveCriticalRegion)(&Resource);
    Join(reader.Thread);
    CHECK_NUMBER(0, CALL(ExGetSharedWaiterCount)(&Resource));
    CHECK(!CALL(KeAreApcsDisabled)());

    CALL(ExEnterCriticalRegionAndAcquireResourceShared)(&Resource);
    CHECK(!ExIsResourceAcquiredExclusiveLite(&Resource) && ExIsResourceAcquiredSharedLite(&Resource) == 1);
    CHECK(GetsThrough(TakeShared));
    StartOther(&writer, TakeExclusive);
    CHECK(BecomesOne(ExGetExclusiveWaiterCount));
    StartOther(&reader, WaitForExclusive);
    CHECK(IsHeldUp(&writer) && IsHeldUp(&reader));
    CALL(ExReleaseResourceForThreadLite)(&Resource, (ERESOURCE_THREAD)KeGetCurrentThread());
    KeLeaveCriticalRegion();
    Join(writer.Thread);
    Join(reader.Thread);
    CHECK_STATUS(STATUS_SUCCESS, CALL(ExReinitializeResourceLite)(&Resource));
    CHECK(GetsThrough(TakeExclusive));
    ExDeleteResourceLite(&Resource);
}

static EX_RUNDOWN_REF Rundown;

static void WaitForRelease(void)
{
    CALL(ExWaitForRundownProtectionRelease)(&Rundown);
}

static void RundownProtection(void)
{
    OTHER other;

    Rundown.Count = 77;
    CALL(ExInitializeRundownProtection)(&Rundown);
    CHECK_NUMBER(0, Rundown.Count);
    CHECK(CALL(ExAcquireRundownProtection)(&Rundown));
    CHECK(CALL(ExAcquireRundownProtectionEx)(&Rundown, 2));
    StartOther(&other, WaitForRelease);
    CHECK(IsHeldUp(&other));
    CHECK(!CALL(ExAcquireRundownProtection)(&Rundown) && !CALL(ExAcquireRundownProtectionEx)(&Rundown, 1));
    CALL(ExReleaseRundownProtectionEx)(&Rundown, 2);
    CHECK(IsHeldUp(&other));
    CALL(ExReleaseRundownProtection)(&Rundown);
    Join(other.Thread);
    CALL(ExRundownCompleted)(&Rundown);
    CHECK(!CALL(ExAcquireRundownProtection)(&Rundown));
    CALL(ExReInitializeRundownProtection)(&Rundown);
    CHECK(CALL(ExAcquireRundownProtection)(&Rundown));
    CALL(ExReleaseRundownProtection)(&Rundown);
    CHECK(GetsThrough(WaitForRelease));
}

static void Checks(PUNICODE_STRING RegistryPath)
{
    (void)RegistryPath;
    Levels();
    Regions();
    SpinLocks();
    QueuedSpinLocks();
    ReaderWriterSpinLocks();
    PushLocks();
    Mutexes();
    Resources();
    RundownProtection();
}
