/*
 * Expedited data between two endpoints of this driver, each way: received by handlers, by requests that wait for it, and by
 * requests that come late. It keeps to port Port of the loopback interface. MarksOne says that the network has one urgent byte at
 * a time, as TCP has it, and not as many as are sent.
 */
#define FAMILY "expedited"
#include "check.h"
#include "open.h"
#include <tdikrnl.h>

#ifndef TDI_RECEIVE_NO_PUSH
#define TDI_RECEIVE_NO_PUSH 0x4000
#endif

#define LONG_SEND (12 << 20)
#define PLENTY 20000 /* more than the transport keeps for a client that takes none */
#define PATIENCE 20000 /* milliseconds */

typedef struct {
    PIRP Irp;
    PMDL Mdl;
    KEVENT Ended;
    NTSTATUS Status;
    ULONG Length;
    LONG Place; /* among all that have ended */
} OPERATION;

typedef struct {
    HANDLE Handles[2];
    PFILE_OBJECT Address, Endpoint;
    char Normal[16], Expedited[16]; /* as handlers were shown them */
    volatile LONG NormalLength, ExpeditedLength;
    LONG ToNormalHandler; /* expedited bytes that were shown to the handler of normal data */
} SIDE;

static SIDE Near, Far;
static BOOLEAN MarksOne;
static LONG Places;

static NTSTATUS NTAPI OnEnded(PDEVICE_OBJECT Device, PIRP Irp, PVOID Context)
{
    OPERATION *operation = Context;

    (void)Device;
    operation->Status = Irp->IoStatus.Status;
    operation->Length = (ULONG)Irp->IoStatus.Information;
    operation->Place = InterlockedIncrement(&Places);
    KeSetEvent(&operation->Ended, IO_NO_INCREMENT, FALSE);
    return STATUS_MORE_PROCESSING_REQUIRED;
}

/* The macros ask whether there is one. */
static PIO_COMPLETION_ROUTINE Routine = OnEnded;

static void Prepare(OPERATION *Operation, PFILE_OBJECT File, const void *Buffer, ULONG Length)
{
    RtlZeroMemory(Operation, sizeof(*Operation));
    KeInitializeEvent(&Operation->Ended, NotificationEvent, FALSE);
    Operation->Irp = IoAllocateIrp(IoGetRelatedDeviceObject(File)->StackSize, FALSE);
    if (Buffer != NULL) {
        Operation->Mdl = IoAllocateMdl((PVOID)Buffer, Length, FALSE, FALSE, NULL);
        MmBuildMdlForNonPagedPool(Operation->Mdl);
    }
}

static NTSTATUS End(OPERATION *Operation)
{
    LARGE_INTEGER patience = Milliseconds(PATIENCE);

    if (KeWaitForSingleObject(&Operation->Ended, Executive, KernelMode, FALSE, &patience) == STATUS_TIMEOUT) {
        IoCancelIrp(Operation->Irp);
        KeWaitForSingleObject(&Operation->Ended, Executive, KernelMode, FALSE, NULL);
    }
    if (Operation->Mdl != NULL)
        IoFreeMdl(Operation->Mdl);
    IoFreeIrp(Operation->Irp);
    return Operation->Status;
}

static void StartSend(OPERATION *Operation, SIDE *From, const void *Bytes, ULONG Length, ULONG Flags)
{
    PDEVICE_OBJECT device = IoGetRelatedDeviceObject(From->Endpoint);

    Prepare(Operation, From->Endpoint, Bytes, Length);
    TdiBuildSend(Operation->Irp, device, From->Endpoint, Routine, Operation, Operation->Mdl, Flags, Length);
    IoCallDriver(device, Operation->Irp);
}

