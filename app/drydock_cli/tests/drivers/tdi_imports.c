/* What tdi.sys exports: copies, default handlers, NetBIOS addresses, user requests, plug and play (C-045, D-210 to D-261). */
#define FAMILY "tdi_imports"
#include "check.h"

TDI_IMPORT(NTSTATUS, TdiCopyBufferToMdl, PVOID, ULONG, ULONG, PMDL, ULONG, PULONG);
TDI_IMPORT(NTSTATUS, TdiCopyMdlToBuffer, PMDL, ULONG, PVOID, ULONG, ULONG, PULONG);
TDI_IMPORT(NTSTATUS, TdiCopyMdlChainToMdlChain, PMDL, ULONG, PMDL, ULONG, PULONG);
TDI_IMPORT(void, TdiCopyBufferToMdlWithReservedMappingAtDpcLevel, PVOID, PMDL, ULONG, ULONG);
TDI_IMPORT(void, TdiMapBuffer, PMDL);
TDI_IMPORT(void, TdiUnmapBuffer, PMDL);
TDI_IMPORT(NTSTATUS, TdiDefaultConnectHandler, PVOID, LONG, PVOID, LONG, PVOID, LONG, PVOID, PVOID *, PIRP *);
TDI_IMPORT(NTSTATUS, TdiDefaultDisconnectHandler, PVOID, PVOID, LONG, PVOID, LONG, PVOID, ULONG);
TDI_IMPORT(NTSTATUS, TdiDefaultErrorHandler, PVOID, NTSTATUS);
TDI_IMPORT(NTSTATUS, TdiDefaultReceiveHandler, PVOID, PVOID, ULONG, ULONG, ULONG, PULONG, PVOID, PIRP *);
TDI_IMPORT(NTSTATUS, TdiDefaultRcvExpeditedHandler, PVOID, PVOID, ULONG, ULONG, ULONG, PULONG, PVOID, PIRP *);
TDI_IMPORT(NTSTATUS, TdiDefaultRcvDatagramHandler, PVOID, LONG, PVOID, LONG, PVOID, ULONG, ULONG, ULONG, PULONG, PVOID, PIRP *);
TDI_IMPORT(NTSTATUS, TdiDefaultChainedReceiveHandler, PVOID, PVOID, ULONG, ULONG, ULONG, PMDL, PVOID);
TDI_IMPORT(NTSTATUS, TdiDefaultChainedRcvExpeditedHandler, PVOID, PVOID, ULONG, ULONG, ULONG, PMDL, PVOID);
TDI_IMPORT(NTSTATUS, TdiDefaultChainedRcvDatagramHandler, PVOID, LONG, PVOID, LONG, PVOID, ULONG, ULONG, ULONG, PMDL, PVOID);
TDI_IMPORT(NTSTATUS, TdiDefaultSendPossibleHandler, PVOID, PVOID, ULONG);
TDI_IMPORT(void, TdiReturnChainedReceives, PVOID *, ULONG);
TDI_IMPORT(BOOLEAN, TdiMatchPdoWithChainedReceiveContext, PVOID, PVOID);
TDI_IMPORT(NTSTATUS, TdiMapUserRequest, PDEVICE_OBJECT, PIRP, PIO_STACK_LOCATION);
TDI_IMPORT(void, TdiBuildNetbiosAddress, const UCHAR *, BOOLEAN, PVOID);
TDI_IMPORT(NTSTATUS, TdiBuildNetbiosAddressEa, PVOID, BOOLEAN, const UCHAR *);
TDI_IMPORT(NTSTATUS, TdiOpenNetbiosAddress, PHANDLE, PVOID, PUNICODE_STRING, const UCHAR *);
TDI_IMPORT(void, TdiInitialize, void);
TDI_IMPORT(BOOLEAN, CTEInitialize, void);
TDI_IMPORT(ULONG, CTESystemUpTime, void);
TDI_IMPORT(NTSTATUS, TdiRegisterPnPHandlers, PVOID, ULONG, PHANDLE);
TDI_IMPORT(NTSTATUS, TdiDeregisterPnPHandlers, HANDLE);
TDI_IMPORT(NTSTATUS, TdiEnumerateAddresses, HANDLE);
TDI_IMPORT(NTSTATUS, TdiRegisterNotificationHandler, PVOID, PVOID, PHANDLE);
TDI_IMPORT(NTSTATUS, TdiDeregisterNotificationHandler, HANDLE);
TDI_IMPORT(NTSTATUS, TdiRegisterAddressChangeHandler, PVOID, PVOID, PHANDLE);
TDI_IMPORT(NTSTATUS, TdiDeregisterAddressChangeHandler, HANDLE);
TDI_IMPORT(NTSTATUS, TdiRegisterProvider, PUNICODE_STRING, PHANDLE);
TDI_IMPORT(NTSTATUS, TdiDeregisterProvider, HANDLE);
TDI_IMPORT(NTSTATUS, TdiProviderReady, HANDLE);
TDI_IMPORT(NTSTATUS, TdiRegisterDeviceObject, PUNICODE_STRING, PHANDLE);
TDI_IMPORT(NTSTATUS, TdiDeregisterDeviceObject, HANDLE);
TDI_IMPORT(NTSTATUS, TdiRegisterNetAddress, PVOID, PUNICODE_STRING, PVOID, PHANDLE);
TDI_IMPORT(NTSTATUS, TdiDeregisterNetAddress, HANDLE);
TDI_IMPORT(NTSTATUS, TdiPnPPowerRequest, PUNICODE_STRING, PVOID, PVOID, PVOID, PVOID);
TDI_IMPORT(void, TdiPnPPowerComplete, HANDLE, PVOID, NTSTATUS);

