/*
 * Crashes on purpose, one way per control code, to show how each crash is reported. Do not copy this one.
 *
 *   \Device\Crashing, \??\Crashing; control codes 0x222000, 0x222004, ... in the order of the enumeration below
 */
#define DRIVER_NAME "crashing"
#include "common/control_device.h"

#define DEVICE_NAME L"Crashing"
#define CRASH_CODE(function) CTL_CODE(FILE_DEVICE_UNKNOWN, 0x800 + (function), METHOD_BUFFERED, FILE_ANY_ACCESS)

/* Shows as "Crsh". */
#define CRASH_TAG 'hsrC'
#define BLOCK_BYTES 40

typedef enum _CRASH {
    CrashNullWrite,         /* 0x222000 */
    CrashDoubleFree,        /* 0x222004 */
    CrashPoolOverrun,       /* 0x222008 */
    CrashBugCheck,          /* 0x22200C */
    CrashStackOverflow,     /* 0x222010 */
    CrashWildCall,          /* 0x222014 */
    CrashEndlessLoop,       /* 0x222018 */
    CrashUnknownImport,     /* 0x22201C */
    CrashFastFail,          /* 0x222020 */
    CrashReadOnlyWrite,     /* 0x222024 */
    CrashCompletedTwice,    /* 0x222028 */
    CrashWaitAtDispatch,    /* 0x22202C */
    CrashDivideByZero,      /* 0x222030 */
    CrashUnloaded,          /* 0x222034: leaves a thread running into the unloaded image */
    CrashSystemCall,        /* 0x222038: a system call of the host's, which no driver has a use for */
    CrashScribble,          /* 0x22203C: writes over the whole stack it runs on */
    CrashCount,
} CRASH;

/* Every crash is a function of its own that is not inlined, so that its name is the place of the crash. */
#define CRASHES static __attribute__((noinline)) void

/* Keeps the compiler from seeing where a pointer points, and from complaining about it. */
#define HIDE(pointer) __asm__ volatile("" : "+r"(pointer))

CRASHES WriteThroughNull(void)
{
    volatile ULONG *field = (volatile ULONG *)0x18; /* a field of a structure at address 0 */

    HIDE(field);
    *field = 1;
}

CRASHES FreeTwice(void)
{
    PVOID block = ExAllocatePoolWithTag(NonPagedPool, BLOCK_BYTES, CRASH_TAG);

    if (block == NULL)
        return;
    ExFreePoolWithTag(block, CRASH_TAG);
    ExFreePoolWithTag(block, CRASH_TAG);
}

/* The damage is found when the block is freed. */
CRASHES WriteBehindPoolBlock(void)
{
    volatile UCHAR *block = ExAllocatePoolWithTag(NonPagedPool, BLOCK_BYTES, CRASH_TAG);
    ULONG i;

    if (block == NULL)
        return;
    for (i = 0; i < BLOCK_BYTES + 8; i++)
        block[i] = 0xAA;
    ExFreePoolWithTag((PVOID)block, CRASH_TAG);
}

CRASHES CallKeBugCheckEx(void)
{
    KeBugCheckEx(MANUALLY_INITIATED_CRASH, 1, 2, 3, 4);
}

/* Returns a value made from each frame, so that no call is a tail call. */
static __attribute__((noinline)) ULONG Recurse(ULONG Depth)
{
    volatile ULONG frame[128];

    frame[Depth % 128] = Depth;
    if (Depth == MAXULONG)
        return 0;
    return Recurse(Depth + 1) + frame[Depth % 128];
}

CRASHES OverflowStack(void)
{
    Log("recursed to %u", Recurse(0));
}

CRASHES CallThroughWildPointer(void)
{
    void (*volatile routine)(void) = (void (*)(void))0x4141414142424242;

    routine();
}

CRASHES LoopForever(void)
{
    for (;;)
        YieldProcessor();
}

NTSYSAPI void NTAPI RtlRoutineThatNoKernelHas(ULONG Argument);

CRASHES CallUnknownImport(void)
{
    RtlRoutineThatNoKernelHas(7);
}

CRASHES FastFail(void)
{
    __asm__ volatile("int $0x29" : : "c"(3) /* FAST_FAIL_CORRUPT_LIST_ENTRY */);
}

static const ULONG Constant = 1;

CRASHES WriteToReadOnlyImage(void)
{
    volatile ULONG *constant = (volatile ULONG *)&Constant;

    HIDE(constant);
    *constant = 2;
}

