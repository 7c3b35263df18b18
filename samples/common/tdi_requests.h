/*
 * The requests of a TDI client, each as one function.
 *
 * Requests come in two kinds here, as they do in most clients:
 *   - Control requests (associate, connect, disconnect, event handlers) use an IRP that belongs to the calling thread. The I/O
 *     manager frees it; the caller waits on an event.
 *   - Transfers (send, receive) use an IRP from IoAllocateIrp that the client owns. A completion routine stops its completion, so
 *     the client keeps IRP and MDL and can cancel the request.
 *
 * Everything here runs at PASSIVE_LEVEL.
 */
#ifndef TDI_REQUESTS_H
#define TDI_REQUESTS_H

#include "sample.h"
#include <tdi.h>
#include <tdikrnl.h>

/* An open transport address or connection endpoint: a handle, and a reference through the pointer. */
typedef struct _TRANSPORT_FILE {
    HANDLE Handle;
    PFILE_OBJECT File;
    PDEVICE_OBJECT Device;
} TRANSPORT_FILE, *PTRANSPORT_FILE;

typedef enum _CLOSE_ORDER {
    ReferenceFirst,     /* ObDereferenceObject, then ZwClose */
    HandleFirst,        /* ZwClose, then ObDereferenceObject */
} CLOSE_ORDER;

/* A send or receive under way. */
typedef struct _TRANSFER {
    PIRP Irp;
    PMDL Mdl;
    KEVENT Done;
} TRANSFER, *PTRANSFER;

/* An IPv4 address and port, both in host byte order. */
typedef struct _INTERNET_ADDRESS {
    ULONG Address;
    USHORT Port;
} INTERNET_ADDRESS, *PINTERNET_ADDRESS;

/* Four decimal numbers with dots; FALSE for anything else. */
BOOLEAN ParseIpAddress(PCSTR Text, PULONG Address);

/* Opens a transport address on \Device\Tcp; port 0 leaves the port to the transport. */
NTSTATUS OpenAddressAt(PTRANSPORT_FILE Address, const INTERNET_ADDRESS *Local);

/* ... any local address, a port of the transport's choice. */
NTSTATUS OpenAddress(PTRANSPORT_FILE Address);

/* Asks for the port that an address has now. */
NTSTATUS QueryPort(PTRANSPORT_FILE Address, PUSHORT Port);

/* Opens a connection endpoint on \Device\Tcp. Event handlers get Context. */
NTSTATUS OpenEndpoint(PTRANSPORT_FILE Endpoint, PVOID Context);

/* Closes either kind; does nothing if it is not open. */
void CloseTransportFile(PTRANSPORT_FILE File, CLOSE_ORDER Order);

NTSTATUS AssociateAddress(PTRANSPORT_FILE Endpoint, PTRANSPORT_FILE Address);
NTSTATUS DisassociateAddress(PTRANSPORT_FILE Endpoint);

/* Gives up after Timeout. */
NTSTATUS Connect(PTRANSPORT_FILE Endpoint, const INTERNET_ADDRESS *Remote, LARGE_INTEGER Timeout);

/* Flags is TDI_DISCONNECT_RELEASE or TDI_DISCONNECT_ABORT. */
NTSTATUS Disconnect(PTRANSPORT_FILE Endpoint, ULONG Flags, LARGE_INTEGER Timeout);

/* Registers Handler for TDI_EVENT_xxx; NULL withdraws it. */
NTSTATUS SetEventHandler(PTRANSPORT_FILE Address, LONG Event, PVOID Handler, PVOID Context);

/*
 * Starts a send or receive. Buffer is nonpaged and stays untouched until FinishTransfer has returned. After a success, also
 * STATUS_PENDING, the caller must call FinishTransfer; after an error there is nothing to finish.
 */
NTSTATUS StartSend(PTRANSPORT_FILE Endpoint, PTRANSFER Transfer, PVOID Buffer, ULONG Length);
NTSTATUS StartReceive(PTRANSPORT_FILE Endpoint, PTRANSFER Transfer, PVOID Buffer, ULONG Length);

/* Waits until the request has ended; cancels it after Patience. Returns its status, and in Count the bytes it moved. */
NTSTATUS FinishTransfer(PTRANSFER Transfer, LARGE_INTEGER Patience, PULONG Count);

/* Start and finish in one call. */
NTSTATUS Send(PTRANSPORT_FILE Endpoint, PVOID Buffer, ULONG Length, LARGE_INTEGER Patience);
NTSTATUS Receive(PTRANSPORT_FILE Endpoint, PVOID Buffer, ULONG Length, LARGE_INTEGER Patience, PULONG Count);

/* Below is what all requests are made of; tdi_datagrams.c needs it too. */

/* Which kind of object an open creates is told by the name of the extended attribute alone. */
NTSTATUS OpenTransportFile(PTRANSPORT_FILE File, PCWSTR Device, PCSTR EaName, const void *EaValue, USHORT EaValueLength);

void FillIpAddress(PTA_IP_ADDRESS Address, const INTERNET_ADDRESS *From);

/* What a TRANSPORT_ADDRESS with one IPv4 address says; FALSE if it is anything else. Any IRQL. */
BOOLEAN ReadIpAddress(const void *Address, ULONG Length, PINTERNET_ADDRESS To);

/* Makes IRP and MDL. A TdiBuildXxx macro comes next, then SendTransfer, or KeepTransfer if others send the IRP. */
NTSTATUS BeginTransfer(PTRANSPORT_FILE File, PTRANSFER Transfer, PVOID Buffer, ULONG Length);
NTSTATUS SendTransfer(PTRANSPORT_FILE File, PTRANSFER Transfer);
void KeepTransfer(PTRANSFER Transfer);

/* Frees what BeginTransfer has made, and nobody has sent. */
void DiscardTransfer(PTRANSFER Transfer);

#endif
