/*
 * Leaks on purpose, to show how each leak is reported. Do not copy this one.
 *
 * Parameters value Leak: handle, reference, irp, pool, or all (the default).
 */
#define DRIVER_NAME "leaky"
#include "common/parameters.h"
#include "common/tdi_requests.h"

/* Shows as "Leak". */
#define LEAK_TAG 'kaeL'
#define LEAK_BYTES 123

/* LEAK: a handle. The reference is dropped, but the handle keeps the endpoint open, so not even CLEANUP is sent. */
static NTSTATUS LeakHandle(void)
{
    TRANSPORT_FILE endpoint;
    NTSTATUS status = OpenEndpoint(&endpoint, NULL);

    if (!NT_SUCCESS(status))
        return status;
    ObDereferenceObject(endpoint.File);
    /* Missing: ZwClose(endpoint.Handle). */
    return STATUS_SUCCESS;
}

/* LEAK: a reference. The handle is closed, so CLEANUP is sent, but the file object stays, so CLOSE never is. */
static NTSTATUS LeakReference(void)
{
    TRANSPORT_FILE endpoint;
    NTSTATUS status = OpenEndpoint(&endpoint, NULL);

    if (!NT_SUCCESS(status))
        return status;
    ZwClose(endpoint.Handle);
    /* Missing: ObDereferenceObject(endpoint.File). */
    return STATUS_SUCCESS;
}

/* LEAK: an IRP. */
static NTSTATUS LeakIrp(void)
{
    PIRP irp = IoAllocateIrp(1, FALSE);

    /* Missing: IoFreeIrp(irp). */
    return irp != NULL ? STATUS_SUCCESS : STATUS_INSUFFICIENT_RESOURCES;
}

/* LEAK: a pool block of LEAK_BYTES with LEAK_TAG. */
static NTSTATUS LeakPool(void)
{
    PUCHAR block = ExAllocatePoolWithTag(NonPagedPool, LEAK_BYTES, LEAK_TAG);

    if (block == NULL)
        return STATUS_INSUFFICIENT_RESOURCES;
    RtlFillMemory(block, LEAK_BYTES, 0x4C);
    /* Missing: ExFreePoolWithTag(block, LEAK_TAG). */
    return STATUS_SUCCESS;
}

typedef struct _LEAK {
    PCSTR Name;
    NTSTATUS (*Make)(void);
} LEAK;

static const LEAK Leaks[] = {
    { "handle", LeakHandle },
    { "reference", LeakReference },
    { "irp", LeakIrp },
    { "pool", LeakPool },
};

static void NTAPI Unload(PDRIVER_OBJECT Driver)
{
    UNREFERENCED_PARAMETER(Driver);
}

NTSTATUS NTAPI DriverEntry(PDRIVER_OBJECT Driver, PUNICODE_STRING RegistryPath)
{
    HANDLE key = OpenParameters(RegistryPath);
    CHAR wanted[32];
    ULONG i;

    ReadText(key, L"Leak", wanted, sizeof(wanted), "all");
    CloseParameters(key);

    Driver->DriverUnload = Unload;
    for (i = 0; i < RTL_NUMBER_OF(Leaks); i++) {
        NTSTATUS status;

        if (strcmp(wanted, "all") != 0 && strcmp(wanted, Leaks[i].Name) != 0)
            continue;
        status = Leaks[i].Make();
        Log("%s: status %08x", Leaks[i].Name, status);
        if (!NT_SUCCESS(status))
            return status;
    }
    return STATUS_SUCCESS;
}
