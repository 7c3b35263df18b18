/*
 * Leaves its Unload routine too early, or with something in hand, to show what is reported then. Do not copy this one.
 *
 * Parameters value Leave: what is left, one of the names at the end; nothing (the default) does everything right.
 */
#define DRIVER_NAME "leftover"
#include "common/parameters.h"

#define ITEMS 24

/* mingw-w64 declares it in ntifs.h only. */
NTSYSAPI NTSTATUS NTAPI ZwCreateEvent(PHANDLE Handle, ACCESS_MASK Access, POBJECT_ATTRIBUTES Attributes, EVENT_TYPE Type,
                                      BOOLEAN InitialState);

static KTIMER Timer;
static KDPC Dpc;
static WORK_QUEUE_ITEM Items[ITEMS];
static HANDLE Thread;
static ERESOURCE Resource;
static PDRIVER_OBJECT DriverObject;

static void NTAPI TimerExpired(PKDPC Object, PVOID Context, PVOID Argument1, PVOID Argument2)
{
    UNREFERENCED_PARAMETER(Object);
    UNREFERENCED_PARAMETER(Context);
    UNREFERENCED_PARAMETER(Argument1);
    UNREFERENCED_PARAMETER(Argument2);
    Log("the timer expired");
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

/* LEFT: a reference to a thread that has ended. */
static NTSTATUS UseThread(BOOLEAN Dereference)
{
    PVOID object;
    NTSTATUS status = PsCreateSystemThread(&Thread, THREAD_ALL_ACCESS, NULL, NULL, NULL, RestAndEnd, (PVOID)10);

    if (!NT_SUCCESS(status))
        return status;
    status = ObReferenceObjectByHandle(Thread, SYNCHRONIZE, NULL, KernelMode, &object, NULL);
    if (!NT_SUCCESS(status))
        return status;
    KeWaitForSingleObject(object, Executive, KernelMode, FALSE, NULL);
    if (Dereference)
        ObDereferenceObject(object);
    return STATUS_SUCCESS;
}

/* LEFT: a reference to an event whose handle is closed. */
static NTSTATUS UseEvent(BOOLEAN Dereference)
{
    OBJECT_ATTRIBUTES attributes;
    HANDLE handle;
    PVOID object;
    NTSTATUS status;

    InitializeObjectAttributes(&attributes, NULL, OBJ_KERNEL_HANDLE, NULL, NULL);
    status = ZwCreateEvent(&handle, EVENT_ALL_ACCESS, &attributes, NotificationEvent, FALSE);
    if (!NT_SUCCESS(status))
        return status;
    status = ObReferenceObjectByHandle(handle, EVENT_MODIFY_STATE, NULL, KernelMode, &object, NULL);
    if (NT_SUCCESS(status) && Dereference)
        ObDereferenceObject(object);
    ZwClose(handle);
    return status;
}

/* LEFT: a reference to a deleted device. */
static NTSTATUS UseDevice(BOOLEAN Dereference)
{
    PDEVICE_OBJECT device;
    NTSTATUS status = IoCreateDevice(DriverObject, 0, NULL, FILE_DEVICE_UNKNOWN, 0, FALSE, &device);

    if (!NT_SUCCESS(status))
        return status;
    ObReferenceObject(device);
    IoDeleteDevice(device);
    if (Dereference)
        ObDereferenceObject(device);
    return STATUS_SUCCESS;
}

/* LEFT: a resource. */
static NTSTATUS UseResource(BOOLEAN Delete)
{
    ExInitializeResourceLite(&Resource);
    if (Delete)
        ExDeleteResourceLite(&Resource);
    return STATUS_SUCCESS;
}

static NTSTATUS LeaveThread(void) { return UseThread(FALSE); }
static NTSTATUS LeaveEvent(void) { return UseEvent(FALSE); }
static NTSTATUS LeaveDevice(void) { return UseDevice(FALSE); }
static NTSTATUS LeaveResource(void) { return UseResource(FALSE); }

static NTSTATUS LeaveNothing(void)
{
    NTSTATUS status = UseThread(TRUE);

    if (NT_SUCCESS(status))
        status = UseEvent(TRUE);
    if (NT_SUCCESS(status))
        status = UseDevice(TRUE);
    UseResource(TRUE);
    KeInitializeDpc(&Dpc, TimerExpired, NULL);
    KeInitializeTimer(&Timer);
    KeSetTimer(&Timer, Milliseconds(50), &Dpc);
    KeCancelTimer(&Timer);
    ExInitializeWorkItem(&Items[0], Rest, (PVOID)50);
    ExQueueWorkItem(&Items[0], DelayedWorkQueue);
    Rest((PVOID)100);
    return status;
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
    { "thread", LeaveThread },
    { "event", LeaveEvent },
    { "device", LeaveDevice },
    { "resource", LeaveResource },
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
    DriverObject = Driver;
    Driver->DriverUnload = Unload;
    return STATUS_SUCCESS;
}