static PMDL Describe(PVOID Buffer, ULONG Bytes)
{
    PMDL mdl = IoAllocateMdl(Buffer, Bytes, FALSE, FALSE, NULL);

    MmBuildMdlForNonPagedPool(mdl);
    return mdl;
}

static void Copies(void)
{
    UCHAR *from = ExAllocatePoolWithTag(NonPagedPool, 32, TEST_TAG), *to = from + 16;
    PMDL head, tail, other;
    ULONG copied = 77;
    char text[12] = "";

    RtlCopyMemory(from, "0123456789abcdef", 16);
    RtlZeroMemory(to, 16);
    /* Eight bytes in two parts. */
    head = Describe(to, 3);
    tail = Describe(to + 8, 5);
    head->Next = tail;
    CHECK_STATUS(STATUS_SUCCESS, CALL(TdiCopyBufferToMdl)(from, 2, 5, head, 1, &copied));
    CHECK_NUMBER(5, copied);
    CHECK(to[0] == 0 && to[1] == '2' && to[2] == '3' && to[3] == 0 && to[8] == '4' && to[10] == '6' && to[11] == 0);
    CHECK_STATUS(STATUS_BUFFER_OVERFLOW, CALL(TdiCopyBufferToMdl)(from, 0, 16, head, 0, &copied));
    CHECK_NUMBER(8, copied);
    CHECK_STATUS(STATUS_SUCCESS, CALL(TdiCopyMdlToBuffer)(head, 2, text, 1, sizeof(text), &copied));
    CHECK(copied == 6 && text[0] == 0 && text[1] == '2' && text[6] == '7' && text[7] == 0);
    CHECK_STATUS(STATUS_BUFFER_OVERFLOW, CALL(TdiCopyMdlToBuffer)(head, 0, text, 0, 4, &copied));
    CHECK_NUMBER(4, copied);
    other = Describe(from, 16);
    CHECK_STATUS(STATUS_BUFFER_OVERFLOW, CALL(TdiCopyMdlChainToMdlChain)(head, 1, other, 10, &copied));
    CHECK_NUMBER(6, copied);
    CHECK(from[10] == '1' && from[15] == '6');
    CALL(TdiCopyBufferToMdlWithReservedMappingAtDpcLevel)(from, head, 0, 4);
    CHECK(to[0] == '0' && to[2] == '2' && to[8] == '3');
    /* No effect since XP. */
    CALL(TdiMapBuffer)(head);
    CALL(TdiUnmapBuffer)(head);
    IoFreeMdl(other);
    IoFreeMdl(tail);
    IoFreeMdl(head);
    ExFreePoolWithTag(from, TEST_TAG);
}

