/*
 * A driver with the worst intentions. Each deed is a function of its own, so that its name is the place of the crash;
 * hostile.rs says what must come of each.
 *
 *   \Device\Hostile: control code 0x222000 with the deed's name as input
 *
 * Built with DEED_IN_ENTRY it does that deed in DriverEntry.
 */
#include <ntifs.h>

#define HOSTILE_TAG 'tsoH'
#define DO_DEED CTL_CODE(FILE_DEVICE_UNKNOWN, 0x800, METHOD_BUFFERED, FILE_ANY_ACCESS)
#define DEED static __attribute__((noinline)) void

/* Keeps the compiler from seeing what a value is. */
#define HIDE(value) __asm__ volatile("" : "+r"(value))

#define Log(format, ...) DbgPrint("hostile: " format "\n", ##__VA_ARGS__)

static KEVENT Never; /* nobody sets it */
static void (*DeedOfUnload)(void);

/* ---- Not coming back ---- */

DEED WaitForEver(void)
{
    KeWaitForSingleObject(&Never, Executive, KernelMode, FALSE, NULL);
}

DEED LoopForEver(void)
{
    for (;;)
        __asm__ volatile("pause");
}

static void NTAPI WaitingThread(PVOID Context)
{
    (void)Context;
    WaitForEver();
}

/* Waits for a thread that waits for ever. */
DEED WaitForThread(void)
{
    HANDLE handle;
    PVOID thread = NULL;

    if (!NT_SUCCESS(PsCreateSystemThread(&handle, THREAD_ALL_ACCESS, NULL, NULL, NULL, WaitingThread, NULL)))
        return;
    ObReferenceObjectByHandle(handle, THREAD_ALL_ACCESS, *PsThreadType, KernelMode, &thread, NULL);
    ZwClose(handle);
    KeWaitForSingleObject(thread, Executive, KernelMode, FALSE, NULL);
    ObDereferenceObject(thread);
}

DEED WaitInUnload(void)
{
    DeedOfUnload = WaitForEver;
}

DEED LoopInUnload(void)
{
    DeedOfUnload = LoopForEver;
}

/* Waits for a spin lock that nobody gives back. */
DEED WaitForSpinLock(void)
{
    static KSPIN_LOCK lock;
    KIRQL irql;

    KeInitializeSpinLock(&lock);
    KeAcquireSpinLock(&lock, &irql);
    KeAcquireSpinLockAtDpcLevel(&lock);
}

static void NTAPI LoopingDpc(PKDPC Dpc, PVOID Context, PVOID First, PVOID Second)
{
    (void)Dpc;
    (void)Context;
    (void)First;
    (void)Second;
    LoopForEver();
}

DEED LoopInDpc(void)
{
    static KDPC dpc;

    KeInitializeDpc(&dpc, LoopingDpc, NULL);
    KeInsertQueueDpc(&dpc, NULL, NULL);
    WaitForEver();
}

DEED PrintForEver(void)
{
    for (;;)
        Log("and again");
}

/* ---- Memory of the host's ---- */

/* What lies behind the thread block that GS leads to: the host's page of this thread. */
#define HOST_PAGE ((volatile ULONG_PTR *)(__readgsqword(0x18) + 0x1000))
#define HOST_PAGE_WORDS 128

DEED ScribbleOverHostPage(void)
{
    volatile ULONG_PTR *words = HOST_PAGE;
    ULONG i;

    for (i = 0; i < HOST_PAGE_WORDS; i++)
        words[i] = 0x4141414141414141;
    Log("still here");
}

/* Whatever the host's page points to: rings of the trace among them. */
DEED ScribbleOverTrace(void)
{
    volatile ULONG_PTR *words = HOST_PAGE;
    ULONG i, j;

    for (i = 0; i < HOST_PAGE_WORDS; i++) {
        volatile ULONG_PTR *target = (volatile ULONG_PTR *)words[i];

        /* Where Linux maps files: neither stacks nor blocks of drivers. Unused words hold anything, but records are cache lines. */
        if ((ULONG_PTR)target < 0x7E0000000000 || (ULONG_PTR)target % 64 != 0 || !MmIsAddressValid((PVOID)target))
            continue;
        for (j = 0; j < 2048 && MmIsAddressValid((PVOID)(target + j)); j++)
            target[j] = 0x4242424242424242;
    }
    for (i = 0; i < 100; i++)
        Log("still here");
}

