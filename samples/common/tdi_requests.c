#define DRIVER_NAME "tdi_requests"
#include "tdi_requests.h"

#define TCP_DEVICE L"\\Device\\Tcp"
#define EA_BYTES_MAX 64

/* One entry of an EA list. The value follows the name and its terminator, at an odd address. */
typedef union _EA_BUFFER {
    FILE_FULL_EA_INFORMATION Entry;
    UCHAR Room[EA_BYTES_MAX];
} EA_BUFFER;

/* Addresses and opening */

NTSTATUS OpenTransportFile(PTRANSPORT_FILE File, PCWSTR Device, PCSTR EaName, const void *EaValue, USHORT EaValueLength)
{
    UNICODE_STRING name;
    OBJECT_ATTRIBUTES attributes;
    IO_STATUS_BLOCK ioStatus;
    UCHAR nameLength = (UCHAR)strlen(EaName);
    EA_BUFFER ea;
    NTSTATUS status;

    RtlZeroMemory(File, sizeof(*File));
    RtlZeroMemory(&ea, sizeof(ea));
    ea.Entry.EaNameLength = nameLength;
    ea.Entry.EaValueLength = EaValueLength;
    RtlCopyMemory(ea.Entry.EaName, EaName, nameLength + 1);
    RtlCopyMemory(ea.Entry.EaName + nameLength + 1, EaValue, EaValueLength);

    RtlInitUnicodeString(&name, Device);
    InitializeObjectAttributes(&attributes, &name, OBJ_CASE_INSENSITIVE | OBJ_KERNEL_HANDLE, NULL, NULL);
    status = ZwCreateFile(&File->Handle, GENERIC_READ | GENERIC_WRITE | SYNCHRONIZE, &attributes, &ioStatus, NULL,
                          FILE_ATTRIBUTE_NORMAL, 0, FILE_OPEN, 0, &ea,
                          FIELD_OFFSET(FILE_FULL_EA_INFORMATION, EaName) + nameLength + 1 + EaValueLength);
    if (!NT_SUCCESS(status))
        return status;

    /* Requests name the file object, so a client keeps a reference through its pointer beside the handle. */
    status = ObReferenceObjectByHandle(File->Handle, 0, *IoFileObjectType, KernelMode, (PVOID *)&File->File, NULL);
    if (!NT_SUCCESS(status)) {
        ZwClose(File->Handle);
        File->Handle = NULL;
        return status;
    }
    File->Device = IoGetRelatedDeviceObject(File->File);
    return STATUS_SUCCESS;
}

BOOLEAN ParseIpAddress(PCSTR Text, PULONG Address)
{
    ULONG part, value;

    *Address = 0;
    for (part = 0; part < 4; part++) {
        if (part > 0 && *Text++ != '.')
            return FALSE;
        if (*Text < '0' || *Text > '9')
            return FALSE;
        for (value = 0; *Text >= '0' && *Text <= '9' && value <= 255; Text++)
            value = value * 10 + (ULONG)(*Text - '0');
        if (value > 255)
            return FALSE;
        *Address = *Address << 8 | value;
    }
    return *Text == '\0';
}

static USHORT SwapUshort(USHORT Value)
{
    return (USHORT)(Value << 8 | Value >> 8);
}

static ULONG SwapUlong(ULONG Value)
{
    return Value << 24 | (Value & 0xFF00) << 8 | (Value >> 8 & 0xFF00) | Value >> 24;
}

void FillIpAddress(PTA_IP_ADDRESS Address, const INTERNET_ADDRESS *From)
{
    RtlZeroMemory(Address, sizeof(*Address));
    Address->TAAddressCount = 1;
    Address->Address[0].AddressLength = TDI_ADDRESS_LENGTH_IP;
    Address->Address[0].AddressType = TDI_ADDRESS_TYPE_IP;
    Address->Address[0].Address[0].sin_port = SwapUshort(From->Port);
    Address->Address[0].Address[0].in_addr = SwapUlong(From->Address);
}

