/* Devices: stacks, names, links, extensions, share access, the error log, shutdown (K-085, K-089, K-092 to K-099, K-157, K-176). */
#define FAMILY "devices"
#include "check.h"

IMPORT(PDEVICE_OBJECT, IoAttachDeviceToDeviceStack, PDEVICE_OBJECT, PDEVICE_OBJECT);
IMPORT(NTSTATUS, IoAttachDeviceToDeviceStackSafe, PDEVICE_OBJECT, PDEVICE_OBJECT, PDEVICE_OBJECT *);
IMPORT(PDEVICE_OBJECT, IoGetAttachedDevice, PDEVICE_OBJECT);
IMPORT(PDEVICE_OBJECT, IoGetAttachedDeviceReference, PDEVICE_OBJECT);
IMPORT(PDEVICE_OBJECT, IoGetLowerDeviceObject, PDEVICE_OBJECT);
IMPORT(PDEVICE_OBJECT, IoGetDeviceAttachmentBaseRef, PDEVICE_OBJECT);
IMPORT(PDEVICE_OBJECT, IoGetBaseFileSystemDeviceObject, PFILE_OBJECT);
IMPORT(NTSTATUS, IoEnumerateDeviceObjectList, PDRIVER_OBJECT, PDEVICE_OBJECT *, ULONG, PULONG);
IMPORT(NTSTATUS, IoAllocateDriverObjectExtension, PDRIVER_OBJECT, PVOID, ULONG, PVOID *);
IMPORT(PVOID, IoGetDriverObjectExtension, PDRIVER_OBJECT, PVOID);
IMPORT(NTSTATUS, IoCheckShareAccess, ACCESS_MASK, ULONG, PFILE_OBJECT, PSHARE_ACCESS, BOOLEAN);
IMPORT(void, IoSetShareAccess, ACCESS_MASK, ULONG, PFILE_OBJECT, PSHARE_ACCESS);
IMPORT(void, IoUpdateShareAccess, PFILE_OBJECT, PSHARE_ACCESS);
IMPORT(void, IoRemoveShareAccess, PFILE_OBJECT, PSHARE_ACCESS);
IMPORT(PVOID, IoAllocateErrorLogEntry, PVOID, UCHAR);
IMPORT(void, IoWriteErrorLogEntry, PVOID);
IMPORT(void, IoFreeErrorLogEntry, PVOID);
IMPORT(NTSTATUS, IoRegisterShutdownNotification, PDEVICE_OBJECT);
IMPORT(NTSTATUS, IoRegisterLastChanceShutdownNotification, PDEVICE_OBJECT);
IMPORT(void, IoUnregisterShutdownNotification, PDEVICE_OBJECT);
IMPORT(NTSTATUS, IoGetDeviceObjectPointer, PUNICODE_STRING, ACCESS_MASK, PFILE_OBJECT *, PDEVICE_OBJECT *);
IMPORT_DATA(POBJECT_TYPE, IoDeviceObjectType);
IMPORT(NTSTATUS, ObReferenceObjectByPointer, PVOID, ACCESS_MASK, POBJECT_TYPE, KPROCESSOR_MODE);
IMPORT(LONG_PTR, ObReferenceObject, PVOID);
IMPORT(LONG_PTR, ObDereferenceObject, PVOID);
IMPORT(LONG_PTR, ObDereferenceObjectDeferDelete, PVOID);
IMPORT(LONG_PTR, ObfDereferenceObjectDeferDelete, PVOID);
IMPORT(NTSTATUS, ObOpenObjectByPointer, PVOID, ULONG, PVOID, ACCESS_MASK, POBJECT_TYPE, KPROCESSOR_MODE, PHANDLE);
IMPORT(NTSTATUS, ObQueryNameString, PVOID, POBJECT_NAME_INFORMATION, ULONG, PULONG);
IMPORT(NTSTATUS, ZwCreateSymbolicLinkObject, PHANDLE, ACCESS_MASK, POBJECT_ATTRIBUTES, PUNICODE_STRING);
IMPORT(NTSTATUS, ZwMakeTemporaryObject, HANDLE);
IMPORT(NTSTATUS, ZwOpenSymbolicLinkObject, PHANDLE, ACCESS_MASK, POBJECT_ATTRIBUTES);
IMPORT(NTSTATUS, ZwQuerySymbolicLinkObject, HANDLE, PUNICODE_STRING, PULONG);
IMPORT(PGENERIC_MAPPING, IoGetFileObjectGenericMapping, void);
IMPORT(BOOLEAN, IoIs32bitProcess, PIRP);

