/*
 * A TDI firewall of the hooking kind: replaces the dispatch routines of the transport's driver, the completion routines of the
 * requests that pass, and the event handlers that clients register.
 *
 * What it does is set under its Parameters key:
 *   Block     TCP port that nobody may connect to; 0 blocks none    0
 *
 * Load it before the drivers that it should see. It prints a line when a file object goes, and one at the end:
 *   tdi_firewall: address, port 49152: 0 bytes in, 0 out
 *   tdi_firewall: connection: 1234 bytes in, 54 out
 *   tdi_firewall: 2 files, 1 connects, 0 accepts, 0 offers, 1 indications, 0 blocked; 0 files left, 0 requests left
 *
 * Worth a look before copying:
 *   - A hook has no stack location of its own: it lends itself the transport's, whose completion routine it replaces and calls.
 *   - The address's port is asked for before the client learns that its open is complete, so the open's completion stops until
 *     the answer is there, and is then resumed with IoCompleteRequest.
 *   - An IRP that a client returns from its event handler never passes the dispatch routines; the handler's wrapper sees it.
 *   - Nothing new is hooked on files that were open before. The driver must stay loaded while a request or a handler of a client
 *     leads through it; Unload says how many there are.
 */
#define DRIVER_NAME "tdi_firewall"
#include "common/parameters.h"

#include <tdikrnl.h>

/* More than the last event a client can register a handler for. */
#define EVENTS 16

typedef struct _WATCHED_FILE WATCHED_FILE, *PWATCHED_FILE;

/* A client's event handler; its wrapper gets this as its context. */
typedef struct _HANDLER {
    PVOID Routine;
    PVOID Context;
} HANDLER, *PHANDLER;

struct _WATCHED_FILE {
    LIST_ENTRY Link;
    PFILE_OBJECT File;
    PCSTR Kind;
    USHORT Port;
    LONG64 In;
    LONG64 Out;
    HANDLER Handlers[EVENTS];
};

/* A request on its way, with what its stack location held before. */
typedef struct _PASSAGE {
    PDEVICE_OBJECT Device;
    PFILE_OBJECT File;
    PIO_COMPLETION_ROUTINE Routine;
    PVOID Context;
    UCHAR Control;
    UCHAR Minor;
    /* For opens: what is opened, and what asking for its port takes. */
    PCSTR Kind;
    PIRP Open;
    PMDL Mdl;
    UCHAR Answer[FIELD_OFFSET(TDI_ADDRESS_INFO, Address) + sizeof(TA_IP_ADDRESS)];
} PASSAGE, *PPASSAGE;

static PDRIVER_OBJECT Transport;
static PDRIVER_DISPATCH Originals[IRP_MJ_MAXIMUM_FUNCTION + 1];
static ULONG BlockedPort;

static LIST_ENTRY Files;
static KSPIN_LOCK FilesLock;

static LONG FilesSeen, FilesLeft, RequestsLeft;
static LONG Connects, Accepts, Offers, Indications, Blocked;

static PWATCHED_FILE FindFile(PFILE_OBJECT File)
{
    PWATCHED_FILE found = NULL;
    PLIST_ENTRY entry;
    KIRQL irql;

    KeAcquireSpinLock(&FilesLock, &irql);
    for (entry = Files.Flink; entry != &Files && found == NULL; entry = entry->Flink) {
        PWATCHED_FILE file = CONTAINING_RECORD(entry, WATCHED_FILE, Link);

        if (file->File == File)
            found = file;
    }
    KeReleaseSpinLock(&FilesLock, irql);
    return found;
}

/* Called for the file's IRP_MJ_CLOSE: no request and no handler can come after it. */
static void ForgetFile(PFILE_OBJECT File)
{
    PWATCHED_FILE file = FindFile(File);
    KIRQL irql;

    if (file == NULL)
        return;
    KeAcquireSpinLock(&FilesLock, &irql);
    RemoveEntryList(&file->Link);
    KeReleaseSpinLock(&FilesLock, irql);
    if (file->Port != 0)
        Log("%s, port %u: %I64d bytes in, %I64d out", file->Kind, file->Port, file->In, file->Out);
    else
        Log("%s: %I64d bytes in, %I64d out", file->Kind, file->In, file->Out);
    InterlockedDecrement(&FilesLeft);
    ExFreePoolWithTag(file, SAMPLE_TAG);
}

static PWATCHED_FILE RememberFile(PPASSAGE Passage)
{
    PWATCHED_FILE file = ExAllocatePoolWithTag(NonPagedPool, sizeof(*file), SAMPLE_TAG);

    if (file == NULL)
        return NULL;
    RtlZeroMemory(file, sizeof(*file));
    file->File = Passage->File;
    file->Kind = Passage->Kind;
    InterlockedIncrement(&FilesSeen);
    InterlockedIncrement(&FilesLeft);
    ExInterlockedInsertTailList(&Files, &file->Link, &FilesLock);
    return file;
}

