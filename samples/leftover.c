/*
 * Returns from its Unload routine too early on purpose, to show what is reported then. Do not copy this one.
 *
 * Parameters value Leave: what is left, one of the names at the end; nothing (the default) does everything right.
 */
#define DRIVER_NAME "leftover"
#include "common/parameters.h"

#define ITEMS 24

static KTIMER Timer;
static KDPC Dpc;
static WORK_QUEUE_ITEM Items[ITEMS];
static HANDLE Thread;

static void NTAPI TimerExpired(PKDPC Object, PVOID Context, PVOID Argument1, PVOID Argument2)
{
    UNREFERENCED_PARAMETER(Object);
    UNREFERENCED_PARAMETER(Context);
    UNREFERENCED_PARAMETER(Argument1);
    UNREFERENCED_PARAMETER(Argument2);
}

/* Context is the number of milliseconds. */
static void NTAPI Rest(PVOID Context)
{
    LARGE_INTEGER time = Milliseconds((ULONG)(ULONG_PTR)Context);

    KeDelayExecutionThread(KernelMode, FALSE, &time);
}

static void NTAPI RestAndEnd(PVOID Context)
{
    Rest(Context);
    PsTerminateSystemThread(STATUS_SUCCESS);
}

/* LEFT: a timer. It expires while the thread, which the driver should have waited for too, is on its way out. */
static NTSTATUS LeaveTimer(void)
{
    KeInitializeDpc(&Dpc, TimerExpired, NULL);
    KeInitializeTimer(&Timer);
    KeSetTimer(&Timer, Milliseconds(50), &Dpc);
    /* Missing: KeCancelTimer(&Timer), KeFlushQueuedDpcs(). */
    return PsCreateSystemThread(&Thread, THREAD_ALL_ACCESS, NULL, NULL, NULL, RestAndEnd, (PVOID)200);
}

/* LEFT: more work items than there are threads to run them. */
static NTSTATUS LeaveItems(void)
{
    ULONG i;

    for (i = 0; i < ITEMS; i++) {
        ExInitializeWorkItem(&Items[i], Rest, (PVOID)50);
        ExQueueWorkItem(&Items[i], DelayedWorkQueue);
    }
    /* Missing: a wait until the last of them has run; better, IoQueueWorkItem. */
    return STATUS_SUCCESS;
}

/* LEFT: a work item whose routine runs for a long time. */
static NTSTATUS LeaveRunning(void)
{
    ExInitializeWorkItem(&Items[0], Rest, (PVOID)5000);
    ExQueueWorkItem(&Items[0], DelayedWorkQueue);
    Rest((PVOID)100);
    return STATUS_SUCCESS;
}

static NTSTATUS LeaveNothing(void)
{
    KeInitializeDpc(&Dpc, TimerExpired, NULL);
    KeInitializeTimer(&Timer);
    KeSetTimer(&Timer, Milliseconds(50), &Dpc);
    KeCancelTimer(&Timer);
    ExInitializeWorkItem(&Items[0], Rest, (PVOID)50);
    ExQueueWorkItem(&Items[0], DelayedWorkQueue);
    Rest((PVOID)100);
    return STATUS_SUCCESS;
}

typedef struct _LEFTOVER {
    PCSTR Name;
    NTSTATUS (*Leave)(void);
} LEFTOVER;

static const LEFTOVER Leftovers[] = {
    { "nothing", LeaveNothing },
    { "timer", LeaveTimer },
    { "items", LeaveItems },
    { "running", LeaveRunning },
};

static const LEFTOVER *Wanted;

static void NTAPI Unload(PDRIVER_OBJECT Driver)
{
    UNREFERENCED_PARAMETER(Driver);
    Log("%s: status %08x", Wanted->Name, Wanted->Leave());
    if (Thread != NULL)
        ZwClose(Thread);
}

NTSTATUS NTAPI DriverEntry(PDRIVER_OBJECT Driver, PUNICODE_STRING RegistryPath)
{
    HANDLE key = OpenParameters(RegistryPath);
    CHAR wanted[32];
    ULONG i;

    ReadText(key, L"Leave", wanted, sizeof(wanted), "nothing");
    CloseParameters(key);
    for (i = 0; i < RTL_NUMBER_OF(Leftovers); i++)
        if (strcmp(wanted, Leftovers[i].Name) == 0)
            Wanted = &Leftovers[i];
    if (Wanted == NULL)
        return STATUS_INVALID_PARAMETER;
    Driver->DriverUnload = Unload;
    return STATUS_SUCCESS;
}
