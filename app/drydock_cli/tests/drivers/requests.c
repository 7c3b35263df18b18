/* IRPs: built, forwarded, queued cancel-safe or for StartIo, remove locks, work items (K-020 to K-044, K-061, K-075 to K-081, K-136, K-143). */
#define FAMILY "requests"
#include "check.h"

IMPORT(NTSTATUS, IoCallDriver, PDEVICE_OBJECT, PIRP);
IMPORT(void, IoCompleteRequest, PIRP, CCHAR);
IMPORT(void, IoInitializeIrp, PIRP, USHORT, CCHAR);
IMPORT(void, IoAcquireCancelSpinLock, PKIRQL);
IMPORT(void, IoReleaseCancelSpinLock, KIRQL);
IMPORT(PIRP, IoBuildAsynchronousFsdRequest, ULONG, PDEVICE_OBJECT, PVOID, ULONG, PLARGE_INTEGER, PIO_STATUS_BLOCK);
IMPORT(PIRP, IoBuildSynchronousFsdRequest, ULONG, PDEVICE_OBJECT, PVOID, ULONG, PLARGE_INTEGER, PKEVENT, PIO_STATUS_BLOCK);
IMPORT(PIRP, IoMakeAssociatedIrp, PIRP, CCHAR);
IMPORT(NTSTATUS, IoSetCompletionRoutineEx, PDEVICE_OBJECT, PIRP, PIO_COMPLETION_ROUTINE, PVOID, BOOLEAN, BOOLEAN, BOOLEAN);
IMPORT(BOOLEAN, IoForwardIrpSynchronously, PDEVICE_OBJECT, PIRP);
IMPORT(BOOLEAN, IoForwardAndCatchIrp, PDEVICE_OBJECT, PIRP);
IMPORT(NTSTATUS, IoSynchronousCallDriver, PDEVICE_OBJECT, PIRP);
IMPORT(NTSTATUS, PoCallDriver, PDEVICE_OBJECT, PIRP);
IMPORT(void, PoStartNextPowerIrp, PIRP);
IMPORT(PIRP, IoGetTopLevelIrp, void);
IMPORT(void, IoSetTopLevelIrp, PIRP);
IMPORT(NTSTATUS, IoCsqInitialize, PIO_CSQ, PVOID, PVOID, PVOID, PVOID, PVOID, PVOID);
IMPORT(NTSTATUS, IoCsqInitializeEx, PIO_CSQ, PVOID, PVOID, PVOID, PVOID, PVOID, PVOID);
IMPORT(void, IoCsqInsertIrp, PIO_CSQ, PIRP, PIO_CSQ_IRP_CONTEXT);
IMPORT(NTSTATUS, IoCsqInsertIrpEx, PIO_CSQ, PIRP, PIO_CSQ_IRP_CONTEXT, PVOID);
IMPORT(PIRP, IoCsqRemoveIrp, PIO_CSQ, PIO_CSQ_IRP_CONTEXT);
IMPORT(PIRP, IoCsqRemoveNextIrp, PIO_CSQ, PVOID);
IMPORT(void, IoStartPacket, PDEVICE_OBJECT, PIRP, PULONG, PVOID);
IMPORT(void, IoStartNextPacket, PDEVICE_OBJECT, BOOLEAN);
IMPORT(void, IoStartNextPacketByKey, PDEVICE_OBJECT, BOOLEAN, ULONG);
IMPORT(void, KeInitializeDeviceQueue, PKDEVICE_QUEUE);
IMPORT(BOOLEAN, KeInsertDeviceQueue, PKDEVICE_QUEUE, PKDEVICE_QUEUE_ENTRY);
IMPORT(BOOLEAN, KeInsertByKeyDeviceQueue, PKDEVICE_QUEUE, PKDEVICE_QUEUE_ENTRY, ULONG);
IMPORT(PKDEVICE_QUEUE_ENTRY, KeRemoveDeviceQueue, PKDEVICE_QUEUE);
IMPORT(PKDEVICE_QUEUE_ENTRY, KeRemoveByKeyDeviceQueue, PKDEVICE_QUEUE, ULONG);
IMPORT(BOOLEAN, KeRemoveEntryDeviceQueue, PKDEVICE_QUEUE, PKDEVICE_QUEUE_ENTRY);
IMPORT(void, IoInitializeRemoveLockEx, PIO_REMOVE_LOCK, ULONG, ULONG, ULONG, ULONG);
IMPORT(NTSTATUS, IoAcquireRemoveLockEx, PIO_REMOVE_LOCK, PVOID, const char *, ULONG, ULONG);
IMPORT(void, IoReleaseRemoveLockEx, PIO_REMOVE_LOCK, PVOID, ULONG);
IMPORT(void, IoReleaseRemoveLockAndWaitEx, PIO_REMOVE_LOCK, PVOID, ULONG);
IMPORT(PVOID, IoAllocateWorkItem, PDEVICE_OBJECT);
IMPORT(void, IoFreeWorkItem, PVOID);
IMPORT(ULONG, IoSizeofWorkItem, void);
IMPORT(void, IoInitializeWorkItem, PVOID, PVOID);
IMPORT(void, IoUninitializeWorkItem, PVOID);
IMPORT(void, IoQueueWorkItem, PVOID, PVOID, ULONG, PVOID);
IMPORT(void, IoQueueWorkItemEx, PVOID, PVOID, ULONG, PVOID);
IMPORT(NTSTATUS, ZwOpenFile, PHANDLE, ACCESS_MASK, POBJECT_ATTRIBUTES, PIO_STATUS_BLOCK, ULONG, ULONG);
IMPORT(NTSTATUS, NtOpenFile, PHANDLE, ACCESS_MASK, POBJECT_ATTRIBUTES, PIO_STATUS_BLOCK, ULONG, ULONG);
IMPORT(NTSTATUS, NtCreateFile, PHANDLE, ACCESS_MASK, POBJECT_ATTRIBUTES, PIO_STATUS_BLOCK, PLARGE_INTEGER, ULONG, ULONG, ULONG, ULONG, PVOID, ULONG);
IMPORT(NTSTATUS, NtDeleteFile, POBJECT_ATTRIBUTES);
IMPORT(NTSTATUS, ZwDeviceIoControlFile, HANDLE, HANDLE, PVOID, PVOID, PIO_STATUS_BLOCK, ULONG, PVOID, ULONG, PVOID, ULONG);
IMPORT(NTSTATUS, NtDeviceIoControlFile, HANDLE, HANDLE, PVOID, PVOID, PIO_STATUS_BLOCK, ULONG, PVOID, ULONG, PVOID, ULONG);
IMPORT(NTSTATUS, ZwFsControlFile, HANDLE, HANDLE, PVOID, PVOID, PIO_STATUS_BLOCK, ULONG, PVOID, ULONG, PVOID, ULONG);
IMPORT(NTSTATUS, NtFsControlFile, HANDLE, HANDLE, PVOID, PVOID, PIO_STATUS_BLOCK, ULONG, PVOID, ULONG, PVOID, ULONG);
IMPORT(NTSTATUS, NtReadFile, HANDLE, HANDLE, PVOID, PVOID, PIO_STATUS_BLOCK, PVOID, ULONG, PLARGE_INTEGER, PULONG);
IMPORT(NTSTATUS, NtWriteFile, HANDLE, HANDLE, PVOID, PVOID, PIO_STATUS_BLOCK, PVOID, ULONG, PLARGE_INTEGER, PULONG);
IMPORT(NTSTATUS, NtFlushBuffersFile, HANDLE, PIO_STATUS_BLOCK);

