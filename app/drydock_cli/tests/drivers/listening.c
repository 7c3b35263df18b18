/*
 * One LISTEN, and more who connect than it takes (C-305), from an address whose port was chosen for it (C-280). Run on a simulated
 * host with the address 10.0.0.1, where time costs nothing; the driver is its own client.
 */
#define FAMILY "listening"
#include "check.h"
#include "requests.h"

#define SECOND 10000000

static const INTERNET_ADDRESS Anywhere = {0, 7007}, Remote = {0x0A000001, 7007};
static LARGE_INTEGER Patience;

/* Gives after how many whole seconds the attempt was over. */
static LONGLONG ConnectIn(PTRANSPORT_FILE Endpoint, NTSTATUS Expected)
{
    ULONGLONG begin = KeQueryInterruptTime();

    CHECK_STATUS(Expected, Connect(Endpoint, &Remote, Patience));
    return (LONGLONG)(KeQueryInterruptTime() - begin) / SECOND;
}

static void Checks(PUNICODE_STRING RegistryPath)
{
    TRANSPORT_FILE server, client, listening[2], calling[3];
    TRANSFER listens[2];
    USHORT port, connected;
    ULONG i, count;

    (void)RegistryPath;
    Patience = Milliseconds(60000);
    CHECK_STATUS(STATUS_SUCCESS, OpenAddressAt(&server, &Anywhere));
    CHECK_STATUS(STATUS_SUCCESS, OpenAddress(&client));
    for (i = 0; i < RTL_NUMBER_OF(listening); i++) {
        CHECK_STATUS(STATUS_SUCCESS, OpenEndpoint(&listening[i], NULL));
        CHECK_STATUS(STATUS_SUCCESS, AssociateAddress(&listening[i], &server));
    }
    for (i = 0; i < RTL_NUMBER_OF(calling); i++) {
        CHECK_STATUS(STATUS_SUCCESS, OpenEndpoint(&calling[i], NULL));
        CHECK_STATUS(STATUS_SUCCESS, AssociateAddress(&calling[i], &client));
    }

    CHECK_NUMBER(0, ConnectIn(&calling[1], STATUS_CONNECTION_REFUSED));
    CHECK_STATUS(STATUS_PENDING, Listen(&listening[0], &listens[0]));
    CHECK_NUMBER(0, ConnectIn(&calling[0], STATUS_SUCCESS));
    CHECK_STATUS(STATUS_SUCCESS, FinishTransfer(&listens[0], Patience, &count));
    /* The server might listen again. When it has not for so long, the next one is refused at once. */
    CHECK_NUMBER(10, ConnectIn(&calling[1], STATUS_CONNECTION_REFUSED));
    CHECK_NUMBER(0, ConnectIn(&calling[1], STATUS_CONNECTION_REFUSED));
    /* Until it does. */
    CHECK_STATUS(STATUS_PENDING, Listen(&listening[1], &listens[1]));
    CHECK_NUMBER(0, ConnectIn(&calling[2], STATUS_SUCCESS));
    CHECK_STATUS(STATUS_SUCCESS, FinishTransfer(&listens[1], Patience, &count));
    /* Whoever asks for the address's port gets one that a remote node knows. */
    CHECK_STATUS(STATUS_SUCCESS, QueryPort(&calling[0], &connected));
    CHECK_STATUS(STATUS_SUCCESS, QueryPort(&client, &port));
    CHECK(connected != 0);
    CHECK_NUMBER(connected, port);

    for (i = 0; i < RTL_NUMBER_OF(calling); i++)
        CloseTransportFile(&calling[i], ReferenceFirst);
    for (i = 0; i < RTL_NUMBER_OF(listening); i++)
        CloseTransportFile(&listening[i], ReferenceFirst);
    CloseTransportFile(&client, ReferenceFirst);
    CloseTransportFile(&server, ReferenceFirst);
}