static void Defaults(void)
{
    PVOID connection = NULL;
    PIRP irp = NULL;
    ULONG taken = 0;

    CHECK_STATUS(STATUS_CONNECTION_REFUSED, CALL(TdiDefaultConnectHandler)(NULL, 0, NULL, 0, NULL, 0, NULL, &connection, &irp));
    CHECK_STATUS(STATUS_SUCCESS, CALL(TdiDefaultDisconnectHandler)(NULL, NULL, 0, NULL, 0, NULL, 0));
    CHECK_STATUS(STATUS_SUCCESS, CALL(TdiDefaultErrorHandler)(NULL, STATUS_CONNECTION_RESET));
    CHECK_STATUS(STATUS_DATA_NOT_ACCEPTED, CALL(TdiDefaultReceiveHandler)(NULL, NULL, 0, 0, 0, &taken, NULL, &irp));
    CHECK_STATUS(STATUS_DATA_NOT_ACCEPTED, CALL(TdiDefaultRcvExpeditedHandler)(NULL, NULL, 0, 0, 0, &taken, NULL, &irp));
    CHECK_STATUS(STATUS_DATA_NOT_ACCEPTED, CALL(TdiDefaultRcvDatagramHandler)(NULL, 0, NULL, 0, NULL, 0, 0, 0, &taken, NULL, &irp));
    CHECK_STATUS(STATUS_DATA_NOT_ACCEPTED, CALL(TdiDefaultChainedReceiveHandler)(NULL, NULL, 0, 0, 0, NULL, NULL));
    CHECK_STATUS(STATUS_DATA_NOT_ACCEPTED, CALL(TdiDefaultChainedRcvExpeditedHandler)(NULL, NULL, 0, 0, 0, NULL, NULL));
    CHECK_STATUS(STATUS_DATA_NOT_ACCEPTED, CALL(TdiDefaultChainedRcvDatagramHandler)(NULL, 0, NULL, 0, NULL, 0, 0, 0, NULL, NULL));
    CHECK_STATUS(STATUS_SUCCESS, CALL(TdiDefaultSendPossibleHandler)(NULL, NULL, 0));
    CHECK(connection == NULL && irp == NULL && taken == 0);
    /* None to give back, and no descriptor is of a device of this driver's. */
    CALL(TdiReturnChainedReceives)(&connection, 0);
    CHECK(!CALL(TdiMatchPdoWithChainedReceiveContext)(NULL, NULL));
}

static void Netbios(void)
{
    static const UCHAR Server[17] = "SERVER          ";
    UNICODE_STRING none = RTL_CONSTANT_STRING(L"\\Device\\NetBT_Nobody");
    UCHAR address[26], ea[51];
    HANDLE handle = NULL;

    CALL(TdiBuildNetbiosAddress)(Server, TRUE, address);
    CHECK(*(PULONG)address == 1 && address[4] == 18 && address[6] == 17 && address[8] == 1);
    CHECK_NUMBER(16, RtlCompareMemory(address + 10, Server, 16));
    CHECK_STATUS(STATUS_SUCCESS, CALL(TdiBuildNetbiosAddressEa)(ea, FALSE, Server));
    CHECK(ea[5] == 16 && ea[6] == 26 && memcmp(ea + 8, "TransportAddress", 17) == 0);
    CHECK(ea[33] == 0 && RtlCompareMemory(ea + 35, Server, 16) == 16);
    CHECK_STATUS(STATUS_OBJECT_NAME_NOT_FOUND, CALL(TdiOpenNetbiosAddress)(&handle, ea, &none, Server));
    CHECK(handle == NULL);
}