static UNICODE_STRING Name = RTL_CONSTANT_STRING(L"\\Device\\Requests");
static PDEVICE_OBJECT Device;

/* What the device saw last. Its read is kept waiting and ended by a DPC or a queue; the rest ends at once. */
static UCHAR LastMajor;
static ULONG LastCode, LastLength;
static LONGLONG LastOffset;
static PIRP Kept;

static NTSTATUS Complete(PIRP Irp, NTSTATUS Status, ULONG_PTR Information)
{
    Irp->IoStatus.Status = Status;
    Irp->IoStatus.Information = Information;
    CALL(IoCompleteRequest)(Irp, IO_NO_INCREMENT);
    return Status;
}

#define CODE_PEND CTL_CODE(FILE_DEVICE_NETWORK, 0x801, METHOD_BUFFERED, FILE_ANY_ACCESS)
#define CODE_ECHO CTL_CODE(FILE_DEVICE_NETWORK, 0x802, METHOD_BUFFERED, FILE_ANY_ACCESS)

static NTSTATUS NTAPI Dispatch(PDEVICE_OBJECT Of, PIRP Irp)
{
    PIO_STACK_LOCATION location = IoGetCurrentIrpStackLocation(Irp);

    (void)Of;
    LastMajor = location->MajorFunction;
    switch (location->MajorFunction) {
    case IRP_MJ_READ:
        LastLength = location->Parameters.Read.Length;
        LastOffset = location->Parameters.Read.ByteOffset.QuadPart;
        RtlFillMemory(Irp->AssociatedIrp.SystemBuffer, LastLength, 0x5A);
        return Complete(Irp, STATUS_SUCCESS, LastLength);
    case IRP_MJ_WRITE:
        LastLength = location->Parameters.Write.Length;
        LastOffset = location->Parameters.Write.ByteOffset.QuadPart;
        return Complete(Irp, STATUS_SUCCESS, LastLength);
    case IRP_MJ_FILE_SYSTEM_CONTROL:
    case IRP_MJ_DEVICE_CONTROL:
        LastCode = location->Parameters.DeviceIoControl.IoControlCode;
        if (LastCode == CODE_PEND) {
            IoMarkIrpPending(Irp);
            Kept = Irp;
            return STATUS_PENDING;
        }
        return Complete(Irp, STATUS_SUCCESS, location->Parameters.DeviceIoControl.InputBufferLength);
    }
    return Complete(Irp, STATUS_SUCCESS, 0);
}

