/*
 * A TDI server: sends back whatever it receives, on many connections at once.
 *
 * What it does is set under its Parameters key:
 *   Port         TCP port; with 0 the transport chooses              7
 *   Accept       event: ClientEventConnect                           event
 *                listen: a TDI_LISTEN pending on every free endpoint
 *   Endpoints    endpoints opened and associated in advance, so      16
 *                the most connections at once
 *   Connections  how many connections to serve before unloading      1
 *   Together     send nothing back before so many have been accepted 1
 *   Buffer       bytes of each endpoint's buffer                     16384
 *   Timeout      how long Unload waits for them, in milliseconds     30000
 *
 * It prints the port, and at the end what it served:
 *   tdi_server: port 7
 *   tdi_server: done: 1 connections, 1000 bytes sent back, 1 at once at most
 *
 * Worth a look before copying:
 *   - Every endpoint has one IRP, sent again and again. Requests may complete within IoCallDriver, so a completion routine that
 *     sent the next request itself could recurse until the stack is gone; see Run.
 *   - Unload closes the handles first, waits until the sessions have come to rest, and only then drops the references: a session
 *     may be about to send a request when its handle goes, and needs the file object until it has seen that request fail.
 */
#define DRIVER_NAME "tdi_server"
#include "common/parameters.h"
#include "common/tdi_requests.h"

#define BUFFER_BYTES_MAX 0x100000
#define ENDPOINTS_MAX 0x20000
#define TEXT_BYTES_MAX 32

/* What a session's IRP is doing, or is to do next. */
typedef enum _STEP {
    StepIdle,       /* nothing: waits for ClientEventConnect, or has come to its end */
    StepListen,
    StepAccept,     /* the transport has the IRP, by ClientEventConnect */
    StepReceive,
    StepGather,     /* waits in GatheringSessions until enough connections have been accepted */
    StepSend,
    StepRelease,
    StepAbort,
} STEP;

/* One endpoint and its connection. Nonpaged: used in completion routines and event handlers. */
typedef struct _SESSION {
    LIST_ENTRY Link;        /* in FreeSessions or GatheringSessions */
    TRANSPORT_FILE Endpoint;
    PIRP Irp;
    PMDL Mdl;
    PUCHAR Buffer;
    ULONG Length;           /* bytes to send */
    STEP Step;
    volatile LONG Parties;  /* see Run */
    KEVENT Idle;
} SESSION, *PSESSION;

static struct {
    INTERNET_ADDRESS Local;
    BOOLEAN UseEvents;
    ULONG Endpoints;
    LONG Connections;
    LONG Together;
    ULONG BufferBytes;
    LARGE_INTEGER Timeout;
} Settings;

static TRANSPORT_FILE Address;
static PSESSION Sessions;
static LIST_ENTRY FreeSessions;     /* guarded by ListLock */
static LIST_ENTRY GatheringSessions; /* guarded by ListLock */
static KSPIN_LOCK ListLock;
static volatile LONG Accepted;
static volatile LONG Ended;
static volatile LONG Open;          /* accepted and not ended */
static volatile LONG MostOpen;
static volatile LONG64 BytesSentBack;
static volatile BOOLEAN Stopping;   /* written under ListLock */
static KEVENT Finished;             /* the connections asked for have been served */

/* Sessions */

static void RestSession(PSESSION Session)
{
    KIRQL irql;

    KeAcquireSpinLock(&ListLock, &irql);
    if (Settings.UseEvents && !Stopping)
        InsertTailList(&FreeSessions, &Session->Link);
    KeReleaseSpinLock(&ListLock, irql);
    KeSetEvent(&Session->Idle, IO_NO_INCREMENT, FALSE);
}

static void Run(PSESSION Session);

static PSESSION TakeFirst(PLIST_ENTRY List)
{
    return IsListEmpty(List) ? NULL : CONTAINING_RECORD(RemoveHeadList(List), SESSION, Link);
}

/* Whether the session has to wait for other connections; then it is in the list, and perhaps already on its way again. */
static BOOLEAN Gather(PSESSION Session)
{
    BOOLEAN waits;
    KIRQL irql;

    KeAcquireSpinLock(&ListLock, &irql);
    waits = Accepted < Settings.Together && !Stopping;
    if (waits)
        InsertTailList(&GatheringSessions, &Session->Link);
    else
        Session->Step = StepSend;
    KeReleaseSpinLock(&ListLock, irql);
    return waits;
}

