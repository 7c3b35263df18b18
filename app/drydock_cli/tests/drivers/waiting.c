/* Events, mutexes, semaphores, timers, DPCs and waits for them (K-124 to K-126, K-128, K-129, K-133, K-148). */
#define FAMILY "waiting"
#include "check.h"

static NTSTATUS Poll(PVOID Object)
{
    LARGE_INTEGER now = {.QuadPart = 0};

    return KeWaitForSingleObject(Object, Executive, KernelMode, FALSE, &now);
}

static void Events(void)
{
    KEVENT notification, synchronization;
    PVOID both[2] = {&notification, &synchronization};
    LARGE_INTEGER now = {.QuadPart = 0};

    KeInitializeEvent(&notification, NotificationEvent, FALSE);
    KeInitializeEvent(&synchronization, SynchronizationEvent, TRUE);
    CHECK_STATUS(STATUS_TIMEOUT, Poll(&notification));
    CHECK_NUMBER(0, KeSetEvent(&notification, IO_NO_INCREMENT, FALSE));
    CHECK(KeSetEvent(&notification, IO_NO_INCREMENT, FALSE) != 0);
    CHECK_STATUS(STATUS_SUCCESS, Poll(&notification));
    CHECK_STATUS(STATUS_SUCCESS, Poll(&notification));
    CHECK_STATUS(STATUS_SUCCESS, Poll(&synchronization));
    CHECK_STATUS(STATUS_TIMEOUT, Poll(&synchronization));
    CHECK_STATUS(STATUS_TIMEOUT, KeWaitForMultipleObjects(2, both, WaitAll, Executive, KernelMode, FALSE, &now, NULL));
    CHECK_STATUS(STATUS_WAIT_0, KeWaitForMultipleObjects(2, both, WaitAny, Executive, KernelMode, FALSE, &now, NULL));
    CHECK(KeResetEvent(&notification) != 0);
    KeSetEvent(&synchronization, IO_NO_INCREMENT, FALSE);
    CHECK_STATUS(STATUS_WAIT_1, KeWaitForMultipleObjects(2, both, WaitAny, Executive, KernelMode, FALSE, &now, NULL));
    CHECK_NUMBER(0, KeReadStateEvent(&synchronization));
    KeClearEvent(&notification);
    CHECK_NUMBER(0, KeReadStateEvent(&notification));
}

static KMUTEX Mutex;
static NTSTATUS Others;

static void NTAPI TryMutex(PVOID Context)
{
    (void)Context;
    Others = Poll(&Mutex);
    PsTerminateSystemThread(STATUS_SUCCESS);
}

static void Mutexes(void)
{
    KeInitializeMutex(&Mutex, 0);
    CHECK_NUMBER(1, KeReadStateMutex(&Mutex));
    CHECK_STATUS(STATUS_SUCCESS, Poll(&Mutex));
    CHECK_STATUS(STATUS_SUCCESS, Poll(&Mutex));
    CHECK(KeReadStateMutex(&Mutex) < 0);
    Join(Start(TryMutex, NULL));
    CHECK_STATUS(STATUS_TIMEOUT, Others);
    CHECK(KeReleaseMutex(&Mutex, FALSE) < 0);
    CHECK(KeReleaseMutex(&Mutex, FALSE) == 0);
    CHECK_NUMBER(1, KeReadStateMutex(&Mutex));
}

static void Semaphores(void)
{
    KSEMAPHORE semaphore;

    KeInitializeSemaphore(&semaphore, 1, 3);
    CHECK_STATUS(STATUS_SUCCESS, Poll(&semaphore));
    CHECK_STATUS(STATUS_TIMEOUT, Poll(&semaphore));
    CHECK_NUMBER(0, KeReleaseSemaphore(&semaphore, IO_NO_INCREMENT, 2, FALSE));
    CHECK_NUMBER(2, KeReadStateSemaphore(&semaphore));
    CHECK_NUMBER(2, KeReleaseSemaphore(&semaphore, IO_NO_INCREMENT, 1, FALSE));
    CHECK_STATUS(STATUS_SUCCESS, Poll(&semaphore));
    CHECK_NUMBER(2, KeReadStateSemaphore(&semaphore));
}

static LONG Ran;
static KIRQL RanAt;

static void NTAPI OnTime(PKDPC Dpc, PVOID Context, PVOID One, PVOID Two)
{
    (void)Dpc, (void)One, (void)Two;
    RanAt = KeGetCurrentIrql();
    InterlockedIncrement(&Ran);
    KeSetEvent(Context, IO_NO_INCREMENT, FALSE);
}

static void Timers(void)
{
    KTIMER timer;
    KDPC dpc;
    KEVENT ran;
    LARGE_INTEGER soon = Milliseconds(2), late = Milliseconds(60000);

    KeInitializeEvent(&ran, SynchronizationEvent, FALSE);
    KeInitializeDpc(&dpc, OnTime, &ran);
    KeInitializeTimerEx(&timer, SynchronizationTimer);
    CHECK(!KeSetTimer(&timer, late, &dpc));
    CHECK_STATUS(STATUS_TIMEOUT, Poll(&timer));
    CHECK(KeSetTimer(&timer, soon, &dpc));
    CHECK_STATUS(STATUS_SUCCESS, KeWaitForSingleObject(&ran, Executive, KernelMode, FALSE, NULL));
    CHECK_NUMBER(1, Ran);
    CHECK_NUMBER(DISPATCH_LEVEL, RanAt);
    CHECK_STATUS(STATUS_SUCCESS, Poll(&timer));
    CHECK_STATUS(STATUS_TIMEOUT, Poll(&timer));
    CHECK(!KeCancelTimer(&timer));
    CHECK(!KeSetTimerEx(&timer, soon, 2, &dpc));
    KeWaitForSingleObject(&ran, Executive, KernelMode, FALSE, NULL);
    KeWaitForSingleObject(&ran, Executive, KernelMode, FALSE, NULL);
    CHECK(KeCancelTimer(&timer));
    KeFlushQueuedDpcs();
    KeClearEvent(&ran);
    CHECK(KeInsertQueueDpc(&dpc, NULL, NULL));
    CHECK_STATUS(STATUS_SUCCESS, KeWaitForSingleObject(&ran, Executive, KernelMode, FALSE, NULL));
}

static void Checks(PUNICODE_STRING RegistryPath)
{
    (void)RegistryPath;
    CHECK_NUMBER(PASSIVE_LEVEL, KeGetCurrentIrql());
    Events();
    Mutexes();
    Semaphores();
    Timers();
    CHECK_NUMBER(PASSIVE_LEVEL, KeGetCurrentIrql());
}