static void StartReceive(OPERATION *Operation, SIDE *To, void *Room, ULONG Length, ULONG Flags)
{
    PDEVICE_OBJECT device = IoGetRelatedDeviceObject(To->Endpoint);

    Prepare(Operation, To->Endpoint, Room, Length);
    TdiBuildReceive(Operation->Irp, device, To->Endpoint, Routine, Operation, Operation->Mdl, Flags, Length);
    IoCallDriver(device, Operation->Irp);
}

static void Send(SIDE *From, const char *Text, ULONG Flags)
{
    OPERATION operation;

    StartSend(&operation, From, Text, (ULONG)strlen(Text), Flags);
    CHECK_STATUS(STATUS_SUCCESS, End(&operation));
    CHECK_NUMBER(strlen(Text), operation.Length);
}

/* What one receive brings, as a text. */
static const char *Receive(SIDE *To, ULONG Flags)
{
    static char Room[16];
    OPERATION operation;

    RtlZeroMemory(Room, sizeof(Room));
    StartReceive(&operation, To, Room, sizeof(Room) - 1, Flags);
    return End(&operation) == STATUS_SUCCESS ? Room : "a failure";
}

/* Handlers */

static void Show(SIDE *To, ULONG Flags, ULONG Length, const void *Bytes, PULONG Taken)
{
    BOOLEAN expedited = (Flags & TDI_RECEIVE_EXPEDITED) != 0;
    char *text = expedited ? To->Expedited : To->Normal;
    volatile LONG *length = expedited ? &To->ExpeditedLength : &To->NormalLength;

    CHECK(!(Flags & TDI_RECEIVE_EXPEDITED) != !(Flags & TDI_RECEIVE_NORMAL));
    if (CHECK(*length + Length < sizeof(To->Normal))) {
        RtlCopyMemory(text + *length, Bytes, Length);
        *length += Length;
    }
    *Taken = Length;
}

static NTSTATUS NTAPI OnReceive(PVOID Event, CONNECTION_CONTEXT Connection, ULONG Flags, ULONG Indicated, ULONG Available,
                                PULONG Taken, PVOID Bytes, PIRP *Irp)
{
    SIDE *to = Event;

    (void)Connection;
    (void)Available;
    (void)Irp;
    if (Flags & TDI_RECEIVE_EXPEDITED)
        to->ToNormalHandler += Indicated;
    Show(to, Flags, Indicated, Bytes, Taken);
    return STATUS_SUCCESS;
}

static NTSTATUS NTAPI OnExpedited(PVOID Event, CONNECTION_CONTEXT Connection, ULONG Flags, ULONG Indicated, ULONG Available,
                                  PULONG Taken, PVOID Bytes, PIRP *Irp)
{
    (void)Connection;
    (void)Available;
    (void)Irp;
    CHECK(Flags & TDI_RECEIVE_EXPEDITED);
    Show(Event, Flags, Indicated, Bytes, Taken);
    return STATUS_SUCCESS;
}

static void SetHandler(SIDE *Side, LONG Event, PVOID Handler)
{
    PDEVICE_OBJECT device = IoGetRelatedDeviceObject(Side->Address);
    OPERATION operation;

    Prepare(&operation, Side->Address, NULL, 0);
    TdiBuildSetEventHandler(operation.Irp, device, Side->Address, Routine, &operation, Event, Handler, Side);
    IoCallDriver(device, operation.Irp);
    CHECK_STATUS(STATUS_SUCCESS, End(&operation));
}

static void Forget(SIDE *To)
{
    RtlZeroMemory(To->Normal, sizeof(To->Normal));
    RtlZeroMemory(To->Expedited, sizeof(To->Expedited));
    To->NormalLength = To->ExpeditedLength = To->ToNormalHandler = 0;
}

static void AwaitShown(SIDE *To, LONG Length)
{
    ULONG i;

    for (i = 0; i < PATIENCE && To->NormalLength + To->ExpeditedLength < Length; i++)
        Sleep(1);
}