static void Native(void)
{
    OBJECT_ATTRIBUTES attributes;
    IO_STATUS_BLOCK status;
    LARGE_INTEGER offset = {.QuadPart = 0x1000};
    UCHAR room[16] = "abcdefg";
    HANDLE file, other, third;

    InitializeObjectAttributes(&attributes, &Name, OBJ_KERNEL_HANDLE | OBJ_CASE_INSENSITIVE, NULL, NULL);
    CHECK_STATUS(STATUS_SUCCESS, CALL(ZwOpenFile)(&file, FILE_ALL_ACCESS | SYNCHRONIZE, &attributes, &status, 0, FILE_SYNCHRONOUS_IO_NONALERT));
    CHECK_STATUS(STATUS_SUCCESS, CALL(NtOpenFile)(&other, FILE_ALL_ACCESS | SYNCHRONIZE, &attributes, &status, 0, FILE_SYNCHRONOUS_IO_NONALERT));
    CHECK_STATUS(STATUS_SUCCESS, CALL(NtCreateFile)(&third, FILE_ALL_ACCESS | SYNCHRONIZE, &attributes, &status, NULL, 0, 0, FILE_OPEN, FILE_SYNCHRONOUS_IO_NONALERT, NULL, 0));
    CHECK_STATUS(STATUS_SUCCESS, CALL(ZwDeviceIoControlFile)(file, NULL, NULL, NULL, &status, CODE_ECHO, room, 5, room, sizeof(room)));
    CHECK(LastMajor == IRP_MJ_DEVICE_CONTROL && LastCode == CODE_ECHO && status.Information == 5);
    CHECK_STATUS(STATUS_SUCCESS, CALL(NtDeviceIoControlFile)(other, NULL, NULL, NULL, &status, CODE_ECHO, room, 6, room, sizeof(room)));
    CHECK_NUMBER(6, status.Information);
    CHECK_STATUS(STATUS_SUCCESS, CALL(ZwFsControlFile)(file, NULL, NULL, NULL, &status, CODE_ECHO, room, 3, room, sizeof(room)));
    CHECK(LastMajor == IRP_MJ_FILE_SYSTEM_CONTROL && status.Information == 3);
    CHECK_STATUS(STATUS_SUCCESS, CALL(NtFsControlFile)(file, NULL, NULL, NULL, &status, CODE_ECHO, room, 4, room, sizeof(room)));
    CHECK_NUMBER(4, status.Information);
    CHECK_STATUS(STATUS_SUCCESS, CALL(NtReadFile)(file, NULL, NULL, NULL, &status, room, 8, &offset, NULL));
    CHECK(LastMajor == IRP_MJ_READ && LastLength == 8 && LastOffset == 0x1000 && status.Information == 8);
    CHECK(room[0] == 0x5A && room[7] == 0x5A && room[8] == 0);
    CHECK_STATUS(STATUS_SUCCESS, CALL(NtWriteFile)(file, NULL, NULL, NULL, &status, room, 7, &offset, NULL));
    CHECK(LastMajor == IRP_MJ_WRITE && LastLength == 7 && status.Information == 7);
    CHECK_STATUS(STATUS_SUCCESS, CALL(NtFlushBuffersFile)(file, &status));
    CHECK_NUMBER(IRP_MJ_FLUSH_BUFFERS, LastMajor);
    ZwClose(third);
    ZwClose(other);
    ZwClose(file);
    CHECK_STATUS(STATUS_INVALID_HANDLE, CALL(NtReadFile)(file, NULL, NULL, NULL, &status, room, 8, &offset, NULL));
    /* Opens to be deleted on close: the device has no files, and its close comes. */
    LastMajor = 77;
    CHECK_STATUS(STATUS_SUCCESS, CALL(NtDeleteFile)(&attributes));
    CHECK_NUMBER(IRP_MJ_CLOSE, LastMajor);
}