/* The host's function behind an import: its stub moves it to r10 before it jumps there. */
static UCHAR *HostFunction(PVOID Import)
{
    UCHAR *code = Import;
    ULONG i;

    for (i = 0; i < 100; i++)
        if (code[i] == 0x49 && code[i + 1] == 0xBA)
            return *(UCHAR **)(code + i + 2);
    return NULL;
}

DEED ScribbleOverHostCode(void)
{
    volatile UCHAR *code = HostFunction((PVOID)KeInitializeEvent);

    HIDE(code);
    *code = 0xCC;
}

DEED ScribbleOverStub(void)
{
    volatile UCHAR *code = (volatile UCHAR *)KeInitializeEvent;

    HIDE(code);
    *code = 0xCC;
}

/* Into the middle of functions of the host's, wherever that leads. */
DEED JumpIntoHostCode(void)
{
    UCHAR *code = HostFunction((PVOID)ExAllocatePoolWithTag);
    ULONG i;

    for (i = 1; i < 64; i++)
        ((void (*)(ULONG_PTR, ULONG_PTR, ULONG_PTR, ULONG_PTR))(code + i))(i, i << 8, i << 16, ~0ULL);
}

/* ---- Linux ---- */

static ULONG_PTR LinuxHere(ULONG_PTR Number, ULONG_PTR A, ULONG_PTR B, ULONG_PTR C)
{
    register ULONG_PTR result __asm__("rax") = Number;
    register ULONG_PTR a __asm__("rdi") = A;
    register ULONG_PTR b __asm__("rsi") = B;
    register ULONG_PTR c __asm__("rdx") = C;

    __asm__ volatile("syscall" : "+r"(result) : "r"(a), "r"(b), "r"(c) : "rcx", "r11", "memory");
    return result;
}

DEED CallLinuxHere(void)
{
    LinuxHere(2, (ULONG_PTR) "/etc/passwd", 0, 0);
}

/* syscall; cmp rax, -4095; jae +1; ret: glibc's function syscall. */
static const UCHAR SystemCall[] = {0x0F, 0x05, 0x48, 0x3D, 0x01, 0xF0, 0xFF, 0xFF, 0x73, 0x01, 0xC3};

/* Such an instruction behind an address, in what is mapped there without a gap. */
static UCHAR *FindSystemCallFrom(ULONG_PTR Address)
{
    UCHAR *code = (UCHAR *)(Address & ~0xFFFULL);
    ULONG i, j;

    if (Address < 0x7E0000000000 || !MmIsAddressValid(code))
        return NULL;
    for (i = 0; i < 0x200000; i++) {
        if ((i & 0xFFF) == 0 && !MmIsAddressValid(code + i + 0x1000))
            break;
        for (j = 0; j < sizeof(SystemCall) && code[i + j] == SystemCall[j]; j++)
            ;
        if (j == sizeof(SystemCall))
            return code + i;
    }
    return NULL;
}

/* One in the C library: the main thread's first frames return there, and the host's table of linked functions leads there. */
static UCHAR *FindSystemCall(void)
{
    ULONG_PTR *word = (ULONG_PTR *)((ULONG_PTR)__builtin_frame_address(0) & ~7ULL);
    UCHAR *found = NULL;

    for (; found == NULL && MmIsAddressValid(word); word++)
        found = FindSystemCallFrom(*word);
    word = (ULONG_PTR *)((ULONG_PTR)HostFunction((PVOID)KeInitializeEvent) & ~0xFFFULL);
    for (; found == NULL && MmIsAddressValid(word); word++)
        found = FindSystemCallFrom(*word);
    return found;
}

static __attribute__((noinline)) LONG_PTR CallAt(UCHAR *Instruction, ULONG_PTR Number, ULONG_PTR A, ULONG_PTR B, ULONG_PTR C)
{
    register ULONG_PTR result __asm__("rax") = Number;
    register ULONG_PTR a __asm__("rdi") = A;
    register ULONG_PTR b __asm__("rsi") = B;
    register ULONG_PTR c __asm__("rdx") = C;
    register ULONG_PTR d __asm__("r10") = 8;

    __asm__ volatile("call *%5" : "+r"(result) : "r"(a), "r"(b), "r"(c), "r"(d), "r"(Instruction)
                     : "rcx", "r11", "memory");
    return (LONG_PTR)result;
}