static void ByHandlers(SIDE *From, SIDE *To)
{
    SetHandler(To, TDI_EVENT_RECEIVE, OnReceive);
    SetHandler(To, TDI_EVENT_RECEIVE_EXPEDITED, OnExpedited);

    Forget(To);
    Send(From, "n", 0);
    Send(From, "X", TDI_SEND_EXPEDITED);
    Send(From, "m", 0);
    AwaitShown(To, 3);
    CHECK_TEXT("nm", To->Normal);
    CHECK_TEXT("X", To->Expedited);
    CHECK_NUMBER(0, To->ToNormalHandler);

    /* Where there is one urgent byte, the last one is it. */
    Forget(To);
    Send(From, "ABCD", TDI_SEND_EXPEDITED);
    AwaitShown(To, 4);
    CHECK_TEXT(MarksOne ? "ABC" : "", To->Normal);
    CHECK_TEXT(MarksOne ? "D" : "ABCD", To->Expedited);

    /* ... and only until the next one is sent, unless it was received before. */
    Forget(To);
    Send(From, "1", TDI_SEND_EXPEDITED);
    Send(From, "2", TDI_SEND_EXPEDITED);
    Send(From, "3", TDI_SEND_EXPEDITED);
    AwaitShown(To, 3);
    CHECK_NUMBER(3, To->NormalLength + To->ExpeditedLength);
    if (MarksOne)
        CHECK(To->ExpeditedLength > 0 && To->Expedited[To->ExpeditedLength - 1] == '3');
    else
        CHECK_TEXT("123", To->Expedited);

    SetHandler(To, TDI_EVENT_RECEIVE_EXPEDITED, NULL);
    Forget(To);
    Send(From, "n", 0);
    Send(From, "Y", TDI_SEND_EXPEDITED);
    AwaitShown(To, 2);
    CHECK_TEXT("n", To->Normal);
    CHECK_TEXT("Y", To->Expedited);
    CHECK_NUMBER(1, To->ToNormalHandler);
    SetHandler(To, TDI_EVENT_RECEIVE, NULL);
}

/* Requests */

static void ByLateRequests(SIDE *From, SIDE *To)
{
    Send(From, "pre", 0);
    Send(From, "L", TDI_SEND_EXPEDITED);
    Send(From, "post", 0);
    Sleep(100);
    CHECK_TEXT("pre", Receive(To, 0));
    CHECK_TEXT("L", Receive(To, 0));
    CHECK_TEXT("post", Receive(To, 0));

    /* There is nothing before it. */
    Send(From, "M", TDI_SEND_EXPEDITED);
    Send(From, "next", 0);
    Sleep(100);
    CHECK_TEXT("next", Receive(To, TDI_RECEIVE_NORMAL));
    CHECK_TEXT("M", Receive(To, TDI_RECEIVE_EXPEDITED));
}

static void ByRequests(SIDE *From, SIDE *To)
{
    char normal[9] = {0}, expedited[9] = {0};
    OPERATION first, second;

    /* Each takes its kind. */
    StartReceive(&first, To, normal, 8, TDI_RECEIVE_NORMAL);
    StartReceive(&second, To, expedited, 8, TDI_RECEIVE_EXPEDITED);
    Send(From, "E", TDI_SEND_EXPEDITED);
    CHECK_STATUS(STATUS_SUCCESS, End(&second));
    CHECK_TEXT("E", expedited);
    CHECK_NUMBER(0, KeReadStateEvent(&first.Ended));
    Send(From, "N", 0);
    CHECK_STATUS(STATUS_SUCCESS, End(&first));
    CHECK_TEXT("N", normal);

    /* ... or either. */
    StartReceive(&first, To, normal, 8, 0);
    StartReceive(&second, To, expedited, 8, TDI_RECEIVE_NORMAL | TDI_RECEIVE_EXPEDITED);
    Send(From, "F", TDI_SEND_EXPEDITED);
    CHECK_STATUS(STATUS_SUCCESS, End(&first));
    CHECK_TEXT("F", normal);
    Send(From, "G", 0);
    CHECK_STATUS(STATUS_SUCCESS, End(&second));
    CHECK_TEXT("G", expedited);

    /* One that waits to be full does not wait on. */
    StartReceive(&first, To, normal, 8, TDI_RECEIVE_NORMAL | TDI_RECEIVE_NO_PUSH);
    Send(From, "abc", 0);
    Send(From, "X", TDI_SEND_EXPEDITED);
    CHECK_STATUS(STATUS_SUCCESS, End(&first));
    CHECK_NUMBER(3, first.Length);
    CHECK_TEXT("abc", normal);
    CHECK_TEXT("X", Receive(To, TDI_RECEIVE_EXPEDITED));
}

