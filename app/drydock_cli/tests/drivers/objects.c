/* Files by IoCreateFile, and handles of objects by name, by pointer, duplicated and found (C-032, K-155, K-158, K-159). */
#define FAMILY "objects"
#include "check.h"

NTKERNELAPI NTSTATUS NTAPI ObReferenceObjectByName(PUNICODE_STRING, ULONG, PACCESS_STATE, ACCESS_MASK, POBJECT_TYPE,
                                                   KPROCESSOR_MODE, PVOID, PVOID *);
NTKERNELAPI NTSTATUS NTAPI ObOpenObjectByName(POBJECT_ATTRIBUTES, POBJECT_TYPE, KPROCESSOR_MODE, PACCESS_STATE,
                                              ACCESS_MASK, PVOID, PHANDLE);
NTKERNELAPI NTSTATUS NTAPI ObReferenceObjectByHandleWithTag(HANDLE, ACCESS_MASK, POBJECT_TYPE, KPROCESSOR_MODE, ULONG,
                                                            PVOID *, POBJECT_HANDLE_INFORMATION);
NTKERNELAPI NTSTATUS NTAPI ObReferenceObjectByPointerWithTag(PVOID, ACCESS_MASK, POBJECT_TYPE, KPROCESSOR_MODE, ULONG);
NTKERNELAPI NTSTATUS NTAPI ObOpenObjectByPointerWithTag(PVOID, ULONG, PACCESS_STATE, ACCESS_MASK, POBJECT_TYPE,
                                                        KPROCESSOR_MODE, ULONG, PHANDLE);
NTKERNELAPI LONG_PTR FASTCALL ObfReferenceObjectWithTag(PVOID, ULONG);
NTKERNELAPI LONG_PTR FASTCALL ObfDereferenceObjectWithTag(PVOID, ULONG);
NTKERNELAPI VOID NTAPI ObDereferenceObjectDeferDeleteWithTag(PVOID, ULONG);
NTKERNELAPI NTSTATUS NTAPI ObCloseHandle(HANDLE, KPROCESSOR_MODE);
NTKERNELAPI POBJECT_TYPE NTAPI ObGetObjectType(PVOID);
NTKERNELAPI BOOLEAN NTAPI ObIsKernelHandle(HANDLE);
NTKERNELAPI BOOLEAN NTAPI ObFindHandleForObject(PEPROCESS, PVOID, POBJECT_TYPE, PVOID, PHANDLE);
NTSYSAPI NTSTATUS NTAPI ZwDuplicateObject(HANDLE, HANDLE, HANDLE, PHANDLE, ACCESS_MASK, ULONG, ULONG);

