/*
 * The smallest driver that does something: a device that answers control codes.
 *
 *   \Device\Hello, \??\Hello
 *   IOCTL_HELLO_REVERSE   buffered   output = input, last byte first
 *   IOCTL_HELLO_FILL      out-direct output = the single input byte, repeated
 *   IOCTL_HELLO_SUM       neither    output = sum of the input bytes, a ULONG
 *
 * Unlike the other samples it shows every step itself, without the helpers in common/control_device.h.
 */
#define DRIVER_NAME "hello"
#include "common/sample.h"

#define IOCTL_HELLO_REVERSE CTL_CODE(FILE_DEVICE_UNKNOWN, 0x800, METHOD_BUFFERED, FILE_ANY_ACCESS)   /* 0x222000 */
#define IOCTL_HELLO_FILL    CTL_CODE(FILE_DEVICE_UNKNOWN, 0x801, METHOD_OUT_DIRECT, FILE_ANY_ACCESS) /* 0x222006 */
#define IOCTL_HELLO_SUM     CTL_CODE(FILE_DEVICE_UNKNOWN, 0x802, METHOD_NEITHER, FILE_ANY_ACCESS)    /* 0x22200B */

/* How often each kind of request came; lives in the device extension. */
typedef struct _COUNTS {
    LONG Creates;
    LONG Cleanups;
    LONG Closes;
    LONG Controls;
} COUNTS, *PCOUNTS;

static NTSTATUS NTAPI DispatchCreate(PDEVICE_OBJECT Device, PIRP Irp)
{
    PCOUNTS counts = Device->DeviceExtension;

    InterlockedIncrement(&counts->Creates);
    return CompleteIrp(Irp, STATUS_SUCCESS, FILE_OPENED);
}

static NTSTATUS NTAPI DispatchCleanup(PDEVICE_OBJECT Device, PIRP Irp)
{
    PCOUNTS counts = Device->DeviceExtension;

    InterlockedIncrement(&counts->Cleanups);
    return CompleteIrp(Irp, STATUS_SUCCESS, 0);
}

static NTSTATUS NTAPI DispatchClose(PDEVICE_OBJECT Device, PIRP Irp)
{
    PCOUNTS counts = Device->DeviceExtension;

    InterlockedIncrement(&counts->Closes);
    return CompleteIrp(Irp, STATUS_SUCCESS, 0);
}

/* METHOD_BUFFERED: one system buffer holds the input and takes the output. */
static NTSTATUS Reverse(PIRP Irp, ULONG InputLength, ULONG OutputLength, PULONG_PTR Information)
{
    PUCHAR bytes = Irp->AssociatedIrp.SystemBuffer;
    ULONG low, high;

    if (OutputLength < InputLength)
        return STATUS_BUFFER_TOO_SMALL;
    for (low = 0, high = InputLength; low + 1 < high; low++) {
        UCHAR byte = bytes[low];

        high--;
        bytes[low] = bytes[high];
        bytes[high] = byte;
    }
    *Information = InputLength;
    return STATUS_SUCCESS;
}

/* METHOD_OUT_DIRECT: input in the system buffer, output described by an MDL. */
static NTSTATUS Fill(PIRP Irp, ULONG InputLength, ULONG OutputLength, PULONG_PTR Information)
{
    PUCHAR input = Irp->AssociatedIrp.SystemBuffer;
    PUCHAR output;

    if (InputLength != 1)
        return STATUS_INVALID_PARAMETER;
    if (OutputLength == 0) /* There is no MDL for an empty buffer. */
        return STATUS_SUCCESS;
    output = MmGetSystemAddressForMdlSafe(Irp->MdlAddress, NormalPagePriority);
    if (output == NULL)
        return STATUS_INSUFFICIENT_RESOURCES;
    RtlFillMemory(output, OutputLength, input[0]);
    *Information = OutputLength;
    return STATUS_SUCCESS;
}