/* Puts Routine in the place of the request's completion routine. Without memory the request passes unseen. */
static PPASSAGE Watch(PDEVICE_OBJECT Device, PIRP Irp, PIO_COMPLETION_ROUTINE Routine)
{
    PIO_STACK_LOCATION stack = IoGetCurrentIrpStackLocation(Irp);
    PPASSAGE passage = ExAllocatePoolWithTag(NonPagedPool, sizeof(*passage), SAMPLE_TAG);

    if (passage == NULL)
        return NULL;
    RtlZeroMemory(passage, sizeof(*passage));
    passage->Device = Device;
    passage->File = stack->FileObject;
    passage->Routine = stack->CompletionRoutine;
    passage->Context = stack->Context;
    passage->Control = stack->Control;
    passage->Minor = stack->MinorFunction;
    InterlockedIncrement(&RequestsLeft);
    stack->CompletionRoutine = Routine;
    stack->Context = passage;
    stack->Control = SL_INVOKE_ON_SUCCESS | SL_INVOKE_ON_ERROR | SL_INVOKE_ON_CANCEL;
    return passage;
}

/* What the I/O manager would have done had the request's own completion routine been there. */
static NTSTATUS FinishPassage(PDEVICE_OBJECT Device, PIRP Irp, PPASSAGE Passage)
{
    UCHAR wanted = NT_SUCCESS(Irp->IoStatus.Status) ? SL_INVOKE_ON_SUCCESS : SL_INVOKE_ON_ERROR;
    PASSAGE passage = *Passage;

    if (Irp->Cancel)
        wanted |= SL_INVOKE_ON_CANCEL;
    ExFreePoolWithTag(Passage, SAMPLE_TAG);
    InterlockedDecrement(&RequestsLeft);
    if (passage.Routine != NULL && (passage.Control & wanted) != 0)
        return passage.Routine(Device, Irp, passage.Context);
    if (Irp->PendingReturned && Irp->CurrentLocation <= Irp->StackCount)
        IoMarkIrpPending(Irp);
    return STATUS_CONTINUE_COMPLETION;
}

static NTSTATUS NTAPI OnRequestComplete(PDEVICE_OBJECT Device, PIRP Irp, PVOID Context)
{
    PPASSAGE passage = Context;
    PWATCHED_FILE file = FindFile(passage->File);

    if (file != NULL && NT_SUCCESS(Irp->IoStatus.Status)) {
        switch (passage->Minor) {
        case TDI_CONNECT:
            InterlockedIncrement(&Connects);
            break;
        case TDI_ACCEPT:
        case TDI_LISTEN:
            InterlockedIncrement(&Accepts);
            break;
        case TDI_SEND:
        case TDI_SEND_DATAGRAM:
            InterlockedExchangeAdd64(&file->Out, Irp->IoStatus.Information);
            break;
        case TDI_RECEIVE:
        case TDI_RECEIVE_DATAGRAM:
            InterlockedExchangeAdd64(&file->In, Irp->IoStatus.Information);
            break;
        }
    }
    return FinishPassage(Device, Irp, passage);
}

/* Opens. */

static NTSTATUS NTAPI OnPortKnown(PDEVICE_OBJECT Device, PIRP Irp, PVOID Context)
{
    PPASSAGE passage = Context;
    PWATCHED_FILE file = FindFile(passage->File);
    PTDI_ADDRESS_INFO answer = (PTDI_ADDRESS_INFO)passage->Answer;
    PTA_IP_ADDRESS address = (PTA_IP_ADDRESS)&answer->Address;
    PIRP open = passage->Open;

    UNREFERENCED_PARAMETER(Device);
    if (NT_SUCCESS(Irp->IoStatus.Status) && address->Address[0].AddressType == TDI_ADDRESS_TYPE_IP && file != NULL)
        file->Port = __builtin_bswap16(address->Address[0].Address[0].sin_port);
    IoFreeMdl(passage->Mdl);
    Irp->MdlAddress = NULL;
    IoFreeIrp(Irp);
    if (FinishPassage(passage->Device, open, passage) != STATUS_MORE_PROCESSING_REQUIRED)
        IoCompleteRequest(open, IO_NO_INCREMENT);
    return STATUS_MORE_PROCESSING_REQUIRED;
}