/* With the host's instruction, so that only the list of system calls is in the way. */
static LONG_PTR Linux(ULONG_PTR Number, ULONG_PTR A, ULONG_PTR B, ULONG_PTR C)
{
    static UCHAR *instruction;

    if (instruction == NULL)
        instruction = FindSystemCall();
    if (instruction == NULL) {
        Log("no instruction found");
        return 0;
    }
    return CallAt(instruction, Number, A, B, C);
}

DEED AskLinuxForEverything(void)
{
    static const char file[] = "/etc/passwd";
    /* getppid is not allowed either: then init stands for the supervisor. */
    LONG_PTR answer = Linux(110, 0, 0, 0);
    ULONG_PTR parent = answer > 0 ? (ULONG_PTR)answer : 1;

    Log("fork: %d", (int)Linux(57, 0, 0, 0));
    Log("vfork: %d", (int)Linux(58, 0, 0, 0));
    Log("clone of a process: %d", (int)Linux(56, 17, 0, 0));
    Log("clone3: %d", (int)Linux(435, 0, 0, 0));
    Log("execve: %d", (int)Linux(59, (ULONG_PTR) "/bin/sh", 0, 0));
    Log("execveat: %d", (int)Linux(322, (ULONG_PTR)-100, (ULONG_PTR) "/bin/sh", 0));
    Log("open: %d", (int)Linux(2, (ULONG_PTR)file, 0, 0));
    Log("openat: %d", (int)Linux(257, (ULONG_PTR)-100, (ULONG_PTR)file, 0));
    Log("openat2: %d", (int)Linux(437, (ULONG_PTR)-100, (ULONG_PTR)file, 0));
    Log("unlink: %d", (int)Linux(87, (ULONG_PTR)file, 0, 0));
    Log("socket: %d", (int)Linux(41, 2, 1, 0));
    Log("unix socket: %d", (int)Linux(41, 1, 1, 0));
    Log("socketpair: %d", (int)Linux(53, 1, 1, 0));
    Log("ptrace: %d", (int)Linux(101, 16, parent, 0));
    Log("process_vm_writev: %d", (int)Linux(311, parent, 0, 0));
    Log("kill of the supervisor: %d", (int)Linux(62, parent, 9, 0));
    Log("kill of everybody: %d", (int)Linux(62, (ULONG_PTR)-1, 9, 0));
    Log("setrlimit: %d", (int)Linux(160, 0, 0, 0));
    Log("io_uring_setup: %d", (int)Linux(425, 1, 0, 0));
    Log("memory to execute: %d", (int)Linux(9, 0, 4096, 7));
}

DEED KillItself(void)
{
    Linux(62, (ULONG_PTR)Linux(39, 0, 0, 0), 9, 0);
    Log("still here");
}

DEED StopItself(void)
{
    Linux(62, (ULONG_PTR)Linux(39, 0, 0, 0), 19, 0);
    Log("still here");
}

DEED Exit(void)
{
    Linux(231, 0, 0, 0);
}

DEED CloseAllDescriptors(void)
{
    ULONG_PTR number;

    for (number = 0; number < 1024; number++)
        Linux(3, number, 0, 0);
    Log("still here");
}

static ULONG_PTR AllSignals = ~0ULL;

DEED BlockAllSignalsAndLoop(void)
{
    Linux(14, 0, (ULONG_PTR)&AllSignals, 0);
    LoopForEver();
}

DEED BlockAllSignalsAndFault(void)
{
    volatile ULONG *field = (volatile ULONG *)0x18;

    Linux(14, 0, (ULONG_PTR)&AllSignals, 0);
    HIDE(field);
    *field = 1;
}

/* All memory of drivers' and, with luck, the host's too. */
DEED UnmapEverything(void)
{
    Linux(11, 0x10000, 0x7FFFFFFE0000, 0);
}

/* ---- Too much of something ---- */

DEED AllocateForEver(void)
{
    ULONG count = 0;

    while (ExAllocatePoolWithTag(NonPagedPool, 64 << 20, HOSTILE_TAG) != NULL)
        count++;
    Log("no more pool after %s", count > 0 ? "some" : "none");
}

static void NTAPI StuckThread(PVOID Context)
{
    KeWaitForSingleObject(Context, Executive, KernelMode, FALSE, NULL);
}