BOOLEAN ReadIpAddress(const void *Address, ULONG Length, PINTERNET_ADDRESS To)
{
    const TA_IP_ADDRESS *address = Address;

    if (Length < sizeof(*address) || address->TAAddressCount != 1 ||
        address->Address[0].AddressType != TDI_ADDRESS_TYPE_IP ||
        address->Address[0].AddressLength != TDI_ADDRESS_LENGTH_IP)
        return FALSE;
    To->Address = SwapUlong(address->Address[0].Address[0].in_addr);
    To->Port = SwapUshort(address->Address[0].Address[0].sin_port);
    return TRUE;
}

NTSTATUS OpenAddress(PTRANSPORT_FILE Address)
{
    static const INTERNET_ADDRESS any = { 0, 0 };

    return OpenAddressAt(Address, &any);
}

NTSTATUS OpenAddressAt(PTRANSPORT_FILE Address, const INTERNET_ADDRESS *Local)
{
    TA_IP_ADDRESS value;

    FillIpAddress(&value, Local);
    return OpenTransportFile(Address, TCP_DEVICE, TdiTransportAddress, &value, sizeof(value));
}

NTSTATUS OpenEndpoint(PTRANSPORT_FILE Endpoint, PVOID Context)
{
    return OpenTransportFile(Endpoint, TCP_DEVICE, TdiConnectionContext, &Context, sizeof(Context));
}

void CloseTransportFile(PTRANSPORT_FILE File, CLOSE_ORDER Order)
{
    if (File->File == NULL)
        return;
    /* The transport cleans up when the last handle goes, and closes when the last reference goes: either order is right. */
    if (Order == ReferenceFirst) {
        ObDereferenceObject(File->File);
        ZwClose(File->Handle);
    } else {
        ZwClose(File->Handle);
        ObDereferenceObject(File->File);
    }
    RtlZeroMemory(File, sizeof(*File));
}

/* Control requests */

/* An IRP of the calling thread, and what tells of its end. Stays in place until SendControl has returned. */
typedef struct _CONTROL_REQUEST {
    PIRP Irp;
    KEVENT Done;
    IO_STATUS_BLOCK IoStatus;
} CONTROL_REQUEST;

static NTSTATUS BeginControl(CONTROL_REQUEST *Control, UCHAR Minor, PTRANSPORT_FILE File)
{
    UNREFERENCED_PARAMETER(Minor); /* Microsoft's form of the macro ignores it; mingw-w64's ignores the file. */

    KeInitializeEvent(&Control->Done, NotificationEvent, FALSE);
    Control->Irp =
        TdiBuildInternalDeviceControlIrp(Minor, File->Device, File->File, &Control->Done, &Control->IoStatus);
    return Control->Irp != NULL ? STATUS_SUCCESS : STATUS_INSUFFICIENT_RESOURCES;
}

/* The event is waited for only after STATUS_PENDING: a request that fails at once may never signal it. */
static NTSTATUS SendControl(CONTROL_REQUEST *Control, PTRANSPORT_FILE File)
{
    NTSTATUS status = IoCallDriver(File->Device, Control->Irp);

    if (status != STATUS_PENDING)
        return status;
    KeWaitForSingleObject(&Control->Done, Executive, KernelMode, FALSE, NULL);
    return Control->IoStatus.Status;
}

NTSTATUS AssociateAddress(PTRANSPORT_FILE Endpoint, PTRANSPORT_FILE Address)
{
    CONTROL_REQUEST control;
    NTSTATUS status = BeginControl(&control, TDI_ASSOCIATE_ADDRESS, Endpoint);

    if (!NT_SUCCESS(status))
        return status;
    TdiBuildAssociateAddress(control.Irp, Endpoint->Device, Endpoint->File, NULL, NULL, Address->Handle);
    return SendControl(&control, Endpoint);
}

NTSTATUS DisassociateAddress(PTRANSPORT_FILE Endpoint)
{
    CONTROL_REQUEST control;
    NTSTATUS status = BeginControl(&control, TDI_DISASSOCIATE_ADDRESS, Endpoint);

    if (!NT_SUCCESS(status))
        return status;
    TdiBuildDisassociateAddress(control.Irp, Endpoint->Device, Endpoint->File, NULL, NULL);
    return SendControl(&control, Endpoint);
}

