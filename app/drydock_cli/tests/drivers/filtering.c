/* What filters over a transport rely on while a client opens files, and how they are reached themselves (D-287 to D-290). */
#define FAMILY "filtering"
#include "check.h"
#include <tdi.h>
#include <tdikrnl.h>

IMPORT(NTSTATUS, ZwOpenProcessToken, HANDLE, ACCESS_MASK, PHANDLE);
IMPORT(NTSTATUS, ZwOpenThreadToken, HANDLE, ACCESS_MASK, BOOLEAN, PHANDLE);
IMPORT(NTSTATUS, ZwQueryInformationToken, HANDLE, ULONG, PVOID, ULONG, PULONG);

static UNICODE_STRING TcpName = RTL_CONSTANT_STRING(L"\\Device\\Tcp");
static UNICODE_STRING WatchName = RTL_CONSTANT_STRING(L"\\Device\\Watch"), AloneName = RTL_CONSTANT_STRING(L"\\Device\\WatchAlone");
static UNICODE_STRING WatchLink = RTL_CONSTANT_STRING(L"\\??\\Watch");
static UNICODE_STRING AloneLink = RTL_CONSTANT_STRING(L"\\DosDevices\\WatchAlone");

static PDEVICE_OBJECT Filter, Lower, Watch, Alone;
static PKTHREAD Opener;
static ULONG Opens;
static BOOLEAN IsOpen, IsDenied;

/* Decides, as firewalls do, by the user and the process that open. */
static void LookAtUser(void)
{
    UCHAR room[64];
    ULONG needed = 0;
    HANDLE token = NULL;

    CHECK(PsGetCurrentProcessId() != NULL && PsGetCurrentProcessId() == PsGetProcessId(PsGetCurrentProcess()));
    CHECK_STATUS(STATUS_NO_TOKEN, CALL(ZwOpenThreadToken)(ZwCurrentThread(), TOKEN_QUERY, TRUE, &token));
    CHECK_STATUS(STATUS_SUCCESS, CALL(ZwOpenProcessToken)(ZwCurrentProcess(), TOKEN_QUERY, &token));
    CHECK_STATUS(STATUS_SUCCESS, CALL(ZwQueryInformationToken)(token, TokenUser, room, sizeof(room), &needed));
    CHECK(needed != 0 && ((PTOKEN_USER)room)->User.Sid == room + sizeof(TOKEN_USER));
    ZwClose(token);
}

/* Asks for the port of an address that is about to be open, with an IRP that belongs to the thread. */
static void LookAtAddress(PFILE_OBJECT File)
{
    UCHAR answer[FIELD_OFFSET(TDI_ADDRESS_INFO, Address) + sizeof(TA_IP_ADDRESS)];
    PTA_IP_ADDRESS address = (PVOID)(answer + FIELD_OFFSET(TDI_ADDRESS_INFO, Address));
    IO_STATUS_BLOCK block = {{STATUS_PENDING}, 0};
    KEVENT event;
    PIRP irp;
    PMDL mdl;
    NTSTATUS status;

    RtlZeroMemory(answer, sizeof(answer));
    KeInitializeEvent(&event, NotificationEvent, FALSE);
    irp = TdiBuildInternalDeviceControlIrp(TDI_QUERY_INFORMATION, Lower, File, &event, &block);
    if (!CHECK(irp != NULL))
        return;
    mdl = IoAllocateMdl(answer, sizeof(answer), FALSE, FALSE, NULL);
    MmProbeAndLockPages(mdl, KernelMode, IoModifyAccess);
    TdiBuildQueryInformation(irp, Lower, File, NULL, NULL, TDI_QUERY_ADDRESS_INFO, mdl);
    status = IoCallDriver(Lower, irp);
    if (status == STATUS_PENDING) {
        KeWaitForSingleObject(&event, Executive, KernelMode, FALSE, NULL);
        status = block.Status;
    }
    CHECK_STATUS(STATUS_SUCCESS, status);
    CHECK_NUMBER(sizeof(answer), block.Information);
    CHECK(address->TAAddressCount == 1 && address->Address[0].AddressType == TDI_ADDRESS_TYPE_IP);
}

static NTSTATUS NTAPI Opened(PDEVICE_OBJECT Device, PIRP Irp, PVOID Context)
{
    (void)Device;
    Opens++;
    CHECK_STATUS(STATUS_SUCCESS, Irp->IoStatus.Status);
    CHECK_NUMBER(PASSIVE_LEVEL, KeGetCurrentIrql());
    CHECK(KeGetCurrentThread() == Opener && !IsOpen && !Irp->PendingReturned);
    LookAtUser();
    LookAtAddress(Context);
    if (IsDenied)
        Irp->IoStatus.Status = STATUS_ACCESS_DENIED;
    return STATUS_CONTINUE_COMPLETION;
}

static NTSTATUS NTAPI Dispatch(PDEVICE_OBJECT Device, PIRP Irp)
{
    PIO_STACK_LOCATION location = IoGetCurrentIrpStackLocation(Irp);

    if (Device == Filter) {
        if (location->MajorFunction != IRP_MJ_CREATE || Irp->AssociatedIrp.SystemBuffer == NULL) {
            IoSkipCurrentIrpStackLocation(Irp);
            return IoCallDriver(Lower, Irp);
        }
        IoCopyCurrentIrpStackLocationToNext(Irp);
        IoSetCompletionRoutine(Irp, Opened, location->FileObject, TRUE, TRUE, TRUE);
        return IoCallDriver(Lower, Irp);
    }
    Irp->IoStatus.Status = STATUS_SUCCESS;
    Irp->IoStatus.Information = 0;
    IoCompleteRequest(Irp, IO_NO_INCREMENT);
    return STATUS_SUCCESS;
}

