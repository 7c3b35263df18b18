/* What is given objects that are something else, or is left undone: no claim fails, and each is a finding. */
#define FAMILY "wrong_object"
#include "check.h"

NTKERNELAPI VOID NTAPI KeInitializeQueue(PKQUEUE, ULONG);
NTKERNELAPI LONG NTAPI KeInsertQueue(PKQUEUE, PLIST_ENTRY);
NTKERNELAPI LONG NTAPI KeReadStateQueue(PKQUEUE);
NTKERNELAPI PLIST_ENTRY NTAPI KeRundownQueue(PKQUEUE);
IMPORT(void, KeSetSystemAffinityThread, KAFFINITY);

static LARGE_INTEGER Now;

static void NTAPI Note(PVOID Context, PVOID First, PVOID Second)
{
    (void)Context;
    (void)First;
    (void)Second;
}

/* Begins with the number of a queue, of a process or of a thread, and is none of them. */
static void Waits(PDEVICE_OBJECT Device)
{
    PIRP irp = IoAllocateIrp(1, FALSE);
    PVOID objects[] = {Self, Device, irp};

    CHECK_STATUS(STATUS_TIMEOUT, KeWaitForSingleObject(irp, Executive, KernelMode, FALSE, &Now));
    CHECK_STATUS(STATUS_TIMEOUT, KeWaitForMultipleObjects(3, objects, WaitAll, Executive, KernelMode, FALSE, &Now, NULL));
    IoFreeIrp(irp);
}

static void Queues(void)
{
    static KQUEUE queue;
    static LIST_ENTRY entries[2];

    KeInitializeQueue(&queue, 0);
    CHECK_NUMBER(0, KeInsertQueue(&queue, &entries[0]));
    CHECK_NUMBER(1, KeInsertQueue(&queue, &entries[1]));
    CHECK_NUMBER(2, KeInsertQueue(&queue, &entries[0]));
    CHECK_NUMBER(2, KeReadStateQueue(&queue));
    CHECK(KeRundownQueue(&queue) == &entries[0] && entries[0].Flink == &entries[1]);
    /* They still point to each other. */
    CHECK_NUMBER(0, KeInsertQueue(&queue, &entries[0]));
}

static void Interfaces(void)
{
    static const GUID class = {0xcac88484, 0x7515, 0x4c03, {0x82, 0xe6, 0x71, 0xa8, 0x7a, 0xba, 0xc3, 0x61}};
    static DEVICE_OBJECT none;
    UNICODE_STRING link;
    PWSTR list;

    CHECK_STATUS(STATUS_INVALID_DEVICE_REQUEST, IoRegisterDeviceInterface(&none, &class, NULL, &link));
    CHECK_STATUS(STATUS_INVALID_DEVICE_REQUEST, IoGetDeviceInterfaces(&class, &none, 0, &list));
}

static void NTAPI StayInRegion(PVOID Context)
{
    (void)Context;
    KeEnterCriticalRegion();
}

static void NTAPI UnloadInRegion(PDRIVER_OBJECT Driver)
{
    (void)Driver;
    KeEnterCriticalRegion();
    KeEnterCriticalRegion();
}

static VOID NTAPI Tick(PDEVICE_OBJECT Device, PVOID Context)
{
    (void)Device;
    (void)Context;
}

static void Checks(PUNICODE_STRING RegistryPath)
{
    UNICODE_STRING name = RTL_CONSTANT_STRING(L"\\Device\\Ticking");
    PDEVICE_OBJECT device;

    (void)RegistryPath;
    CHECK_STATUS(STATUS_SUCCESS, IoCreateDevice(Self, 0, &name, FILE_DEVICE_NETWORK, 0, FALSE, &device));
    CHECK(ExRegisterCallback((PCALLBACK_OBJECT)Self, Note, NULL) == NULL);
    ExNotifyCallback((PCALLBACK_OBJECT)Self, NULL, NULL);
    Waits(device);
    Queues();
    Interfaces();
    CALL(KeSetSystemAffinityThread)(0);
    Join(Start(StayInRegion, NULL));
    CHECK_STATUS(STATUS_SUCCESS, IoInitializeTimer(device, Tick, NULL));
    IoStartTimer(device);
    Self->DriverUnload = UnloadInRegion;
    KeEnterGuardedRegion();
}
