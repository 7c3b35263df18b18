/* What the macros of tdikrnl.h make of an IRP that this kernel allocated (C-182, C-186, C-187, C-189, C-196). */
#define FAMILY "builders"
#include "check.h"
#include <tdi.h>
#include <tdikrnl.h>

#define UNTOUCHED 0xA5

static IO_COMPLETION_ROUTINE Completed;

static NTSTATUS NTAPI Completed(PDEVICE_OBJECT Device, PIRP Irp, PVOID Context)
{
    (void)Device;
    (void)Irp;
    (void)Context;
    return STATUS_MORE_PROCESSING_REQUIRED;
}

/* A variable, because the macros ask whether there is a routine, which compilers know of a function. */
static PIO_COMPLETION_ROUTINE Routine = Completed;

/* What the macros are given: values that only have to come out again. */
static PDEVICE_OBJECT const Device = (PDEVICE_OBJECT)0x1110;
static PFILE_OBJECT const File = (PFILE_OBJECT)0x2220;
static PTDI_CONNECTION_INFORMATION const Asked = (PTDI_CONNECTION_INFORMATION)0x3330;
static PTDI_CONNECTION_INFORMATION const Given = (PTDI_CONNECTION_INFORMATION)0x4440;
static PLARGE_INTEGER const Time = (PLARGE_INTEGER)0x5550;
static PMDL const Mdl = (PMDL)0x6660;
static PVOID const Context = (PVOID)0x7770;
static const ULONG_PTR Same = 0xA5A5A5A5A5A5A5A5;

/* What is left of a word whose lower half is written: flags are a ULONG to mingw-w64's headers (D-167), and so are types. */
#define UPPER (Same >> 32 << 32)

static PIRP Packet;

/* A location in which every byte shows whether it was written. */
static PIO_STACK_LOCATION Clear(void)
{
    PIO_STACK_LOCATION next = IoGetNextIrpStackLocation(Packet);

    RtlFillMemory(next, sizeof(*next), UNTOUCHED);
    Packet->MdlAddress = (PMDL)Same;
    return next;
}

/* Claims that the next location holds this request, with these parameters as words. */
static void Holds(UCHAR Minor, ULONG_PTR A, ULONG_PTR B, ULONG_PTR C, ULONG_PTR D, PMDL Chain, int Line)
{
    PIO_STACK_LOCATION next = IoGetNextIrpStackLocation(Packet);
    ULONG_PTR *words = (ULONG_PTR *)&next->Parameters;

    Claim(next->MajorFunction == IRP_MJ_INTERNAL_DEVICE_CONTROL && next->MinorFunction == Minor, Line, "functions");
    Claim(next->DeviceObject == Device && next->FileObject == File, Line, "device and file");
    Claim(next->Flags == UNTOUCHED, Line, "flags are left");
    Claim(words[0] == A && words[1] == B && words[2] == C && words[3] == D, Line, "parameters");
    Claim(Packet->MdlAddress == Chain, Line, "MDL");
    Claim(Packet->CurrentLocation == Packet->StackCount + 1, Line, "nothing is current");
}

#define HOLDS(minor, a, b, c, d, chain)                                                                                \
    Holds(minor, (ULONG_PTR)(a), (ULONG_PTR)(b), (ULONG_PTR)(c), (ULONG_PTR)(d), (PMDL)(chain), __LINE__)

static void Parameters(void)
{
    Clear();
    TdiBuildAssociateAddress(Packet, Device, File, Routine, Context, (HANDLE)0x80001234);
    HOLDS(TDI_ASSOCIATE_ADDRESS, (HANDLE)0x80001234, Same, Same, Same, Same);
    Clear();
    TdiBuildDisassociateAddress(Packet, Device, File, Routine, Context);
    HOLDS(TDI_DISASSOCIATE_ADDRESS, Same, Same, Same, Same, Same);
    Clear();
    TdiBuildConnect(Packet, Device, File, Routine, Context, Time, Asked, Given);
    HOLDS(TDI_CONNECT, Same, Asked, Given, Time, Same);
    Clear();
    TdiBuildListen(Packet, Device, File, Routine, Context, TDI_QUERY_ACCEPT, Asked, Given);
    HOLDS(TDI_LISTEN, UPPER | TDI_QUERY_ACCEPT, Asked, Given, Same, Same);
    Clear();
    TdiBuildAccept(Packet, Device, File, Routine, Context, Asked, Given);
    HOLDS(TDI_ACCEPT, Asked, Given, Same, Same, Same);
    Clear();
    TdiBuildDisconnect(Packet, Device, File, Routine, Context, Time, TDI_DISCONNECT_RELEASE, Asked, Given);
    HOLDS(TDI_DISCONNECT, UPPER | TDI_DISCONNECT_RELEASE, Asked, Given, Time, Same);
    Clear();
    TdiBuildSend(Packet, Device, File, Routine, Context, Mdl, TDI_SEND_EXPEDITED, 77);
    HOLDS(TDI_SEND, 77 | (ULONG_PTR)TDI_SEND_EXPEDITED << 32, Same, Same, Same, Mdl);
    Clear();
    TdiBuildReceive(Packet, Device, File, Routine, Context, Mdl, TDI_RECEIVE_NORMAL, 88);
    HOLDS(TDI_RECEIVE, 88 | (ULONG_PTR)TDI_RECEIVE_NORMAL << 32, Same, Same, Same, Mdl);
    Clear();
    TdiBuildSetEventHandler(Packet, Device, File, Routine, Context, TDI_EVENT_RECEIVE, Asked, Given);
    HOLDS(TDI_SET_EVENT_HANDLER, UPPER | TDI_EVENT_RECEIVE, Asked, Given, Same, Same);
}

