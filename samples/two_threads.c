/*
 * Two system threads that share a log, and hand a turn to and fro. Which thread runs when shows in the lines printed at the end,
 * so that two runs can be compared.
 *
 * Parameters: Steps (DWORD, default 20), how many entries each thread appends on its own; Turns (DWORD, default 10), how often they
 * then wake each other.
 *
 *   two_threads: order ABAABB...
 *   two_threads: turns 10 and 10
 */
#define DRIVER_NAME "two_threads"
#include "common/parameters.h"

#define LOG_ENTRIES_MAX 256

typedef struct _PLAYER {
    CHAR Letter;
    PETHREAD Thread;
    KEVENT Turn;            /* it is this player's turn; synchronization event */
    struct _PLAYER *Other;
    ULONG Turns;
} PLAYER, *PPLAYER;

static PLAYER Players[2];
static ULONG Steps;
static ULONG Turns;

/* Guarded by OrderLock. */
static KSPIN_LOCK OrderLock;
static CHAR Order[LOG_ENTRIES_MAX + 1];
static ULONG OrderLength;

static void Append(CHAR Letter)
{
    KIRQL irql;

    KeAcquireSpinLock(&OrderLock, &irql);
    if (OrderLength < LOG_ENTRIES_MAX)
        Order[OrderLength++] = Letter;
    KeReleaseSpinLock(&OrderLock, irql);
}

static void NTAPI PlayerThread(PVOID Context)
{
    PPLAYER player = Context;
    ULONG i;

    /* A race: nothing says whose entry comes first. */
    for (i = 0; i < Steps; i++)
        Append(player->Letter);
    /* No race: strictly in turn. */
    for (i = 0; i < Turns; i++) {
        KeWaitForSingleObject(&player->Turn, Executive, KernelMode, FALSE, NULL);
        player->Turns++;
        KeSetEvent(&player->Other->Turn, IO_NO_INCREMENT, FALSE);
    }
    PsTerminateSystemThread(STATUS_SUCCESS);
}

static NTSTATUS StartPlayer(PPLAYER Player)
{
    HANDLE handle;
    NTSTATUS status = PsCreateSystemThread(&handle, THREAD_ALL_ACCESS, NULL, NULL, NULL, PlayerThread, Player);

    if (!NT_SUCCESS(status))
        return status;
    status = ObReferenceObjectByHandle(handle, SYNCHRONIZE, *PsThreadType, KernelMode, (PVOID *)&Player->Thread, NULL);
    ZwClose(handle);
    return status;
}

static void WaitForPlayers(void)
{
    ULONG i;

    for (i = 0; i < RTL_NUMBER_OF(Players); i++) {
        if (Players[i].Thread == NULL)
            continue;
        KeWaitForSingleObject(Players[i].Thread, Executive, KernelMode, FALSE, NULL);
        ObDereferenceObject(Players[i].Thread);
    }
}

static void NTAPI Unload(PDRIVER_OBJECT Driver)
{
    UNREFERENCED_PARAMETER(Driver);
    WaitForPlayers();
    Log("order %s", Order);
    Log("turns %u and %u", Players[0].Turns, Players[1].Turns);
}

NTSTATUS NTAPI DriverEntry(PDRIVER_OBJECT Driver, PUNICODE_STRING RegistryPath)
{
    HANDLE key = OpenParameters(RegistryPath);
    NTSTATUS status;
    ULONG i;

    Steps = min(ReadNumber(key, L"Steps", 20), LOG_ENTRIES_MAX / 2);
    Turns = ReadNumber(key, L"Turns", 10);
    CloseParameters(key);

    Driver->DriverUnload = Unload;
    KeInitializeSpinLock(&OrderLock);
    for (i = 0; i < RTL_NUMBER_OF(Players); i++) {
        Players[i].Letter = (CHAR)('A' + i);
        Players[i].Other = &Players[1 - i];
        KeInitializeEvent(&Players[i].Turn, SynchronizationEvent, i == 0);
    }
    status = StartPlayer(&Players[0]);
    if (!NT_SUCCESS(status))
        return status;
    status = StartPlayer(&Players[1]);
    if (!NT_SUCCESS(status)) {
        /* The first player would wait for ever: give it all the second player's turns. */
        Turns = 0;
        KeSetEvent(&Players[0].Turn, IO_NO_INCREMENT, FALSE);
        WaitForPlayers();
    }
    return status;
}