static ULONG Completions;

static NTSTATUS NTAPI Count(PDEVICE_OBJECT Of, PIRP Irp, PVOID Context)
{
    (void)Of, (void)Irp;
    Completions += (ULONG)(ULONG_PTR)Context;
    return STATUS_MORE_PROCESSING_REQUIRED;
}

static void Built(void)
{
    LARGE_INTEGER offset = {.QuadPart = 0x2000};
    IO_STATUS_BLOCK status = {{STATUS_PENDING}, 0};
    PIRP irp;
    UCHAR room[16], memory[512];
    KEVENT done;

    KeInitializeEvent(&done, NotificationEvent, FALSE);
    irp = CALL(IoBuildSynchronousFsdRequest)(IRP_MJ_READ, Device, room, 8, &offset, &done, &status);
    CHECK(irp != NULL && irp->UserEvent == &done && irp->UserIosb == &status);
    CHECK(IoGetNextIrpStackLocation(irp)->MajorFunction == IRP_MJ_READ);
    CHECK_STATUS(STATUS_SUCCESS, CALL(IoCallDriver)(Device, irp));
    CHECK(KeReadStateEvent(&done) && status.Information == 8 && room[7] == 0x5A && LastOffset == 0x2000);

    irp = CALL(IoBuildAsynchronousFsdRequest)(IRP_MJ_WRITE, Device, room, 4, &offset, NULL);
    CHECK(irp != NULL && irp->AssociatedIrp.SystemBuffer != NULL);
    CHECK_STATUS(STATUS_SUCCESS, CALL(IoSetCompletionRoutineEx)(Device, irp, Count, (PVOID)1, TRUE, TRUE, TRUE));
    CHECK_STATUS(STATUS_SUCCESS, CALL(IoCallDriver)(Device, irp));
    CHECK(Completions == 1 && LastMajor == IRP_MJ_WRITE && irp->IoStatus.Information == 4);
    if ((irp->Flags & IRP_DEALLOCATE_BUFFER) != 0)
        ExFreePool(irp->AssociatedIrp.SystemBuffer);
    IoFreeIrp(irp);

    /* The driver's own memory as a packet. */
    irp = (PIRP)memory;
    CALL(IoInitializeIrp)(irp, IoSizeOfIrp(2), 2);
    CHECK(irp->Type == 6 && irp->Size == IoSizeOfIrp(2) && irp->StackCount == 2 && irp->CurrentLocation == 3);
    IoGetNextIrpStackLocation(irp)->MajorFunction = IRP_MJ_DEVICE_CONTROL;
    IoGetNextIrpStackLocation(irp)->Parameters.DeviceIoControl.IoControlCode = CODE_ECHO;
    IoGetNextIrpStackLocation(irp)->Parameters.DeviceIoControl.InputBufferLength = 9;
    CHECK_STATUS(STATUS_SUCCESS, CALL(IoSynchronousCallDriver)(Device, irp));
    CHECK_NUMBER(9, irp->IoStatus.Information);

    /* Forwarded from a location of this driver's, and back. */
    CALL(IoInitializeIrp)(irp, IoSizeOfIrp(2), 2);
    IoSetNextIrpStackLocation(irp);
    IoGetCurrentIrpStackLocation(irp)->MajorFunction = IRP_MJ_DEVICE_CONTROL;
    IoGetCurrentIrpStackLocation(irp)->Parameters.DeviceIoControl.IoControlCode = CODE_ECHO;
    IoGetCurrentIrpStackLocation(irp)->Parameters.DeviceIoControl.InputBufferLength = 11;
    LastCode = 0;
    CHECK(CALL(IoForwardIrpSynchronously)(Device, irp));
    CHECK(LastCode == CODE_ECHO && irp->IoStatus.Information == 11);
    LastCode = 0;
    CHECK(CALL(IoForwardAndCatchIrp)(Device, irp));
    CHECK(LastCode == CODE_ECHO && irp->CurrentLocation == 2);

    irp = IoAllocateIrp(1, FALSE);
    IoGetNextIrpStackLocation(irp)->MajorFunction = IRP_MJ_POWER;
    IoSetCompletionRoutine(irp, Count, (PVOID)10, TRUE, TRUE, TRUE);
    CALL(PoStartNextPowerIrp)(irp);
    CHECK_STATUS(STATUS_SUCCESS, CALL(PoCallDriver)(Device, irp));
    CHECK(Completions == 11 && LastMajor == IRP_MJ_POWER);
    CALL(IoSetTopLevelIrp)(irp);
    CHECK(CALL(IoGetTopLevelIrp)() == irp);
    CALL(IoSetTopLevelIrp)(NULL);
    CHECK(CALL(IoGetTopLevelIrp)() == NULL);
    IoFreeIrp(irp);
}