static void ReleaseGathered(void)
{
    PSESSION session;
    KIRQL irql;

    for (;;) {
        KeAcquireSpinLock(&ListLock, &irql);
        session = TakeFirst(&GatheringSessions);
        KeReleaseSpinLock(&ListLock, irql);
        if (session == NULL)
            return;
        session->Step = StepSend;
        Run(session);
    }
}

static STEP BeginConnection(void)
{
    LONG open = InterlockedIncrement(&Open), most;

    do
        most = MostOpen;
    while (open > most && InterlockedCompareExchange(&MostOpen, open, most) != most);
    if (InterlockedIncrement(&Accepted) == Settings.Together)
        ReleaseGathered();
    return StepReceive;
}

static STEP AfterConnection(void)
{
    InterlockedDecrement(&Open);
    if (InterlockedIncrement(&Ended) == Settings.Connections)
        KeSetEvent(&Finished, IO_NO_INCREMENT, FALSE);
    return Stopping || Settings.UseEvents ? StepIdle : StepListen;
}

/* Whether a listen failed because whoever connected has gone before the connection was up. */
static BOOLEAN WasOfferLost(NTSTATUS Status)
{
    return Status == STATUS_CONNECTION_RESET || Status == STATUS_CONNECTION_ABORTED || Status == STATUS_IO_TIMEOUT;
}

/* What follows the step that ended. The endpoint stays associated throughout, and takes the next connection when this one is over. */
static STEP NextStep(PSESSION Session, NTSTATUS Status, ULONG_PTR Information)
{
    switch (Session->Step) {
    case StepListen:
        if (!NT_SUCCESS(Status))
            return WasOfferLost(Status) && !Stopping ? StepListen : StepIdle;
        return BeginConnection();
    case StepAccept:
        return NT_SUCCESS(Status) ? BeginConnection() : StepIdle;
    case StepReceive:
        if (!NT_SUCCESS(Status))
            return StepAbort;
        Session->Length = (ULONG)Information;
        return Information == 0 ? StepRelease : StepGather;
    case StepSend:
        if (!NT_SUCCESS(Status))
            return StepAbort;
        InterlockedExchangeAdd64(&BytesSentBack, Session->Length);
        return StepReceive;
    case StepRelease:
        /* The peer may have gone meanwhile: then there is still the abort to make sure. */
        return NT_SUCCESS(Status) ? AfterConnection() : StepAbort;
    case StepAbort:
        return AfterConnection();
    default:
        return StepIdle;
    }
}

/* Runs at DISPATCH_LEVEL or below, on any thread, also before IoCallDriver has returned. */
static NTSTATUS NTAPI StepDone(PDEVICE_OBJECT Device, PIRP Irp, PVOID Context)
{
    PSESSION session = Context;

    UNREFERENCED_PARAMETER(Device);
    session->Step = NextStep(session, Irp->IoStatus.Status, Irp->IoStatus.Information);
    if (InterlockedDecrement(&session->Parties) == 0)
        Run(session);
    return STATUS_MORE_PROCESSING_REQUIRED;
}

static void SendStep(PSESSION Session)
{
    PTRANSPORT_FILE endpoint = &Session->Endpoint;
    PIRP irp = Session->Irp;

    IoReuseIrp(irp, STATUS_SUCCESS);
    switch (Session->Step) {
    case StepListen:
        TdiBuildListen(irp, endpoint->Device, endpoint->File, NULL, NULL, 0, NULL, NULL);
        break;
    case StepReceive:
        TdiBuildReceive(irp, endpoint->Device, endpoint->File, NULL, NULL, Session->Mdl, TDI_RECEIVE_NORMAL,
                        Settings.BufferBytes);
        break;
    case StepSend:
        TdiBuildSend(irp, endpoint->Device, endpoint->File, NULL, NULL, Session->Mdl, 0, Session->Length);
        break;
    default:
        TdiBuildDisconnect(irp, endpoint->Device, endpoint->File, NULL, NULL, NULL,
                           Session->Step == StepRelease ? TDI_DISCONNECT_RELEASE : TDI_DISCONNECT_ABORT, NULL, NULL);
        break;
    }
    IoSetCompletionRoutine(irp, StepDone, Session, TRUE, TRUE, TRUE);
    IoCallDriver(endpoint->Device, irp);
}

/*
 * Sends steps until one stays pending. Two parties take part in each step: whoever sends it, until IoCallDriver has returned, and its
 * completion routine. The last of the two goes on: a request that completed at once is followed by the next in this loop, one
 * that completes later by the completion routine. The stack stays as deep as one request.
 */
