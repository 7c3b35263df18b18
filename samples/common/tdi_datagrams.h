/*
 * The requests of a TDI datagram client, each as one function. Addresses are closed with CloseTransportFile.
 */
#ifndef TDI_DATAGRAMS_H
#define TDI_DATAGRAMS_H

#include "tdi_requests.h"

/* A datagram under way, and where it goes or comes from. Stays in place until it has ended. */
typedef struct _DATAGRAM {
    TRANSFER Transfer;
    TDI_CONNECTION_INFORMATION Remote;
    TA_IP_ADDRESS RemoteAddress;
} DATAGRAM, *PDATAGRAM;

/* Opens a transport address on \Device\Udp; port 0 leaves the port to the transport. */
NTSTATUS OpenDatagramAddressAt(PTRANSPORT_FILE Address, const INTERNET_ADDRESS *Local);

NTSTATUS SendDatagram(PTRANSPORT_FILE Address, const INTERNET_ADDRESS *Remote, PVOID Buffer, ULONG Length,
                      LARGE_INTEGER Patience);

/*
 * Starts to receive one. As with StartReceive, FinishTransfer must follow a success. RemoteAddress then says who sent it, as
 * ReadIpAddress reads it.
 */
NTSTATUS StartReceiveDatagram(PTRANSPORT_FILE Address, PDATAGRAM Datagram, PVOID Buffer, ULONG Length);

/*
 * Makes such a receive without sending it. ClientEventReceiveDatagram may hand its IRP to the transport, after
 * IoSetNextIrpStackLocation; then FinishTransfer ends it. If nobody hands it over, DiscardTransfer does.
 */
NTSTATUS PrepareReceiveDatagram(PTRANSPORT_FILE Address, PDATAGRAM Datagram, PVOID Buffer, ULONG Length);

#endif