static void NTAPI OnCancel(PDEVICE_OBJECT Of, PIRP Irp)
{
    (void)Of;
    CALL(IoReleaseCancelSpinLock)(Irp->CancelIrql);
    Complete(Irp, STATUS_CANCELLED, 0);
}

/* A packet of this driver's, pending in this driver's hands; its end is counted. */
static PIRP Pending(void)
{
    PIRP irp = IoAllocateIrp(2, FALSE);

    IoGetNextIrpStackLocation(irp)->MajorFunction = IRP_MJ_DEVICE_CONTROL;
    IoGetNextIrpStackLocation(irp)->Parameters.DeviceIoControl.IoControlCode = CODE_PEND;
    IoSetCompletionRoutine(irp, Count, (PVOID)1, TRUE, TRUE, TRUE);
    CHECK_STATUS(STATUS_PENDING, CALL(IoCallDriver)(Device, irp));
    CHECK(Kept == irp);
    return irp;
}

/* The last associated packet completes its master. */
static void Associated(void)
{
    PIRP master = Pending(), associated;
    ULONG i;

    Completions = 0;
    master->AssociatedIrp.IrpCount = 2;
    for (i = 0; i < 2; i++) {
        CHECK_NUMBER(0, Completions);
        associated = CALL(IoMakeAssociatedIrp)(master, 1);
        CHECK(associated != NULL && associated->AssociatedIrp.MasterIrp == master);
        CHECK((associated->Flags & IRP_ASSOCIATED_IRP) != 0);
        IoGetNextIrpStackLocation(associated)->MajorFunction = IRP_MJ_FLUSH_BUFFERS;
        CHECK_STATUS(STATUS_SUCCESS, CALL(IoCallDriver)(Device, associated));
    }
    CHECK_NUMBER(1, Completions);
    IoFreeIrp(master);
}