static void Routines(void)
{
    PIO_STACK_LOCATION next = Clear();

    TdiBuildDisassociateAddress(Packet, Device, File, Routine, Context);
    CHECK(next->CompletionRoutine == Completed && next->Context == Context);
    CHECK(next->Control == (SL_INVOKE_ON_SUCCESS | SL_INVOKE_ON_ERROR | SL_INVOKE_ON_CANCEL));
    next = Clear();
    TdiBuildDisassociateAddress(Packet, Device, File, NULL, Context);
    CHECK(next->CompletionRoutine == NULL && next->Control == 0);
}

/* The function that the macro for threaded packets stands for, with the code of the headers and that of mingw-w64. */
static void ThreadedPackets(void)
{
    static const ULONG codes[] = {3, TDI_QUERY_INFORMATION};
    UNICODE_STRING name = RTL_CONSTANT_STRING(L"\\Device\\Tcp");
    PDEVICE_OBJECT device;
    PFILE_OBJECT file;
    ULONG index;

    if (!CHECK(NT_SUCCESS(IoGetDeviceObjectPointer(&name, FILE_READ_DATA, &file, &device))))
        return;
    for (index = 0; index < RTL_NUMBER_OF(codes); index++) {
        TDI_PROVIDER_INFO info = {0};
        IO_STATUS_BLOCK answer = {{0}, 0};
        PIO_STACK_LOCATION next;
        KEVENT done;
        PIRP irp;
        /* Goes with the packet. */
        PMDL mdl = IoAllocateMdl(&info, sizeof(info), FALSE, FALSE, NULL);

        KeInitializeEvent(&done, NotificationEvent, FALSE);
        irp = IoBuildDeviceIoControlRequest(codes[index], device, NULL, 0, NULL, 0, TRUE, &done, &answer);
        if (!CHECK(mdl != NULL && irp != NULL))
            return;
        MmBuildMdlForNonPagedPool(mdl);
        next = IoGetNextIrpStackLocation(irp);
        CHECK(next->MajorFunction == IRP_MJ_INTERNAL_DEVICE_CONTROL && next->MinorFunction == 0);
        CHECK(next->Parameters.DeviceIoControl.IoControlCode == codes[index]);
        CHECK(next->Parameters.DeviceIoControl.InputBufferLength == 0);
        CHECK(next->Parameters.DeviceIoControl.OutputBufferLength == 0);
        CHECK(irp->MdlAddress == NULL && irp->UserBuffer == NULL && irp->AssociatedIrp.SystemBuffer == NULL);
        CHECK(irp->UserEvent == &done && irp->UserIosb == &answer);
        TdiBuildQueryInformation(irp, device, file, NULL, NULL, TDI_QUERY_PROVIDER_INFO, mdl);
        if (IoCallDriver(device, irp) == STATUS_PENDING)
            KeWaitForSingleObject(&done, Executive, KernelMode, FALSE, NULL);
        CHECK(KeReadStateEvent(&done) != 0);
        CHECK_STATUS(STATUS_SUCCESS, answer.Status);
        CHECK(info.ServiceFlags & TDI_SERVICE_CONNECTION_MODE);
    }
    ObDereferenceObject(file);
}

static void Checks(PUNICODE_STRING RegistryPath)
{
    (void)RegistryPath;
    Packet = IoAllocateIrp(1, FALSE);
    if (!CHECK(Packet != NULL))
        return;
    Parameters();
    Routines();
    Clear();
    IoFreeIrp(Packet);
    ThreadedPackets();
}
