/* What drivers do to packets inline, and what the I/O manager then makes of it (K-001 to K-008, K-021 to K-051, K-087 to K-090). */
#define FAMILY "packets"
#include "check.h"

IMPORT(PKTHREAD, KeGetCurrentThread, void);
IMPORT(ULONG, KeGetCurrentProcessorNumberEx, PPROCESSOR_NUMBER);

static UNICODE_STRING Name = RTL_CONSTANT_STRING(L"\\Device\\Packets");
static PDEVICE_OBJECT Lower, Upper, SeenLower, Fresh;

/* How the lower device answers, and what it saw. */
static enum { AnswerAtOnce, AnswerMarked, AnswerWithError } Answer;
static PIO_STACK_LOCATION SeenLocation;
static PVOID SeenParameter;

static NTSTATUS NTAPI Default(PDEVICE_OBJECT Device, PIRP Irp)
{
    Irp->IoStatus.Status = STATUS_SUCCESS;
    Irp->IoStatus.Information = 0;
    if (Device == Upper) {
        IoSkipCurrentIrpStackLocation(Irp);
        return IoCallDriver(Lower, Irp);
    }
    IoCompleteRequest(Irp, IO_NO_INCREMENT);
    return STATUS_SUCCESS;
}

static NTSTATUS NTAPI OnControl(PDEVICE_OBJECT Device, PIRP Irp)
{
    NTSTATUS status = Answer == AnswerWithError ? STATUS_DEVICE_BUSY : STATUS_SUCCESS;

    if (Device == Upper)
        return Default(Device, Irp);
    SeenLocation = IoGetCurrentIrpStackLocation(Irp);
    SeenParameter = SeenLocation->Parameters.Others.Argument1;
    if (Answer == AnswerMarked) {
        IoMarkIrpPending(Irp);
        status = STATUS_PENDING;
    }
    Irp->IoStatus.Status = status == STATUS_PENDING ? STATUS_SUCCESS : status;
    Irp->IoStatus.Information = 5;
    /* A boost is ignored. */
    IoCompleteRequest(Irp, IO_NETWORK_INCREMENT);
    return status;
}

/* What completion routines were told, in their order. */
static struct {
    PDEVICE_OBJECT Device;
    PVOID Context;
    BOOLEAN PendingReturned;
    CHAR Location;
    KIRQL Level;
} Calls[4];
static ULONG Count;

static NTSTATUS NTAPI OnCompletion(PDEVICE_OBJECT Device, PIRP Irp, PVOID Context)
{
    Calls[Count].Device = Device;
    Calls[Count].Context = Context;
    Calls[Count].PendingReturned = Irp->PendingReturned;
    Calls[Count].Location = Irp->CurrentLocation;
    Calls[Count].Level = KeGetCurrentIrql();
    Count++;
    if (Irp->PendingReturned && Irp->CurrentLocation <= Irp->StackCount)
        IoMarkIrpPending(Irp);
    /* Any other value than STATUS_MORE_PROCESSING_REQUIRED goes on. */
    return (NTSTATUS)(ULONG_PTR)Context;
}

#define STOP ((PVOID)(ULONG_PTR)(ULONG)STATUS_MORE_PROCESSING_REQUIRED)
#define GO_ON ((PVOID)(ULONG_PTR)(ULONG)STATUS_ACCESS_DENIED)

static void NTAPI OnCancel(PDEVICE_OBJECT Device, PIRP Irp)
{
    (void)Device, (void)Irp;
}

