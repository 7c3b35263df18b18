/*
 * A TDI filter: sees every request to the transport's devices, counts what it sees, and changes nothing.
 *
 * Parameters value Mode:
 *   attach   (the default) attaches a device of its own on top of \Device\Tcp and \Device\Udp
 *   defer    attaches likewise, but lets every request wait until a thread of its own passes it on
 *   hook     replaces the dispatch routines of \Driver\Tcpip, as many firewalls of their time did
 *
 * Load it before the drivers that it should see. At unload it prints a line per kind of request:
 *   tdi_filter: IRP_MJ_CREATE 2, completed 2, failed 0
 */
#define DRIVER_NAME "tdi_filter"
#include "common/parameters.h"

#include <tdikrnl.h>

/* Not in mingw-w64's headers; exported by ntoskrnl. */
NTKERNELAPI NTSTATUS NTAPI ObReferenceObjectByName(PUNICODE_STRING Name, ULONG Attributes, PACCESS_STATE AccessState,
                                                   ACCESS_MASK Access, POBJECT_TYPE Type, KPROCESSOR_MODE Mode, PVOID ParseContext,
                                                   PVOID *Object);
extern __declspec(dllimport) POBJECT_TYPE *IoDriverObjectType;

typedef struct _EXTENSION {
    PDEVICE_OBJECT Lower;
} EXTENSION, *PEXTENSION;

typedef struct _COUNT {
    LONG Seen;
    LONG Completed;
    LONG Failed;
} COUNT, *PCOUNT;

static COUNT Majors[IRP_MJ_MAXIMUM_FUNCTION + 1];
static COUNT Minors[TDI_ACTION + 1];
static LONG Outstanding;

/* What defer mode has not passed on yet; the thread ends when it is woken and finds nothing. */
static LIST_ENTRY Deferred;
static KSPIN_LOCK DeferredLock;
static KSEMAPHORE DeferredCount;
static PKTHREAD Passer;

static PDRIVER_OBJECT Hooked;
static PDRIVER_DISPATCH Originals[IRP_MJ_MAXIMUM_FUNCTION + 1];

static PCOUNT CountOf(PIO_STACK_LOCATION Stack)
{
    if (Stack->MajorFunction == IRP_MJ_INTERNAL_DEVICE_CONTROL && Stack->MinorFunction <= TDI_ACTION)
        return &Minors[Stack->MinorFunction];
    return &Majors[Stack->MajorFunction];
}

static void CountEnd(PCOUNT Count, NTSTATUS Status)
{
    InterlockedIncrement(&Count->Completed);
    if (!NT_SUCCESS(Status))
        InterlockedIncrement(&Count->Failed);
    InterlockedDecrement(&Outstanding);
}

/* Whoever sets a completion routine passes the pending mark on. */
static NTSTATUS NTAPI OnComplete(PDEVICE_OBJECT Device, PIRP Irp, PVOID Context)
{
    UNREFERENCED_PARAMETER(Device);
    if (Irp->PendingReturned)
        IoMarkIrpPending(Irp);
    CountEnd(Context, Irp->IoStatus.Status);
    return STATUS_CONTINUE_COMPLETION;
}

static NTSTATUS PassOn(PDEVICE_OBJECT Device, PIRP Irp)
{
    PEXTENSION extension = Device->DeviceExtension;
    PCOUNT count = CountOf(IoGetCurrentIrpStackLocation(Irp));

    IoCopyCurrentIrpStackLocationToNext(Irp);
    IoSetCompletionRoutine(Irp, OnComplete, count, TRUE, TRUE, TRUE);
    return IoCallDriver(extension->Lower, Irp);
}

static void CountBegin(PIRP Irp)
{
    InterlockedIncrement(&CountOf(IoGetCurrentIrpStackLocation(Irp))->Seen);
    InterlockedIncrement(&Outstanding);
}

static NTSTATUS NTAPI Forward(PDEVICE_OBJECT Device, PIRP Irp)
{
    CountBegin(Irp);
    return PassOn(Device, Irp);
}

