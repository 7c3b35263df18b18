/*
 * A TDI datagram client: asks a UDP server, again where no answer comes, and compares what it sends back.
 *
 * What it does is set under its Parameters key:
 *   Host      server, IPv4 in dotted form                              127.0.0.1
 *   Port      server's UDP port                                        7
 *   Receive   request: a TDI_RECEIVE_DATAGRAM that waits               request
 *             event: ClientEventReceiveDatagram takes the bytes
 *             handover: ClientEventReceiveDatagram hands over an IRP
 *   Queries   how many                                                 1
 *   Bytes     length of each, 4 to 65507                               64
 *   Attempts  how often each is sent at most                           5
 *   Timeout   how long to wait after each attempt, in milliseconds     1000
 *
 * It prints its port, and at the end what came of it:
 *   tdi_datagram: port 49152
 *   tdi_datagram: done: 1 of 1 queries answered, 0 sent again, 0 other datagrams
 *
 * Worth a look before copying:
 *   - A datagram for which nobody waits is gone: the receive comes before the send.
 *   - Anything may arrive: late answers, answers twice, datagrams of strangers. An answer counts if it comes from the server
 *     and begins with the number of the query.
 */
#define DRIVER_NAME "tdi_datagram"
#include "common/parameters.h"
#include "common/tdi_datagrams.h"

#define BYTES_MIN sizeof(ULONG)
#define BYTES_MAX 65507 /* the longest that UDP carries over IPv4 */
#define TEXT_BYTES_MAX 256

static struct {
    INTERNET_ADDRESS Server;
    BOOLEAN UseEvents;
    BOOLEAN HandOver;
    ULONG Queries;
    ULONG Bytes;
    ULONG Attempts;
    LARGE_INTEGER Timeout;
} Settings;

/*
 * The datagram that is waited for. With events, Wanted passes it from the thread to the handler: whoever changes it to FALSE owns
 * the rest. The handler may run on several CPUs at once; the first call gets it, the others refuse their datagrams.
 */
static struct {
    DATAGRAM Datagram;
    volatile LONG Wanted;
    BOOLEAN Copied;         /* by the handler; otherwise the transport has filled the IRP */
    ULONG Count;
    INTERNET_ADDRESS Sender;
} Next;

static TRANSPORT_FILE Address;
static PUCHAR Query;
static PUCHAR Answer;
static ULONG Answered;
static ULONG SentAgain;
static ULONG Others;

/* Runs at DISPATCH_LEVEL, on any thread. */
static NTSTATUS NTAPI ReceiveDatagramHandler(PVOID EventContext, LONG SourceAddressLength, PVOID SourceAddress,
                                             LONG OptionsLength, PVOID Options, ULONG Flags, ULONG BytesIndicated,
                                             ULONG BytesAvailable, ULONG *BytesTaken, PVOID Tsdu, PIRP *Irp)
{
    UNREFERENCED_PARAMETER(EventContext);
    UNREFERENCED_PARAMETER(OptionsLength);
    UNREFERENCED_PARAMETER(Options);
    UNREFERENCED_PARAMETER(Flags);

    if (!InterlockedExchange(&Next.Wanted, FALSE))
        return STATUS_DATA_NOT_ACCEPTED;
    if (Settings.HandOver || BytesIndicated < BytesAvailable) {
        /* It does not go through IoCallDriver, which would do this. */
        IoSetNextIrpStackLocation(Next.Datagram.Transfer.Irp);
        *Irp = Next.Datagram.Transfer.Irp;
        return STATUS_MORE_PROCESSING_REQUIRED;
    }
    Next.Copied = TRUE;
    Next.Count = min(BytesIndicated, BYTES_MAX);
    RtlCopyMemory(Answer, Tsdu, Next.Count);
    if (!ReadIpAddress(SourceAddress, (ULONG)SourceAddressLength, &Next.Sender))
        RtlZeroMemory(&Next.Sender, sizeof(Next.Sender));
    *BytesTaken = BytesIndicated;
    KeSetEvent(&Next.Datagram.Transfer.Done, IO_NETWORK_INCREMENT, FALSE);
    return STATUS_SUCCESS;
}

