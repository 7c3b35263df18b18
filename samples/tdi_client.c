/*
 * A TDI client: fetches a page over HTTP and closes its connection, in every way a client can.
 *
 * What it does is set under its Parameters key:
 *   Host            server, IPv4 in dotted form                       127.0.0.1
 *   Port            server's TCP port                                 80
 *   Path            what to GET; empty sends no request               /
 *   Receive         request: TDI_RECEIVE after TDI_RECEIVE            request
 *                   event: ClientEventReceive and ClientEventDisconnect
 *   StopAfter       stop receiving after this many bytes; 0 never     0
 *   Close           closing path, see ClosingPaths below              disconnect
 *   Order           handle-first or reference-first, instead of the closing path's own order
 *   AddressFirst    1 closes the address before its endpoint          0
 *   PendingReceive  1 leaves a receive pending over the close         0
 *   Endpoints       endpoints that are open together                  1
 *   Threads         system threads that share the endpoints; with 0   0
 *                   DriverEntry does the work and returns its status
 *   Buffer          bytes of each endpoint's buffer                   65536
 *   Rounds          how often each thread repeats its work            1
 *   Timeout         limit for connecting, for each transfer and for   30000
 *                   the release of the connection, in milliseconds
 *
 * It prints a line per connection, unless there are many, and one at the end:
 *   tdi_client: connection 0: 1234 bytes, body 1000 bytes, fnv1a64 cbf29ce484222325
 *   tdi_client: done: 1 connections, 0 failed, 1000 body bytes
 */
#define DRIVER_NAME "tdi_client"
#include <stdio.h>

#include "common/parameters.h"
#include "common/response.h"
#include "common/tdi_requests.h"

#define BUFFER_BYTES_MAX 0x100000
#define TEXT_BYTES_MAX 256
#define ENDPOINTS_MAX 0x20000
#define THREADS_MAX 64
/* Above this many connections only the last line is printed. */
#define LINES_MAX 64

/* The ways to end a connection. What a path leaves out, the transport does by itself when the endpoint is closed. */
typedef struct _CLOSING_PATH {
    PCSTR Name;
    ULONG DisconnectFlags;  /* 0: close the live connection */
    BOOLEAN Disassociate;
    BOOLEAN Reassociate;    /* afterwards, with a second address */
    CLOSE_ORDER Order;
} CLOSING_PATH;

static const CLOSING_PATH ClosingPaths[] = {
    { "disconnect",      TDI_DISCONNECT_RELEASE, TRUE,  FALSE, ReferenceFirst },
    { "no-disconnect",   0,                      FALSE, FALSE, ReferenceFirst },
    { "disassociate",    0,                      TRUE,  FALSE, ReferenceFirst },
    { "reassociate",     TDI_DISCONNECT_RELEASE, TRUE,  TRUE,  ReferenceFirst },
    { "handle-first",    TDI_DISCONNECT_RELEASE, FALSE, FALSE, HandleFirst },
    { "reference-first", TDI_DISCONNECT_RELEASE, FALSE, FALSE, ReferenceFirst },
    { "abort",           TDI_DISCONNECT_ABORT,   FALSE, FALSE, ReferenceFirst },
};

/* What DriverEntry read; constant afterwards. */
typedef struct _SETTINGS {
    INTERNET_ADDRESS Remote;
    CHAR Request[2 * TEXT_BYTES_MAX + 64];
    ULONG RequestBytes;     /* 0: no request */
    BOOLEAN UseEvents;
    ULONG StopAfter;
    CLOSING_PATH Closing;
    BOOLEAN AddressFirst;
    BOOLEAN PendingReceive;
    ULONG Endpoints;
    ULONG Threads;
    ULONG Rounds;
    ULONG BufferBytes;
    LARGE_INTEGER Timeout;
} SETTINGS;

/* One endpoint with its address. Nonpaged, since event handlers use it, and freed only when both are closed. */
typedef struct _CONNECTION {
    ULONG Number;
    NTSTATUS Status;        /* the first failure */
    BOOLEAN Connected;
    TRANSPORT_FILE Address;
    TRANSPORT_FILE SecondAddress;
    TRANSPORT_FILE Endpoint;
    RESPONSE Response;
    PUCHAR Buffer;
    TRANSFER Pending;
    BOOLEAN ReceivePending;
    /* Of the event handlers. */
    KEVENT Ended;           /* no more data will be taken */
    volatile LONG CleanedUp;
    ULONG DisconnectFlags;
} CONNECTION, *PCONNECTION;