#define NAME(string, text)                                                                                             \
    UNICODE_STRING string;                                                                                             \
    RtlInitUnicodeString(&string, L##text)

static ULONG EaLength, Opens;
static CHAR EaName[16];

static NTSTATUS NTAPI Create(PDEVICE_OBJECT Device, PIRP Irp)
{
    PIO_STACK_LOCATION location = IoGetCurrentIrpStackLocation(Irp);
    PFILE_FULL_EA_INFORMATION ea = Irp->AssociatedIrp.SystemBuffer;

    (void)Device;
    Opens++;
    EaLength = location->Parameters.Create.EaLength;
    if (ea != NULL && ea->EaNameLength < sizeof(EaName))
        RtlCopyMemory(EaName, ea->EaName, ea->EaNameLength + 1);
    Irp->IoStatus.Status = STATUS_SUCCESS;
    Irp->IoStatus.Information = FILE_OPENED;
    IoCompleteRequest(Irp, IO_NO_INCREMENT);
    return STATUS_SUCCESS;
}

static NTSTATUS NTAPI Succeed(PDEVICE_OBJECT Device, PIRP Irp)
{
    (void)Device;
    Irp->IoStatus.Status = STATUS_SUCCESS;
    Irp->IoStatus.Information = 0;
    IoCompleteRequest(Irp, IO_NO_INCREMENT);
    return STATUS_SUCCESS;
}

static void Files(PDRIVER_OBJECT Driver)
{
    NAME(name, "\\Device\\ObjectsTest");
    PDEVICE_OBJECT device;
    OBJECT_ATTRIBUTES attributes;
    IO_STATUS_BLOCK iosb;
    HANDLE file = NULL;
    struct {
        FILE_FULL_EA_INFORMATION Entry;
        CHAR Rest[24];
    } ea;
    IO_DRIVER_CREATE_CONTEXT context;

    RtlZeroMemory(&ea, sizeof(ea));
    ea.Entry.EaNameLength = 5;
    ea.Entry.EaValueLength = 4;
    RtlCopyMemory(ea.Entry.EaName, "Place", 6);
    Driver->MajorFunction[IRP_MJ_CREATE] = Create;
    Driver->MajorFunction[IRP_MJ_CLEANUP] = Driver->MajorFunction[IRP_MJ_CLOSE] = Succeed;
    if (!CHECK(NT_SUCCESS(IoCreateDevice(Driver, 0, &name, FILE_DEVICE_NETWORK, 0, FALSE, &device))))
        return;
    device->Flags &= ~DO_DEVICE_INITIALIZING;
    InitializeObjectAttributes(&attributes, &name, OBJ_KERNEL_HANDLE | OBJ_CASE_INSENSITIVE, NULL, NULL);
    CHECK_STATUS(STATUS_SUCCESS,
                 IoCreateFile(&file, GENERIC_READ, &attributes, &iosb, NULL, 0, 0, FILE_OPEN, 0, &ea, sizeof(ea),
                              CreateFileTypeNone, NULL, IO_NO_PARAMETER_CHECKING));
    CHECK_NUMBER(FILE_OPENED, iosb.Information);
    CHECK_NUMBER(sizeof(ea), EaLength);
    CHECK_TEXT("Place", EaName);
    CHECK(ObIsKernelHandle(file));
    CHECK_STATUS(STATUS_SUCCESS, ObCloseHandle(file, KernelMode));
    CHECK_STATUS(STATUS_INVALID_HANDLE, ObCloseHandle(file, KernelMode));

    ea.Entry.EaNameLength = 3;
    CHECK_STATUS(STATUS_EA_LIST_INCONSISTENT,
                 IoCreateFile(&file, GENERIC_READ, &attributes, &iosb, NULL, 0, 0, FILE_OPEN, 0, &ea, sizeof(ea),
                              CreateFileTypeNone, NULL, 0));
    CHECK_STATUS(STATUS_INVALID_PARAMETER, IoCreateFile(&file, GENERIC_READ, &attributes, &iosb, NULL, 0, 0, FILE_OPEN,
                                                        0, NULL, 0, 9, NULL, 0));
    CHECK_NUMBER(1, Opens);

    RtlZeroMemory(&context, sizeof(context));
    context.Size = sizeof(context);
    CHECK_STATUS(STATUS_SUCCESS, IoCreateFileEx(&file, GENERIC_READ, &attributes, &iosb, NULL, 0, 0, FILE_OPEN, 0, NULL,
                                                0, CreateFileTypeNone, NULL, 0, &context));
    CHECK_STATUS(STATUS_SUCCESS, ZwClose(file));
    context.Size = 4;
    CHECK_STATUS(STATUS_INVALID_PARAMETER, IoCreateFileEx(&file, GENERIC_READ, &attributes, &iosb, NULL, 0, 0,
                                                          FILE_OPEN, 0, NULL, 0, CreateFileTypeNone, NULL, 0,
                                                          &context));
    CHECK_STATUS(STATUS_SUCCESS, IoCreateFileEx(&file, GENERIC_READ, &attributes, &iosb, NULL, 0, 0, FILE_OPEN, 0, NULL,
                                                0, CreateFileTypeNone, NULL, 0, NULL));
    CHECK_STATUS(STATUS_SUCCESS, ZwClose(file));
    CHECK_NUMBER(3, Opens);
    IoDeleteDevice(device);
}

static void Drivers(PDRIVER_OBJECT Driver)
{
    NAME(name, "\\Driver\\objects");
    NAME(nothing, "\\Driver\\Nothing");
    OBJECT_ATTRIBUTES attributes;
    HANDLE handle = NULL;
    PVOID object = NULL;

    InitializeObjectAttributes(&attributes, &name, OBJ_KERNEL_HANDLE | OBJ_CASE_INSENSITIVE, NULL, NULL);
    CHECK_STATUS(STATUS_SUCCESS, ObOpenObjectByName(&attributes, NULL, KernelMode, NULL, 0, NULL, &handle));
    CHECK_STATUS(STATUS_SUCCESS,
                 ObReferenceObjectByHandleWithTag(handle, 0, NULL, KernelMode, TEST_TAG, &object, NULL));
    CHECK(object == Driver);
    ObfDereferenceObjectWithTag(object, TEST_TAG);
    CHECK_STATUS(STATUS_SUCCESS, ZwClose(handle));
    CHECK_STATUS(STATUS_OBJECT_TYPE_MISMATCH,
                 ObOpenObjectByName(&attributes, *ExEventObjectType, KernelMode, NULL, 0, NULL, &handle));
    attributes.ObjectName = &nothing;
    CHECK_STATUS(STATUS_OBJECT_NAME_NOT_FOUND,
                 ObOpenObjectByName(&attributes, NULL, KernelMode, NULL, 0, NULL, &handle));
}

static void Handles(void)
{
    HANDLE first, second, found = NULL;
    PVOID event, object = NULL;
    OBJECT_HANDLE_INFORMATION information;
    OBJECT_ATTRIBUTES attributes;

    InitializeObjectAttributes(&attributes, NULL, OBJ_KERNEL_HANDLE, NULL, NULL);
    CHECK_STATUS(STATUS_SUCCESS, ZwCreateEvent(&first, EVENT_MODIFY_STATE, &attributes, NotificationEvent, FALSE));
    CHECK_STATUS(STATUS_SUCCESS,
                 ObReferenceObjectByHandle(first, 0, *ExEventObjectType, KernelMode, &event, &information));
    CHECK_NUMBER(EVENT_MODIFY_STATE, information.GrantedAccess);
    CHECK_NUMBER(0, information.HandleAttributes);
    CHECK(ObGetObjectType(event) == *ExEventObjectType);
    CHECK(ObFindHandleForObject(PsGetCurrentProcess(), event, NULL, NULL, &found) && found == first);

    CHECK_STATUS(STATUS_SUCCESS, ZwDuplicateObject(ZwCurrentProcess(), first, ZwCurrentProcess(), &second, SYNCHRONIZE,
                                                   0, 0));
    CHECK(second != first && !ObIsKernelHandle(second));
    CHECK_STATUS(STATUS_SUCCESS, ObReferenceObjectByHandle(second, 0, NULL, KernelMode, &object, &information));
    CHECK(object == event);
    CHECK_NUMBER(SYNCHRONIZE, information.GrantedAccess);
    ObDereferenceObject(object);
    /* The second goes, and what comes of it has its access and its attributes. */
    CHECK_STATUS(STATUS_SUCCESS, ZwDuplicateObject(ZwCurrentProcess(), first, ZwCurrentProcess(), &found, 0, 0,
                                                   DUPLICATE_SAME_ACCESS | DUPLICATE_SAME_ATTRIBUTES |
                                                       DUPLICATE_CLOSE_SOURCE));
    CHECK(ObIsKernelHandle(found));
    CHECK_STATUS(STATUS_INVALID_HANDLE, ZwClose(first));
    CHECK_STATUS(STATUS_SUCCESS,
                 ZwDuplicateObject(ZwCurrentProcess(), second, NULL, NULL, 0, 0, DUPLICATE_CLOSE_SOURCE));
    CHECK_STATUS(STATUS_INVALID_HANDLE, ZwClose(second));
    CHECK_STATUS(STATUS_INVALID_HANDLE, ZwDuplicateObject(ZwCurrentProcess(), second, ZwCurrentProcess(), &second, 0, 0,
                                                          0));
    CHECK_STATUS(STATUS_OBJECT_TYPE_MISMATCH, ZwDuplicateObject(found, found, ZwCurrentProcess(), &second, 0, 0, 0));
    CHECK_STATUS(STATUS_SUCCESS, ZwClose(found));
    CHECK(!ObFindHandleForObject(PsGetCurrentProcess(), event, NULL, NULL, &found));

    CHECK_STATUS(STATUS_SUCCESS, ObOpenObjectByPointerWithTag(event, OBJ_KERNEL_HANDLE, NULL, 0, *ExEventObjectType,
                                                              KernelMode, TEST_TAG, &found));
    CHECK_STATUS(STATUS_SUCCESS, ZwClose(found));
    CHECK_STATUS(STATUS_SUCCESS,
                 ObReferenceObjectByPointerWithTag(event, 0, *ExEventObjectType, KernelMode, TEST_TAG));
    CHECK_STATUS(STATUS_OBJECT_TYPE_MISMATCH,
                 ObReferenceObjectByPointerWithTag(event, 0, *PsThreadType, KernelMode, TEST_TAG));
    ObfReferenceObjectWithTag(event, TEST_TAG);
    ObDereferenceObjectDeferDeleteWithTag(event, TEST_TAG);
    ObDereferenceObject(event);
    ObDereferenceObject(event);

    CHECK_STATUS(STATUS_SUCCESS,
                 ObReferenceObjectByHandle(ZwCurrentThread(), 0, *PsThreadType, KernelMode, &object, NULL));
    CHECK(object == KeGetCurrentThread());
    ObDereferenceObject(object);
    CHECK(!ObIsKernelHandle(ZwCurrentThread()) && !ObIsKernelHandle(ZwCurrentProcess()));
}

static void Checks(PUNICODE_STRING RegistryPath)
{
    NAME(name, "\\Driver\\objects");
    PVOID driver = NULL;

    (void)RegistryPath;
    CHECK_STATUS(STATUS_SUCCESS, ObReferenceObjectByName(&name, OBJ_CASE_INSENSITIVE, NULL, 0, NULL, KernelMode, NULL,
                                                         &driver));
    if (driver == NULL)
        return;
    Files(driver);
    Drivers(driver);
    ObDereferenceObject(driver);
    Handles();
}
