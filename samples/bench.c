/*
 * Measures what the kernel under it costs. Each control code runs one measurement; the driver's time is in ticks of the
 * processor's time stamp counter.
 *
 *   \Device\Bench, \??\Bench
 *   input   BENCH_INPUT: how often, and on how many threads
 *   output  BENCH_OUTPUT
 *
 * Parameters: Host (127.0.0.1) and Port (7) of the peer, Ports (DWORD, default 1): connects take turns over that many ports from
 * Port on; Settle (DWORD, default 0): milliseconds to wait before a measurement, for whoever wants to pin this process.
 *
 * `cargo xtask bench` runs it and compares each result with the same work done without a kernel.
 */
#define DRIVER_NAME "bench"
#include "common/control_device.h"
#include "common/parameters.h"
#include "common/tdi_requests.h"

#define DEVICE_NAME L"Bench"
#define BENCH_CODE(function) CTL_CODE(FILE_DEVICE_UNKNOWN, 0x800 + (function), METHOD_BUFFERED, FILE_ANY_ACCESS)
#define IOCTL_NOTHING CTL_CODE(FILE_DEVICE_UNKNOWN, 0x8FF, METHOD_NEITHER, FILE_ANY_ACCESS)

#define THREADS_MAX 8
#define SAMPLES_MAX 100000
#define TRANSFER_BYTES 0x10000
#define HOST_BYTES 32

typedef struct _BENCH_INPUT {
    ULONG Count;
    ULONG Threads;
} BENCH_INPUT;

typedef struct _BENCH_OUTPUT {
    ULONG64 Ticks;      /* from the first thread's start to the last one's end */
    ULONG64 Median;     /* of one operation, where each is timed by itself; else 0 */
    ULONG64 LastTenth;  /* ticks of the last tenth of the operations, where they are timed; else 0 */
    ULONG64 Failures;
    ULONG64 Entered;    /* time stamp at the first instruction of DriverEntry */
} BENCH_OUTPUT;

/* One thread's part of a measurement. */
typedef struct _WORK {
    void (*Routine)(struct _WORK *Work);
    ULONG Count;
    ULONG Index;
    ULONG64 Begun;
    ULONG64 Ended;
    ULONG Failures;
    PETHREAD Thread;
} WORK, *PWORK;

static struct {
    INTERNET_ADDRESS Remote;
    ULONG Ports;
    ULONG Settle;
} Settings;

static PDEVICE_OBJECT BenchDevice;
static ULONG64 Entered;
static KEVENT Start;
static KEVENT Turns[2];
static TRANSPORT_FILE Address;      /* shared by the connections of a measurement */
static TRANSPORT_FILE *Idle;        /* connections of MeasureIdle */
static PTRANSFER IdleReceives;
static PUCHAR IdleBuffers;
static ULONG IdleCount;
static PULONG64 Samples;

static ULONG64 Ticks(void)
{
    return __builtin_ia32_rdtsc();
}

static void Fail(PWORK Work, PCSTR Step, NTSTATUS Status)
{
    if (Work->Failures++ == 0)
        Log("%s failed with status %08x", Step, Status);
}

/* Events and references */

static void MeasureEvent(PWORK Work)
{
    KEVENT event;
    ULONG i;

    KeInitializeEvent(&event, SynchronizationEvent, FALSE);
    Work->Begun = Ticks();
    for (i = 0; i < Work->Count; i++) {
        KeSetEvent(&event, IO_NO_INCREMENT, FALSE);
        KeWaitForSingleObject(&event, Executive, KernelMode, FALSE, NULL);
    }
    Work->Ended = Ticks();
}

static void MeasurePingPong(PWORK Work)
{
    PRKEVENT mine = &Turns[Work->Index], other = &Turns[1 - Work->Index];
    ULONG i;

    Work->Begun = Ticks();
    for (i = 0; i < Work->Count; i++) {
        KeWaitForSingleObject(mine, Executive, KernelMode, FALSE, NULL);
        KeSetEvent(other, IO_NO_INCREMENT, FALSE);
    }
    Work->Ended = Ticks();
}

