/* Work items and system threads (K-134, K-136). */
#define FAMILY "work"
#include "check.h"

typedef struct _WORK {
    WORK_QUEUE_ITEM Item;
    KEVENT Done;
    KIRQL Level;
    PVOID Thread;
} WORK;

static void NTAPI Work(PVOID Context)
{
    WORK *work = Context;

    work->Level = KeGetCurrentIrql();
    work->Thread = KeGetCurrentThread();
    KeSetEvent(&work->Done, IO_NO_INCREMENT, FALSE);
}

static void NTAPI Thread(PVOID Context)
{
    Work(Context);
    PsTerminateSystemThread(STATUS_SUCCESS);
}

static void Checks(PUNICODE_STRING RegistryPath)
{
    WORK work;
    PKTHREAD thread;
    KIRQL old;

    (void)RegistryPath;
    KeInitializeEvent(&work.Done, SynchronizationEvent, FALSE);
    ExInitializeWorkItem(&work.Item, Work, &work);
    KeRaiseIrql(DISPATCH_LEVEL, &old);
    ExQueueWorkItem(&work.Item, DelayedWorkQueue);
    KeLowerIrql(old);
    CHECK_STATUS(STATUS_SUCCESS, KeWaitForSingleObject(&work.Done, Executive, KernelMode, FALSE, NULL));
    CHECK_NUMBER(PASSIVE_LEVEL, work.Level);
    CHECK(work.Thread != KeGetCurrentThread());
    thread = Start(Thread, &work);
    CHECK(thread != NULL);
    Join(thread);
    CHECK(work.Thread == thread);
    CHECK_NUMBER(1, KeReadStateEvent(&work.Done));
    CHECK(PsGetCurrentThreadId() != NULL && PsGetCurrentProcessId() != NULL);
}