/* As many as there can be, of a million; all end. */
DEED MakeAMillionThreads(void)
{
    static KEVENT go;
    ULONG count;

    KeInitializeEvent(&go, NotificationEvent, FALSE);
    for (count = 0; count < 1000000; count++) {
        HANDLE thread;

        if (!NT_SUCCESS(PsCreateSystemThread(&thread, THREAD_ALL_ACCESS, NULL, NULL, NULL, StuckThread, &go)))
            break;
        ZwClose(thread);
    }
    Log("%s threads", count == 1000000 ? "a million" : count > 100 ? "many" : "few");
    KeSetEvent(&go, 0, FALSE);
}

/* A file that doubles until the disk, or what the host allows, is full. It has holes, so little is written. */
DEED FillDisk(void)
{
    UNICODE_STRING name = RTL_CONSTANT_STRING(L"\\??\\C:\\full");
    OBJECT_ATTRIBUTES attributes;
    IO_STATUS_BLOCK iosb;
    LARGE_INTEGER offset;
    NTSTATUS status;
    HANDLE file;

    InitializeObjectAttributes(&attributes, &name, OBJ_KERNEL_HANDLE, NULL, NULL);
    status = ZwCreateFile(&file, GENERIC_WRITE | SYNCHRONIZE, &attributes, &iosb, NULL, FILE_ATTRIBUTE_NORMAL, 0,
                          FILE_OVERWRITE_IF, FILE_SYNCHRONOUS_IO_NONALERT, NULL, 0);
    if (!NT_SUCCESS(status)) {
        Log("no file: %08x", status);
        return;
    }
    for (offset.QuadPart = 1 << 16; NT_SUCCESS(status) && offset.QuadPart > 0; offset.QuadPart *= 2)
        status = ZwWriteFile(file, NULL, NULL, NULL, &iosb, &offset, sizeof(offset), &offset, NULL);
    Log("the write ended with %08x", status);
    ZwClose(file);
}

/* ---- Pool ---- */

static UCHAR *NewBlock(ULONG Bytes)
{
    return ExAllocatePoolWithTag(NonPagedPool, Bytes, HOSTILE_TAG);
}

DEED OverrunPool(void)
{
    volatile UCHAR *block = NewBlock(64);

    block[64] = 1;
    ExFreePoolWithTag((PVOID)block, HOSTILE_TAG);
}

DEED UnderrunPool(void)
{
    volatile UCHAR *block = NewBlock(PAGE_SIZE);

    HIDE(block);
    block[-1] = 1;
    ExFreePoolWithTag((PVOID)block, HOSTILE_TAG);
}

DEED UseFreedPool(void)
{
    volatile UCHAR *block = NewBlock(64);

    ExFreePoolWithTag((PVOID)block, HOSTILE_TAG);
    HIDE(block);
    block[0] = 1;
}

DEED FreePoolTwice(void)
{
    UCHAR *block = NewBlock(64);

    ExFreePoolWithTag(block, HOSTILE_TAG);
    HIDE(block);
    ExFreePoolWithTag(block, HOSTILE_TAG);
}

DEED FreeWhatIsNoPool(void)
{
    UCHAR local[64];
    UCHAR *block = local;

    HIDE(block);
    ExFreePoolWithTag(block, HOSTILE_TAG);
}

/* ---- Requests ---- */

static const GUID NoClass;
static PDEVICE_OBJECT TheDevice;

static NTSTATUS NTAPI CompletedAgain(PDEVICE_OBJECT Device, PIRP Irp, PVOID Context);

/* Sends the packet once more, with itself as the completion routine. */
static __attribute__((noinline)) NTSTATUS Resend(PIRP Irp)
{
    IoReuseIrp(Irp, STATUS_SUCCESS);
    IoGetNextIrpStackLocation(Irp)->MajorFunction = IRP_MJ_FLUSH_BUFFERS;
    IoSetCompletionRoutine(Irp, CompletedAgain, NULL, TRUE, TRUE, TRUE);
    return IoCallDriver(TheDevice, Irp);
}

static NTSTATUS NTAPI CompletedAgain(PDEVICE_OBJECT Device, PIRP Irp, PVOID Context)
{
    (void)Device;
    (void)Context;
    Resend(Irp);
    return STATUS_MORE_PROCESSING_REQUIRED;
}