/* Begins to wait for a datagram. After a success TakeDatagram must be called. */
static NTSTATUS WantDatagram(void)
{
    NTSTATUS status;

    Next.Copied = FALSE;
    if (!Settings.UseEvents)
        return StartReceiveDatagram(&Address, &Next.Datagram, Answer, BYTES_MAX);
    status = PrepareReceiveDatagram(&Address, &Next.Datagram, Answer, BYTES_MAX);
    if (NT_SUCCESS(status))
        InterlockedExchange(&Next.Wanted, TRUE);
    return status;
}

/* Waits for it until then. After that either nobody else has it any more, or it is about to come. */
static NTSTATUS TakeDatagram(LARGE_INTEGER DueTime)
{
    NTSTATUS status;

    if (Settings.UseEvents) {
        status = KeWaitForSingleObject(&Next.Datagram.Transfer.Done, Executive, KernelMode, FALSE, &DueTime);
        if (status == STATUS_TIMEOUT && InterlockedExchange(&Next.Wanted, FALSE)) {
            DiscardTransfer(&Next.Datagram.Transfer);
            return STATUS_IO_TIMEOUT;
        }
        if (status == STATUS_TIMEOUT)
            KeWaitForSingleObject(&Next.Datagram.Transfer.Done, Executive, KernelMode, FALSE, NULL);
        if (Next.Copied) {
            DiscardTransfer(&Next.Datagram.Transfer);
            return STATUS_SUCCESS;
        }
    }
    status = FinishTransfer(&Next.Datagram.Transfer, DueTime, &Next.Count);
    if (status == STATUS_CANCELLED)
        return STATUS_IO_TIMEOUT;
    if (!ReadIpAddress(&Next.Datagram.RemoteAddress, sizeof(Next.Datagram.RemoteAddress), &Next.Sender))
        RtlZeroMemory(&Next.Sender, sizeof(Next.Sender));
    return status;
}

/* The number of the query, and behind it bytes that differ from query to query. */
static void WriteQuery(ULONG Number)
{
    ULONG i;

    for (i = 0; i < Settings.Bytes; i++)
        Query[i] = (UCHAR)(Number + i);
    RtlCopyMemory(Query, &Number, sizeof(Number));
}

static BOOLEAN IsAnswer(void)
{
    return Next.Sender.Address == Settings.Server.Address && Next.Sender.Port == Settings.Server.Port &&
           Next.Count == Settings.Bytes && RtlEqualMemory(Answer, Query, Settings.Bytes);
}

/* Sends the query once and waits for its answer. */
static NTSTATUS Attempt(void)
{
    static LARGE_INTEGER now; /* a due time of 0: only look */
    LARGE_INTEGER deadline;
    NTSTATUS status = WantDatagram();

    if (!NT_SUCCESS(status))
        return status;
    status = SendDatagram(&Address, &Settings.Server, Query, Settings.Bytes, Settings.Timeout);
    if (!NT_SUCCESS(status)) {
        Log("send failed with status %08x", status);
        TakeDatagram(now);
        return status;
    }
    /* A point in time, not a duration: other datagrams must not prolong it. */
    KeQuerySystemTime(&deadline);
    deadline.QuadPart -= Settings.Timeout.QuadPart;
    for (;;) {
        status = TakeDatagram(deadline);
        if (!NT_SUCCESS(status) || IsAnswer())
            return status;
        Others++;
        status = WantDatagram();
        if (!NT_SUCCESS(status))
            return status;
    }
}

static NTSTATUS Ask(ULONG Number)
{
    NTSTATUS status = STATUS_IO_TIMEOUT;
    ULONG attempt;

    WriteQuery(Number);
    for (attempt = 0; attempt < Settings.Attempts && status == STATUS_IO_TIMEOUT; attempt++) {
        if (attempt > 0)
            SentAgain++;
        status = Attempt();
    }
    if (NT_SUCCESS(status))
        Answered++;
    else
        Log("query %u: no answer: status %08x", Number, status);
    return status;
}

