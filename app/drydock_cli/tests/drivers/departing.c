/*
 * A filter that goes away while a request and an event handler of a client still lead into it (D-291). The client is this image
 * under another name: loaded first, it waits until the filter, named ..._filter, lies over its file.
 */
#define FAMILY "departing"
#include "check.h"
#include "open.h"
#include <tdikrnl.h>

/* The client */

static HANDLE Files[2];
static PFILE_OBJECT Address, Endpoint;
static PKTHREAD Sender;
static KEVENT ListenEnded;
static IO_STATUS_BLOCK Listen;

static NTSTATUS NTAPI OnError(PVOID Context, NTSTATUS Status)
{
    (void)Context;
    (void)Status;
    return STATUS_SUCCESS;
}

static PIRP Build(UCHAR Minor, PFILE_OBJECT File, PKEVENT Event, PIO_STATUS_BLOCK Block)
{
    KeInitializeEvent(Event, NotificationEvent, FALSE);
    return TdiBuildInternalDeviceControlIrp(Minor, IoGetRelatedDeviceObject(File), File, Event, Block);
}

/* Sends the one and waits, if it is still under way. */
static NTSTATUS Ask(PFILE_OBJECT File, PIRP Irp, PKEVENT Event, PIO_STATUS_BLOCK Block)
{
    NTSTATUS status = IoCallDriver(IoGetRelatedDeviceObject(File), Irp);

    if (status != STATUS_PENDING)
        return status;
    KeWaitForSingleObject(Event, Executive, KernelMode, FALSE, NULL);
    return Block->Status;
}

static void NTAPI Send(PVOID Context)
{
    IO_STATUS_BLOCK block;
    KEVENT event;
    PIRP irp;

    (void)Context;
    while (IoGetRelatedDeviceObject(Address) == Address->DeviceObject)
        Sleep(1);
    irp = Build(TDI_SET_EVENT_HANDLER, Address, &event, &block);
    TdiBuildSetEventHandler(irp, IoGetRelatedDeviceObject(Address), Address, NULL, NULL, TDI_EVENT_ERROR, OnError, NULL);
    CHECK_STATUS(STATUS_SUCCESS, Ask(Address, irp, &event, &block));
    irp = Build(TDI_LISTEN, Endpoint, &ListenEnded, &Listen);
    TdiBuildListen(irp, IoGetRelatedDeviceObject(Endpoint), Endpoint, NULL, NULL, 0, NULL, NULL);
    CHECK_STATUS(STATUS_PENDING, IoCallDriver(IoGetRelatedDeviceObject(Endpoint), irp));
    /* The request is the thread's: it has to outlive it. */
    KeWaitForSingleObject(&ListenEnded, Executive, KernelMode, FALSE, NULL);
    CHECK_STATUS(STATUS_CANCELLED, Listen.Status);
    PsTerminateSystemThread(STATUS_SUCCESS);
}

static void NTAPI CloseClient(PDRIVER_OBJECT Driver)
{
    (void)Driver;
    ZwClose(Files[1]);
    Join(Sender);
    ZwClose(Files[0]);
    ObDereferenceObject(Endpoint);
    ObDereferenceObject(Address);
    DbgPrint(FAMILY ": %d claims, %d failed\n", Claims, Failed);
}

static void OpenClient(void)
{
    static const TA_IP_ADDRESS Any = {1, {{TDI_ADDRESS_LENGTH_IP, TDI_ADDRESS_TYPE_IP, {{0, 0, {0}}}}}};
    PVOID context = NULL;
    IO_STATUS_BLOCK block;
    KEVENT event;
    PIRP irp;

    CHECK_STATUS(STATUS_SUCCESS, Open(TdiTransportAddress, &Any, sizeof(Any), &Files[0], &Address));
    CHECK_STATUS(STATUS_SUCCESS, Open(TdiConnectionContext, &context, sizeof(context), &Files[1], &Endpoint));
    irp = Build(TDI_ASSOCIATE_ADDRESS, Endpoint, &event, &block);
    TdiBuildAssociateAddress(irp, IoGetRelatedDeviceObject(Endpoint), Endpoint, NULL, NULL, Files[0]);
    CHECK_STATUS(STATUS_SUCCESS, Ask(Endpoint, irp, &event, &block));
    Sender = Start(Send, NULL);
    Self->DriverUnload = CloseClient;
}

/* The filter */

static PDEVICE_OBJECT Filter, Lower;
static KEVENT HasRequest;
static PTDI_IND_ERROR Original;

static NTSTATUS NTAPI OnErrorOf(PVOID Context, NTSTATUS Status)
{
    return Original(Context, Status);
}

static NTSTATUS NTAPI Ended(PDEVICE_OBJECT Device, PIRP Irp, PVOID Context)
{
    (void)Device;
    (void)Context;
    if (Irp->PendingReturned)
        IoMarkIrpPending(Irp);
    return STATUS_CONTINUE_COMPLETION;
}

static NTSTATUS NTAPI Pass(PDEVICE_OBJECT Device, PIRP Irp)
{
    PIO_STACK_LOCATION next = IoGetNextIrpStackLocation(Irp);
    NTSTATUS status;

    (void)Device;
    IoCopyCurrentIrpStackLocationToNext(Irp);
    if (next->MajorFunction == IRP_MJ_INTERNAL_DEVICE_CONTROL && next->MinorFunction == TDI_SET_EVENT_HANDLER) {
        PTDI_REQUEST_KERNEL_SET_EVENT parameters = (PVOID)&next->Parameters;

        Original = parameters->EventHandler;
        parameters->EventHandler = OnErrorOf;
    }
    IoSetCompletionRoutine(Irp, Ended, NULL, TRUE, TRUE, TRUE);
    status = IoCallDriver(Lower, Irp);
    if (status == STATUS_PENDING)
        KeSetEvent(&HasRequest, IO_NO_INCREMENT, FALSE);
    return status;
}

/* Nothing waits here for what still leads into the filter. */
static void NTAPI Leave(PDRIVER_OBJECT Driver)
{
    (void)Driver;
    IoDetachDevice(Lower);
    IoDeleteDevice(Filter);
}

static void Attach(void)
{
    ULONG i;

    for (i = 0; i <= IRP_MJ_MAXIMUM_FUNCTION; i++)
        Self->MajorFunction[i] = Pass;
    KeInitializeEvent(&HasRequest, NotificationEvent, FALSE);
    CHECK_STATUS(STATUS_SUCCESS, IoCreateDevice(Self, 0, NULL, FILE_DEVICE_NETWORK, 0, FALSE, &Filter));
    Filter->Flags |= DO_DIRECT_IO;
    CHECK_STATUS(STATUS_SUCCESS, IoAttachDevice(Filter, &TcpName, &Lower));
    Filter->Flags &= ~DO_DEVICE_INITIALIZING;
    KeWaitForSingleObject(&HasRequest, Executive, KernelMode, FALSE, NULL);
    Self->DriverUnload = Leave;
}

static void Checks(PUNICODE_STRING RegistryPath)
{
    if (RegistryPath->Buffer[RegistryPath->Length / sizeof(WCHAR) - 1] == 'r')
        Attach();
    else
        OpenClient();
}
