/*
 * One LISTEN, and more who connect than it takes (C-305), from an address whose port was chosen for it (C-280). Run on a simulated
 * host with the address 10.0.0.1, where time costs nothing; the driver is its own client.
 */
#define FAMILY "listening"
#include "check.h"
#include <tdi.h>
#include <tdikrnl.h>

enum { PORT = 7007, SECOND = 10000000 };

typedef struct {
    HANDLE Handle;
    PFILE_OBJECT File;
} FILE;

typedef struct {
    KEVENT Event;
    IO_STATUS_BLOCK Block;
} ANSWER;

static UNICODE_STRING TcpName = RTL_CONSTANT_STRING(L"\\Device\\Tcp");

static FILE Open(PCSTR Name, const void *Value, USHORT Length)
{
    FILE file = {0};
    OBJECT_ATTRIBUTES attributes;
    IO_STATUS_BLOCK block;
    ULONG room[32] = {0};
    PFILE_FULL_EA_INFORMATION ea = (PVOID)room;

    ea->EaNameLength = (UCHAR)strlen(Name);
    ea->EaValueLength = Length;
    RtlCopyMemory(ea->EaName, Name, ea->EaNameLength + 1);
    RtlCopyMemory(ea->EaName + ea->EaNameLength + 1, Value, Length);
    InitializeObjectAttributes(&attributes, &TcpName, OBJ_KERNEL_HANDLE, NULL, NULL);
    CHECK_STATUS(STATUS_SUCCESS, ZwCreateFile(&file.Handle, GENERIC_READ | GENERIC_WRITE, &attributes, &block, NULL, 0, 0, FILE_OPEN, 0, ea, sizeof(room)));
    CHECK_STATUS(STATUS_SUCCESS, ObReferenceObjectByHandle(file.Handle, 0, *IoFileObjectType, KernelMode, (PVOID *)&file.File, NULL));
    return file;
}

static void Close(FILE File)
{
    ObDereferenceObject(File.File);
    ZwClose(File.Handle);
}

static TA_IP_ADDRESS At(ULONG Ip, USHORT Port)
{
    TA_IP_ADDRESS address = {1, {{TDI_ADDRESS_LENGTH_IP, TDI_ADDRESS_TYPE_IP, {{__builtin_bswap16(Port), __builtin_bswap32(Ip), {0}}}}}};

    return address;
}

static FILE OpenAddress(USHORT Port)
{
    TA_IP_ADDRESS address = At(0, Port);

    return Open(TdiTransportAddress, &address, sizeof(address));
}

static PIRP Build(UCHAR Minor, PFILE_OBJECT File, ANSWER *Answer)
{
    KeInitializeEvent(&Answer->Event, NotificationEvent, FALSE);
    return TdiBuildInternalDeviceControlIrp(Minor, IoGetRelatedDeviceObject(File), File, &Answer->Event, &Answer->Block);
}

static NTSTATUS Wait(ANSWER *Answer)
{
    KeWaitForSingleObject(&Answer->Event, Executive, KernelMode, FALSE, NULL);
    return Answer->Block.Status;
}

static NTSTATUS Ask(PFILE_OBJECT File, PIRP Irp, ANSWER *Answer)
{
    NTSTATUS status = IoCallDriver(IoGetRelatedDeviceObject(File), Irp);

    return status == STATUS_PENDING ? Wait(Answer) : status;
}

static FILE OpenEndpoint(FILE Address)
{
    PVOID context = NULL;
    FILE endpoint = Open(TdiConnectionContext, &context, sizeof(context));
    ANSWER answer;
    PIRP irp = Build(TDI_ASSOCIATE_ADDRESS, endpoint.File, &answer);

    TdiBuildAssociateAddress(irp, IoGetRelatedDeviceObject(endpoint.File), endpoint.File, NULL, NULL, Address.Handle);
    CHECK_STATUS(STATUS_SUCCESS, Ask(endpoint.File, irp, &answer));
    return endpoint;
}