/* Each thread has an object of its own: on one, threads would wait for each other's processor whatever the kernel does. */
static void MeasureReference(PWORK Work)
{
    TRANSPORT_FILE endpoint;
    NTSTATUS status = OpenEndpoint(&endpoint, NULL);
    ULONG i;

    if (!NT_SUCCESS(status)) {
        Fail(Work, "open", status);
        return;
    }
    Work->Begun = Ticks();
    for (i = 0; i < Work->Count; i++) {
        PVOID object;

        status = ObReferenceObjectByHandle(endpoint.Handle, 0, *IoFileObjectType, KernelMode, &object, NULL);
        if (NT_SUCCESS(status))
            ObDereferenceObject(object);
        else
            Fail(Work, "reference", status);
    }
    Work->Ended = Ticks();
    CloseTransportFile(&endpoint, ReferenceFirst);
}

/* IRPs */

static NTSTATUS NTAPI KeepIrp(PDEVICE_OBJECT Device, PIRP Irp, PVOID Context)
{
    UNREFERENCED_PARAMETER(Device);
    UNREFERENCED_PARAMETER(Irp);
    UNREFERENCED_PARAMETER(Context);
    return STATUS_MORE_PROCESSING_REQUIRED;
}

static void MeasureIrp(PWORK Work)
{
    ULONG i;

    Work->Begun = Ticks();
    for (i = 0; i < Work->Count; i++) {
        PIRP irp = IoAllocateIrp(BenchDevice->StackSize, FALSE);
        PIO_STACK_LOCATION next;

        if (irp == NULL) {
            Fail(Work, "IRP", STATUS_INSUFFICIENT_RESOURCES);
            break;
        }
        next = IoGetNextIrpStackLocation(irp);
        next->MajorFunction = IRP_MJ_INTERNAL_DEVICE_CONTROL;
        next->Parameters.DeviceIoControl.IoControlCode = IOCTL_NOTHING;
        IoSetCompletionRoutine(irp, KeepIrp, NULL, TRUE, TRUE, TRUE);
        IoCallDriver(BenchDevice, irp);
        IoFreeIrp(irp);
    }
    Work->Ended = Ticks();
}

static NTSTATUS NTAPI DispatchNothing(PDEVICE_OBJECT Device, PIRP Irp)
{
    UNREFERENCED_PARAMETER(Device);
    return CompleteIrp(Irp, STATUS_SUCCESS, 0);
}

/* Endpoints */

static void MeasureOpenClose(PWORK Work)
{
    ULONG i;

    Work->Begun = Ticks();
    for (i = 0; i < Work->Count; i++) {
        TRANSPORT_FILE endpoint;
        NTSTATUS status = OpenEndpoint(&endpoint, NULL);

        if (!NT_SUCCESS(status)) {
            Fail(Work, "open", status);
            continue;
        }
        status = AssociateAddress(&endpoint, &Address);
        if (!NT_SUCCESS(status))
            Fail(Work, "associate", status);
        CloseTransportFile(&endpoint, ReferenceFirst);
    }
    Work->Ended = Ticks();
}

static NTSTATUS OpenConnection(PTRANSPORT_FILE Endpoint, PTRANSPORT_FILE Local, ULONG Number)
{
    LARGE_INTEGER timeout = Milliseconds(30000);
    INTERNET_ADDRESS remote = Settings.Remote;
    NTSTATUS status = OpenEndpoint(Endpoint, NULL);

    if (!NT_SUCCESS(status))
        return status;
    remote.Port = (USHORT)(remote.Port + Number % Settings.Ports);
    status = AssociateAddress(Endpoint, Local);
    if (NT_SUCCESS(status))
        status = Connect(Endpoint, &remote, timeout);
    if (!NT_SUCCESS(status))
        CloseTransportFile(Endpoint, ReferenceFirst);
    return status;
}