/* More than the network takes waits in front of it; what is expedited does not wait with it. */
static void Overtaking(SIDE *From, SIDE *To)
{
    PUCHAR bytes = ExAllocatePoolWithTag(NonPagedPool, LONG_SEND, TEST_TAG);
    PUCHAR room = ExAllocatePoolWithTag(NonPagedPool, LONG_SEND, TEST_TAG);
    OPERATION whole, tail, expedited, normal, special;
    ULONG received = 0, before = 0;
    char byte = 0;

    if (!CHECK(bytes != NULL && room != NULL))
        return;
    RtlFillMemory(bytes, LONG_SEND, 'w');
    StartReceive(&special, To, &byte, 1, TDI_RECEIVE_EXPEDITED);
    StartSend(&whole, From, bytes, LONG_SEND, 0);
    StartSend(&tail, From, "tail", 4, 0);
    StartSend(&expedited, From, "O", 1, TDI_SEND_EXPEDITED);
    CHECK_NUMBER(0, KeReadStateEvent(&whole.Ended));
    while (received < LONG_SEND + 4) {
        if (!KeReadStateEvent(&special.Ended))
            before = received;
        StartReceive(&normal, To, room, LONG_SEND, TDI_RECEIVE_NORMAL);
        if (!CHECK(End(&normal) == STATUS_SUCCESS && normal.Length > 0))
            break;
        received += normal.Length;
    }
    CHECK_NUMBER(LONG_SEND + 4, received);
    CHECK(normal.Length >= 4 && RtlCompareMemory(room + normal.Length - 4, "tail", 4) == 4);
    CHECK_STATUS(STATUS_SUCCESS, End(&special));
    CHECK_NUMBER('O', byte);
    CHECK(before < LONG_SEND / 2);
    CHECK_STATUS(STATUS_SUCCESS, End(&whole));
    CHECK_STATUS(STATUS_SUCCESS, End(&tail));
    CHECK_STATUS(STATUS_SUCCESS, End(&expedited));
    CHECK(expedited.Place < whole.Place && whole.Place < tail.Place);
    ExFreePoolWithTag(room, TEST_TAG);
    ExFreePoolWithTag(bytes, TEST_TAG);
}

/* What the client does not take keeps its kind, and what is behind it waits. */
static void Plenty(SIDE *From, SIDE *To)
{
    PUCHAR bytes = ExAllocatePoolWithTag(NonPagedPool, PLENTY, TEST_TAG);
    char normal[9] = {0};
    OPERATION operation, behind;
    ULONG received = 0;

    if (!CHECK(bytes != NULL))
        return;
    RtlFillMemory(bytes, PLENTY, 'p');
    StartSend(&operation, From, bytes, PLENTY, TDI_SEND_EXPEDITED);
    CHECK_STATUS(STATUS_SUCCESS, End(&operation));
    Send(From, "n", 0);
    Sleep(1000);
    StartReceive(&behind, To, normal, 8, TDI_RECEIVE_NORMAL);
    CHECK_NUMBER(0, KeReadStateEvent(&behind.Ended));
    while (received < PLENTY) {
        StartReceive(&operation, To, bytes, PLENTY, TDI_RECEIVE_EXPEDITED);
        if (!CHECK(End(&operation) == STATUS_SUCCESS && operation.Length > 0))
            break;
        received += operation.Length;
    }
    CHECK_NUMBER(PLENTY, received);
    CHECK_STATUS(STATUS_SUCCESS, End(&behind));
    CHECK_TEXT("n", normal);
    ExFreePoolWithTag(bytes, TEST_TAG);
}