static UNICODE_STRING LowerName = RTL_CONSTANT_STRING(L"\\Device\\Lower"), LinkName = RTL_CONSTANT_STRING(L"\\??\\Lower");
static PDEVICE_OBJECT Lower, Middle, Upper;

static BOOLEAN Is(PUNICODE_STRING Name, PCWSTR Text)
{
    UNICODE_STRING text;

    RtlInitUnicodeString(&text, Text);
    return Name->Length == text.Length && RtlCompareMemory(Name->Buffer, text.Buffer, text.Length) == text.Length;
}

static NTSTATUS NTAPI Succeed(PDEVICE_OBJECT Device, PIRP Irp)
{
    (void)Device;
    Irp->IoStatus.Status = STATUS_SUCCESS;
    Irp->IoStatus.Information = 0;
    IoCompleteRequest(Irp, IO_NO_INCREMENT);
    return STATUS_SUCCESS;
}

/* Opens pass the filters down to the lower device. */
static NTSTATUS NTAPI Pass(PDEVICE_OBJECT Device, PIRP Irp)
{
    if (Device == Lower)
        return Succeed(Device, Irp);
    IoSkipCurrentIrpStackLocation(Irp);
    return IoCallDriver(Device == Upper ? Middle : Lower, Irp);
}

static void Stacks(void)
{
    PDEVICE_OBJECT below = NULL, all[8];
    PFILE_OBJECT file = NULL;
    ULONG count = 0, i, found = 0;

    CHECK_STATUS(STATUS_SUCCESS, IoCreateDevice(Self, 16, &LowerName, FILE_DEVICE_NETWORK, 0, FALSE, &Lower));
    CHECK_STATUS(STATUS_SUCCESS, IoCreateDevice(Self, 0, NULL, FILE_DEVICE_NETWORK, 0, FALSE, &Middle));
    CHECK_STATUS(STATUS_SUCCESS, IoCreateDevice(Self, 0, NULL, FILE_DEVICE_NETWORK, 0, FALSE, &Upper));
    CHECK_STATUS(STATUS_OBJECT_NAME_COLLISION, IoCreateDevice(Self, 0, &LowerName, FILE_DEVICE_NETWORK, 0, FALSE, &below));
    Lower->Flags &= ~DO_DEVICE_INITIALIZING;
    CHECK(CALL(IoAttachDeviceToDeviceStack)(Middle, Lower) == Lower);
    CHECK(Lower->AttachedDevice == Middle && Middle->StackSize == Lower->StackSize + 1);
    Middle->Flags &= ~DO_DEVICE_INITIALIZING;
    /* The target of an attachment is the top of its stack. */
    CHECK_STATUS(STATUS_SUCCESS, CALL(IoAttachDeviceToDeviceStackSafe)(Upper, Lower, &below));
    Upper->Flags &= ~DO_DEVICE_INITIALIZING;
    CHECK(below == Middle && Middle->AttachedDevice == Upper && Upper->StackSize == Lower->StackSize + 2);
    CHECK(CALL(IoGetAttachedDevice)(Lower) == Upper && CALL(IoGetAttachedDevice)(Upper) == Upper);
    below = CALL(IoGetAttachedDeviceReference)(Lower);
    CHECK(below == Upper);
    CALL(ObDereferenceObject)(below);
    below = CALL(IoGetLowerDeviceObject)(Upper);
    CHECK(below == Middle);
    CALL(ObDereferenceObject)(below);
    CHECK(CALL(IoGetLowerDeviceObject)(Lower) == NULL);
    below = CALL(IoGetDeviceAttachmentBaseRef)(Upper);
    CHECK(below == Lower);
    CALL(ObDereferenceObject)(below);

    CHECK_STATUS(STATUS_BUFFER_TOO_SMALL, CALL(IoEnumerateDeviceObjectList)(Self, all, sizeof(all[0]), &count));
    CHECK_NUMBER(3, count);
    CHECK_STATUS(STATUS_SUCCESS, CALL(IoEnumerateDeviceObjectList)(Self, all, sizeof(all), &count));
    for (i = 0; i < count; i++) {
        found += all[i] == Lower || all[i] == Middle || all[i] == Upper;
        CALL(ObDereferenceObject)(all[i]);
    }
    CHECK(count == 3 && found == 3);

    /* The open goes to the top of the stack, the file names the device that was named. */
    CHECK_STATUS(STATUS_SUCCESS, CALL(IoGetDeviceObjectPointer)(&LowerName, FILE_ALL_ACCESS, &file, &below));
    CHECK(below == Upper && file->DeviceObject == Lower && IoGetRelatedDeviceObject(file) == Upper);
    CHECK(CALL(IoGetBaseFileSystemDeviceObject)(file) == Lower);
    CALL(ObDereferenceObject)(file);
    CHECK_STATUS(STATUS_OBJECT_NAME_NOT_FOUND, CALL(IoGetDeviceObjectPointer)(&LinkName, FILE_ALL_ACCESS, &file, &below));
}