/* FALSE where there is no memory to ask with. */
static BOOLEAN AskForPort(PIRP Open, PPASSAGE Passage)
{
    PIRP irp = IoAllocateIrp(Passage->Device->StackSize, FALSE);

    if (irp == NULL)
        return FALSE;
    Passage->Mdl = IoAllocateMdl(Passage->Answer, sizeof(Passage->Answer), FALSE, FALSE, NULL);
    if (Passage->Mdl == NULL) {
        IoFreeIrp(irp);
        return FALSE;
    }
    MmBuildMdlForNonPagedPool(Passage->Mdl);
    Passage->Open = Open;
    TdiBuildQueryInformation(irp, Passage->Device, Passage->File, NULL, NULL, TDI_QUERY_ADDRESS_INFO, Passage->Mdl);
    IoSetCompletionRoutine(irp, OnPortKnown, Passage, TRUE, TRUE, TRUE);
    IoCallDriver(Passage->Device, irp);
    return TRUE;
}

static NTSTATUS NTAPI OnOpenComplete(PDEVICE_OBJECT Device, PIRP Irp, PVOID Context)
{
    PPASSAGE passage = Context;

    if (NT_SUCCESS(Irp->IoStatus.Status) && RememberFile(passage) != NULL && strcmp(passage->Kind, "address") == 0
        && AskForPort(Irp, passage))
        return STATUS_MORE_PROCESSING_REQUIRED;
    return FinishPassage(Device, Irp, passage);
}

static BOOLEAN HasName(PFILE_FULL_EA_INFORMATION Attribute, PCSTR Name, SIZE_T Length)
{
    return Attribute->EaNameLength == Length && RtlCompareMemory(Attribute->EaName, Name, Length) == Length;
}

static void WatchOpen(PDEVICE_OBJECT Device, PIRP Irp)
{
    PFILE_FULL_EA_INFORMATION attribute = Irp->AssociatedIrp.SystemBuffer;
    PPASSAGE passage = Watch(Device, Irp, OnOpenComplete);

    if (passage == NULL)
        return;
    passage->Kind = "control channel";
    if (attribute != NULL && HasName(attribute, TdiTransportAddress, TDI_TRANSPORT_ADDRESS_LENGTH))
        passage->Kind = "address";
    else if (attribute != NULL && HasName(attribute, TdiConnectionContext, TDI_CONNECTION_CONTEXT_LENGTH))
        passage->Kind = "connection";
}

/* Event handlers. */

static NTSTATUS WatchReturned(NTSTATUS Status, PIRP *Irp)
{
    if (Status == STATUS_MORE_PROCESSING_REQUIRED && *Irp != NULL)
        Watch(IoGetCurrentIrpStackLocation(*Irp)->DeviceObject, *Irp, OnRequestComplete);
    return Status;
}

static NTSTATUS NTAPI OnConnect(PVOID Context, LONG RemoteLength, PVOID Remote, LONG DataLength, PVOID Data, LONG OptionsLength,
                                PVOID Options, CONNECTION_CONTEXT *Endpoint, PIRP *Accept)
{
    PHANDLER handler = Context;
    PTDI_IND_CONNECT connect = (PTDI_IND_CONNECT)handler->Routine;

    InterlockedIncrement(&Offers);
    return WatchReturned(connect(handler->Context, RemoteLength, Remote, DataLength, Data, OptionsLength, Options, Endpoint, Accept),
                         Accept);
}

static NTSTATUS NTAPI OnDisconnect(PVOID Context, CONNECTION_CONTEXT Endpoint, LONG DataLength, PVOID Data, LONG InformationLength,
                                   PVOID Information, ULONG Flags)
{
    PHANDLER handler = Context;
    PTDI_IND_DISCONNECT disconnect = (PTDI_IND_DISCONNECT)handler->Routine;

    InterlockedIncrement(&Indications);
    return disconnect(handler->Context, Endpoint, DataLength, Data, InformationLength, Information, Flags);
}

/* Serves expedited data too, whose handler has the same parameters. */
static NTSTATUS NTAPI OnReceive(PVOID Context, CONNECTION_CONTEXT Endpoint, ULONG Flags, ULONG Indicated, ULONG Available, ULONG *Taken,
                                PVOID Data, PIRP *Irp)
{
    PHANDLER handler = Context;
    PTDI_IND_RECEIVE receive = (PTDI_IND_RECEIVE)handler->Routine;

    InterlockedIncrement(&Indications);
    return WatchReturned(receive(handler->Context, Endpoint, Flags, Indicated, Available, Taken, Data, Irp), Irp);
}

static NTSTATUS NTAPI OnReceiveDatagram(PVOID Context, LONG SourceLength, PVOID Source, LONG OptionsLength, PVOID Options, ULONG Flags,
                                        ULONG Indicated, ULONG Available, ULONG *Taken, PVOID Data, PIRP *Irp)
{
    PHANDLER handler = Context;
    PTDI_IND_RECEIVE_DATAGRAM receive = (PTDI_IND_RECEIVE_DATAGRAM)handler->Routine;

    InterlockedIncrement(&Indications);
    return WatchReturned(receive(handler->Context, SourceLength, Source, OptionsLength, Options, Flags, Indicated, Available, Taken, Data,
                                 Irp),
                         Irp);
}

