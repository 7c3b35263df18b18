/*
 * A race on purpose: one thread closes a connection endpoint while another is about to post a receive on it. Do not copy this one.
 *
 * The reader looks whether the endpoint is open and then uses it; between the two the closer may have closed it. Most runs are
 * lucky. With `drydock run --seed N` one seed in a few shows the race, as a request to a file object that is gone, and the same
 * seed shows it every time. Right would be a reference of the reader's own to the file object, or a lock over look and use.
 *
 * Parameters: Receives (DWORD, default 3), how many receives the reader posts at most.
 *
 *   racing: 2 receives posted
 */
#define DRIVER_NAME "racing"
#include "common/parameters.h"
#include "common/tdi_requests.h"

static TRANSPORT_FILE Endpoint;
static volatile BOOLEAN EndpointOpen;   /* RACE: nothing keeps it true while it is believed */
static UCHAR Buffer[64];                /* driver images are nonpaged */
static ULONG Receives;
static ULONG Posted;
static PETHREAD Threads[2];
static KEVENT Start;

static void NTAPI ReaderThread(PVOID Context)
{
    ULONG i, count;

    UNREFERENCED_PARAMETER(Context);
    KeWaitForSingleObject(&Start, Executive, KernelMode, FALSE, NULL);
    for (i = 0; i < Receives && EndpointOpen; i++) {
        /* RACE: here the closer may run. The endpoint is not connected, so the request fails at once if all goes well. */
        Receive(&Endpoint, Buffer, sizeof(Buffer), Milliseconds(1000), &count);
        Posted++;
    }
    PsTerminateSystemThread(STATUS_SUCCESS);
}

static void NTAPI CloserThread(PVOID Context)
{
    UNREFERENCED_PARAMETER(Context);
    KeWaitForSingleObject(&Start, Executive, KernelMode, FALSE, NULL);
    EndpointOpen = FALSE;
    ZwClose(Endpoint.Handle);
    ObDereferenceObject(Endpoint.File);
    PsTerminateSystemThread(STATUS_SUCCESS);
}

static NTSTATUS StartThread(PKSTART_ROUTINE Routine, PETHREAD *Thread)
{
    HANDLE handle;
    NTSTATUS status = PsCreateSystemThread(&handle, THREAD_ALL_ACCESS, NULL, NULL, NULL, Routine, NULL);

    if (!NT_SUCCESS(status))
        return status;
    status = ObReferenceObjectByHandle(handle, SYNCHRONIZE, *PsThreadType, KernelMode, (PVOID *)Thread, NULL);
    ZwClose(handle);
    return status;
}

static void WaitForThreads(void)
{
    ULONG i;

    for (i = 0; i < RTL_NUMBER_OF(Threads); i++) {
        if (Threads[i] == NULL)
            continue;
        KeWaitForSingleObject(Threads[i], Executive, KernelMode, FALSE, NULL);
        ObDereferenceObject(Threads[i]);
    }
}

static void NTAPI Unload(PDRIVER_OBJECT Driver)
{
    UNREFERENCED_PARAMETER(Driver);
    WaitForThreads();
    Log("%u receives posted", Posted);
}

NTSTATUS NTAPI DriverEntry(PDRIVER_OBJECT Driver, PUNICODE_STRING RegistryPath)
{
    HANDLE key = OpenParameters(RegistryPath);
    NTSTATUS status;

    Receives = ReadNumber(key, L"Receives", 3);
    CloseParameters(key);

    Driver->DriverUnload = Unload;
    KeInitializeEvent(&Start, NotificationEvent, FALSE);
    status = OpenEndpoint(&Endpoint, NULL);
    if (!NT_SUCCESS(status))
        return status;
    EndpointOpen = TRUE;
    status = StartThread(CloserThread, &Threads[0]);
    if (!NT_SUCCESS(status)) {
        CloseTransportFile(&Endpoint, HandleFirst);
        return status;
    }
    status = StartThread(ReaderThread, &Threads[1]);
    KeSetEvent(&Start, IO_NO_INCREMENT, FALSE);
    if (!NT_SUCCESS(status))
        WaitForThreads(); /* Unload is not called after a failure; the closer has closed the endpoint. */
    return status;
}