static void Cancels(void)
{
    PIRP irp = Pending();
    KIRQL old = 77;

    Completions = 0;
    CALL(IoAcquireCancelSpinLock)(&old);
    CHECK(old == PASSIVE_LEVEL && KeGetCurrentIrql() == DISPATCH_LEVEL);
    IoSetCancelRoutine(irp, OnCancel);
    CALL(IoReleaseCancelSpinLock)(old);
    CHECK(KeGetCurrentIrql() == PASSIVE_LEVEL);
    CHECK(IoCancelIrp(irp));
    CHECK(Completions == 1 && irp->IoStatus.Status == STATUS_CANCELLED && irp->Cancel);
    IoFreeIrp(irp);
}

static LIST_ENTRY Queue;
static KSPIN_LOCK QueueLock;
static ULONG Cancelled;

static void NTAPI CsqInsert(PIO_CSQ Csq, PIRP Irp)
{
    (void)Csq;
    InsertTailList(&Queue, &Irp->Tail.Overlay.ListEntry);
}

/* The Ex form refuses by its status. */
static NTSTATUS NTAPI CsqInsertEx(PIO_CSQ Csq, PIRP Irp, PVOID Context)
{
    if (Context != NULL)
        return STATUS_DEVICE_BUSY;
    CsqInsert(Csq, Irp);
    return STATUS_SUCCESS;
}

static void NTAPI CsqRemove(PIO_CSQ Csq, PIRP Irp)
{
    (void)Csq;
    RemoveEntryList(&Irp->Tail.Overlay.ListEntry);
}

static PIRP NTAPI CsqPeek(PIO_CSQ Csq, PIRP Irp, PVOID Context)
{
    PLIST_ENTRY next = Irp == NULL ? Queue.Flink : Irp->Tail.Overlay.ListEntry.Flink;

    (void)Csq;
    for (; next != &Queue; next = next->Flink) {
        PIRP found = CONTAINING_RECORD(next, IRP, Tail.Overlay.ListEntry);

        if (Context == NULL || found->UserBuffer == Context)
            return found;
    }
    return NULL;
}

static void NTAPI CsqAcquire(PIO_CSQ Csq, PKIRQL Irql)
{
    (void)Csq;
    KeAcquireSpinLock(&QueueLock, Irql);
}

static void NTAPI CsqRelease(PIO_CSQ Csq, KIRQL Irql)
{
    (void)Csq;
    KeReleaseSpinLock(&QueueLock, Irql);
}

static void NTAPI CsqCancelled(PIO_CSQ Csq, PIRP Irp)
{
    (void)Csq;
    Cancelled++;
    Complete(Irp, STATUS_CANCELLED, 0);
}

static void CancelSafeQueues(void)
{
    IO_CSQ_IRP_CONTEXT context;
    PIRP irps[4], found;
    IO_CSQ csq;
    ULONG i;

    InitializeListHead(&Queue);
    KeInitializeSpinLock(&QueueLock);
    CHECK_STATUS(STATUS_SUCCESS, CALL(IoCsqInitialize)(&csq, CsqInsert, CsqRemove, CsqPeek, CsqAcquire, CsqRelease, CsqCancelled));
    for (i = 0; i < 3; i++) {
        irps[i] = Pending();
        irps[i]->UserBuffer = (PVOID)(ULONG_PTR)(i + 1);
        CALL(IoCsqInsertIrp)(&csq, irps[i], i == 1 ? &context : NULL);
    }
    Completions = 0;
    CHECK(CALL(IoCsqRemoveIrp)(&csq, &context) == irps[1]);
    CHECK(CALL(IoCsqRemoveIrp)(&csq, &context) == NULL);
    CHECK(CALL(IoCsqRemoveNextIrp)(&csq, (PVOID)3) == irps[2]);
    CHECK(IoCancelIrp(irps[0]));
    CHECK(Cancelled == 1 && Completions == 1 && irps[0]->IoStatus.Status == STATUS_CANCELLED && IsListEmpty(&Queue));
    CHECK(CALL(IoCsqRemoveNextIrp)(&csq, NULL) == NULL);

    CHECK_STATUS(STATUS_SUCCESS, CALL(IoCsqInitializeEx)(&csq, CsqInsertEx, CsqRemove, CsqPeek, CsqAcquire, CsqRelease, CsqCancelled));
    CHECK_STATUS(STATUS_DEVICE_BUSY, CALL(IoCsqInsertIrpEx)(&csq, irps[1], NULL, &csq));
    CHECK(IsListEmpty(&Queue));
    CHECK_STATUS(STATUS_SUCCESS, CALL(IoCsqInsertIrpEx)(&csq, irps[1], NULL, NULL));
    found = CALL(IoCsqRemoveNextIrp)(&csq, NULL);
    CHECK(found == irps[1]);
    /* One that was cancelled before it is queued is ended by the insertion. */
    IoCancelIrp(irps[2]);
    CHECK_NUMBER(1, Cancelled);
    CALL(IoCsqInsertIrpEx)(&csq, irps[2], NULL, NULL);
    CHECK(Cancelled == 2 && IsListEmpty(&Queue));
    Complete(irps[1], STATUS_SUCCESS, 0);
    CHECK_NUMBER(3, Completions);
    for (i = 0; i < 3; i++)
        IoFreeIrp(irps[i]);
}