/* The dispatch routine completes it once more. */
static __attribute__((noinline)) void CompleteTwice(PIRP Irp)
{
    CompleteIrp(Irp, STATUS_SUCCESS, 0);
}

CRASHES WaitAtDispatchLevel(void)
{
    LARGE_INTEGER due = Milliseconds(10);
    KEVENT event;
    KIRQL irql;

    KeInitializeEvent(&event, NotificationEvent, FALSE);
    KeRaiseIrql(DISPATCH_LEVEL, &irql);
    KeWaitForSingleObject(&event, Executive, KernelMode, FALSE, &due);
    KeLowerIrql(irql);
}

CRASHES DivideByZero(void)
{
    volatile int zero = 0;

    /* Not 1 / zero: for that a compiler needs no division. */
    Log("%d", 100 / zero);
}

static void NTAPI LingeringThread(PVOID Context)
{
    LARGE_INTEGER interval = Milliseconds(1);

    UNREFERENCED_PARAMETER(Context);
    for (;;)
        KeDelayExecutionThread(KernelMode, FALSE, &interval);
}

/* Missing: Unload should end the thread and wait for it. */
CRASHES LeaveThreadBehind(void)
{
    HANDLE thread;

    if (NT_SUCCESS(PsCreateSystemThread(&thread, THREAD_ALL_ACCESS, NULL, NULL, NULL, LingeringThread, NULL)))
        ZwClose(thread);
}

/* fork(): the supervisor must hear of it, and there must not be another process. */
CRASHES CallTheHostsKernel(void)
{
    ULONG_PTR number = 57;

    __asm__ volatile("syscall" : "+a"(number) : : "rcx", "r11", "memory");
}

/* Whatever the host keeps there, its report has to come from elsewhere. */
CRASHES ScribbleOverStack(void)
{
    volatile UCHAR *bytes = (volatile UCHAR *)&bytes;

    HIDE(bytes);
    for (;;)
        *bytes++ = 0xCC;
}

static NTSTATUS NTAPI DispatchDeviceControl(PDEVICE_OBJECT Device, PIRP Irp)
{
    ULONG code = IoGetCurrentIrpStackLocation(Irp)->Parameters.DeviceIoControl.IoControlCode;

    UNREFERENCED_PARAMETER(Device);
    switch (code) {
    case CRASH_CODE(CrashNullWrite): WriteThroughNull(); break;
    case CRASH_CODE(CrashDoubleFree): FreeTwice(); break;
    case CRASH_CODE(CrashPoolOverrun): WriteBehindPoolBlock(); break;
    case CRASH_CODE(CrashBugCheck): CallKeBugCheckEx(); break;
    case CRASH_CODE(CrashStackOverflow): OverflowStack(); break;
    case CRASH_CODE(CrashWildCall): CallThroughWildPointer(); break;
    case CRASH_CODE(CrashEndlessLoop): LoopForever(); break;
    case CRASH_CODE(CrashUnknownImport): CallUnknownImport(); break;
    case CRASH_CODE(CrashFastFail): FastFail(); break;
    case CRASH_CODE(CrashReadOnlyWrite): WriteToReadOnlyImage(); break;
    case CRASH_CODE(CrashCompletedTwice): CompleteTwice(Irp); break;
    case CRASH_CODE(CrashWaitAtDispatch): WaitAtDispatchLevel(); break;
    case CRASH_CODE(CrashDivideByZero): DivideByZero(); break;
    case CRASH_CODE(CrashUnloaded): LeaveThreadBehind(); break;
    case CRASH_CODE(CrashSystemCall): CallTheHostsKernel(); break;
    case CRASH_CODE(CrashScribble): ScribbleOverStack(); break;
    default: return CompleteIrp(Irp, STATUS_INVALID_DEVICE_REQUEST, 0);
    }
    return CompleteIrp(Irp, STATUS_SUCCESS, 0);
}

static void NTAPI Unload(PDRIVER_OBJECT Driver)
{
    DeleteControlDevice(Driver->DeviceObject, DEVICE_NAME);
}

NTSTATUS NTAPI DriverEntry(PDRIVER_OBJECT Driver, PUNICODE_STRING RegistryPath)
{
    PDEVICE_OBJECT device;

    UNREFERENCED_PARAMETER(RegistryPath);
    Driver->DriverUnload = Unload;
    Driver->MajorFunction[IRP_MJ_DEVICE_CONTROL] = DispatchDeviceControl;
    return CreateControlDevice(Driver, DEVICE_NAME, &device);
}
