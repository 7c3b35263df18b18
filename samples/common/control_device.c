#define DRIVER_NAME "control_device"
#include "control_device.h"

#define NAME_LENGTH_MAX 64

/* Prefix and name in a buffer of the caller's. */
typedef struct _FULL_NAME {
    UNICODE_STRING String;
    WCHAR Buffer[NAME_LENGTH_MAX];
} FULL_NAME;

static NTSTATUS BuildName(FULL_NAME *Full, PCWSTR Prefix, PCWSTR Name)
{
    NTSTATUS status;

    Full->String.Buffer = Full->Buffer;
    Full->String.Length = 0;
    Full->String.MaximumLength = sizeof(Full->Buffer);
    status = RtlAppendUnicodeToString(&Full->String, Prefix);
    if (!NT_SUCCESS(status))
        return status;
    return RtlAppendUnicodeToString(&Full->String, Name);
}

static NTSTATUS NTAPI DispatchSucceed(PDEVICE_OBJECT Device, PIRP Irp)
{
    UNREFERENCED_PARAMETER(Device);
    return CompleteIrp(Irp, STATUS_SUCCESS, 0);
}

NTSTATUS CreateControlDevice(PDRIVER_OBJECT Driver, PCWSTR Name, PDEVICE_OBJECT *Device)
{
    FULL_NAME device, link;
    NTSTATUS status;

    status = BuildName(&device, L"\\Device\\", Name);
    if (!NT_SUCCESS(status))
        return status;
    status = BuildName(&link, L"\\??\\", Name);
    if (!NT_SUCCESS(status))
        return status;

    status = IoCreateDevice(Driver, 0, &device.String, FILE_DEVICE_UNKNOWN, 0, FALSE, Device);
    if (!NT_SUCCESS(status))
        return status;
    status = IoCreateSymbolicLink(&link.String, &device.String);
    if (!NT_SUCCESS(status)) {
        IoDeleteDevice(*Device);
        return status;
    }

    Driver->MajorFunction[IRP_MJ_CREATE] = DispatchSucceed;
    Driver->MajorFunction[IRP_MJ_CLEANUP] = DispatchSucceed;
    Driver->MajorFunction[IRP_MJ_CLOSE] = DispatchSucceed;
    return STATUS_SUCCESS;
}

void DeleteControlDevice(PDEVICE_OBJECT Device, PCWSTR Name)
{
    FULL_NAME link;

    /* The name fitted when the link was made. */
    if (NT_SUCCESS(BuildName(&link, L"\\??\\", Name)))
        IoDeleteSymbolicLink(&link.String);
    IoDeleteDevice(Device);
}