static PIRP Started[8];
static ULONG StartedCount;

static void NTAPI StartIo(PDEVICE_OBJECT Of, PIRP Irp)
{
    CHECK(Of->CurrentIrp == Irp && KeGetCurrentIrql() == DISPATCH_LEVEL);
    Started[StartedCount++] = Irp;
}

static void AtDispatch(void (*Routine)(ULONG), ULONG Argument)
{
    KIRQL old;

    KeRaiseIrql(DISPATCH_LEVEL, &old);
    Routine(Argument);
    KeLowerIrql(old);
}

static void NextByKey(ULONG Key)
{
    CALL(IoStartNextPacketByKey)(Device, FALSE, Key);
}

static void Next(ULONG Cancelable)
{
    CALL(IoStartNextPacket)(Device, (BOOLEAN)Cancelable);
}

/* The first starts at once; the others wait for their turn, by key where they have one. */
static void StartsOfIo(void)
{
    ULONG keys[4] = {1, 30, 20, 10}, i;
    PIRP irps[4];

    Self->DriverStartIo = StartIo;
    for (i = 0; i < 4; i++) {
        irps[i] = Pending();
        CALL(IoStartPacket)(Device, irps[i], &keys[i], NULL);
    }
    CHECK(StartedCount == 1 && Started[0] == irps[0] && Device->CurrentIrp == irps[0]);
    AtDispatch(NextByKey, 15);
    CHECK(StartedCount == 2 && Started[1] == irps[2]);
    AtDispatch(Next, TRUE);
    CHECK(StartedCount == 3 && Started[2] == irps[3]);
    AtDispatch(Next, FALSE);
    CHECK(StartedCount == 4 && Started[3] == irps[1]);
    AtDispatch(Next, FALSE);
    CHECK(StartedCount == 4 && Device->CurrentIrp == NULL);
    for (i = 0; i < 4; i++) {
        Complete(irps[i], STATUS_SUCCESS, 0);
        IoFreeIrp(irps[i]);
    }
}

static void QueueAtDispatch(ULONG Unused)
{
    KDEVICE_QUEUE queue;
    KDEVICE_QUEUE_ENTRY entries[4];

    (void)Unused;
    CALL(KeInitializeDeviceQueue)(&queue);
    CHECK(!queue.Busy);
    /* The first finds the queue idle: it is not inserted, and the queue is busy then. */
    CHECK(!CALL(KeInsertDeviceQueue)(&queue, &entries[0]) && queue.Busy);
    CHECK(CALL(KeInsertByKeyDeviceQueue)(&queue, &entries[1], 30));
    CHECK(CALL(KeInsertByKeyDeviceQueue)(&queue, &entries[2], 20));
    CHECK(CALL(KeInsertDeviceQueue)(&queue, &entries[3]));
    CHECK(CALL(KeRemoveEntryDeviceQueue)(&queue, &entries[3]) && !CALL(KeRemoveEntryDeviceQueue)(&queue, &entries[3]));
    CHECK(CALL(KeRemoveByKeyDeviceQueue)(&queue, 25) == &entries[1]);
    CHECK(CALL(KeRemoveDeviceQueue)(&queue) == &entries[2] && queue.Busy);
    CHECK(CALL(KeRemoveDeviceQueue)(&queue) == NULL && !queue.Busy);
}