/* Both sides */

/* In the order of the network. */
#define PORT_OF(port) ((USHORT)((port) << 8 | (port) >> 8))
#define LOOPBACK 0x0100007f

static void OpenSide(SIDE *Side, USHORT Port)
{
    TA_IP_ADDRESS local = {1, {{TDI_ADDRESS_LENGTH_IP, TDI_ADDRESS_TYPE_IP, {{PORT_OF(Port), LOOPBACK, {0}}}}}};
    PVOID context = NULL;
    PDEVICE_OBJECT device;
    OPERATION operation;

    CHECK_STATUS(STATUS_SUCCESS, Open(TdiTransportAddress, &local, sizeof(local), &Side->Handles[0], &Side->Address));
    CHECK_STATUS(STATUS_SUCCESS, Open(TdiConnectionContext, &context, sizeof(context), &Side->Handles[1], &Side->Endpoint));
    device = IoGetRelatedDeviceObject(Side->Endpoint);
    Prepare(&operation, Side->Endpoint, NULL, 0);
    TdiBuildAssociateAddress(operation.Irp, device, Side->Endpoint, Routine, &operation, Side->Handles[0]);
    IoCallDriver(device, operation.Irp);
    CHECK_STATUS(STATUS_SUCCESS, End(&operation));
}

static void CloseSide(SIDE *Side)
{
    ZwClose(Side->Handles[1]);
    ObDereferenceObject(Side->Endpoint);
    ZwClose(Side->Handles[0]);
    ObDereferenceObject(Side->Address);
}

static void Connect(USHORT Port)
{
    TA_IP_ADDRESS remote = {1, {{TDI_ADDRESS_LENGTH_IP, TDI_ADDRESS_TYPE_IP, {{PORT_OF(Port), LOOPBACK, {0}}}}}};
    TDI_CONNECTION_INFORMATION called = {0};
    PDEVICE_OBJECT device = IoGetRelatedDeviceObject(Far.Endpoint);
    OPERATION listen, connect;

    called.RemoteAddressLength = sizeof(remote);
    called.RemoteAddress = &remote;
    Prepare(&listen, Far.Endpoint, NULL, 0);
    TdiBuildListen(listen.Irp, device, Far.Endpoint, Routine, &listen, 0, NULL, NULL);
    IoCallDriver(device, listen.Irp);
    Prepare(&connect, Near.Endpoint, NULL, 0);
    TdiBuildConnect(connect.Irp, device, Near.Endpoint, Routine, &connect, NULL, &called, NULL);
    IoCallDriver(device, connect.Irp);
    CHECK_STATUS(STATUS_SUCCESS, End(&connect));
    CHECK_STATUS(STATUS_SUCCESS, End(&listen));
}

static void Checks(PUNICODE_STRING RegistryPath)
{
    USHORT port = (USHORT)Setting(RegistryPath, L"Port");

    MarksOne = Setting(RegistryPath, L"MarksOne") != 0;
    OpenSide(&Far, port);
    OpenSide(&Near, 0);
    Connect(port);
    /* First, while nobody has asked for anything yet. */
    ByLateRequests(&Near, &Far);
    ByLateRequests(&Far, &Near);
    ByRequests(&Near, &Far);
    ByRequests(&Far, &Near);
    ByHandlers(&Near, &Far);
    ByHandlers(&Far, &Near);
    Overtaking(&Near, &Far);
    if (!MarksOne)
        Plenty(&Near, &Far);
    CloseSide(&Near);
    CloseSide(&Far);
}