static void WrapHandler(PWATCHED_FILE File, PTDI_REQUEST_KERNEL_SET_EVENT Request)
{
    static PVOID const wrappers[EVENTS] = {
        [TDI_EVENT_CONNECT] = OnConnect,
        [TDI_EVENT_DISCONNECT] = OnDisconnect,
        [TDI_EVENT_RECEIVE] = OnReceive,
        [TDI_EVENT_RECEIVE_EXPEDITED] = OnReceive,
        [TDI_EVENT_RECEIVE_DATAGRAM] = OnReceiveDatagram,
    };
    PHANDLER handler;

    if (Request->EventHandler == NULL || (ULONG)Request->EventType >= EVENTS || wrappers[Request->EventType] == NULL)
        return;
    handler = &File->Handlers[Request->EventType];
    handler->Routine = Request->EventHandler;
    handler->Context = Request->EventContext;
    Request->EventHandler = wrappers[Request->EventType];
    Request->EventContext = handler;
}

/* Dispatch. */

static BOOLEAN IsBlocked(PTDI_REQUEST_KERNEL_CONNECT Request)
{
    PTA_IP_ADDRESS remote;

    if (BlockedPort == 0 || Request->RequestConnectionInformation == NULL)
        return FALSE;
    remote = Request->RequestConnectionInformation->RemoteAddress;
    return remote != NULL && remote->Address[0].AddressType == TDI_ADDRESS_TYPE_IP
           && __builtin_bswap16(remote->Address[0].Address[0].sin_port) == BlockedPort;
}

static NTSTATUS NTAPI Dispatch(PDEVICE_OBJECT Device, PIRP Irp)
{
    PIO_STACK_LOCATION stack = IoGetCurrentIrpStackLocation(Irp);
    UCHAR major = stack->MajorFunction;
    PWATCHED_FILE file;

    switch (major) {
    case IRP_MJ_CREATE:
        WatchOpen(Device, Irp);
        break;
    case IRP_MJ_INTERNAL_DEVICE_CONTROL:
        if (stack->MinorFunction == TDI_CONNECT && IsBlocked((PTDI_REQUEST_KERNEL_CONNECT)&stack->Parameters)) {
            InterlockedIncrement(&Blocked);
            return CompleteIrp(Irp, STATUS_REMOTE_NOT_LISTENING, 0);
        }
        file = FindFile(stack->FileObject);
        if (file != NULL && stack->MinorFunction == TDI_SET_EVENT_HANDLER)
            WrapHandler(file, (PTDI_REQUEST_KERNEL_SET_EVENT)&stack->Parameters);
        Watch(Device, Irp, OnRequestComplete);
        break;
    case IRP_MJ_CLOSE:
        ForgetFile(stack->FileObject);
        break;
    }
    return Originals[major](Device, Irp);
}

static void NTAPI Unload(PDRIVER_OBJECT Driver)
{
    ULONG i;

    UNREFERENCED_PARAMETER(Driver);
    for (i = 0; i <= IRP_MJ_MAXIMUM_FUNCTION; i++)
        InterlockedExchangePointer((PVOID *)&Transport->MajorFunction[i], Originals[i]);
    ObDereferenceObject(Transport);
    Log("%d files, %d connects, %d accepts, %d offers, %d indications, %d blocked; %d files left, %d requests left", FilesSeen, Connects,
        Accepts, Offers, Indications, Blocked, FilesLeft, RequestsLeft);
}

NTSTATUS NTAPI DriverEntry(PDRIVER_OBJECT Driver, PUNICODE_STRING RegistryPath)
{
    UNICODE_STRING name = RTL_CONSTANT_STRING(L"\\Device\\Tcp");
    HANDLE key = OpenParameters(RegistryPath);
    PFILE_OBJECT file;
    PDEVICE_OBJECT device;
    NTSTATUS status;
    ULONG i;

    BlockedPort = ReadNumber(key, L"Block", 0);
    CloseParameters(key);
    InitializeListHead(&Files);
    KeInitializeSpinLock(&FilesLock);

    status = IoGetDeviceObjectPointer(&name, FILE_READ_ATTRIBUTES, &file, &device);
    if (!NT_SUCCESS(status))
        return status;
    /* The device's driver stays as long as somebody refers to it; the file is no longer needed. */
    Transport = device->DriverObject;
    ObReferenceObject(Transport);
    ObDereferenceObject(file);
    for (i = 0; i <= IRP_MJ_MAXIMUM_FUNCTION; i++)
        Originals[i] = InterlockedExchangePointer((PVOID *)&Transport->MajorFunction[i], Dispatch);
    Driver->DriverUnload = Unload;
    return STATUS_SUCCESS;
}