DEED RecurseInCompletion(void)
{
    PIRP irp = IoAllocateIrp(TheDevice->StackSize, FALSE);

    if (irp != NULL)
        Resend(irp);
}

/* A request to a transport that it would answer, ready to be spoilt. */
static PIRP NewRequest(PFILE_OBJECT *File, PDEVICE_OBJECT *Device)
{
    UNICODE_STRING name = RTL_CONSTANT_STRING(L"\\Device\\Tcp");
    PIO_STACK_LOCATION next;
    PIRP irp;

    if (!NT_SUCCESS(IoGetDeviceObjectPointer(&name, FILE_READ_DATA, File, Device)))
        return NULL;
    irp = IoAllocateIrp((*Device)->StackSize, FALSE);
    if (irp == NULL)
        return NULL;
    next = IoGetNextIrpStackLocation(irp);
    next->MajorFunction = IRP_MJ_INTERNAL_DEVICE_CONTROL;
    next->MinorFunction = 12; /* TDI_QUERY_INFORMATION */
    next->FileObject = *File;
    next->Parameters.Others.Argument1 = (PVOID)2; /* TDI_QUERY_PROVIDER_INFO, which goes to the MDL */
    return irp;
}

static NTSTATUS NTAPI KeepPacket(PDEVICE_OBJECT Device, PIRP Irp, PVOID Context)
{
    (void)Device;
    (void)Irp;
    (void)Context;
    return STATUS_MORE_PROCESSING_REQUIRED;
}

#define SPOILT_REQUEST(spoil)                                                                                          \
    PFILE_OBJECT file;                                                                                                 \
    PDEVICE_OBJECT device;                                                                                             \
    PIRP irp = NewRequest(&file, &device);                                                                             \
    if (irp == NULL)                                                                                                   \
        return;                                                                                                        \
    IoSetCompletionRoutine(irp, KeepPacket, NULL, TRUE, TRUE, TRUE);                                               \
    spoil;                                                                                                             \
    Log("the request came to %08x", IoCallDriver(device, irp));                                                        \
    IoFreeIrp(irp);                                                                                                    \
    ObDereferenceObject(file)

DEED SpoilPacketType(void)
{
    SPOILT_REQUEST(irp->Type = 0x77);
}

DEED SpoilPacketLocation(void)
{
    SPOILT_REQUEST(irp->Tail.Overlay.CurrentStackLocation = (PVOID)0x4242424242424240);
}

DEED SpoilPacketNumber(void)
{
    SPOILT_REQUEST(irp->CurrentLocation = 100);
}

DEED SpoilPacketFile(void)
{
    SPOILT_REQUEST(IoGetNextIrpStackLocation(irp)->FileObject = (PVOID)0x4242424242424240);
}

DEED SpoilFileContext(void)
{
    SPOILT_REQUEST((file->FsContext = (PVOID)0x4242424242424240, file->FsContext2 = (PVOID)2));
}

DEED SpoilFileDevice(void)
{
    SPOILT_REQUEST(file->DeviceObject = (PVOID)0x4242424242424240);
}

DEED SpoilMdl(void)
{
    SPOILT_REQUEST((irp->MdlAddress = IoAllocateMdl(&Never, 64, FALSE, FALSE, NULL),
                    MmBuildMdlForNonPagedPool(irp->MdlAddress),
                    irp->MdlAddress->MappedSystemVa = (PVOID)0x10,
                    irp->MdlAddress->ByteCount = ~0u));
}

/* A chain that leads back to its beginning. */
DEED SpoilMdlChain(void)
{
    SPOILT_REQUEST((irp->MdlAddress = IoAllocateMdl(&Never, 8, FALSE, FALSE, NULL),
                    MmBuildMdlForNonPagedPool(irp->MdlAddress),
                    irp->MdlAddress->Next = irp->MdlAddress));
}

DEED SendToNoDevice(void)
{
    PIRP irp = IoAllocateIrp(1, FALSE);
    PDEVICE_OBJECT device = (PDEVICE_OBJECT)&Never;

    HIDE(device);
    if (irp != NULL)
        IoCallDriver(device, irp);
}

/* ---- Routines that are none ---- */

/* An address that no processor goes to. */
#define NO_ROUTINE ((PVOID)0x4141414141414141)

static PDRIVER_OBJECT TheDriver;