static void Layout(void)
{
    PIRP irp = IoAllocateIrp(3, FALSE);
    PIO_STACK_LOCATION locations = (PIO_STACK_LOCATION)(irp + 1);

    CHECK(sizeof(IRP) == 0xD0 && sizeof(IO_STACK_LOCATION) == 0x48 && IoSizeOfIrp(3) == 0xD0 + 3 * 0x48);
    CHECK(irp->Type == 6 && irp->StackCount == 3 && irp->CurrentLocation == 4 && irp->Size >= IoSizeOfIrp(3));
    CHECK(irp->Tail.Overlay.CurrentStackLocation == locations + 3 && irp->Tail.Overlay.Thread == NULL);
    CHECK(IoGetNextIrpStackLocation(irp) == locations + 2);
    IoSetNextIrpStackLocation(irp);
    CHECK(irp->CurrentLocation == 3 && IoGetCurrentIrpStackLocation(irp) == locations + 2);
    locations[2].Parameters.Others.Argument1 = &Name;
    locations[2].Control = 0xFF;
    IoCopyCurrentIrpStackLocationToNext(irp);
    CHECK(locations[1].Parameters.Others.Argument1 == &Name && locations[1].Control == 0);
    IoSetCompletionRoutine(irp, OnCompletion, STOP, TRUE, FALSE, TRUE);
    CHECK(locations[1].CompletionRoutine == OnCompletion && locations[1].Context == STOP);
    CHECK_NUMBER(SL_INVOKE_ON_SUCCESS | SL_INVOKE_ON_CANCEL, locations[1].Control);
    IoMarkIrpPending(irp);
    CHECK((locations[2].Control & SL_PENDING_RETURNED) != 0);
    IoSkipCurrentIrpStackLocation(irp);
    CHECK(irp->CurrentLocation == 4 && IoGetNextIrpStackLocation(irp) == locations + 2);
    CHECK(IoSetCancelRoutine(irp, OnCancel) == NULL && irp->CancelRoutine == OnCancel);
    CHECK(IoSetCancelRoutine(irp, NULL) == OnCancel && irp->CancelRoutine == NULL);

    irp->MdlAddress = (PMDL)&Name;
    irp->Cancel = TRUE;
    irp->CancelIrql = 2;
    IoReuseIrp(irp, STATUS_DEVICE_BUSY);
    CHECK(irp->IoStatus.Status == STATUS_DEVICE_BUSY && irp->StackCount == 3 && irp->CurrentLocation == 4);
    CHECK(irp->MdlAddress == NULL && !irp->Cancel && irp->CancelIrql == 0 && locations[2].Parameters.Others.Argument1 == NULL);
    IoFreeIrp(irp);
}

/* A filter that skips its location, a lower device that answers in one of three ways, and the sender's completion routine. */
static void Walks(void)
{
    PIRP irp = IoAllocateIrp(Upper->StackSize + 1, FALSE);
    ULONG i;

    for (i = AnswerAtOnce; i <= AnswerWithError; i++) {
        NTSTATUS expected[] = {STATUS_SUCCESS, STATUS_PENDING, STATUS_DEVICE_BUSY};

        Answer = i;
        Count = 0;
        IoReuseIrp(irp, STATUS_SUCCESS);
        /* The sender's own location, so that its routine is told its device. */
        IoSetNextIrpStackLocation(irp);
        IoGetCurrentIrpStackLocation(irp)->DeviceObject = Upper;
        IoSetCompletionRoutine(irp, OnCompletion, STOP, TRUE, TRUE, TRUE);
        IoGetNextIrpStackLocation(irp)->MajorFunction = IRP_MJ_INTERNAL_DEVICE_CONTROL;
        IoGetNextIrpStackLocation(irp)->Parameters.Others.Argument1 = (PVOID)0x1234;
        CHECK_STATUS(expected[i], IoCallDriver(Upper, irp));
        CHECK(SeenParameter == (PVOID)0x1234 && SeenLocation == IoGetNextIrpStackLocation(irp));
        CHECK(Count == 1 && Calls[0].Device == Upper && Calls[0].Context == STOP && Calls[0].Level <= DISPATCH_LEVEL);
        CHECK_NUMBER(i == AnswerMarked, Calls[0].PendingReturned);
        CHECK(irp->IoStatus.Information == 5 && irp->CurrentLocation == irp->StackCount);
    }
    IoFreeIrp(irp);
}

