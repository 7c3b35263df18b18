/* Callback objects, devices' timers, drivers called back, and what is asked of requests (K-089, K-128, K-177). */
#define FAMILY "callbacks"
#include "check.h"

NTKERNELAPI NTSTATUS NTAPI ObReferenceObjectByName(PUNICODE_STRING, ULONG, PACCESS_STATE, ACCESS_MASK, POBJECT_TYPE,
                                                   KPROCESSOR_MODE, PVOID, PVOID *);
NTKERNELAPI ULONG NTAPI IoGetRequestorProcessId(PIRP);
NTKERNELAPI NTSTATUS NTAPI IoGetRequestorSessionId(PIRP, PULONG);
NTKERNELAPI NTSTATUS NTAPI IoAttachDeviceByPointer(PDEVICE_OBJECT, PDEVICE_OBJECT);
NTKERNELAPI BOOLEAN NTAPI IoIsWdmVersionAvailable(UCHAR, UCHAR);
NTKERNELAPI NTSTATUS NTAPI IoQueryFileInformation(PFILE_OBJECT, FILE_INFORMATION_CLASS, ULONG, PVOID, PULONG);

#define NAME(string, text)                                                                                             \
    UNICODE_STRING string;                                                                                             \
    RtlInitUnicodeString(&string, L##text)

static ULONG Order;
static KIRQL CalledAt;
static KEVENT Inside, GoOn;

static VOID NTAPI Note(PVOID Context, PVOID One, PVOID Two)
{
    CHECK(One == (PVOID)1 && Two == (PVOID)2);
    CalledAt = KeGetCurrentIrql();
    Order = Order * 10 + (ULONG)(ULONG_PTR)Context;
}

static VOID NTAPI Stay(PVOID Context, PVOID One, PVOID Two)
{
    (void)Context, (void)One, (void)Two;
    KeSetEvent(&Inside, IO_NO_INCREMENT, FALSE);
    KeWaitForSingleObject(&GoOn, Executive, KernelMode, FALSE, NULL);
    Order = 99;
}

static PVOID OwnRegistration, NextRegistration;
static NTSTATUS FoundInside;

/* Takes itself, the next routine and the creator's reference away: the object is there until all were told. */
static VOID NTAPI LeaveNothing(PVOID Context, PVOID One, PVOID Two)
{
    NAME(name, "\\Callback\\DrydockTest");
    OBJECT_ATTRIBUTES attributes;
    PCALLBACK_OBJECT callback;

    (void)One, (void)Two;
    ExUnregisterCallback(OwnRegistration);
    ExUnregisterCallback(NextRegistration);
    ObDereferenceObject(Context);
    InitializeObjectAttributes(&attributes, &name, OBJ_CASE_INSENSITIVE, NULL, NULL);
    FoundInside = ExCreateCallback(&callback, &attributes, FALSE, TRUE);
    if (NT_SUCCESS(FoundInside))
        ObDereferenceObject(callback);
}

static void NTAPI Notify(PVOID Context)
{
    ExNotifyCallback(Context, NULL, NULL);
    PsTerminateSystemThread(STATUS_SUCCESS);
}

static void NTAPI LetGo(PVOID Context)
{
    (void)Context;
    Sleep(5);
    KeSetEvent(&GoOn, IO_NO_INCREMENT, FALSE);
    PsTerminateSystemThread(STATUS_SUCCESS);
}

static void Callbacks(void)
{
    NAME(name, "\\Callback\\DrydockTest");
    NAME(power, "\\Callback\\PowerState");
    OBJECT_ATTRIBUTES attributes;
    PCALLBACK_OBJECT callback = NULL, again = NULL, single = NULL;
    PVOID first, second;
    KIRQL old;
    PKTHREAD notifier, other;

    InitializeObjectAttributes(&attributes, &power, OBJ_CASE_INSENSITIVE, NULL, NULL);
    CHECK_STATUS(STATUS_SUCCESS, ExCreateCallback(&callback, &attributes, FALSE, TRUE));
    ObDereferenceObject(callback);
    attributes.ObjectName = &name;
    CHECK_STATUS(STATUS_OBJECT_NAME_NOT_FOUND, ExCreateCallback(&callback, &attributes, FALSE, TRUE));
    CHECK_STATUS(STATUS_SUCCESS, ExCreateCallback(&callback, &attributes, TRUE, TRUE));
    CHECK_STATUS(STATUS_SUCCESS, ExCreateCallback(&again, &attributes, FALSE, TRUE));
    CHECK(callback == again);
    ObDereferenceObject(again);
    first = ExRegisterCallback(callback, Note, (PVOID)1);
    second = ExRegisterCallback(callback, Note, (PVOID)2);
    CHECK(first != NULL && second != NULL && first != second);
    ExNotifyCallback(callback, (PVOID)1, (PVOID)2);
    CHECK_NUMBER(12, Order);
    CHECK_NUMBER(PASSIVE_LEVEL, CalledAt);
    ExUnregisterCallback(first);
    KeRaiseIrql(DISPATCH_LEVEL, &old);
    ExNotifyCallback(callback, (PVOID)1, (PVOID)2);
    KeLowerIrql(old);
    CHECK_NUMBER(122, Order);
    CHECK_NUMBER(DISPATCH_LEVEL, CalledAt);
    ExUnregisterCallback(second);
    ExNotifyCallback(callback, (PVOID)1, (PVOID)2);
    CHECK_NUMBER(122, Order);

    /* Who unregisters waits for the call that is under way. */
    KeInitializeEvent(&Inside, NotificationEvent, FALSE);
    KeInitializeEvent(&GoOn, NotificationEvent, FALSE);
    first = ExRegisterCallback(callback, Stay, NULL);
    notifier = Start(Notify, callback);
    KeWaitForSingleObject(&Inside, Executive, KernelMode, FALSE, NULL);
    other = Start(LetGo, NULL);
    ExUnregisterCallback(first);
    CHECK_NUMBER(99, Order);
    Join(notifier);
    Join(other);
    ObDereferenceObject(callback);
    CHECK_STATUS(STATUS_OBJECT_NAME_NOT_FOUND, ExCreateCallback(&callback, &attributes, FALSE, TRUE));

    CHECK_STATUS(STATUS_SUCCESS, ExCreateCallback(&callback, &attributes, TRUE, TRUE));
    OwnRegistration = ExRegisterCallback(callback, LeaveNothing, callback);
    NextRegistration = ExRegisterCallback(callback, Stay, NULL);
    ExNotifyCallback(callback, NULL, NULL);
    CHECK_STATUS(STATUS_SUCCESS, FoundInside);
    CHECK_STATUS(STATUS_OBJECT_NAME_NOT_FOUND, ExCreateCallback(&callback, &attributes, FALSE, TRUE));

    CHECK_STATUS(STATUS_SUCCESS, ExCreateCallback(&single, NULL, TRUE, FALSE));
    first = ExRegisterCallback(single, Note, NULL);
    CHECK(first != NULL && ExRegisterCallback(single, Note, NULL) == NULL);
    ExUnregisterCallback(first);
    ObDereferenceObject(single);
}

static LONG Ticks;
static KEVENT Ticked;

static VOID NTAPI Tick(PDEVICE_OBJECT Device, PVOID Context)
{
    CHECK(Context == &Ticks && Device->DeviceType == FILE_DEVICE_NETWORK);
    CHECK_NUMBER(DISPATCH_LEVEL, KeGetCurrentIrql());
    if (InterlockedIncrement(&Ticks) == 2)
        KeSetEvent(&Ticked, IO_NO_INCREMENT, FALSE);
}

static void Timers(PDRIVER_OBJECT Driver)
{
    PDEVICE_OBJECT device;
    LARGE_INTEGER begin, end;
    LONG ticks;

    KeInitializeEvent(&Ticked, NotificationEvent, FALSE);
    CHECK_STATUS(STATUS_SUCCESS, IoCreateDevice(Driver, 0, NULL, FILE_DEVICE_NETWORK, 0, FALSE, &device));
    CHECK(device->Timer == NULL);
    CHECK_STATUS(STATUS_SUCCESS, IoInitializeTimer(device, Tick, &Ticks));
    CHECK(device->Timer != NULL && !MmIsAddressValid(device->Timer));
    CHECK_NUMBER(0, Ticks);
    begin.QuadPart = KeQueryInterruptTime();
    IoStartTimer(device);
    KeWaitForSingleObject(&Ticked, Executive, KernelMode, FALSE, NULL);
    end.QuadPart = KeQueryInterruptTime();
    CHECK(end.QuadPart - begin.QuadPart >= 2 * 10000000 - 2 * 156250);
    IoStopTimer(device);
    ticks = Ticks;
    IoStartTimer(device);
    IoDeleteDevice(device);
    CHECK_NUMBER(ticks, Ticks);
}

static LONG Counts;

static VOID NTAPI CallBack(PDRIVER_OBJECT Driver, PVOID Context, ULONG Count)
{
    Counts = Counts * 10 + Count;
    if (Count == 1) {
        IoRegisterDriverReinitialization(Driver, CallBack, Context);
        return;
    }
    DbgPrint(FAMILY ": called back %d\n", Counts);
}

#define CONTESTED_ROUNDS 2000

/* One name for two threads: each finds the object, or makes it, whatever the other is about to take away. */
static void NTAPI Contest(PVOID Context)
{
    UNICODE_STRING name = RTL_CONSTANT_STRING(L"\\Callback\\Contested");
    OBJECT_ATTRIBUTES attributes;
    PCALLBACK_OBJECT callback;
    ULONG round, failed = 0;
    PVOID registered;

    (void)Context;
    InitializeObjectAttributes(&attributes, &name, OBJ_CASE_INSENSITIVE, NULL, NULL);
    for (round = 0; round < CONTESTED_ROUNDS; round++) {
        if (!NT_SUCCESS(ExCreateCallback(&callback, &attributes, TRUE, TRUE))) {
            failed++;
            continue;
        }
        registered = ExRegisterCallback(callback, Note, NULL);
        if (registered == NULL)
            failed++;
        else
            ExUnregisterCallback(registered);
        ObDereferenceObject(callback);
    }
    CHECK_NUMBER(0, failed);
    PsTerminateSystemThread(STATUS_SUCCESS);
}

static NTSTATUS NTAPI Create(PDEVICE_OBJECT Device, PIRP Irp)
{
    ULONG session = 7;

    (void)Device;
    CHECK(IoIsOperationSynchronous(Irp));
    CHECK(IoGetRequestorProcess(Irp) == PsGetCurrentProcess());
    CHECK_NUMBER(4, IoGetRequestorProcessId(Irp));
    CHECK_STATUS(STATUS_SUCCESS, IoGetRequestorSessionId(Irp, &session));
    CHECK_NUMBER(0, session);
    Irp->IoStatus.Status = STATUS_SUCCESS;
    Irp->IoStatus.Information = 0;
    IoCompleteRequest(Irp, IO_NO_INCREMENT);
    return STATUS_SUCCESS;
}

static NTSTATUS NTAPI Query(PDEVICE_OBJECT Device, PIRP Irp)
{
    PIO_STACK_LOCATION location = IoGetCurrentIrpStackLocation(Irp);

    (void)Device;
    CHECK_NUMBER(FileStandardInformation, location->Parameters.QueryFile.FileInformationClass);
    CHECK_NUMBER(sizeof(FILE_STANDARD_INFORMATION), location->Parameters.QueryFile.Length);
    ((PFILE_STANDARD_INFORMATION)Irp->AssociatedIrp.SystemBuffer)->EndOfFile.QuadPart = 77;
    Irp->IoStatus.Status = STATUS_SUCCESS;
    Irp->IoStatus.Information = sizeof(FILE_STANDARD_INFORMATION);
    IoCompleteRequest(Irp, IO_NO_INCREMENT);
    return STATUS_SUCCESS;
}

static void Requests(PDRIVER_OBJECT Driver)
{
    NAME(name, "\\Device\\CallbacksTest");
    PDEVICE_OBJECT device, filter, related;
    PFILE_OBJECT file;
    PIRP irp;
    FILE_STANDARD_INFORMATION standard;
    ULONG returned = 0;

    Driver->MajorFunction[IRP_MJ_CREATE] = Driver->MajorFunction[IRP_MJ_CLEANUP] =
        Driver->MajorFunction[IRP_MJ_CLOSE] = Create;
    Driver->MajorFunction[IRP_MJ_QUERY_INFORMATION] = Query;
    CHECK_STATUS(STATUS_SUCCESS, IoCreateDevice(Driver, 0, &name, FILE_DEVICE_NETWORK, 0, FALSE, &device));
    device->Flags |= DO_BUFFERED_IO;
    device->Flags &= ~DO_DEVICE_INITIALIZING;
    CHECK_STATUS(STATUS_SUCCESS, IoGetDeviceObjectPointer(&name, 0, &file, &related));
    CHECK_STATUS(STATUS_SUCCESS,
                 IoQueryFileInformation(file, FileStandardInformation, sizeof(standard), &standard, &returned));
    CHECK_NUMBER(sizeof(standard), returned);
    CHECK_NUMBER(77, standard.EndOfFile.QuadPart);
    ObDereferenceObject(file);
    CHECK_STATUS(STATUS_SUCCESS, IoCreateDevice(Driver, 0, NULL, FILE_DEVICE_NETWORK, 0, FALSE, &filter));
    CHECK_STATUS(STATUS_SUCCESS, IoAttachDeviceByPointer(filter, device));
    CHECK(device->AttachedDevice == filter);
    IoDetachDevice(device);
    IoDeleteDevice(filter);
    IoDeleteDevice(device);
    irp = IoAllocateIrp(1, FALSE);
    CHECK(IoGetRequestorProcess(irp) == NULL);
    CHECK_NUMBER(0, IoGetRequestorProcessId(irp));
    IoFreeIrp(irp);
}

static void Questions(void)
{
    ACCESS_MASK access = GENERIC_READ;
    ULONG bad = 0;
    union {
        FILE_FULL_EA_INFORMATION Entry;
        CHAR Bytes[32];
    } ea;

    CHECK_STATUS(STATUS_SUCCESS, IoCheckDesiredAccess(&access, FILE_GENERIC_READ));
    CHECK_NUMBER(FILE_GENERIC_READ, access);
    access = FILE_WRITE_DATA;
    CHECK_STATUS(STATUS_ACCESS_DENIED, IoCheckDesiredAccess(&access, FILE_GENERIC_READ));
    RtlZeroMemory(&ea, sizeof(ea));
    ea.Entry.EaNameLength = 3;
    RtlCopyMemory(ea.Entry.EaName, "Key", 4);
    CHECK_STATUS(STATUS_SUCCESS, IoCheckEaBufferValidity(&ea.Entry, sizeof(ea), &bad));
    CHECK_STATUS(STATUS_SUCCESS, IoCheckEaBufferValidity(&ea.Entry, MAXULONG, &bad));
    ea.Entry.NextEntryOffset = 16;
    ea.Bytes[16 + 5] = 50;
    CHECK_STATUS(STATUS_EA_LIST_INCONSISTENT, IoCheckEaBufferValidity(&ea.Entry, sizeof(ea), &bad));
    CHECK_NUMBER(16, bad);
    CHECK(IoIsWdmVersionAvailable(1, 0x30) && IoIsWdmVersionAvailable(6, 0) && !IoIsWdmVersionAvailable(6, 1));
    CHECK(IoSetThreadHardErrorMode(FALSE));
    CHECK(!IoSetThreadHardErrorMode(TRUE));
    IoGetConfigurationInformation()->DiskCount++;
    CHECK_NUMBER(1, IoGetConfigurationInformation()->DiskCount);
}

static NTSTATUS NTAPI Arrived(PVOID Notification, PVOID Context)
{
    (void)Notification, (void)Context;
    CHECK(FALSE);
    return STATUS_SUCCESS;
}

static VOID NTAPI FileSystem(PDEVICE_OBJECT Device, BOOLEAN IsActive)
{
    (void)Device, (void)IsActive;
    CHECK(FALSE);
}

static void Registrations(PDRIVER_OBJECT Driver)
{
    static const GUID class = {0xcac88484, 0x7515, 0x4c03, {0x82, 0xe6, 0x71, 0xa8, 0x7a, 0xba, 0xc3, 0x61}};
    PDEVICE_OBJECT device;
    PVOID entry = NULL;

    CHECK_STATUS(STATUS_SUCCESS,
                 IoRegisterPlugPlayNotification(EventCategoryDeviceInterfaceChange,
                                                PNPNOTIFY_DEVICE_INTERFACE_INCLUDE_EXISTING_INTERFACES, (PVOID)&class,
                                                Driver, Arrived, NULL, &entry));
    CHECK_STATUS(STATUS_SUCCESS, IoUnregisterPlugPlayNotification(entry));
    CHECK_STATUS(STATUS_INVALID_PARAMETER,
                 IoRegisterPlugPlayNotification(EventCategoryReserved, 0, NULL, Driver, Arrived, NULL, &entry));
    CHECK_STATUS(STATUS_SUCCESS, IoCreateDevice(Driver, 0, NULL, FILE_DEVICE_NETWORK, 0, FALSE, &device));
    CHECK_STATUS(STATUS_SUCCESS, IoWMIRegistrationControl(device, WMIREG_ACTION_REGISTER));
    CHECK_STATUS(STATUS_INVALID_PARAMETER, IoWMIRegistrationControl(device, 77));
    CHECK_STATUS(STATUS_SUCCESS, IoWMIRegistrationControl(device, WMIREG_ACTION_DEREGISTER));
    IoDeleteDevice(device);
    CHECK_STATUS(STATUS_SUCCESS, IoRegisterFsRegistrationChange(Driver, FileSystem));
    CHECK_STATUS(STATUS_DEVICE_ALREADY_ATTACHED, IoRegisterFsRegistrationChange(Driver, FileSystem));
    IoUnregisterFsRegistrationChange(Driver, FileSystem);
}

static void Checks(PUNICODE_STRING RegistryPath)
{
    NAME(name, "\\Driver\\callbacks");
    PVOID driver = NULL;
    PKTHREAD contestant, rival;

    (void)RegistryPath;
    Callbacks();
    ObReferenceObjectByName(&name, OBJ_CASE_INSENSITIVE, NULL, 0, NULL, KernelMode, NULL, &driver);
    CHECK(driver != NULL);
    Timers(driver);
    Requests(driver);
    Questions();
    Registrations(driver);
    contestant = Start(Contest, NULL);
    rival = Start(Contest, NULL);
    Join(contestant);
    Join(rival);
    IoRegisterDriverReinitialization(driver, CallBack, NULL);
    CHECK_NUMBER(0, Counts);
    ObDereferenceObject(driver);
}