static void References(void)
{
    LONG_PTR count = CALL(ObReferenceObject)(Lower);

    CHECK(count >= 2);
    CHECK_NUMBER(count + 1, CALL(ObReferenceObject)(Lower));
    CHECK_NUMBER(count, CALL(ObDereferenceObject)(Lower));
    CHECK_STATUS(STATUS_SUCCESS, CALL(ObReferenceObjectByPointer)(Lower, 0, VALUE(IoDeviceObjectType), KernelMode));
    CHECK_STATUS(STATUS_OBJECT_TYPE_MISMATCH, CALL(ObReferenceObjectByPointer)(Lower, 0, *IoFileObjectType, KernelMode));
    CHECK_NUMBER(count, CALL(ObDereferenceObjectDeferDelete)(Lower));
    CHECK_NUMBER(count - 1, CALL(ObfDereferenceObjectDeferDelete)(Lower));
}

static void Names(void)
{
    UCHAR room[128];
    POBJECT_NAME_INFORMATION name = (PVOID)room;
    WCHAR targetRoom[32];
    UNICODE_STRING target = {0, sizeof(targetRoom), targetRoom};
    OBJECT_ATTRIBUTES attributes;
    ULONG needed = 0;
    HANDLE handle = NULL;
    PVOID object = NULL;

    CHECK_STATUS(STATUS_INFO_LENGTH_MISMATCH, CALL(ObQueryNameString)(Lower, name, 8, &needed));
    CHECK_NUMBER(sizeof(*name) + 28, needed);
    CHECK_STATUS(STATUS_SUCCESS, CALL(ObQueryNameString)(Lower, name, sizeof(room), &needed));
    CHECK(Is(&name->Name, L"\\Device\\Lower") && name->Name.Buffer[13] == 0);
    CHECK_STATUS(STATUS_SUCCESS, CALL(ObQueryNameString)(Upper, name, sizeof(room), &needed));
    CHECK(name->Name.Length == 0);

    CHECK_STATUS(STATUS_OBJECT_TYPE_MISMATCH, CALL(ObOpenObjectByPointer)(Lower, OBJ_KERNEL_HANDLE, NULL, 0, *IoFileObjectType, KernelMode, &handle));
    CHECK_STATUS(STATUS_SUCCESS, CALL(ObOpenObjectByPointer)(Lower, OBJ_KERNEL_HANDLE, NULL, GENERIC_READ, VALUE(IoDeviceObjectType), KernelMode, &handle));
    CHECK_STATUS(STATUS_SUCCESS, ObReferenceObjectByHandle(handle, 0, VALUE(IoDeviceObjectType), KernelMode, &object, NULL));
    CHECK(object == Lower);
    CALL(ObDereferenceObject)(object);
    ZwClose(handle);

    InitializeObjectAttributes(&attributes, &LinkName, OBJ_KERNEL_HANDLE | OBJ_CASE_INSENSITIVE, NULL, NULL);
    CHECK_STATUS(STATUS_OBJECT_NAME_NOT_FOUND, CALL(ZwOpenSymbolicLinkObject)(&handle, GENERIC_READ, &attributes));
    CHECK_STATUS(STATUS_SUCCESS, IoCreateSymbolicLink(&LinkName, &LowerName));
    CHECK_STATUS(STATUS_SUCCESS, CALL(ZwOpenSymbolicLinkObject)(&handle, GENERIC_READ, &attributes));
    CHECK_STATUS(STATUS_SUCCESS, CALL(ZwQuerySymbolicLinkObject)(handle, &target, &needed));
    CHECK(Is(&target, L"\\Device\\Lower"));
    target.MaximumLength = 8;
    CHECK_STATUS(STATUS_BUFFER_TOO_SMALL, CALL(ZwQuerySymbolicLinkObject)(handle, &target, &needed));
    CHECK(needed >= 26);
    ZwClose(handle);
    CHECK_STATUS(STATUS_SUCCESS, IoDeleteSymbolicLink(&LinkName));
}