/* A request that nobody works on cannot be cancelled here: it waits for a moment, and the transport takes a cancelled one too. */
static NTSTATUS NTAPI Defer(PDEVICE_OBJECT Device, PIRP Irp)
{
    CountBegin(Irp);
    IoMarkIrpPending(Irp);
    Irp->Tail.Overlay.DriverContext[0] = Device;
    ExInterlockedInsertTailList(&Deferred, &Irp->Tail.Overlay.ListEntry, &DeferredLock);
    KeReleaseSemaphore(&DeferredCount, IO_NO_INCREMENT, 1, FALSE);
    return STATUS_PENDING;
}

static void NTAPI PassDeferred(PVOID Context)
{
    UNREFERENCED_PARAMETER(Context);
    for (;;) {
        PLIST_ENTRY entry;
        PIRP irp;

        KeWaitForSingleObject(&DeferredCount, Executive, KernelMode, FALSE, NULL);
        entry = ExInterlockedRemoveHeadList(&Deferred, &DeferredLock);
        if (entry == NULL)
            break;
        irp = CONTAINING_RECORD(entry, IRP, Tail.Overlay.ListEntry);
        PassOn(irp->Tail.Overlay.DriverContext[0], irp);
    }
    PsTerminateSystemThread(STATUS_SUCCESS);
}

static NTSTATUS StartPasser(void)
{
    HANDLE handle;
    NTSTATUS status;

    InitializeListHead(&Deferred);
    KeInitializeSpinLock(&DeferredLock);
    KeInitializeSemaphore(&DeferredCount, 0, MAXLONG);
    status = PsCreateSystemThread(&handle, THREAD_ALL_ACCESS, NULL, NULL, NULL, PassDeferred, NULL);
    if (!NT_SUCCESS(status))
        return status;
    status = ObReferenceObjectByHandle(handle, SYNCHRONIZE, *PsThreadType, KernelMode, (PVOID *)&Passer, NULL);
    ZwClose(handle);
    return status;
}

/* Every request has been passed on by now: clients close their files before they unload. */
static void StopPasser(void)
{
    KeReleaseSemaphore(&DeferredCount, IO_NO_INCREMENT, 1, FALSE);
    KeWaitForSingleObject(Passer, Executive, KernelMode, FALSE, NULL);
    ObDereferenceObject(Passer);
}

/* In hook mode there is no stack location of our own: only what comes back at once can be seen. */
static NTSTATUS NTAPI CallOriginal(PDEVICE_OBJECT Device, PIRP Irp)
{
    PIO_STACK_LOCATION stack = IoGetCurrentIrpStackLocation(Irp);
    PCOUNT count = CountOf(stack);
    UCHAR major = stack->MajorFunction;
    NTSTATUS status;

    InterlockedIncrement(&count->Seen);
    InterlockedIncrement(&Outstanding);
    status = Originals[major](Device, Irp);
    CountEnd(count, status);
    return status;
}

static NTSTATUS Attach(PDRIVER_OBJECT Driver, PCWSTR Name)
{
    UNICODE_STRING name;
    PDEVICE_OBJECT device;
    PEXTENSION extension;
    NTSTATUS status;

    RtlInitUnicodeString(&name, Name);
    status = IoCreateDevice(Driver, sizeof(EXTENSION), NULL, FILE_DEVICE_NETWORK, 0, FALSE, &device);
    if (!NT_SUCCESS(status))
        return status;
    extension = device->DeviceExtension;
    device->Flags |= DO_DIRECT_IO;
    status = IoAttachDevice(device, &name, &extension->Lower);
    if (!NT_SUCCESS(status)) {
        IoDeleteDevice(device);
        return status;
    }
    device->Flags &= ~DO_DEVICE_INITIALIZING;
    return STATUS_SUCCESS;
}

static NTSTATUS Hook(void)
{
    UNICODE_STRING name = RTL_CONSTANT_STRING(L"\\Driver\\Tcpip");
    NTSTATUS status;
    ULONG i;

    status = ObReferenceObjectByName(&name, OBJ_CASE_INSENSITIVE, NULL, 0, *IoDriverObjectType, KernelMode, NULL, (PVOID *)&Hooked);
    if (!NT_SUCCESS(status))
        return status;
    for (i = 0; i <= IRP_MJ_MAXIMUM_FUNCTION; i++)
        Originals[i] = InterlockedExchangePointer((PVOID *)&Hooked->MajorFunction[i], CallOriginal);
    return STATUS_SUCCESS;
}