static void MeasureConnect(PWORK Work)
{
    ULONG i;

    Work->Begun = Ticks();
    for (i = 0; i < Work->Count; i++) {
        TRANSPORT_FILE local, endpoint;
        ULONG64 begun = Ticks();
        NTSTATUS status = OpenAddress(&local);

        if (!NT_SUCCESS(status)) {
            Fail(Work, "address", status);
            continue;
        }
        status = OpenConnection(&endpoint, &local, i);
        if (NT_SUCCESS(status)) {
            status = Disconnect(&endpoint, TDI_DISCONNECT_RELEASE, Milliseconds(30000));
            CloseTransportFile(&endpoint, ReferenceFirst);
        }
        if (!NT_SUCCESS(status))
            Fail(Work, "connect", status);
        CloseTransportFile(&local, ReferenceFirst);
        if (i < SAMPLES_MAX)
            Samples[i] = Ticks() - begun;
    }
    Work->Ended = Ticks();
}

/* Transfers, each on one connection */

/* One IRP for all transfers of a connection, as a client would do that cares about speed. */
typedef struct _STREAM {
    TRANSPORT_FILE Endpoint;
    PUCHAR Buffer;
    PMDL Mdl;
    PIRP Irp;
    KEVENT Done;
} STREAM, *PSTREAM;

static NTSTATUS NTAPI StreamDone(PDEVICE_OBJECT Device, PIRP Irp, PVOID Context)
{
    UNREFERENCED_PARAMETER(Device);
    /* Only who was told to wait waits. */
    if (Irp->PendingReturned)
        KeSetEvent(Context, IO_NETWORK_INCREMENT, FALSE);
    return STATUS_MORE_PROCESSING_REQUIRED;
}

static NTSTATUS OpenStream(PSTREAM Stream)
{
    NTSTATUS status;

    RtlZeroMemory(Stream, sizeof(*Stream));
    KeInitializeEvent(&Stream->Done, SynchronizationEvent, FALSE);
    status = OpenConnection(&Stream->Endpoint, &Address, 0);
    if (!NT_SUCCESS(status))
        return status;
    Stream->Buffer = ExAllocatePoolWithTag(NonPagedPool, TRANSFER_BYTES, SAMPLE_TAG);
    Stream->Irp = IoAllocateIrp(Stream->Endpoint.Device->StackSize, FALSE);
    if (Stream->Buffer != NULL)
        Stream->Mdl = IoAllocateMdl(Stream->Buffer, TRANSFER_BYTES, FALSE, FALSE, NULL);
    if (Stream->Mdl == NULL || Stream->Irp == NULL)
        return STATUS_INSUFFICIENT_RESOURCES;
    RtlZeroMemory(Stream->Buffer, TRANSFER_BYTES);
    MmBuildMdlForNonPagedPool(Stream->Mdl);
    return STATUS_SUCCESS;
}

static void CloseStream(PSTREAM Stream)
{
    CloseTransportFile(&Stream->Endpoint, ReferenceFirst);
    if (Stream->Mdl != NULL)
        IoFreeMdl(Stream->Mdl);
    if (Stream->Irp != NULL)
        IoFreeIrp(Stream->Irp);
    if (Stream->Buffer != NULL)
        ExFreePoolWithTag(Stream->Buffer, SAMPLE_TAG);
}

static NTSTATUS SendStream(PSTREAM Stream)
{
    PIRP irp = Stream->Irp;

    IoSetCompletionRoutine(irp, StreamDone, &Stream->Done, TRUE, TRUE, TRUE);
    if (IoCallDriver(Stream->Endpoint.Device, irp) == STATUS_PENDING)
        KeWaitForSingleObject(&Stream->Done, Executive, KernelMode, FALSE, NULL);
    return irp->IoStatus.Status;
}

static NTSTATUS StreamSend(PSTREAM Stream, ULONG Length)
{
    IoReuseIrp(Stream->Irp, STATUS_SUCCESS);
    TdiBuildSend(Stream->Irp, Stream->Endpoint.Device, Stream->Endpoint.File, NULL, NULL, Stream->Mdl, 0, Length);
    return SendStream(Stream);
}

static NTSTATUS StreamReceive(PSTREAM Stream, ULONG Length)
{
    IoReuseIrp(Stream->Irp, STATUS_SUCCESS);
    TdiBuildReceive(Stream->Irp, Stream->Endpoint.Device, Stream->Endpoint.File, NULL, NULL, Stream->Mdl,
                    TDI_RECEIVE_NORMAL, Length);
    return SendStream(Stream);
}