NTSTATUS Connect(PTRANSPORT_FILE Endpoint, const INTERNET_ADDRESS *Remote, LARGE_INTEGER Timeout)
{
    TDI_CONNECTION_INFORMATION information;
    TA_IP_ADDRESS address;
    CONTROL_REQUEST control;
    NTSTATUS status = BeginControl(&control, TDI_CONNECT, Endpoint);

    if (!NT_SUCCESS(status))
        return status;
    FillIpAddress(&address, Remote);
    RtlZeroMemory(&information, sizeof(information));
    information.RemoteAddressLength = sizeof(address);
    information.RemoteAddress = &address;
    TdiBuildConnect(control.Irp, Endpoint->Device, Endpoint->File, NULL, NULL, &Timeout, &information, NULL);
    return SendControl(&control, Endpoint);
}

NTSTATUS Disconnect(PTRANSPORT_FILE Endpoint, ULONG Flags, LARGE_INTEGER Timeout)
{
    CONTROL_REQUEST control;
    NTSTATUS status = BeginControl(&control, TDI_DISCONNECT, Endpoint);

    if (!NT_SUCCESS(status))
        return status;
    TdiBuildDisconnect(control.Irp, Endpoint->Device, Endpoint->File, NULL, NULL, &Timeout, Flags, NULL, NULL);
    return SendControl(&control, Endpoint);
}

NTSTATUS SetEventHandler(PTRANSPORT_FILE Address, LONG Event, PVOID Handler, PVOID Context)
{
    CONTROL_REQUEST control;
    NTSTATUS status = BeginControl(&control, TDI_SET_EVENT_HANDLER, Address);

    if (!NT_SUCCESS(status))
        return status;
    TdiBuildSetEventHandler(control.Irp, Address->Device, Address->File, NULL, NULL, Event, Handler, Context);
    return SendControl(&control, Address);
}

/* Transfers */

/* Keeps the IRP from the I/O manager: FinishTransfer frees it. May run at DISPATCH_LEVEL, and before IoCallDriver returns. */
static NTSTATUS NTAPI TransferDone(PDEVICE_OBJECT Device, PIRP Irp, PVOID Context)
{
    PTRANSFER transfer = Context;

    UNREFERENCED_PARAMETER(Device);
    UNREFERENCED_PARAMETER(Irp);
    KeSetEvent(&transfer->Done, IO_NETWORK_INCREMENT, FALSE);
    return STATUS_MORE_PROCESSING_REQUIRED;
}

void DiscardTransfer(PTRANSFER Transfer)
{
    if (Transfer->Mdl != NULL)
        IoFreeMdl(Transfer->Mdl);
    if (Transfer->Irp != NULL)
        IoFreeIrp(Transfer->Irp);
    Transfer->Mdl = NULL;
    Transfer->Irp = NULL;
}