DEED NothingAsThread(void)
{
    HANDLE handle;

    if (NT_SUCCESS(PsCreateSystemThread(&handle, THREAD_ALL_ACCESS, NULL, NULL, NULL, NO_ROUTINE, NULL)))
        WaitForEver();
}

DEED NothingAsDpc(void)
{
    static KDPC dpc;

    KeInitializeDpc(&dpc, NO_ROUTINE, NULL);
    KeInsertQueueDpc(&dpc, NULL, NULL);
    WaitForEver();
}

DEED NothingAsTimerDpc(void)
{
    static KDPC dpc;
    static KTIMER timer;
    LARGE_INTEGER soon = {.QuadPart = -10000};

    KeInitializeDpc(&dpc, NO_ROUTINE, NULL);
    KeInitializeTimer(&timer);
    KeSetTimer(&timer, soon, &dpc);
    WaitForEver();
}

DEED NothingAsWorkItem(void)
{
    PIO_WORKITEM item = IoAllocateWorkItem(TheDevice);

    if (item == NULL)
        return;
    IoQueueWorkItem(item, NO_ROUTINE, DelayedWorkQueue, NULL);
    WaitForEver();
}

DEED NothingAsOldWorkItem(void)
{
    static WORK_QUEUE_ITEM item;

    ExInitializeWorkItem(&item, NO_ROUTINE, NULL);
    ExQueueWorkItem(&item, DelayedWorkQueue);
    WaitForEver();
}

DEED NothingAsNotification(void)
{
    HANDLE handle;

    PsSetCreateThreadNotifyRoutine(NO_ROUTINE);
    PsCreateSystemThread(&handle, THREAD_ALL_ACCESS, NULL, NULL, NULL, NO_ROUTINE, NULL);
}

DEED NothingAsUnload(void)
{
    TheDriver->DriverUnload = NO_ROUTINE;
}

DEED NothingAsCleanup(void)
{
    TheDriver->MajorFunction[IRP_MJ_CLEANUP] = NO_ROUTINE;
}

DEED ScribbleOverDriverObject(void)
{
    RtlFillMemory(TheDriver, sizeof(*TheDriver), 0x41);
}

#define MISALIGNED(type) ((type)((ULONG_PTR)&Never + 1))

DEED MisalignPacketLocation(void)
{
    SPOILT_REQUEST(irp->Tail.Overlay.CurrentStackLocation = MISALIGNED(PVOID));
}

DEED MisalignFileDevice(void)
{
    SPOILT_REQUEST(file->DeviceObject = MISALIGNED(PDEVICE_OBJECT));
}

/* A request that the I/O manager finishes, ready to be spoilt. */
static PIRP NewThreadedRequest(void)
{
    static IO_STATUS_BLOCK iosb;

    return IoBuildSynchronousFsdRequest(IRP_MJ_FLUSH_BUFFERS, TheDevice, NULL, 0, NULL, &Never, &iosb);
}

DEED MisalignMdl(void)
{
    PIRP irp = NewThreadedRequest();

    irp->MdlAddress = MISALIGNED(PMDL);
    IoCallDriver(TheDevice, irp);
}

DEED MisalignEvent(void)
{
    PIRP irp = NewThreadedRequest();

    irp->UserEvent = MISALIGNED(PKEVENT);
    IoCallDriver(TheDevice, irp);
}

DEED MisalignAttachedDevice(void)
{
    TheDevice->AttachedDevice = MISALIGNED(PDEVICE_OBJECT);
    IoGetAttachedDevice(TheDevice);
}

static PDEVICE_OBJECT NewDevice(void)
{
    PDEVICE_OBJECT device = NULL;

    IoCreateDevice(TheDevice->DriverObject, 0, NULL, FILE_DEVICE_UNKNOWN, 0, FALSE, &device);
    return device;
}

DEED MisalignDriver(void)
{
    PDEVICE_OBJECT device = NewDevice();

    device->DriverObject = MISALIGNED(PDRIVER_OBJECT);
    IoDeleteDevice(device);
}

DEED MisalignNextDevice(void)
{
    NewDevice()->NextDevice = MISALIGNED(PDEVICE_OBJECT);
    IoDeleteDevice(TheDevice);
}

DEED RegisterInterfaceOfNoDevice(void)
{
    UNICODE_STRING link;
    PDEVICE_OBJECT device = (PDEVICE_OBJECT)0x40;

    HIDE(device);
    IoRegisterDeviceInterface(device, &NoClass, NULL, &link);
}

