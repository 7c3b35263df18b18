#define DRIVER_NAME "tdi_datagrams"
#include "tdi_datagrams.h"

#define UDP_DEVICE L"\\Device\\Udp"

NTSTATUS OpenDatagramAddressAt(PTRANSPORT_FILE Address, const INTERNET_ADDRESS *Local)
{
    TA_IP_ADDRESS value;

    FillIpAddress(&value, Local);
    return OpenTransportFile(Address, UDP_DEVICE, TdiTransportAddress, &value, sizeof(value));
}

static NTSTATUS BeginDatagram(PTRANSPORT_FILE Address, PDATAGRAM Datagram, PVOID Buffer, ULONG Length)
{
    RtlZeroMemory(Datagram, sizeof(*Datagram));
    Datagram->Remote.RemoteAddress = &Datagram->RemoteAddress;
    Datagram->Remote.RemoteAddressLength = sizeof(Datagram->RemoteAddress);
    return BeginTransfer(Address, &Datagram->Transfer, Buffer, Length);
}

NTSTATUS SendDatagram(PTRANSPORT_FILE Address, const INTERNET_ADDRESS *Remote, PVOID Buffer, ULONG Length,
                      LARGE_INTEGER Patience)
{
    DATAGRAM datagram;
    ULONG count;
    NTSTATUS status = BeginDatagram(Address, &datagram, Buffer, Length);

    if (!NT_SUCCESS(status))
        return status;
    FillIpAddress(&datagram.RemoteAddress, Remote);
    TdiBuildSendDatagram(datagram.Transfer.Irp, Address->Device, Address->File, NULL, NULL, datagram.Transfer.Mdl, Length,
                         &datagram.Remote);
    SendTransfer(Address, &datagram.Transfer);
    return FinishTransfer(&datagram.Transfer, Patience, &count);
}

NTSTATUS PrepareReceiveDatagram(PTRANSPORT_FILE Address, PDATAGRAM Datagram, PVOID Buffer, ULONG Length)
{
    NTSTATUS status = BeginDatagram(Address, Datagram, Buffer, Length);

    if (!NT_SUCCESS(status))
        return status;
    TdiBuildReceiveDatagram(Datagram->Transfer.Irp, Address->Device, Address->File, NULL, NULL, Datagram->Transfer.Mdl,
                            Length, NULL, &Datagram->Remote, TDI_RECEIVE_NORMAL);
    KeepTransfer(&Datagram->Transfer);
    return STATUS_SUCCESS;
}

NTSTATUS StartReceiveDatagram(PTRANSPORT_FILE Address, PDATAGRAM Datagram, PVOID Buffer, ULONG Length)
{
    NTSTATUS status = PrepareReceiveDatagram(Address, Datagram, Buffer, Length);

    if (!NT_SUCCESS(status))
        return status;
    return SendTransfer(Address, &Datagram->Transfer);
}