/* Two routines: the lower one goes on, the upper one is the sender's without a location, and stops. */
static void Continues(void)
{
    PIRP irp = IoAllocateIrp(2, FALSE);

    Answer = AnswerMarked;
    Count = 0;
    IoSetCompletionRoutine(irp, OnCompletion, STOP, TRUE, TRUE, TRUE);
    IoSetNextIrpStackLocation(irp);
    IoGetCurrentIrpStackLocation(irp)->DeviceObject = Upper;
    IoGetCurrentIrpStackLocation(irp)->MajorFunction = IRP_MJ_INTERNAL_DEVICE_CONTROL;
    IoCopyCurrentIrpStackLocationToNext(irp);
    IoSetCompletionRoutine(irp, OnCompletion, GO_ON, TRUE, TRUE, TRUE);
    CHECK_STATUS(STATUS_PENDING, IoCallDriver(Lower, irp));
    CHECK(Count == 2 && Calls[0].Context == GO_ON && Calls[0].Device == Upper && Calls[0].PendingReturned);
    CHECK(Calls[1].Context == STOP && Calls[1].Device == NULL && Calls[1].PendingReturned);
    IoFreeIrp(irp);
}

/* Of a routine for errors only. */
static void Conditions(void)
{
    PIRP irp = IoAllocateIrp(1, FALSE);

    Answer = AnswerWithError;
    Count = 0;
    IoGetNextIrpStackLocation(irp)->MajorFunction = IRP_MJ_INTERNAL_DEVICE_CONTROL;
    IoSetCompletionRoutine(irp, OnCompletion, STOP, FALSE, TRUE, FALSE);
    CHECK_STATUS(STATUS_DEVICE_BUSY, IoCallDriver(Lower, irp));
    CHECK_NUMBER(1, Count);
    IoFreeIrp(irp);
}

static void Inline(void)
{
    PROCESSOR_NUMBER number;
    KSPIN_LOCK lock = 77;
    ULONG64 self, thread;
    USHORT processor;
    ULONG wide;

    __asm__ volatile("movq %%gs:0x18, %0" : "=r"(self));
    __asm__ volatile("movq %%gs:0x188, %0" : "=r"(thread));
    __asm__ volatile("movw %%gs:0x184, %0" : "=r"(processor));
    __asm__ volatile("movl %%gs:0x1A4, %0" : "=r"(wide));
    CHECK(*(ULONG64 *)(self + 0x188) == thread && thread == (ULONG64)CALL(KeGetCurrentThread)());
    CHECK(processor == wide && wide == CALL(KeGetCurrentProcessorNumberEx)(&number));
    CHECK(KeGetCurrentThread() == CALL(KeGetCurrentThread)());
    KeInitializeSpinLock(&lock);
    CHECK_NUMBER(0, lock);
}

static void Mdls(void)
{
    PUCHAR buffer = ExAllocatePoolWithTag(NonPagedPool, 64, TEST_TAG);
    PIRP irp = IoAllocateIrp(1, FALSE);
    PMDL first = IoAllocateMdl(buffer, 16, FALSE, FALSE, irp), second = IoAllocateMdl(buffer + 16, 16, TRUE, FALSE, irp);

    CHECK(irp->MdlAddress == first && first->Next == second && second->Next == NULL);
    MmBuildMdlForNonPagedPool(first);
    /* Answered inline by the flag. */
    first->MappedSystemVa = buffer + 1;
    CHECK(MmGetSystemAddressForMdlSafe(first, NormalPagePriority) == buffer + 1);
    /* One by one: the second outlives the first. */
    IoFreeMdl(first);
    CHECK_NUMBER(16, MmGetMdlByteCount(second));
    IoFreeMdl(second);
    irp->MdlAddress = NULL;
    IoFreeIrp(irp);
    ExFreePoolWithTag(buffer, TEST_TAG);
}