/* A user program's IOCTL_TDI_DISASSOCIATE_ADDRESS becomes the request that drivers send; another code none. */
static void UserRequests(void)
{
    PIRP irp = IoAllocateIrp(1, FALSE);
    PIO_STACK_LOCATION location;

    IoSetNextIrpStackLocation(irp);
    location = IoGetCurrentIrpStackLocation(irp);
    location->MajorFunction = IRP_MJ_DEVICE_CONTROL;
    location->Parameters.DeviceIoControl.IoControlCode = 0x00210030;
    CHECK_STATUS(STATUS_SUCCESS, CALL(TdiMapUserRequest)(NULL, irp, location));
    CHECK(location->MajorFunction == IRP_MJ_INTERNAL_DEVICE_CONTROL && location->MinorFunction == 2);
    location->MajorFunction = IRP_MJ_DEVICE_CONTROL;
    location->Parameters.DeviceIoControl.IoControlCode = 0x00217FFC;
    CHECK_STATUS(STATUS_NOT_IMPLEMENTED, CALL(TdiMapUserRequest)(NULL, irp, location));
    CHECK_NUMBER(IRP_MJ_DEVICE_CONTROL, location->MajorFunction);
    IoFreeIrp(irp);
}

/* A client and a provider in one driver. */

static UNICODE_STRING DeviceName = RTL_CONSTANT_STRING(L"\\Device\\OwnTransport");
static volatile LONG Bound, Unbound, Added, Deleted, Powered, PowerEnded;
static HANDLE Client;
static NTSTATUS PowerStatus;

static BOOLEAN IsOurs(PUNICODE_STRING Name)
{
    return RtlEqualUnicodeString(Name, &DeviceName, TRUE);
}

/* 1: a device comes; 2: it goes. */
static void NTAPI OnBinding(ULONG Opcode, PUNICODE_STRING Name, PCWSTR List)
{
    (void)List;
    if (Name != NULL && Name->Length != 0 && IsOurs(Name))
        InterlockedIncrement(Opcode == 1 ? &Bound : Opcode == 2 ? &Unbound : &Powered);
}

static void NTAPI OnBind(PUNICODE_STRING Name)
{
    if (IsOurs(Name))
        InterlockedIncrement(&Bound);
}

static void NTAPI OnUnbind(PUNICODE_STRING Name)
{
    if (IsOurs(Name))
        InterlockedIncrement(&Unbound);
}

static void NTAPI OnAdd(PVOID Address, PUNICODE_STRING Name, PVOID Context)
{
    (void)Context;
    if (IsOurs(Name) && ((PUCHAR)Address)[4] == 192)
        InterlockedIncrement(&Added);
}

static void NTAPI OnDelete(PVOID Address, PUNICODE_STRING Name, PVOID Context)
{
    (void)Context;
    if (IsOurs(Name) && ((PUCHAR)Address)[4] == 192)
        InterlockedIncrement(&Deleted);
}

static NTSTATUS NTAPI OnPower(PUNICODE_STRING Name, PVOID Event, PVOID One, PVOID Two)
{
    (void)Name, (void)Event, (void)One, (void)Two;
    InterlockedIncrement(&Powered);
    return STATUS_PENDING;
}

static void NTAPI OnPowerEnd(PVOID Event, NTSTATUS Status)
{
    (void)Event;
    PowerStatus = Status;
    InterlockedIncrement(&PowerEnded);
}

typedef struct _CLIENT_INFORMATION {
    UCHAR MajorVersion, MinorVersion;
    PUNICODE_STRING Name;
    PVOID Power, Binding, Unbinding, Add, Delete;
} CLIENT_INFORMATION;