static BOOLEAN IsThere(POBJECT_ATTRIBUTES Attributes)
{
    HANDLE handle;
    NTSTATUS status = CALL(ZwOpenSymbolicLinkObject)(&handle, GENERIC_READ, Attributes);

    if (NT_SUCCESS(status))
        return NT_SUCCESS(ZwClose(handle));
    CHECK_STATUS(STATUS_OBJECT_NAME_NOT_FOUND, status);
    return FALSE;
}

/* A link goes with its last handle, unless it is permanent. */
static void Links(void)
{
    OBJECT_ATTRIBUTES attributes;
    HANDLE made = NULL, other = NULL;

    InitializeObjectAttributes(&attributes, &LinkName, OBJ_KERNEL_HANDLE | OBJ_CASE_INSENSITIVE, NULL, NULL);
    CHECK_STATUS(STATUS_SUCCESS, CALL(ZwCreateSymbolicLinkObject)(&made, GENERIC_ALL, &attributes, &LowerName));
    CHECK_STATUS(STATUS_OBJECT_NAME_COLLISION,
                 CALL(ZwCreateSymbolicLinkObject)(&other, GENERIC_ALL, &attributes, &LowerName));
    attributes.Attributes |= OBJ_OPENIF;
    CHECK_STATUS(STATUS_OBJECT_NAME_EXISTS,
                 CALL(ZwCreateSymbolicLinkObject)(&other, GENERIC_ALL, &attributes, &LowerName));
    ZwClose(made);
    CHECK(IsThere(&attributes));
    ZwClose(other);
    CHECK(!IsThere(&attributes));

    attributes.Attributes |= OBJ_PERMANENT;
    CHECK_STATUS(STATUS_SUCCESS, CALL(ZwCreateSymbolicLinkObject)(&made, GENERIC_ALL, &attributes, &LowerName));
    ZwClose(made);
    CHECK(IsThere(&attributes));
    CHECK_STATUS(STATUS_SUCCESS, CALL(ZwOpenSymbolicLinkObject)(&made, GENERIC_ALL, &attributes));
    CHECK_STATUS(STATUS_SUCCESS, CALL(ZwMakeTemporaryObject)(made));
    CHECK(IsThere(&attributes));
    ZwClose(made);
    CHECK(!IsThere(&attributes));
    CHECK_STATUS(STATUS_INVALID_HANDLE, CALL(ZwMakeTemporaryObject)((HANDLE)0x7FFFFFF0));
}

static void Extensions(void)
{
    static int Identity, Other;
    PUCHAR extension = NULL;
    PVOID again = NULL;

    CHECK(CALL(IoGetDriverObjectExtension)(Self, &Identity) == NULL);
    CHECK_STATUS(STATUS_SUCCESS, CALL(IoAllocateDriverObjectExtension)(Self, &Identity, 64, (PVOID *)&extension));
    CHECK(extension != NULL && extension[0] == 0 && extension[63] == 0);
    CHECK_STATUS(STATUS_OBJECT_NAME_COLLISION, CALL(IoAllocateDriverObjectExtension)(Self, &Identity, 64, &again));
    CHECK(CALL(IoGetDriverObjectExtension)(Self, &Identity) == extension);
    CHECK(CALL(IoGetDriverObjectExtension)(Self, &Other) == NULL);
}