static void Run(PSESSION Session)
{
    do {
        if (Session->Step == StepIdle) {
            RestSession(Session);
            return;
        }
        if (Session->Step == StepGather && Gather(Session))
            return;
        Session->Parties = 2;
        SendStep(Session);
    } while (InterlockedDecrement(&Session->Parties) == 0);
}

/* Connections offered */

static PSESSION TakeFreeSession(void)
{
    PSESSION session;

    /* The transport calls event handlers at DISPATCH_LEVEL. */
    KeAcquireSpinLockAtDpcLevel(&ListLock);
    session = Stopping ? NULL : TakeFirst(&FreeSessions);
    if (session != NULL)
        KeClearEvent(&session->Idle);
    KeReleaseSpinLockFromDpcLevel(&ListLock);
    return session;
}

static NTSTATUS NTAPI ConnectHandler(PVOID EventContext, LONG RemoteAddressLength, PVOID RemoteAddress, LONG UserDataLength,
                                     PVOID UserData, LONG OptionsLength, PVOID Options, CONNECTION_CONTEXT *ConnectionContext,
                                     PIRP *AcceptIrp)
{
    PSESSION session = TakeFreeSession();
    PTRANSPORT_FILE endpoint;

    UNREFERENCED_PARAMETER(EventContext);
    UNREFERENCED_PARAMETER(RemoteAddressLength);
    UNREFERENCED_PARAMETER(RemoteAddress);
    UNREFERENCED_PARAMETER(UserDataLength);
    UNREFERENCED_PARAMETER(UserData);
    UNREFERENCED_PARAMETER(OptionsLength);
    UNREFERENCED_PARAMETER(Options);

    if (session == NULL) {
        *ConnectionContext = NULL;
        *AcceptIrp = NULL;
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    endpoint = &session->Endpoint;
    session->Step = StepAccept;
    session->Parties = 1; /* The transport sends this step, after we have returned. */
    IoReuseIrp(session->Irp, STATUS_SUCCESS);
    TdiBuildAccept(session->Irp, endpoint->Device, endpoint->File, NULL, NULL, NULL, NULL);
    IoSetCompletionRoutine(session->Irp, StepDone, session, TRUE, TRUE, TRUE);
    /* It does not go through IoCallDriver, which would do this. */
    IoSetNextIrpStackLocation(session->Irp);
    *ConnectionContext = session;
    *AcceptIrp = session->Irp;
    return STATUS_MORE_PROCESSING_REQUIRED;
}

/* Setting up and tearing down */

static NTSTATUS OpenSession(PSESSION Session)
{
    NTSTATUS status;

    KeInitializeEvent(&Session->Idle, NotificationEvent, TRUE);
    status = OpenEndpoint(&Session->Endpoint, Session);
    if (!NT_SUCCESS(status))
        return status;
    status = AssociateAddress(&Session->Endpoint, &Address);
    if (!NT_SUCCESS(status))
        return status;
    Session->Irp = IoAllocateIrp(Session->Endpoint.Device->StackSize, FALSE);
    Session->Buffer = ExAllocatePoolWithTag(NonPagedPool, Settings.BufferBytes, SAMPLE_TAG);
    if (Session->Irp == NULL || Session->Buffer == NULL)
        return STATUS_INSUFFICIENT_RESOURCES;
    Session->Mdl = IoAllocateMdl(Session->Buffer, Settings.BufferBytes, FALSE, FALSE, NULL);
    if (Session->Mdl == NULL)
        return STATUS_INSUFFICIENT_RESOURCES;
    MmBuildMdlForNonPagedPool(Session->Mdl);

    Session->Step = Settings.UseEvents ? StepIdle : StepListen;
    KeClearEvent(&Session->Idle);
    Run(Session);
    return STATUS_SUCCESS;
}

static void CloseSession(PSESSION Session)
{
    if (Session->Endpoint.File == NULL)
        return;
    /* The transport ends the connection and the pending request; requests from now on fail, so the session comes to rest. */
    ZwClose(Session->Endpoint.Handle);
    KeWaitForSingleObject(&Session->Idle, Executive, KernelMode, FALSE, NULL);
    ObDereferenceObject(Session->Endpoint.File);
    if (Session->Mdl != NULL)
        IoFreeMdl(Session->Mdl);
    if (Session->Irp != NULL)
        IoFreeIrp(Session->Irp);
    if (Session->Buffer != NULL)
        ExFreePoolWithTag(Session->Buffer, SAMPLE_TAG);
}

static void StopServer(void)
{
    KIRQL irql;
    ULONG i;

    /* Once this lock is released, an offer has either taken its session, which is then not idle, or takes none. */
    KeAcquireSpinLock(&ListLock, &irql);
    Stopping = TRUE;
    KeReleaseSpinLock(&ListLock, irql);
    ReleaseGathered();
    if (Sessions != NULL) {
        if (Settings.UseEvents && Address.File != NULL)
            SetEventHandler(&Address, TDI_EVENT_CONNECT, NULL, NULL);
        for (i = 0; i < Settings.Endpoints; i++)
            CloseSession(&Sessions[i]);
        ExFreePoolWithTag(Sessions, SAMPLE_TAG);
        Sessions = NULL;
    }
    CloseTransportFile(&Address, HandleFirst);
}

static NTSTATUS StartServer(void)
{
    USHORT port;
    NTSTATUS status;
    ULONG i;

    Sessions = ExAllocatePoolWithTag(NonPagedPool, Settings.Endpoints * sizeof(*Sessions), SAMPLE_TAG);
    if (Sessions == NULL)
        return STATUS_INSUFFICIENT_RESOURCES;
    RtlZeroMemory(Sessions, Settings.Endpoints * sizeof(*Sessions));
    status = OpenAddressAt(&Address, &Settings.Local);
    if (!NT_SUCCESS(status))
        return status;
    for (i = 0; i < Settings.Endpoints; i++) {
        status = OpenSession(&Sessions[i]);
        if (!NT_SUCCESS(status))
            return status;
    }
    /* From here on offers may come, so everything else is ready. */
    if (Settings.UseEvents) {
        status = SetEventHandler(&Address, TDI_EVENT_CONNECT, ConnectHandler, NULL);
        if (!NT_SUCCESS(status))
            return status;
    }
    status = QueryPort(&Address, &port);
    if (NT_SUCCESS(status))
        Log("port %u", port);
    return status;
}

static NTSTATUS ReadSettings(PCUNICODE_STRING RegistryPath)
{
    HANDLE key = OpenParameters(RegistryPath);
    CHAR accept[TEXT_BYTES_MAX];

    ReadText(key, L"Accept", accept, sizeof(accept), "event");
    Settings.Local.Port = (USHORT)ReadNumber(key, L"Port", 7);
    Settings.Endpoints = min(max(ReadNumber(key, L"Endpoints", 16), 1), ENDPOINTS_MAX);
    Settings.Connections = (LONG)min(max(ReadNumber(key, L"Connections", 1), 1), MAXLONG);
    Settings.Together = (LONG)min(ReadNumber(key, L"Together", 1), MAXLONG);
    Settings.BufferBytes = min(max(ReadNumber(key, L"Buffer", 0x4000), 1), BUFFER_BYTES_MAX);
    Settings.Timeout = Milliseconds(ReadNumber(key, L"Timeout", 30000));
    CloseParameters(key);

    Settings.UseEvents = strcmp(accept, "event") == 0;
    if (!Settings.UseEvents && strcmp(accept, "listen") != 0) {
        Log("Accept is neither event nor listen: %s", accept);
        return STATUS_INVALID_PARAMETER;
    }
    return STATUS_SUCCESS;
}

static void NTAPI Unload(PDRIVER_OBJECT Driver)
{
    UNREFERENCED_PARAMETER(Driver);
    if (KeWaitForSingleObject(&Finished, Executive, KernelMode, FALSE, &Settings.Timeout) == STATUS_TIMEOUT)
        Log("gave up waiting: %d of %d connections have ended", Ended, Settings.Connections);
    StopServer();
    Log("done: %d connections, %I64d bytes sent back, %d at once at most", Accepted, BytesSentBack, MostOpen);
}

NTSTATUS NTAPI DriverEntry(PDRIVER_OBJECT Driver, PUNICODE_STRING RegistryPath)
{
    NTSTATUS status;

    Driver->DriverUnload = Unload;
    KeInitializeEvent(&Finished, NotificationEvent, FALSE);
    KeInitializeSpinLock(&ListLock);
    InitializeListHead(&FreeSessions);
    InitializeListHead(&GatheringSessions);
    status = ReadSettings(RegistryPath);
    if (!NT_SUCCESS(status))
        return status;
    status = StartServer();
    if (!NT_SUCCESS(status)) {
        Log("the server could not be started: status %08x", status);
        StopServer(); /* Unload is not called after a failure. */
    }
    return status;
}