static IO_REMOVE_LOCK RemoveLock;
static KEVENT Removed;

static void NTAPI Remove(PVOID Context)
{
    CALL(IoReleaseRemoveLockAndWaitEx)(&RemoveLock, Context, sizeof(RemoveLock));
    KeSetEvent(&Removed, IO_NO_INCREMENT, FALSE);
    PsTerminateSystemThread(STATUS_SUCCESS);
}

static void RemoveLocks(void)
{
    LARGE_INTEGER moment = Milliseconds(20);
    PKTHREAD remover;
    int one, two;

    KeInitializeEvent(&Removed, NotificationEvent, FALSE);
    CALL(IoInitializeRemoveLockEx)(&RemoveLock, TEST_TAG, 0, 0, sizeof(RemoveLock));
    CHECK_STATUS(STATUS_SUCCESS, CALL(IoAcquireRemoveLockEx)(&RemoveLock, &one, "", 1, sizeof(RemoveLock)));
    CHECK_STATUS(STATUS_SUCCESS, CALL(IoAcquireRemoveLockEx)(&RemoveLock, &two, "", 1, sizeof(RemoveLock)));
    remover = Start(Remove, &two);
    CHECK_STATUS(STATUS_TIMEOUT, KeWaitForSingleObject(&Removed, Executive, KernelMode, FALSE, &moment));
    CHECK_STATUS(STATUS_DELETE_PENDING, CALL(IoAcquireRemoveLockEx)(&RemoveLock, &two, "", 1, sizeof(RemoveLock)));
    CALL(IoReleaseRemoveLockEx)(&RemoveLock, &one, sizeof(RemoveLock));
    Join(remover);
    CHECK(KeReadStateEvent(&Removed));
}

static KEVENT Worked;
static PVOID WorkedObject, WorkedItem, WorkedContext;

static void NTAPI Work(PDEVICE_OBJECT Object, PVOID Context)
{
    WorkedObject = Object;
    WorkedContext = Context;
    KeSetEvent(&Worked, IO_NO_INCREMENT, FALSE);
}

static void NTAPI WorkEx(PVOID Object, PVOID Context, PVOID Item)
{
    WorkedItem = Item;
    Work(Object, Context);
}

static void WorkItems(void)
{
    PVOID item = CALL(IoAllocateWorkItem)(Device), own;

    KeInitializeEvent(&Worked, SynchronizationEvent, FALSE);
    CHECK(item != NULL);
    CALL(IoQueueWorkItem)(item, Work, DelayedWorkQueue, &Worked);
    KeWaitForSingleObject(&Worked, Executive, KernelMode, FALSE, NULL);
    CHECK(WorkedObject == Device && WorkedContext == &Worked);
    CALL(IoFreeWorkItem)(item);
    own = ExAllocatePoolWithTag(NonPagedPool, CALL(IoSizeofWorkItem)(), TEST_TAG);
    CALL(IoInitializeWorkItem)(Self, own);
    CALL(IoQueueWorkItemEx)(own, WorkEx, CriticalWorkQueue, &Queue);
    KeWaitForSingleObject(&Worked, Executive, KernelMode, FALSE, NULL);
    CHECK(WorkedObject == Self && WorkedItem == own && WorkedContext == &Queue);
    CALL(IoUninitializeWorkItem)(own);
    ExFreePoolWithTag(own, TEST_TAG);
}

static void Checks(PUNICODE_STRING RegistryPath)
{
    ULONG i;

    (void)RegistryPath;
    for (i = 0; i <= IRP_MJ_MAXIMUM_FUNCTION; i++)
        Self->MajorFunction[i] = Dispatch;
    CHECK_STATUS(STATUS_SUCCESS, IoCreateDevice(Self, 0, &Name, FILE_DEVICE_NETWORK, 0, FALSE, &Device));
    Device->Flags |= DO_BUFFERED_IO;
    Device->Flags &= ~DO_DEVICE_INITIALIZING;
    Native();
    Built();
    Associated();
    Cancels();
    CancelSafeQueues();
    StartsOfIo();
    AtDispatch(QueueAtDispatch, 0);
    RemoveLocks();
    WorkItems();
    IoDeleteDevice(Device);
}