/* One thread's share of the endpoints. */
typedef struct _WORKER {
    PETHREAD Thread;
    ULONG First;
    ULONG Count;
} WORKER;

static SETTINGS Settings;
static WORKER Workers[THREADS_MAX];
static volatile LONG Failures;
static volatile LONG Connections;
static volatile LONG64 BodyBytes;

/* Remembers and prints a failure; the connection is closed as usual. */
static BOOLEAN Failed(PCONNECTION Connection, PCSTR Step, NTSTATUS Status)
{
    if (NT_SUCCESS(Status))
        return FALSE;
    Log("connection %u: %s failed with status %08x", Connection->Number, Step, Status);
    if (NT_SUCCESS(Connection->Status))
        Connection->Status = Status;
    return TRUE;
}

/* Event handlers. They run at DISPATCH_LEVEL, on any thread, until the endpoint's cleanup has ended. */

static void CheckNotCleanedUp(PCONNECTION Connection, PCSTR Handler)
{
    if (Connection->CleanedUp)
        Log("connection %u: %s called after cleanup", Connection->Number, Handler);
}

static BOOLEAN HasEnough(PCONNECTION Connection)
{
    return Settings.StopAfter != 0 && Connection->Response.Bytes >= Settings.StopAfter;
}

static NTSTATUS NTAPI ReceiveHandler(PVOID EventContext, CONNECTION_CONTEXT ConnectionContext, ULONG Flags,
                                     ULONG BytesIndicated, ULONG BytesAvailable, ULONG *BytesTaken, PVOID Data, PIRP *Irp)
{
    PCONNECTION connection = ConnectionContext;

    UNREFERENCED_PARAMETER(EventContext);
    UNREFERENCED_PARAMETER(Flags);
    UNREFERENCED_PARAMETER(BytesAvailable);
    CheckNotCleanedUp(connection, "receive handler");

    if (HasEnough(connection))
        return STATUS_DATA_NOT_ACCEPTED;
    AddToResponse(&connection->Response, Data, BytesIndicated);
    if (HasEnough(connection))
        KeSetEvent(&connection->Ended, IO_NETWORK_INCREMENT, FALSE);
    /* Less than BytesAvailable: the transport shows the rest in another call. */
    *BytesTaken = BytesIndicated;
    *Irp = NULL;
    return STATUS_SUCCESS;
}

static NTSTATUS NTAPI DisconnectHandler(PVOID EventContext, CONNECTION_CONTEXT ConnectionContext, LONG DataLength, PVOID Data,
                                        LONG InformationLength, PVOID Information, ULONG Flags)
{
    PCONNECTION connection = ConnectionContext;

    UNREFERENCED_PARAMETER(EventContext);
    UNREFERENCED_PARAMETER(DataLength);
    UNREFERENCED_PARAMETER(Data);
    UNREFERENCED_PARAMETER(InformationLength);
    UNREFERENCED_PARAMETER(Information);
    CheckNotCleanedUp(connection, "disconnect handler");

    connection->DisconnectFlags = Flags;
    KeSetEvent(&connection->Ended, IO_NETWORK_INCREMENT, FALSE);
    return STATUS_SUCCESS;
}

static NTSTATUS RegisterHandlers(PCONNECTION Connection)
{
    NTSTATUS status;

    if (!Settings.UseEvents)
        return STATUS_SUCCESS;
    status = SetEventHandler(&Connection->Address, TDI_EVENT_RECEIVE, ReceiveHandler, Connection);
    if (!NT_SUCCESS(status))
        return status;
    return SetEventHandler(&Connection->Address, TDI_EVENT_DISCONNECT, DisconnectHandler, Connection);
}

/* The steps of one connection. Each does nothing after a failure, except the last. */

static void OpenConnection(PCONNECTION Connection)
{
    KeInitializeEvent(&Connection->Ended, NotificationEvent, FALSE);
    InitializeResponse(&Connection->Response);
    Connection->Buffer = ExAllocatePoolWithTag(NonPagedPool, Settings.BufferBytes, SAMPLE_TAG);
    if (Connection->Buffer == NULL) {
        Failed(Connection, "buffer", STATUS_INSUFFICIENT_RESOURCES);
        return;
    }
    if (Failed(Connection, "open of address", OpenAddress(&Connection->Address)) ||
        Failed(Connection, "event handler", RegisterHandlers(Connection)) ||
        Failed(Connection, "open of endpoint", OpenEndpoint(&Connection->Endpoint, Connection)) ||
        Failed(Connection, "associate", AssociateAddress(&Connection->Endpoint, &Connection->Address)) ||
        Failed(Connection, "connect", Connect(&Connection->Endpoint, &Settings.Remote, Settings.Timeout)))
        return;
    Connection->Connected = TRUE;
}