static void MeasureEcho(PWORK Work)
{
    STREAM stream;
    NTSTATUS status = OpenStream(&stream);
    ULONG i;

    Work->Begun = Ticks();
    for (i = 0; i < Work->Count && NT_SUCCESS(status); i++) {
        ULONG64 begun = Ticks();

        status = StreamSend(&stream, 1);
        if (NT_SUCCESS(status))
            status = StreamReceive(&stream, 1);
        if (i < SAMPLES_MAX)
            Samples[i] = Ticks() - begun;
    }
    Work->Ended = Ticks();
    if (!NT_SUCCESS(status))
        Fail(Work, "echo", status);
    CloseStream(&stream);
}

static void MeasureSend(PWORK Work)
{
    STREAM stream;
    NTSTATUS status = OpenStream(&stream);
    ULONG i;

    Work->Begun = Ticks();
    for (i = 0; i < Work->Count && NT_SUCCESS(status); i++)
        status = StreamSend(&stream, TRANSFER_BYTES);
    Work->Ended = Ticks();
    if (!NT_SUCCESS(status))
        Fail(Work, "send", status);
    CloseStream(&stream);
}

/* Until as many bytes have come as Count whole buffers hold. */
static void MeasureReceive(PWORK Work)
{
    STREAM stream;
    NTSTATUS status = OpenStream(&stream);
    ULONG64 left = (ULONG64)Work->Count * TRANSFER_BYTES;

    Work->Begun = Ticks();
    while (left > 0 && NT_SUCCESS(status)) {
        status = StreamReceive(&stream, TRANSFER_BYTES);
        if (NT_SUCCESS(status) && stream.Irp->IoStatus.Information == 0)
            status = STATUS_GRACEFUL_DISCONNECT;
        if (NT_SUCCESS(status))
            left -= min(left, stream.Irp->IoStatus.Information);
    }
    Work->Ended = Ticks();
    if (left > 0)
        Fail(Work, "receive", status);
    CloseStream(&stream);
}

/* Connections that do nothing, each with a receive pending. They stay until Unload, so that memory can be looked at. */
static void MeasureIdle(PWORK Work)
{
    ULONG i;

    Idle = ExAllocatePoolWithTag(NonPagedPool, Work->Count * sizeof(*Idle), SAMPLE_TAG);
    IdleReceives = ExAllocatePoolWithTag(NonPagedPool, Work->Count * sizeof(*IdleReceives), SAMPLE_TAG);
    IdleBuffers = ExAllocatePoolWithTag(NonPagedPool, Work->Count, SAMPLE_TAG);
    if (Idle == NULL || IdleReceives == NULL || IdleBuffers == NULL) {
        Fail(Work, "idle connections", STATUS_INSUFFICIENT_RESOURCES);
        return;
    }
    Work->Begun = Ticks();
    for (i = 0; i < Work->Count; i++) {
        NTSTATUS status = OpenConnection(&Idle[IdleCount], &Address, i);

        if (NT_SUCCESS(status)) {
            status = StartReceive(&Idle[IdleCount], &IdleReceives[IdleCount], &IdleBuffers[IdleCount], 1);
            if (!NT_SUCCESS(status))
                CloseTransportFile(&Idle[IdleCount], HandleFirst);
        }
        if (NT_SUCCESS(status))
            IdleCount++;
        else
            Fail(Work, "idle connection", status);
    }
    Work->Ended = Ticks();
}

static void CloseIdle(void)
{
    ULONG i, count;

    for (i = 0; i < IdleCount; i++) {
        CloseTransportFile(&Idle[i], HandleFirst);
        FinishTransfer(&IdleReceives[i], Milliseconds(1000), &count);
    }
    IdleCount = 0;
    if (Idle != NULL)
        ExFreePoolWithTag(Idle, SAMPLE_TAG);
    if (IdleReceives != NULL)
        ExFreePoolWithTag(IdleReceives, SAMPLE_TAG);
    if (IdleBuffers != NULL)
        ExFreePoolWithTag(IdleBuffers, SAMPLE_TAG);
    Idle = NULL;
    IdleReceives = NULL;
    IdleBuffers = NULL;
}

static void MeasureNothing(PWORK Work)
{
    Work->Begun = Ticks();
    Work->Ended = Ticks();
}