/*
 * METHOD_NEITHER: the caller's own pointers. Requests from user mode would need ProbeForRead and ProbeForWrite inside
 * __try/__except, which mingw-w64 does not offer; so this code is for kernel-mode callers only.
 */
static NTSTATUS Sum(PIRP Irp, PIO_STACK_LOCATION Stack, PULONG_PTR Information)
{
    const UCHAR *input = Stack->Parameters.DeviceIoControl.Type3InputBuffer;
    ULONG length = Stack->Parameters.DeviceIoControl.InputBufferLength;
    ULONG sum = 0, i;

    if (Irp->RequestorMode != KernelMode)
        return STATUS_ACCESS_DENIED;
    if (Stack->Parameters.DeviceIoControl.OutputBufferLength < sizeof(sum))
        return STATUS_BUFFER_TOO_SMALL;
    for (i = 0; i < length; i++)
        sum += input[i];
    RtlCopyMemory(Irp->UserBuffer, &sum, sizeof(sum));
    *Information = sizeof(sum);
    return STATUS_SUCCESS;
}

static NTSTATUS NTAPI DispatchDeviceControl(PDEVICE_OBJECT Device, PIRP Irp)
{
    PIO_STACK_LOCATION stack = IoGetCurrentIrpStackLocation(Irp);
    ULONG inputLength = stack->Parameters.DeviceIoControl.InputBufferLength;
    ULONG outputLength = stack->Parameters.DeviceIoControl.OutputBufferLength;
    PCOUNTS counts = Device->DeviceExtension;
    ULONG_PTR information = 0;
    NTSTATUS status;

    InterlockedIncrement(&counts->Controls);
    switch (stack->Parameters.DeviceIoControl.IoControlCode) {
    case IOCTL_HELLO_REVERSE:
        status = Reverse(Irp, inputLength, outputLength, &information);
        break;
    case IOCTL_HELLO_FILL:
        status = Fill(Irp, inputLength, outputLength, &information);
        break;
    case IOCTL_HELLO_SUM:
        status = Sum(Irp, stack, &information);
        break;
    default:
        status = STATUS_INVALID_DEVICE_REQUEST;
        break;
    }
    return CompleteIrp(Irp, status, information);
}

static void NTAPI Unload(PDRIVER_OBJECT Driver)
{
    UNICODE_STRING link = RTL_CONSTANT_STRING(L"\\??\\Hello");
    PCOUNTS counts = Driver->DeviceObject->DeviceExtension;

    Log("%d creates, %d cleanups, %d closes, %d controls", counts->Creates, counts->Cleanups, counts->Closes,
        counts->Controls);
    IoDeleteSymbolicLink(&link);
    IoDeleteDevice(Driver->DeviceObject);
}

NTSTATUS NTAPI DriverEntry(PDRIVER_OBJECT Driver, PUNICODE_STRING RegistryPath)
{
    UNICODE_STRING name = RTL_CONSTANT_STRING(L"\\Device\\Hello");
    UNICODE_STRING link = RTL_CONSTANT_STRING(L"\\??\\Hello");
    PDEVICE_OBJECT device;
    NTSTATUS status;

    Log("started from %wZ", RegistryPath);
    status = IoCreateDevice(Driver, sizeof(COUNTS), &name, FILE_DEVICE_UNKNOWN, 0, FALSE, &device);
    if (!NT_SUCCESS(status))
        return status;
    status = IoCreateSymbolicLink(&link, &name);
    if (!NT_SUCCESS(status)) {
        IoDeleteDevice(device);
        return status;
    }
    Driver->MajorFunction[IRP_MJ_CREATE] = DispatchCreate;
    Driver->MajorFunction[IRP_MJ_CLEANUP] = DispatchCleanup;
    Driver->MajorFunction[IRP_MJ_CLOSE] = DispatchClose;
    Driver->MajorFunction[IRP_MJ_DEVICE_CONTROL] = DispatchDeviceControl;
    Driver->DriverUnload = Unload;
    return STATUS_SUCCESS;
}