NTSTATUS BeginTransfer(PTRANSPORT_FILE Endpoint, PTRANSFER Transfer, PVOID Buffer, ULONG Length)
{
    KeInitializeEvent(&Transfer->Done, NotificationEvent, FALSE);
    Transfer->Irp = IoAllocateIrp(Endpoint->Device->StackSize, FALSE);
    Transfer->Mdl = IoAllocateMdl(Buffer, Length, FALSE, FALSE, NULL);
    if (Transfer->Irp == NULL || Transfer->Mdl == NULL) {
        DiscardTransfer(Transfer);
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    MmBuildMdlForNonPagedPool(Transfer->Mdl);
    return STATUS_SUCCESS;
}

void KeepTransfer(PTRANSFER Transfer)
{
    IoSetCompletionRoutine(Transfer->Irp, TransferDone, Transfer, TRUE, TRUE, TRUE);
}

/* The completion routine runs whatever becomes of the request, so its event decides, not the returned status. */
NTSTATUS SendTransfer(PTRANSPORT_FILE Endpoint, PTRANSFER Transfer)
{
    KeepTransfer(Transfer);
    IoCallDriver(Endpoint->Device, Transfer->Irp);
    return STATUS_PENDING;
}

NTSTATUS StartSend(PTRANSPORT_FILE Endpoint, PTRANSFER Transfer, PVOID Buffer, ULONG Length)
{
    NTSTATUS status = BeginTransfer(Endpoint, Transfer, Buffer, Length);

    if (!NT_SUCCESS(status))
        return status;
    TdiBuildSend(Transfer->Irp, Endpoint->Device, Endpoint->File, NULL, NULL, Transfer->Mdl, 0, Length);
    return SendTransfer(Endpoint, Transfer);
}

NTSTATUS StartReceive(PTRANSPORT_FILE Endpoint, PTRANSFER Transfer, PVOID Buffer, ULONG Length)
{
    NTSTATUS status = BeginTransfer(Endpoint, Transfer, Buffer, Length);

    if (!NT_SUCCESS(status))
        return status;
    TdiBuildReceive(Transfer->Irp, Endpoint->Device, Endpoint->File, NULL, NULL, Transfer->Mdl, TDI_RECEIVE_NORMAL,
                    Length);
    return SendTransfer(Endpoint, Transfer);
}

NTSTATUS FinishTransfer(PTRANSFER Transfer, LARGE_INTEGER Patience, PULONG Count)
{
    NTSTATUS status;

    status = KeWaitForSingleObject(&Transfer->Done, Executive, KernelMode, FALSE, &Patience);
    if (status == STATUS_TIMEOUT) {
        /* A cancelled request ends soon, as cancelled or with its real result; until then the IRP is the transport's. */
        IoCancelIrp(Transfer->Irp);
        KeWaitForSingleObject(&Transfer->Done, Executive, KernelMode, FALSE, NULL);
    }
    status = Transfer->Irp->IoStatus.Status;
    *Count = (ULONG)Transfer->Irp->IoStatus.Information;
    DiscardTransfer(Transfer);
    return status;
}

NTSTATUS Send(PTRANSPORT_FILE Endpoint, PVOID Buffer, ULONG Length, LARGE_INTEGER Patience)
{
    TRANSFER transfer;
    ULONG count;
    NTSTATUS status = StartSend(Endpoint, &transfer, Buffer, Length);

    if (!NT_SUCCESS(status))
        return status;
    status = FinishTransfer(&transfer, Patience, &count);
    if (NT_SUCCESS(status) && count != Length)
        return STATUS_UNSUCCESSFUL; /* TCP takes all or fails; anything else would corrupt the stream. */
    return status;
}

NTSTATUS Receive(PTRANSPORT_FILE Endpoint, PVOID Buffer, ULONG Length, LARGE_INTEGER Patience, PULONG Count)
{
    TRANSFER transfer;
    NTSTATUS status = StartReceive(Endpoint, &transfer, Buffer, Length);

    if (!NT_SUCCESS(status))
        return status;
    return FinishTransfer(&transfer, Patience, Count);
}

/* What TDI_QUERY_ADDRESS_INFO returns of an IPv4 address; without gaps. */
#pragma pack(push, 1)
typedef struct _IP_ADDRESS_INFO {
    ULONG ActivityCount;
    TA_IP_ADDRESS Address;
} IP_ADDRESS_INFO, *PIP_ADDRESS_INFO;
#pragma pack(pop)

NTSTATUS QueryPort(PTRANSPORT_FILE Address, PUSHORT Port)
{
    PIP_ADDRESS_INFO info = ExAllocatePoolWithTag(NonPagedPool, sizeof(*info), SAMPLE_TAG);
    INTERNET_ADDRESS local;
    TRANSFER query;
    ULONG count = 0;
    NTSTATUS status;

    if (info == NULL)
        return STATUS_INSUFFICIENT_RESOURCES;
    status = BeginTransfer(Address, &query, info, sizeof(*info));
    if (NT_SUCCESS(status)) {
        TdiBuildQueryInformation(query.Irp, Address->Device, Address->File, NULL, NULL, TDI_QUERY_ADDRESS_INFO, query.Mdl);
        SendTransfer(Address, &query);
        status = FinishTransfer(&query, Milliseconds(10000), &count);
    }
    if (NT_SUCCESS(status) && (count < sizeof(*info) || !ReadIpAddress(&info->Address, sizeof(info->Address), &local)))
        status = STATUS_UNSUCCESSFUL; /* not an IPv4 address */
    if (NT_SUCCESS(status))
        *Port = local.Port;
    ExFreePoolWithTag(info, SAMPLE_TAG);
    return status;
}