static NTSTATUS Open(PUNICODE_STRING Name, PVOID Ea, ULONG Length, PHANDLE Handle)
{
    OBJECT_ATTRIBUTES attributes;
    IO_STATUS_BLOCK block;

    InitializeObjectAttributes(&attributes, Name, OBJ_CASE_INSENSITIVE | OBJ_KERNEL_HANDLE, NULL, NULL);
    return ZwCreateFile(Handle, GENERIC_READ | GENERIC_WRITE, &attributes, &block, NULL, 0, FILE_SHARE_READ | FILE_SHARE_WRITE,
                        FILE_OPEN, 0, Ea, Length);
}

/* Programs reach a filter by links of either kind of name, and one of its devices one at a time. */
static void Controls(void)
{
    UNICODE_STRING alone = RTL_CONSTANT_STRING(L"\\??\\WatchAlone"), watch = RTL_CONSTANT_STRING(L"\\DosDevices\\Watch");
    HANDLE first, second;

    CHECK_STATUS(STATUS_SUCCESS, IoCreateDevice(Self, 0, &WatchName, FILE_DEVICE_UNKNOWN, 0, FALSE, &Watch));
    CHECK_STATUS(STATUS_SUCCESS, IoCreateDevice(Self, 0, &AloneName, FILE_DEVICE_UNKNOWN, 0, TRUE, &Alone));
    Watch->Flags &= ~DO_DEVICE_INITIALIZING;
    Alone->Flags &= ~DO_DEVICE_INITIALIZING;
    CHECK_STATUS(STATUS_SUCCESS, IoCreateSymbolicLink(&WatchLink, &WatchName));
    CHECK_STATUS(STATUS_SUCCESS, IoCreateSymbolicLink(&AloneLink, &AloneName));
    CHECK_STATUS(STATUS_SUCCESS, Open(&WatchLink, NULL, 0, &first));
    CHECK_STATUS(STATUS_SUCCESS, Open(&watch, NULL, 0, &second));
    ZwClose(first);
    ZwClose(second);
    CHECK_STATUS(STATUS_SUCCESS, Open(&alone, NULL, 0, &first));
    CHECK_STATUS(STATUS_ACCESS_DENIED, Open(&AloneLink, NULL, 0, &second));
    ZwClose(first);
    CHECK_STATUS(STATUS_SUCCESS, Open(&AloneLink, NULL, 0, &second));
    ZwClose(second);
    CHECK_STATUS(STATUS_SUCCESS, IoDeleteSymbolicLink(&WatchLink));
    CHECK_STATUS(STATUS_SUCCESS, IoDeleteSymbolicLink(&AloneLink));
    IoDeleteDevice(Watch);
    IoDeleteDevice(Alone);
}

/* An address of any IP address and any port. */
static NTSTATUS OpenAddress(PHANDLE Handle)
{
    static const TA_IP_ADDRESS Any = {1, {{TDI_ADDRESS_LENGTH_IP, TDI_ADDRESS_TYPE_IP, {{0, 0, {0}}}}}};
    ULONG room[32] = {0};
    PFILE_FULL_EA_INFORMATION ea = (PVOID)room;
    NTSTATUS status;

    ea->EaNameLength = TDI_TRANSPORT_ADDRESS_LENGTH;
    ea->EaValueLength = sizeof(Any);
    RtlCopyMemory(ea->EaName, TdiTransportAddress, TDI_TRANSPORT_ADDRESS_LENGTH + 1);
    RtlCopyMemory(ea->EaName + TDI_TRANSPORT_ADDRESS_LENGTH + 1, &Any, sizeof(Any));
    IsOpen = FALSE;
    status = Open(&TcpName, ea, sizeof(room), Handle);
    IsOpen = TRUE;
    return status;
}

static void Checks(PUNICODE_STRING RegistryPath)
{
    HANDLE handle = NULL;
    ULONG i;

    for (i = 0; i <= IRP_MJ_MAXIMUM_FUNCTION; i++)
        Self->MajorFunction[i] = Dispatch;
    Opener = KeGetCurrentThread();
    Controls();
    CHECK_STATUS(STATUS_SUCCESS, IoCreateDevice(Self, 0, NULL, FILE_DEVICE_NETWORK, 0, FALSE, &Filter));
    CHECK_STATUS(STATUS_SUCCESS, IoAttachDevice(Filter, &TcpName, &Lower));
    Filter->Flags &= ~DO_DEVICE_INITIALIZING;
    CHECK_STATUS(STATUS_SUCCESS, OpenAddress(&handle));
    ZwClose(handle);
    CHECK_NUMBER(1, Opens);
    if (Setting(RegistryPath, L"Deny")) {
        IsDenied = TRUE;
        handle = NULL;
        CHECK_STATUS(STATUS_ACCESS_DENIED, OpenAddress(&handle));
        CHECK(handle == NULL && Opens == 2);
    }
    IoDetachDevice(Lower);
    IoDeleteDevice(Filter);
}
