/*
 * The samples' requests for test drivers that want to be ordinary clients, and one that only these have. They are part of the image:
 * a test driver is one source file.
 */
#ifndef REQUESTS_H
#define REQUESTS_H

/* check.h has it, too. */
#define Milliseconds SampleMilliseconds
#include "../../../../samples/common/tdi_requests.c"
#undef Milliseconds

/* Posts a TDI_LISTEN, to be ended as a transfer is. */
static NTSTATUS Listen(PTRANSPORT_FILE Endpoint, PTRANSFER Transfer)
{
    static UCHAR nothing;
    NTSTATUS status = BeginTransfer(Endpoint, Transfer, &nothing, sizeof(nothing));

    if (!NT_SUCCESS(status))
        return status;
    TdiBuildListen(Transfer->Irp, Endpoint->Device, Endpoint->File, NULL, NULL, 0, NULL, NULL);
    return SendTransfer(Endpoint, Transfer);
}

#endif