static void Listen(FILE Endpoint, ANSWER *Answer)
{
    PIRP irp = Build(TDI_LISTEN, Endpoint.File, Answer);

    TdiBuildListen(irp, IoGetRelatedDeviceObject(Endpoint.File), Endpoint.File, NULL, NULL, 0, NULL, NULL);
    CHECK_STATUS(STATUS_PENDING, IoCallDriver(IoGetRelatedDeviceObject(Endpoint.File), irp));
}

/* Gives after how many whole seconds the attempt was over. */
static LONGLONG Connect(FILE Endpoint, NTSTATUS Expected)
{
    TA_IP_ADDRESS remote = At(0x0A000001, PORT);
    TDI_CONNECTION_INFORMATION information = {0, NULL, 0, NULL, sizeof(remote), &remote};
    ANSWER answer;
    PIRP irp = Build(TDI_CONNECT, Endpoint.File, &answer);
    ULONGLONG begin = KeQueryInterruptTime();

    TdiBuildConnect(irp, IoGetRelatedDeviceObject(Endpoint.File), Endpoint.File, NULL, NULL, NULL, &information, NULL);
    CHECK_STATUS(Expected, Ask(Endpoint.File, irp, &answer));
    return (LONGLONG)(KeQueryInterruptTime() - begin) / SECOND;
}

/* The port of an address, or of a connection, as ADDRESS_INFO has it. */
static USHORT PortOf(FILE File)
{
    UCHAR info[26] = {0};
    PMDL mdl = IoAllocateMdl(info, sizeof(info), FALSE, FALSE, NULL);
    ANSWER answer;
    PIRP irp = Build(TDI_QUERY_INFORMATION, File.File, &answer);

    MmBuildMdlForNonPagedPool(mdl);
    TdiBuildQueryInformation(irp, IoGetRelatedDeviceObject(File.File), File.File, NULL, NULL, TDI_QUERY_ADDRESS_INFO, mdl);
    CHECK_STATUS(STATUS_SUCCESS, Ask(File.File, irp, &answer));
    /* Behind ActivityCount and the head of a transport address. */
    return (USHORT)(info[12] << 8 | info[13]);
}

static void Checks(PUNICODE_STRING RegistryPath)
{
    FILE server = OpenAddress(PORT), client = OpenAddress(0);
    FILE listening[2], calling[5];
    ANSWER answers[2];
    ULONG i;

    (void)RegistryPath;
    for (i = 0; i < RTL_NUMBER_OF(listening); i++)
        listening[i] = OpenEndpoint(server);
    for (i = 0; i < RTL_NUMBER_OF(calling); i++)
        calling[i] = OpenEndpoint(client);

    CHECK_NUMBER(0, Connect(calling[1], STATUS_CONNECTION_REFUSED));
    Listen(listening[0], &answers[0]);
    CHECK_NUMBER(0, Connect(calling[0], STATUS_SUCCESS));
    CHECK_STATUS(STATUS_SUCCESS, Wait(&answers[0]));
    /* The server might listen again. When it has not for so long, the next one is refused at once. */
    CHECK_NUMBER(10, Connect(calling[1], STATUS_CONNECTION_REFUSED));
    CHECK_NUMBER(0, Connect(calling[1], STATUS_CONNECTION_REFUSED));
    /* Until it does. */
    Listen(listening[1], &answers[1]);
    CHECK_NUMBER(0, Connect(calling[2], STATUS_SUCCESS));
    CHECK_STATUS(STATUS_SUCCESS, Wait(&answers[1]));
    /* Whoever asks for the address's port gets one that a remote node knows. */
    CHECK(PortOf(calling[0]) != 0);
    CHECK_NUMBER(PortOf(calling[0]), PortOf(client));

    for (i = 0; i < RTL_NUMBER_OF(calling); i++)
        Close(calling[i]);
    for (i = 0; i < RTL_NUMBER_OF(listening); i++)
        Close(listening[i]);
    Close(client);
    Close(server);
}