static void Unhook(void)
{
    ULONG i;

    for (i = 0; i <= IRP_MJ_MAXIMUM_FUNCTION; i++)
        InterlockedExchangePointer((PVOID *)&Hooked->MajorFunction[i], Originals[i]);
    ObDereferenceObject(Hooked);
}

static void PrintCount(PCSTR Name, PCOUNT Count)
{
    if (Count->Seen != 0)
        Log("%s %d, completed %d, failed %d", Name, Count->Seen, Count->Completed, Count->Failed);
}

static void PrintCounts(void)
{
    static const PCSTR names[TDI_ACTION + 1] = {
        [TDI_ASSOCIATE_ADDRESS] = "TDI_ASSOCIATE_ADDRESS",
        [TDI_DISASSOCIATE_ADDRESS] = "TDI_DISASSOCIATE_ADDRESS",
        [TDI_CONNECT] = "TDI_CONNECT",
        [TDI_LISTEN] = "TDI_LISTEN",
        [TDI_ACCEPT] = "TDI_ACCEPT",
        [TDI_DISCONNECT] = "TDI_DISCONNECT",
        [TDI_SEND] = "TDI_SEND",
        [TDI_RECEIVE] = "TDI_RECEIVE",
        [TDI_SEND_DATAGRAM] = "TDI_SEND_DATAGRAM",
        [TDI_RECEIVE_DATAGRAM] = "TDI_RECEIVE_DATAGRAM",
        [TDI_SET_EVENT_HANDLER] = "TDI_SET_EVENT_HANDLER",
        [TDI_QUERY_INFORMATION] = "TDI_QUERY_INFORMATION",
        [TDI_SET_INFORMATION] = "TDI_SET_INFORMATION",
        [TDI_ACTION] = "TDI_ACTION",
    };
    ULONG i;

    PrintCount("IRP_MJ_CREATE", &Majors[IRP_MJ_CREATE]);
    for (i = 0; i < RTL_NUMBER_OF(names); i++) {
        if (names[i] != NULL)
            PrintCount(names[i], &Minors[i]);
    }
    PrintCount("IRP_MJ_CLEANUP", &Majors[IRP_MJ_CLEANUP]);
    PrintCount("IRP_MJ_CLOSE", &Majors[IRP_MJ_CLOSE]);
    Log("%d outstanding", Outstanding);
}

static void NTAPI Unload(PDRIVER_OBJECT Driver)
{
    if (Hooked != NULL)
        Unhook();
    while (Driver->DeviceObject != NULL) {
        PDEVICE_OBJECT device = Driver->DeviceObject;
        PEXTENSION extension = device->DeviceExtension;

        IoDetachDevice(extension->Lower);
        IoDeleteDevice(device);
    }
    if (Passer != NULL)
        StopPasser();
    PrintCounts();
}

NTSTATUS NTAPI DriverEntry(PDRIVER_OBJECT Driver, PUNICODE_STRING RegistryPath)
{
    HANDLE key = OpenParameters(RegistryPath);
    CHAR mode[16];
    NTSTATUS status;
    ULONG i;

    ReadText(key, L"Mode", mode, sizeof(mode), "attach");
    CloseParameters(key);

    Driver->DriverUnload = Unload;
    if (strcmp(mode, "hook") == 0)
        return Hook();
    if (strcmp(mode, "defer") == 0) {
        status = StartPasser();
        if (!NT_SUCCESS(status))
            return status;
    }
    for (i = 0; i <= IRP_MJ_MAXIMUM_FUNCTION; i++)
        Driver->MajorFunction[i] = Passer != NULL ? Defer : Forward;
    status = Attach(Driver, L"\\Device\\Tcp");
    if (NT_SUCCESS(status))
        status = Attach(Driver, L"\\Device\\Udp");
    if (!NT_SUCCESS(status))
        Unload(Driver);
    return status;
}