/* In the order of the control codes, from 0x222000 in steps of 4. */
static void (*const Measurements[])(PWORK) = {
    MeasureNothing,     /* 0x222000 */
    MeasureEvent,       /* 0x222004 */
    MeasurePingPong,    /* 0x222008 */
    MeasureReference,   /* 0x22200C */
    MeasureIrp,         /* 0x222010 */
    MeasureOpenClose,   /* 0x222014 */
    MeasureConnect,     /* 0x222018 */
    MeasureEcho,        /* 0x22201C */
    MeasureSend,        /* 0x222020 */
    MeasureReceive,     /* 0x222024 */
    MeasureIdle,        /* 0x222028 */
};

/* Running one */

static void NTAPI WorkThread(PVOID Context)
{
    PWORK work = Context;

    KeWaitForSingleObject(&Start, Executive, KernelMode, FALSE, NULL);
    work->Routine(work);
    PsTerminateSystemThread(STATUS_SUCCESS);
}

static NTSTATUS StartWork(PWORK Work)
{
    HANDLE handle;
    NTSTATUS status = PsCreateSystemThread(&handle, THREAD_ALL_ACCESS, NULL, NULL, NULL, WorkThread, Work);

    if (!NT_SUCCESS(status))
        return status;
    status = ObReferenceObjectByHandle(handle, SYNCHRONIZE, *PsThreadType, KernelMode, (PVOID *)&Work->Thread, NULL);
    ZwClose(handle);
    return status;
}

static int CompareSamples(ULONG64 Left, ULONG64 Right)
{
    return (Left > Right) - (Left < Right);
}

/* Shell sort: no recursion, no memory. */
static void SortSamples(ULONG Count)
{
    ULONG gap, i;

    for (gap = Count / 2; gap > 0; gap /= 2) {
        for (i = gap; i < Count; i++) {
            ULONG64 sample = Samples[i];
            ULONG j = i;

            for (; j >= gap && CompareSamples(Samples[j - gap], sample) > 0; j -= gap)
                Samples[j] = Samples[j - gap];
            Samples[j] = sample;
        }
    }
}

static void EvaluateSamples(ULONG Count, BENCH_OUTPUT *Output)
{
    ULONG count = min(Count, SAMPLES_MAX), i;

    if (count == 0 || Samples[0] == 0)
        return;
    for (i = count - count / 10; i < count; i++)
        Output->LastTenth += Samples[i];
    SortSamples(count);
    Output->Median = Samples[count / 2];
}

static NTSTATUS Measure(ULONG Index, const BENCH_INPUT *Input, BENCH_OUTPUT *Output)
{
    WORK work[THREADS_MAX];
    ULONG threads = min(max(Input->Threads, 1), THREADS_MAX), started, i;
    NTSTATUS status = STATUS_SUCCESS;

    RtlZeroMemory(work, sizeof(work));
    RtlZeroMemory(Output, sizeof(*Output));
    RtlZeroMemory(Samples, SAMPLES_MAX * sizeof(*Samples));
    KeClearEvent(&Start);
    KeInitializeEvent(&Turns[0], SynchronizationEvent, TRUE);
    KeInitializeEvent(&Turns[1], SynchronizationEvent, FALSE);
    for (started = 0; started < threads; started++) {
        work[started].Routine = Measurements[Index];
        work[started].Count = Input->Count;
        work[started].Index = started;
        status = StartWork(&work[started]);
        if (!NT_SUCCESS(status))
            break;
    }
    if (Settings.Settle != 0) {
        LARGE_INTEGER interval = Milliseconds(Settings.Settle);

        KeDelayExecutionThread(KernelMode, FALSE, &interval);
    }
    KeSetEvent(&Start, IO_NO_INCREMENT, FALSE);
    for (i = 0; i < started; i++) {
        KeWaitForSingleObject(work[i].Thread, Executive, KernelMode, FALSE, NULL);
        ObDereferenceObject(work[i].Thread);
    }
    if (!NT_SUCCESS(status))
        return status;
    for (i = 1; i < threads; i++) {
        work[0].Begun = min(work[0].Begun, work[i].Begun);
        work[0].Ended = max(work[0].Ended, work[i].Ended);
        work[0].Failures += work[i].Failures;
    }
    Output->Ticks = work[0].Ended - work[0].Begun;
    Output->Failures = work[0].Failures;
    Output->Entered = Entered;
    EvaluateSamples(Input->Count, Output);
    return STATUS_SUCCESS;
}