static void DriverObject(PUNICODE_STRING RegistryPath)
{
    UNICODE_STRING prefix = RTL_CONSTANT_STRING(L"\\Driver\\");
    UNICODE_STRING services = RTL_CONSTANT_STRING(L"\\Registry\\Machine\\System\\CurrentControlSet\\Services\\");
    ULONG i;

    CHECK(Self->Type == 4 && Self->DeviceObject == NULL && (Self->Flags & 2) != 0);
    CHECK(Self->DriverExtension == (PVOID)(Self + 1) && Self->DriverExtension->DriverObject == Self);
    CHECK(RtlPrefixUnicodeString(&prefix, &Self->DriverName, FALSE));
    CHECK(RtlPrefixUnicodeString(&services, RegistryPath, TRUE));
    for (i = 0; i <= IRP_MJ_MAXIMUM_FUNCTION; i++)
        CHECK(Self->MajorFunction[i] != NULL && Self->MajorFunction[i] == Self->MajorFunction[0]);
    CHECK_NUMBER(27, IRP_MJ_MAXIMUM_FUNCTION);
}


/* Once the entry point has returned. */
static void NTAPI LookAtFlags(PVOID Unused)
{
    ULONG i;

    (void)Unused;
    for (i = 0; i < 10000 && (Fresh->Flags & DO_DEVICE_INITIALIZING) != 0; i++)
        Sleep(1);
    DbgPrint(FAMILY ": the new device is %s\n", (Fresh->Flags & DO_DEVICE_INITIALIZING) == 0 ? "ready" : "not ready");
    PsTerminateSystemThread(STATUS_SUCCESS);
}

static PKTHREAD Looker;

static void NTAPI DeleteAndUnload(PDRIVER_OBJECT Driver)
{
    (void)Driver;
    Join(Looker);
    IoDeleteDevice(Fresh);
}

static void Checks(PUNICODE_STRING RegistryPath)
{
    ULONG i;

    DriverObject(RegistryPath);
    for (i = 0; i <= IRP_MJ_MAXIMUM_FUNCTION; i++)
        Self->MajorFunction[i] = Default;
    Self->MajorFunction[IRP_MJ_INTERNAL_DEVICE_CONTROL] = OnControl;
    Self->DriverUnload = DeleteAndUnload;
    CHECK_STATUS(STATUS_SUCCESS, IoCreateDevice(Self, 0, &Name, FILE_DEVICE_NETWORK, 0, FALSE, &Lower));
    CHECK_STATUS(STATUS_SUCCESS, IoCreateDevice(Self, 0, NULL, FILE_DEVICE_NETWORK, 0, FALSE, &Fresh));
    CHECK((Lower->Flags & DO_DEVICE_INITIALIZING) != 0 && (Fresh->Flags & DO_DEVICE_INITIALIZING) != 0);
    CHECK_STATUS(STATUS_SUCCESS, IoCreateDevice(Self, 0, NULL, FILE_DEVICE_NETWORK, 0, FALSE, &Upper));
    /* What is not ready takes no filter. */
    CHECK_STATUS(STATUS_NO_SUCH_DEVICE, IoAttachDevice(Upper, &Name, &SeenLower));
    Lower->Flags &= ~DO_DEVICE_INITIALIZING;
    /* Opens the target and closes it again, with the lower device known before. */
    CHECK_STATUS(STATUS_SUCCESS, IoAttachDevice(Upper, &Name, &SeenLower));
    CHECK(SeenLower == Lower && Upper->StackSize == Lower->StackSize + 1);
    Layout();
    Inline();
    Walks();
    Continues();
    Conditions();
    Mdls();
    IoDetachDevice(Lower);
    IoDeleteDevice(Upper);
    IoDeleteDevice(Lower);
    Looker = Start(LookAtFlags, NULL);
}