static void SendRequest(PCONNECTION Connection)
{
    if (!NT_SUCCESS(Connection->Status) || Settings.RequestBytes == 0)
        return;
    RtlCopyMemory(Connection->Buffer, Settings.Request, Settings.RequestBytes);
    Failed(Connection, "send",
           Send(&Connection->Endpoint, Connection->Buffer, Settings.RequestBytes, Settings.Timeout));
}

/* With requests: a receive that succeeds with no bytes says that the peer has closed its side. */
static NTSTATUS ReceiveByRequests(PCONNECTION Connection)
{
    for (;;) {
        ULONG wanted = Settings.BufferBytes, count;
        NTSTATUS status;

        if (Settings.StopAfter != 0) {
            if (HasEnough(Connection))
                return STATUS_SUCCESS;
            wanted = (ULONG)min(Settings.BufferBytes, Settings.StopAfter - Connection->Response.Bytes);
        }
        status = Receive(&Connection->Endpoint, Connection->Buffer, wanted, Settings.Timeout, &count);
        if (!NT_SUCCESS(status) || count == 0)
            return status;
        AddToResponse(&Connection->Response, Connection->Buffer, count);
    }
}

/* With events: the handlers do the work and say when it is over. */
static NTSTATUS ReceiveByEvents(PCONNECTION Connection)
{
    NTSTATUS status = KeWaitForSingleObject(&Connection->Ended, Executive, KernelMode, FALSE, &Settings.Timeout);

    if (status == STATUS_TIMEOUT)
        return STATUS_IO_TIMEOUT;
    return Connection->DisconnectFlags & TDI_DISCONNECT_ABORT ? STATUS_CONNECTION_RESET : STATUS_SUCCESS;
}

static void ReceiveResponse(PCONNECTION Connection)
{
    NTSTATUS status;

    if (!NT_SUCCESS(Connection->Status) || Settings.RequestBytes == 0)
        return;
    status = Settings.UseEvents ? ReceiveByEvents(Connection) : ReceiveByRequests(Connection);
    Failed(Connection, "receive", status);
}

static void LeaveReceivePending(PCONNECTION Connection)
{
    NTSTATUS status;

    if (!NT_SUCCESS(Connection->Status) || !Settings.PendingReceive)
        return;
    status = StartReceive(&Connection->Endpoint, &Connection->Pending, Connection->Buffer, Settings.BufferBytes);
    if (!Failed(Connection, "pending receive", status))
        Connection->ReceivePending = TRUE;
}

/* Closing the endpoint has ended the request, whatever its status: its completion routine has already run. */
static void FinishPendingReceive(PCONNECTION Connection)
{
    static LARGE_INTEGER now; /* a due time of 0: only look */
    ULONG count;
    NTSTATUS status;

    if (!Connection->ReceivePending)
        return;
    if (KeWaitForSingleObject(&Connection->Pending.Done, Executive, KernelMode, FALSE, &now) == STATUS_TIMEOUT)
        Failed(Connection, "end of pending receive", STATUS_UNSUCCESSFUL);
    status = FinishTransfer(&Connection->Pending, Settings.Timeout, &count);
    Connection->ReceivePending = FALSE;
    Log("connection %u: pending receive ended with status %08x, %u bytes", Connection->Number, status, count);
}

/* Disconnects, disassociates and re-associates as the closing path says. */
static void EndConnection(PCONNECTION Connection)
{
    const CLOSING_PATH *closing = &Settings.Closing;

    if (!Connection->Connected)
        return;
    if (closing->DisconnectFlags != 0)
        Failed(Connection, "disconnect",
               Disconnect(&Connection->Endpoint, closing->DisconnectFlags, Settings.Timeout));
    if (closing->Disassociate) {
        NTSTATUS status = DisassociateAddress(&Connection->Endpoint);

        /* A transport may refuse this while the connection is alive; closing the endpoint does it then. */
        if (closing->DisconnectFlags != 0)
            Failed(Connection, "disassociate", status);
    }
    if (closing->Reassociate && !Failed(Connection, "open of second address", OpenAddress(&Connection->SecondAddress)))
        Failed(Connection, "second associate",
               AssociateAddress(&Connection->Endpoint, &Connection->SecondAddress));
}