DEED FreeSpoiltPacket(void)
{
    PIRP irp = IoAllocateIrp(1, FALSE);

    irp->Type = 0x77;
    IoFreeIrp(irp);
}

DEED FreeWhatIsNoPacket(void)
{
    PIRP irp = (PIRP)NewBlock(PAGE_SIZE);

    RtlZeroMemory(irp, PAGE_SIZE);
    IoFreeIrp(irp);
}

DEED FreePacketTwice(void)
{
    PIRP irp = IoAllocateIrp(1, FALSE);

    IoFreeIrp(irp);
    IoFreeIrp(irp);
}

DEED FreePacketOfThread(void)
{
    IoFreeIrp(NewThreadedRequest());
}

/* ---- The processor ---- */

static void FillProcessorBlock(UCHAR Byte)
{
    volatile UCHAR *block = (volatile UCHAR *)__readgsqword(0x18);
    ULONG i;

    for (i = 0; i < PAGE_SIZE; i++)
        block[i] = Byte;
}

DEED ClearProcessorBlock(void)
{
    FillProcessorBlock(0);
    Log("still here");
}

DEED SpoilProcessorBlock(void)
{
    FillProcessorBlock(0xFF);
    Log("still here");
}

/* A flat segment: its base is 0. */
#define LOAD_GS() __asm__ volatile("movl $0x2B, %%eax; movl %%eax, %%gs" : : : "rax")

DEED LoadGs(void)
{
    LOAD_GS();
    Log("still here");
}

DEED LoadGsAndRead(void)
{
    ULONG_PTR thread;

    LOAD_GS();
    __asm__ volatile("movq %%gs:0x188, %0" : "=r"(thread));
    Log("%x", (ULONG)thread);
}

DEED LoadGsAndLoop(void)
{
    LOAD_GS();
    LoopForEver();
}

DEED MoveGs(void)
{
    static UCHAR pages[4 * PAGE_SIZE];

    __asm__ volatile("wrgsbase %0" : : "r"(pages));
    Log("still here");
}

static void NTAPI GsLoadingDpc(PKDPC Dpc, PVOID Context, PVOID First, PVOID Second)
{
    (void)Dpc;
    (void)Context;
    (void)First;
    (void)Second;
    LOAD_GS();
}

DEED ReturnWithoutGs(void)
{
    static KDPC dpc;

    KeInitializeDpc(&dpc, GsLoadingDpc, NULL);
    KeInsertQueueDpc(&dpc, NULL, NULL);
    WaitForEver();
}

/* ---- Addresses of the kernel's half ---- */

DEED WriteToKernelAddress(void)
{
    volatile ULONG *place = (volatile ULONG *)0xFFFFF80012345678;

    HIDE(place);
    *place = 1;
}

DEED CallKernelAddress(void)
{
    void (*place)(void) = (void (*)(void))0xFFFFF80012345678;

    HIDE(place);
    place();
    Log("still here");
}

/* ---- Names ---- */

#define NAMED(name) {#name, name}