static NTSTATUS OpenClient(void)
{
    static const INTERNET_ADDRESS any = { 0, 0 };
    USHORT port;
    NTSTATUS status;

    Query = ExAllocatePoolWithTag(NonPagedPool, BYTES_MAX, SAMPLE_TAG);
    Answer = ExAllocatePoolWithTag(NonPagedPool, BYTES_MAX, SAMPLE_TAG);
    if (Query == NULL || Answer == NULL)
        return STATUS_INSUFFICIENT_RESOURCES;
    status = OpenDatagramAddressAt(&Address, &any);
    if (!NT_SUCCESS(status))
        return status;
    if (Settings.UseEvents) {
        status = SetEventHandler(&Address, TDI_EVENT_RECEIVE_DATAGRAM, ReceiveDatagramHandler, NULL);
        if (!NT_SUCCESS(status))
            return status;
    }
    status = QueryPort(&Address, &port);
    if (NT_SUCCESS(status))
        Log("port %u", port);
    return status;
}

/* Closing the address waits for a handler that is running, so the buffers go last. */
static void CloseClient(void)
{
    CloseTransportFile(&Address, ReferenceFirst);
    if (Answer != NULL)
        ExFreePoolWithTag(Answer, SAMPLE_TAG);
    if (Query != NULL)
        ExFreePoolWithTag(Query, SAMPLE_TAG);
}

static NTSTATUS RunClient(void)
{
    NTSTATUS status = OpenClient();
    ULONG number;

    if (!NT_SUCCESS(status))
        Log("the address could not be opened: status %08x", status);
    for (number = 0; number < Settings.Queries && NT_SUCCESS(status); number++)
        status = Ask(number);
    CloseClient();
    Log("done: %u of %u queries answered, %u sent again, %u other datagrams", Answered, Settings.Queries, SentAgain, Others);
    return status;
}

static NTSTATUS ReadSettings(PCUNICODE_STRING RegistryPath)
{
    HANDLE key = OpenParameters(RegistryPath);
    CHAR host[TEXT_BYTES_MAX], receive[TEXT_BYTES_MAX];

    ReadText(key, L"Host", host, sizeof(host), "127.0.0.1");
    ReadText(key, L"Receive", receive, sizeof(receive), "request");
    Settings.Server.Port = (USHORT)ReadNumber(key, L"Port", 7);
    Settings.Queries = ReadNumber(key, L"Queries", 1);
    Settings.Bytes = min(max(ReadNumber(key, L"Bytes", 64), BYTES_MIN), BYTES_MAX);
    Settings.Attempts = ReadNumber(key, L"Attempts", 5);
    Settings.Timeout = Milliseconds(ReadNumber(key, L"Timeout", 1000));
    CloseParameters(key);

    Settings.HandOver = strcmp(receive, "handover") == 0;
    Settings.UseEvents = Settings.HandOver || strcmp(receive, "event") == 0;
    if (!ParseIpAddress(host, &Settings.Server.Address)) {
        Log("Host is no IPv4 address: %s", host);
        return STATUS_INVALID_PARAMETER;
    }
    if (!Settings.UseEvents && strcmp(receive, "request") != 0) {
        Log("Receive is neither request nor event nor handover: %s", receive);
        return STATUS_INVALID_PARAMETER;
    }
    return STATUS_SUCCESS;
}

static void NTAPI Unload(PDRIVER_OBJECT Driver)
{
    UNREFERENCED_PARAMETER(Driver);
}

NTSTATUS NTAPI DriverEntry(PDRIVER_OBJECT Driver, PUNICODE_STRING RegistryPath)
{
    NTSTATUS status;

    Driver->DriverUnload = Unload;
    status = ReadSettings(RegistryPath);
    if (!NT_SUCCESS(status))
        return status;
    return RunClient();
}