static void CloseConnection(PCONNECTION Connection)
{
    CLOSE_ORDER order = Settings.Closing.Order;

    EndConnection(Connection);
    if (Settings.AddressFirst)
        CloseTransportFile(&Connection->Address, order);
    CloseTransportFile(&Connection->Endpoint, order);
    InterlockedExchange(&Connection->CleanedUp, TRUE);
    FinishPendingReceive(Connection);
    CloseTransportFile(&Connection->SecondAddress, order);
    CloseTransportFile(&Connection->Address, order);
    if (Connection->Buffer != NULL)
        ExFreePoolWithTag(Connection->Buffer, SAMPLE_TAG);
}

static void ReportConnection(PCONNECTION Connection)
{
    const RESPONSE *response = &Connection->Response;

    InterlockedIncrement(&Connections);
    InterlockedExchangeAdd64(&BodyBytes, response->BodyBytes);
    if (!NT_SUCCESS(Connection->Status))
        InterlockedIncrement(&Failures);
    if (Settings.Endpoints * Settings.Rounds <= LINES_MAX)
        Log("connection %u: %I64u bytes, body %I64u bytes, fnv1a64 %016I64x", Connection->Number, response->Bytes,
            response->BodyBytes, response->BodySum);
}

/* Runs Count connections side by side, step by step. Returns the first failure. */
static NTSTATUS RunConnections(ULONG First, ULONG Count)
{
    NTSTATUS status = STATUS_SUCCESS;
    PCONNECTION connections;
    ULONG i;

    connections = ExAllocatePoolWithTag(NonPagedPool, Count * sizeof(*connections), SAMPLE_TAG);
    if (connections == NULL)
        return STATUS_INSUFFICIENT_RESOURCES;
    RtlZeroMemory(connections, Count * sizeof(*connections));
    for (i = 0; i < Count; i++) {
        connections[i].Number = First + i;
        OpenConnection(&connections[i]);
    }
    for (i = 0; i < Count; i++)
        SendRequest(&connections[i]);
    for (i = 0; i < Count; i++)
        ReceiveResponse(&connections[i]);
    for (i = 0; i < Count; i++)
        LeaveReceivePending(&connections[i]);
    for (i = 0; i < Count; i++) {
        CloseConnection(&connections[i]);
        ReportConnection(&connections[i]);
        if (NT_SUCCESS(status))
            status = connections[i].Status;
    }
    ExFreePoolWithTag(connections, SAMPLE_TAG);
    return status;
}

static NTSTATUS RunRounds(ULONG First, ULONG Count)
{
    NTSTATUS status = STATUS_SUCCESS;
    ULONG round;

    for (round = 0; round < Settings.Rounds && NT_SUCCESS(status); round++)
        status = RunConnections(First, Count);
    return status;
}

static void ReportEnd(void)
{
    Log("done: %d connections, %d failed, %I64d body bytes", Connections, Failures, BodyBytes);
}

/* Threads */

static void NTAPI WorkerThread(PVOID Context)
{
    WORKER *worker = Context;

    PsTerminateSystemThread(RunRounds(worker->First, worker->Count));
}

/* Shares the endpoints out evenly; the first threads take what is left over. */
static NTSTATUS StartThreads(void)
{
    ULONG first = 0, i;

    for (i = 0; i < Settings.Threads; i++) {
        WORKER *worker = &Workers[i];
        HANDLE handle;
        NTSTATUS status;

        worker->First = first;
        worker->Count = Settings.Endpoints / Settings.Threads + (i < Settings.Endpoints % Settings.Threads);
        first += worker->Count;
        status = PsCreateSystemThread(&handle, THREAD_ALL_ACCESS, NULL, NULL, NULL, WorkerThread, worker);
        if (!NT_SUCCESS(status))
            return status;
        /* Waiting needs the object, not the handle. */
        status = ObReferenceObjectByHandle(handle, SYNCHRONIZE, *PsThreadType, KernelMode, (PVOID *)&worker->Thread, NULL);
        ZwClose(handle);
        if (!NT_SUCCESS(status))
            return status;
    }
    return STATUS_SUCCESS;
}

/* A driver must not leave memory while one of its threads runs. */
static void WaitForThreads(void)
{
    ULONG i;

    for (i = 0; i < Settings.Threads; i++) {
        if (Workers[i].Thread == NULL)
            continue;
        KeWaitForSingleObject(Workers[i].Thread, Executive, KernelMode, FALSE, NULL);
        ObDereferenceObject(Workers[i].Thread);
        Workers[i].Thread = NULL;
    }
    ReportEnd();
}