static const struct {
    const char *Name;
    void (*Routine)(void);
} Deeds[] = {
    NAMED(WaitForEver), NAMED(LoopForEver), NAMED(WaitForThread), NAMED(WaitInUnload), NAMED(LoopInUnload),
    NAMED(WaitForSpinLock), NAMED(LoopInDpc), NAMED(PrintForEver), NAMED(ScribbleOverHostPage),
    NAMED(ScribbleOverTrace), NAMED(ScribbleOverHostCode), NAMED(ScribbleOverStub), NAMED(JumpIntoHostCode),
    NAMED(CallLinuxHere), NAMED(AskLinuxForEverything), NAMED(KillItself), NAMED(StopItself), NAMED(Exit),
    NAMED(CloseAllDescriptors), NAMED(BlockAllSignalsAndLoop), NAMED(BlockAllSignalsAndFault), NAMED(UnmapEverything),
    NAMED(AllocateForEver), NAMED(MakeAMillionThreads), NAMED(FillDisk), NAMED(OverrunPool), NAMED(UnderrunPool),
    NAMED(UseFreedPool), NAMED(FreePoolTwice), NAMED(FreeWhatIsNoPool), NAMED(RecurseInCompletion),
    NAMED(SpoilPacketType), NAMED(SpoilPacketLocation), NAMED(SpoilPacketNumber), NAMED(SpoilPacketFile),
    NAMED(SpoilFileContext), NAMED(SpoilFileDevice), NAMED(SpoilMdl), NAMED(SpoilMdlChain), NAMED(SendToNoDevice),
    NAMED(NothingAsThread), NAMED(NothingAsDpc), NAMED(NothingAsTimerDpc), NAMED(NothingAsWorkItem),
    NAMED(NothingAsOldWorkItem), NAMED(NothingAsNotification), NAMED(NothingAsUnload), NAMED(NothingAsCleanup),
    NAMED(ScribbleOverDriverObject),
    NAMED(MisalignPacketLocation), NAMED(MisalignFileDevice), NAMED(MisalignMdl), NAMED(MisalignEvent),
    NAMED(MisalignAttachedDevice), NAMED(MisalignDriver), NAMED(MisalignNextDevice), NAMED(RegisterInterfaceOfNoDevice),
    NAMED(FreeSpoiltPacket), NAMED(FreeWhatIsNoPacket), NAMED(FreePacketTwice), NAMED(FreePacketOfThread),
    NAMED(ClearProcessorBlock), NAMED(SpoilProcessorBlock), NAMED(LoadGs), NAMED(LoadGsAndRead), NAMED(LoadGsAndLoop),
    NAMED(MoveGs), NAMED(ReturnWithoutGs), NAMED(WriteToKernelAddress), NAMED(CallKernelAddress),
};

static NTSTATUS Complete(PIRP Irp, NTSTATUS Status)
{
    Irp->IoStatus.Status = Status;
    Irp->IoStatus.Information = 0;
    IoCompleteRequest(Irp, IO_NO_INCREMENT);
    return Status;
}

static NTSTATUS NTAPI DispatchSucceed(PDEVICE_OBJECT Device, PIRP Irp)
{
    (void)Device;
    return Complete(Irp, STATUS_SUCCESS);
}

static NTSTATUS NTAPI DispatchDeviceControl(PDEVICE_OBJECT Device, PIRP Irp)
{
    ULONG length = IoGetCurrentIrpStackLocation(Irp)->Parameters.DeviceIoControl.InputBufferLength;
    char name[64];
    ULONG i;

    (void)Device;
    RtlZeroMemory(name, sizeof(name));
    RtlCopyMemory(name, Irp->AssociatedIrp.SystemBuffer, length < sizeof(name) ? length : sizeof(name) - 1);
    if (strcmp(name, "NeverComplete") == 0) {
        IoMarkIrpPending(Irp);
        return STATUS_PENDING;
    }
    for (i = 0; i < ARRAYSIZE(Deeds); i++) {
        if (strcmp(name, Deeds[i].Name) == 0) {
            Deeds[i].Routine();
            return Complete(Irp, STATUS_SUCCESS);
        }
    }
    return Complete(Irp, STATUS_NOT_FOUND);
}

static UNICODE_STRING DeviceName = RTL_CONSTANT_STRING(L"\\Device\\Hostile");

static void NTAPI Unload(PDRIVER_OBJECT Driver)
{
    if (DeedOfUnload != NULL)
        DeedOfUnload();
    IoDeleteDevice(Driver->DeviceObject);
}

NTSTATUS NTAPI DriverEntry(PDRIVER_OBJECT Driver, PUNICODE_STRING RegistryPath)
{
    (void)RegistryPath;
    TheDriver = Driver;
    KeInitializeEvent(&Never, NotificationEvent, FALSE);
#ifdef DEED_IN_ENTRY
    DEED_IN_ENTRY();
#endif
    Driver->DriverUnload = Unload;
    Driver->MajorFunction[IRP_MJ_CREATE] = DispatchSucceed;
    Driver->MajorFunction[IRP_MJ_CLEANUP] = DispatchSucceed;
    Driver->MajorFunction[IRP_MJ_CLOSE] = DispatchSucceed;
    Driver->MajorFunction[IRP_MJ_FLUSH_BUFFERS] = DispatchSucceed;
    Driver->MajorFunction[IRP_MJ_DEVICE_CONTROL] = DispatchDeviceControl;
    return IoCreateDevice(Driver, 0, &DeviceName, FILE_DEVICE_UNKNOWN, 0, FALSE, &TheDevice);
}