static NTSTATUS NTAPI DispatchDeviceControl(PDEVICE_OBJECT Device, PIRP Irp)
{
    PIO_STACK_LOCATION location = IoGetCurrentIrpStackLocation(Irp);
    ULONG index = (location->Parameters.DeviceIoControl.IoControlCode - BENCH_CODE(0)) / 4;
    BENCH_INPUT input;
    NTSTATUS status;

    UNREFERENCED_PARAMETER(Device);
    if (location->Parameters.DeviceIoControl.IoControlCode != BENCH_CODE(index) || index >= RTL_NUMBER_OF(Measurements))
        return CompleteIrp(Irp, STATUS_INVALID_DEVICE_REQUEST, 0);
    if (location->Parameters.DeviceIoControl.InputBufferLength != sizeof(input))
        return CompleteIrp(Irp, STATUS_INVALID_PARAMETER, 0);
    if (location->Parameters.DeviceIoControl.OutputBufferLength < sizeof(BENCH_OUTPUT))
        return CompleteIrp(Irp, STATUS_BUFFER_TOO_SMALL, 0);
    RtlCopyMemory(&input, Irp->AssociatedIrp.SystemBuffer, sizeof(input));
    status = Measure(index, &input, Irp->AssociatedIrp.SystemBuffer);
    return CompleteIrp(Irp, status, NT_SUCCESS(status) ? sizeof(BENCH_OUTPUT) : 0);
}

/* Setting up and tearing down */

static void TearDown(void)
{
    CloseIdle();
    CloseTransportFile(&Address, HandleFirst);
    if (Samples != NULL)
        ExFreePoolWithTag(Samples, SAMPLE_TAG);
    if (BenchDevice != NULL)
        DeleteControlDevice(BenchDevice, DEVICE_NAME);
}

static void NTAPI Unload(PDRIVER_OBJECT Driver)
{
    UNREFERENCED_PARAMETER(Driver);
    TearDown();
}

static NTSTATUS SetUp(PDRIVER_OBJECT Driver)
{
    NTSTATUS status;

    Samples = ExAllocatePoolWithTag(NonPagedPool, SAMPLES_MAX * sizeof(*Samples), SAMPLE_TAG);
    if (Samples == NULL)
        return STATUS_INSUFFICIENT_RESOURCES;
    status = OpenAddress(&Address);
    if (!NT_SUCCESS(status))
        return status;
    return CreateControlDevice(Driver, DEVICE_NAME, &BenchDevice);
}

NTSTATUS NTAPI DriverEntry(PDRIVER_OBJECT Driver, PUNICODE_STRING RegistryPath)
{
    CHAR host[HOST_BYTES];
    NTSTATUS status;
    HANDLE key;

    Entered = Ticks();
    key = OpenParameters(RegistryPath);
    ReadText(key, L"Host", host, sizeof(host), "127.0.0.1");
    Settings.Remote.Port = (USHORT)ReadNumber(key, L"Port", 7);
    Settings.Ports = max(ReadNumber(key, L"Ports", 1), 1);
    Settings.Settle = ReadNumber(key, L"Settle", 0);
    CloseParameters(key);
    if (!ParseIpAddress(host, &Settings.Remote.Address))
        return STATUS_INVALID_PARAMETER;

    Driver->DriverUnload = Unload;
    Driver->MajorFunction[IRP_MJ_DEVICE_CONTROL] = DispatchDeviceControl;
    Driver->MajorFunction[IRP_MJ_INTERNAL_DEVICE_CONTROL] = DispatchNothing;
    KeInitializeEvent(&Start, NotificationEvent, FALSE);
    status = SetUp(Driver);
    if (!NT_SUCCESS(status)) {
        Log("setting up failed with status %08x", status);
        TearDown(); /* Unload is not called after a failure. */
    }
    return status;
}