/* Settings */

static BOOLEAN ChooseClosingPath(PCSTR Name, PCSTR Order)
{
    ULONG i;

    for (i = 0; i < RTL_NUMBER_OF(ClosingPaths); i++) {
        if (strcmp(ClosingPaths[i].Name, Name) != 0)
            continue;
        Settings.Closing = ClosingPaths[i];
        if (strcmp(Order, "handle-first") == 0)
            Settings.Closing.Order = HandleFirst;
        else if (strcmp(Order, "reference-first") == 0)
            Settings.Closing.Order = ReferenceFirst;
        else
            return *Order == '\0';
        return TRUE;
    }
    return FALSE;
}

static BOOLEAN BuildRequest(PCSTR Host, PCSTR Path)
{
    int length;

    if (*Path == '\0')
        return TRUE;
    length = _snprintf(Settings.Request, sizeof(Settings.Request),
                       "GET %s HTTP/1.0\r\nHost: %s\r\nConnection: close\r\n\r\n", Path, Host);
    if (length < 0)
        return FALSE;
    Settings.RequestBytes = (ULONG)length;
    return TRUE;
}

static NTSTATUS ReadSettings(PCUNICODE_STRING RegistryPath)
{
    CHAR host[TEXT_BYTES_MAX], path[TEXT_BYTES_MAX], receive[TEXT_BYTES_MAX], close[TEXT_BYTES_MAX], order[TEXT_BYTES_MAX];
    HANDLE key = OpenParameters(RegistryPath);

    ReadText(key, L"Host", host, sizeof(host), "127.0.0.1");
    ReadText(key, L"Path", path, sizeof(path), "/");
    ReadText(key, L"Receive", receive, sizeof(receive), "request");
    ReadText(key, L"Close", close, sizeof(close), "disconnect");
    ReadText(key, L"Order", order, sizeof(order), "");
    Settings.Remote.Port = (USHORT)ReadNumber(key, L"Port", 80);
    Settings.StopAfter = ReadNumber(key, L"StopAfter", 0);
    Settings.AddressFirst = ReadNumber(key, L"AddressFirst", 0) != 0;
    Settings.PendingReceive = ReadNumber(key, L"PendingReceive", 0) != 0;
    Settings.Threads = min(ReadNumber(key, L"Threads", 0), THREADS_MAX);
    Settings.Endpoints = min(max(ReadNumber(key, L"Endpoints", 1), max(Settings.Threads, 1)), ENDPOINTS_MAX);
    Settings.Rounds = ReadNumber(key, L"Rounds", 1);
    /* The request is sent from it, too. */
    Settings.BufferBytes = max(min(ReadNumber(key, L"Buffer", 0x10000), BUFFER_BYTES_MAX), sizeof(Settings.Request));
    Settings.Timeout = Milliseconds(ReadNumber(key, L"Timeout", 30000));
    CloseParameters(key);

    Settings.UseEvents = strcmp(receive, "event") == 0;
    if (!ParseIpAddress(host, &Settings.Remote.Address)) {
        Log("Host is no IPv4 address: %s", host);
        return STATUS_INVALID_PARAMETER;
    }
    if (!Settings.UseEvents && strcmp(receive, "request") != 0) {
        Log("Receive is neither request nor event: %s", receive);
        return STATUS_INVALID_PARAMETER;
    }
    if (!ChooseClosingPath(close, order)) {
        Log("no closing path has the name %s, or no order the name %s", close, order);
        return STATUS_INVALID_PARAMETER;
    }
    if (!BuildRequest(host, path)) {
        Log("Path is too long");
        return STATUS_INVALID_PARAMETER;
    }
    return STATUS_SUCCESS;
}

static void NTAPI Unload(PDRIVER_OBJECT Driver)
{
    UNREFERENCED_PARAMETER(Driver);
    if (Settings.Threads > 0)
        WaitForThreads();
}

NTSTATUS NTAPI DriverEntry(PDRIVER_OBJECT Driver, PUNICODE_STRING RegistryPath)
{
    NTSTATUS status;

    Driver->DriverUnload = Unload;
    status = ReadSettings(RegistryPath);
    if (!NT_SUCCESS(status))
        return status;
    if (Settings.Threads == 0) {
        status = RunRounds(0, Settings.Endpoints);
        ReportEnd();
        return status;
    }
    status = StartThreads();
    if (!NT_SUCCESS(status)) {
        Log("a thread could not be started: status %08x", status);
        WaitForThreads(); /* Unload is not called after a failure. */
    }
    return status;
}