/* Two opens of one file: what the first shares decides. */
static void ShareAccess(void)
{
    FILE_OBJECT first = {.Type = 5}, second = {.Type = 5};
    SHARE_ACCESS shared = {0};

    CALL(IoSetShareAccess)(FILE_READ_DATA, FILE_SHARE_READ, &first, &shared);
    CHECK(shared.OpenCount == 1 && shared.Readers == 1 && shared.Writers == 0 && shared.SharedRead == 1 && shared.SharedWrite == 0);
    CHECK(first.ReadAccess && !first.WriteAccess && first.SharedRead && !first.SharedWrite);
    CHECK_STATUS(STATUS_SHARING_VIOLATION, CALL(IoCheckShareAccess)(FILE_WRITE_DATA, FILE_SHARE_READ, &second, &shared, TRUE));
    CHECK_STATUS(STATUS_SHARING_VIOLATION, CALL(IoCheckShareAccess)(FILE_READ_DATA, 0, &second, &shared, TRUE));
    CHECK_NUMBER(1, shared.OpenCount);
    CHECK_STATUS(STATUS_SUCCESS, CALL(IoCheckShareAccess)(FILE_READ_DATA, FILE_SHARE_READ, &second, &shared, FALSE));
    CHECK_NUMBER(1, shared.OpenCount);
    CALL(IoUpdateShareAccess)(&second, &shared);
    CHECK(shared.OpenCount == 2 && shared.Readers == 2 && shared.SharedRead == 2);
    CALL(IoRemoveShareAccess)(&first, &shared);
    CALL(IoRemoveShareAccess)(&second, &shared);
    CHECK(shared.OpenCount == 0 && shared.Readers == 0 && shared.SharedRead == 0);
}

static void ErrorLog(void)
{
    PIO_ERROR_LOG_PACKET entry = CALL(IoAllocateErrorLogEntry)(Lower, sizeof(IO_ERROR_LOG_PACKET) + 8);

    CHECK(entry != NULL);
    RtlZeroMemory(entry, sizeof(*entry));
    entry->ErrorCode = 0x40040001;
    CALL(IoWriteErrorLogEntry)(entry);
    entry = CALL(IoAllocateErrorLogEntry)(Lower, sizeof(IO_ERROR_LOG_PACKET));
    CHECK(entry != NULL);
    CALL(IoFreeErrorLogEntry)(entry);
    /* ERROR_LOG_MAXIMUM_SIZE is 240. */
    CHECK(CALL(IoAllocateErrorLogEntry)(Lower, 250) == NULL);
}

static void Shutdown(void)
{
    CHECK_STATUS(STATUS_SUCCESS, CALL(IoRegisterShutdownNotification)(Lower));
    CHECK((Lower->Flags & DO_SHUTDOWN_REGISTERED) != 0);
    CHECK_STATUS(STATUS_SUCCESS, CALL(IoRegisterLastChanceShutdownNotification)(Lower));
    CALL(IoUnregisterShutdownNotification)(Lower);
    CHECK((Lower->Flags & DO_SHUTDOWN_REGISTERED) == 0);
}

static void Checks(PUNICODE_STRING RegistryPath)
{
    PGENERIC_MAPPING mapping = CALL(IoGetFileObjectGenericMapping)();

    (void)RegistryPath;
    Self->MajorFunction[IRP_MJ_CREATE] = Pass;
    Self->MajorFunction[IRP_MJ_CLEANUP] = Pass;
    Self->MajorFunction[IRP_MJ_CLOSE] = Pass;
    CHECK(mapping->GenericRead == FILE_GENERIC_READ && mapping->GenericAll == FILE_ALL_ACCESS);
    CHECK(!CALL(IoIs32bitProcess)(NULL));
    Stacks();
    References();
    Names();
    Links();
    Extensions();
    ShareAccess();
    ErrorLog();
    Shutdown();
    IoDetachDevice(Middle);
    IoDeleteDevice(Upper);
    IoDetachDevice(Lower);
    IoDeleteDevice(Middle);
    IoDeleteDevice(Lower);
}