static void PlugAndPlay(void)
{
    static const UCHAR Address[] = {4, 0, 2, 0, 192, 0, 2, 1};
    UNICODE_STRING providerName = RTL_CONSTANT_STRING(L"OwnTransport");
    CLIENT_INFORMATION information = {2, 0, &providerName, OnPower, OnBinding, NULL, OnAdd, OnDelete};
    HANDLE provider, device, address, notification, change;
    ULONG_PTR event[8] = {0};
    LARGE_INTEGER tick = {.QuadPart = -200000};
    ULONG upTime;

    CALL(TdiInitialize)();
    CHECK(CALL(CTEInitialize)());
    upTime = CALL(CTESystemUpTime)();
    KeDelayExecutionThread(KernelMode, FALSE, &tick);
    CHECK(CALL(CTESystemUpTime)() > upTime);
    CHECK_STATUS(STATUS_SUCCESS, CALL(TdiRegisterProvider)(&providerName, &provider));
    CHECK_STATUS(STATUS_SUCCESS, CALL(TdiRegisterDeviceObject)(&DeviceName, &device));
    CHECK_STATUS(STATUS_SUCCESS, CALL(TdiRegisterPnPHandlers)(&information, sizeof(information), &Client));
    CHECK_STATUS((NTSTATUS)0xC0010005, CALL(TdiRegisterPnPHandlers)(&information, 8, &notification));
    CHECK_NUMBER(1, Bound);
    CHECK_STATUS(STATUS_SUCCESS, CALL(TdiRegisterNetAddress)((PVOID)Address, &DeviceName, NULL, &address));
    CHECK_NUMBER(1, Added);
    CHECK_STATUS(STATUS_SUCCESS, CALL(TdiProviderReady)(provider));
    CHECK_STATUS(STATUS_SUCCESS, CALL(TdiEnumerateAddresses)(Client));
    CHECK_NUMBER(2, Added);
    CHECK_STATUS(STATUS_SUCCESS, CALL(TdiRegisterNotificationHandler)(OnBind, OnUnbind, &notification));
    CHECK_NUMBER(2, Bound);
    CHECK_STATUS(STATUS_SUCCESS, CALL(TdiRegisterAddressChangeHandler)(OnAdd, OnDelete, &change));
    CHECK_NUMBER(3, Added);

    Powered = 0;
    CHECK_STATUS(STATUS_PENDING, CALL(TdiPnPPowerRequest)(&DeviceName, event, NULL, NULL, OnPowerEnd));
    CHECK(Powered == 1 && PowerEnded == 0);
    CALL(TdiPnPPowerComplete)(Client, event, STATUS_DEVICE_BUSY);
    CHECK(PowerEnded == 1 && PowerStatus == STATUS_DEVICE_BUSY);

    CHECK_STATUS(STATUS_SUCCESS, CALL(TdiDeregisterNetAddress)(address));
    CHECK_NUMBER(2, Deleted);
    CHECK_STATUS(STATUS_SUCCESS, CALL(TdiDeregisterDeviceObject)(device));
    CHECK_NUMBER(2, Unbound);
    CHECK_STATUS(STATUS_SUCCESS, CALL(TdiDeregisterAddressChangeHandler)(change));
    CHECK_STATUS(STATUS_SUCCESS, CALL(TdiDeregisterNotificationHandler)(notification));
    CHECK_STATUS(STATUS_SUCCESS, CALL(TdiDeregisterPnPHandlers)(Client));
    CHECK_STATUS(STATUS_SUCCESS, CALL(TdiDeregisterProvider)(provider));
    CHECK(!NT_SUCCESS(CALL(TdiDeregisterProvider)(provider)));
}

static void Checks(PUNICODE_STRING RegistryPath)
{
    (void)RegistryPath;
    Copies();
    Defaults();
    Netbios();
    UserRequests();
    PlugAndPlay();
}
