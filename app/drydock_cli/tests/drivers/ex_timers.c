/* Timers that the system allocates: what they call, who waits for them, and how they end (K-128, K-129). */
#define FAMILY "ex_timers"
#include "check.h"

#define NOTIFICATION 0x80000000
#define MILLISECOND 10000LL
#define HOUR (3600 * 1000 * MILLISECOND)

typedef struct {
    ULONG Version, Reserved;
    VOID (NTAPI *Routine)(PVOID);
    PVOID Context;
} DELETION;

typedef VOID (NTAPI *ROUTINE)(PVOID Timer, PVOID Context);

IMPORT(PVOID, ExAllocateTimer, ROUTINE, PVOID, ULONG);
IMPORT(BOOLEAN, ExSetTimer, PVOID, LONGLONG, LONGLONG, PVOID);
IMPORT(BOOLEAN, ExCancelTimer, PVOID, PVOID);
IMPORT(BOOLEAN, ExDeleteTimer, PVOID, BOOLEAN, BOOLEAN, DELETION *);

static PVOID Timer;
static volatile LONG Ticks;
static KEVENT Ticked, Gone;

static VOID NTAPI Tick(PVOID Which, PVOID Context)
{
    CHECK(Which == Timer && Context == &Ticks);
    CHECK_NUMBER(DISPATCH_LEVEL, KeGetCurrentIrql());
    InterlockedIncrement(&Ticks);
    KeSetEvent(&Ticked, IO_NO_INCREMENT, FALSE);
}

static VOID NTAPI Delete(PVOID Context)
{
    CHECK(KeGetCurrentIrql() <= DISPATCH_LEVEL);
    InterlockedIncrement(Context);
    KeSetEvent(&Gone, IO_NO_INCREMENT, FALSE);
}

static void Await(PKEVENT Event)
{
    KeWaitForSingleObject(Event, Executive, KernelMode, FALSE, NULL);
}

static BOOLEAN IsSignalled(PVOID Object)
{
    LARGE_INTEGER now = {.QuadPart = 0};

    return KeWaitForSingleObject(Object, Executive, KernelMode, FALSE, &now) == STATUS_SUCCESS;
}

static void Settings(void)
{
    LARGE_INTEGER time;

    Timer = CALL(ExAllocateTimer)(Tick, (PVOID)&Ticks, 0);
    if (!CHECK(Timer != NULL))
        return;
    CHECK(!CALL(ExCancelTimer)(Timer, NULL));
    CHECK(!CALL(ExSetTimer)(Timer, -MILLISECOND, 0, NULL));
    Await(&Ticked);
    CHECK_NUMBER(1, Ticks);
    CHECK(!CALL(ExCancelTimer)(Timer, NULL));
    CHECK(!CALL(ExSetTimer)(Timer, -HOUR, 0, NULL));
    CHECK(CALL(ExSetTimer)(Timer, -HOUR, HOUR, NULL));
    CHECK(CALL(ExCancelTimer)(Timer, NULL));
    CHECK(!CALL(ExCancelTimer)(Timer, NULL));
    /* A time of day. */
    KeQuerySystemTime(&time);
    CHECK(!CALL(ExSetTimer)(Timer, time.QuadPart + MILLISECOND, 0, NULL));
    Await(&Ticked);
    CHECK_NUMBER(2, Ticks);
    /* Again and again, until it is cancelled. */
    CHECK(!CALL(ExSetTimer)(Timer, -MILLISECOND, MILLISECOND, NULL));
    while (Ticks < 6)
        Await(&Ticked);
    CHECK(CALL(ExCancelTimer)(Timer, NULL));
    CHECK(!CALL(ExDeleteTimer)(Timer, TRUE, TRUE, NULL));
}

static void Waits(void)
{
    PVOID all = CALL(ExAllocateTimer)(NULL, NULL, NOTIFICATION), one = CALL(ExAllocateTimer)(NULL, NULL, 0);

    if (!CHECK(all != NULL && one != NULL && all != one))
        return;
    CHECK(!IsSignalled(all) && !IsSignalled(one));
    CHECK(!CALL(ExSetTimer)(all, -MILLISECOND, 0, NULL));
    CHECK(!CALL(ExSetTimer)(one, -MILLISECOND, 0, NULL));
    CHECK_STATUS(STATUS_SUCCESS, KeWaitForSingleObject(all, Executive, KernelMode, FALSE, NULL));
    CHECK_STATUS(STATUS_SUCCESS, KeWaitForSingleObject(one, Executive, KernelMode, FALSE, NULL));
    CHECK(IsSignalled(all) && !IsSignalled(one));
    CHECK(!CALL(ExSetTimer)(all, -HOUR, 0, NULL));
    CHECK(!IsSignalled(all));
    CHECK(CALL(ExDeleteTimer)(all, TRUE, FALSE, NULL));
    CHECK(!CALL(ExDeleteTimer)(one, TRUE, FALSE, NULL));
}

static volatile LONG Left;
static KEVENT Entered;

/* Long enough for whoever waits for its beginning to go on meanwhile. */
static VOID NTAPI Stay(PVOID Which, PVOID Context)
{
    ULONG round;

    (void)Which, (void)Context;
    KeSetEvent(&Entered, IO_NO_INCREMENT, FALSE);
    for (round = 0; round < 50; round++)
        KeStallExecutionProcessor(100);
    InterlockedExchange(&Left, 1);
}

/* Who deletes a timer may wait for the call that is under way; what tells of the end comes behind it in any case. */
static void Ends(void)
{
    LONG gone = 0;
    DELETION deletion = {0, 0, Delete, &gone};
    PVOID timer;

    timer = CALL(ExAllocateTimer)(Stay, NULL, 0);
    CALL(ExSetTimer)(timer, -MILLISECOND, 0, NULL);
    Await(&Entered);
    CHECK(!CALL(ExDeleteTimer)(timer, TRUE, TRUE, &deletion));
    CHECK(Left == 1 && gone == 1);
    Await(&Gone);

    /* At once, if nothing runs. */
    timer = CALL(ExAllocateTimer)(Stay, NULL, 0);
    CALL(ExSetTimer)(timer, -HOUR, 0, NULL);
    CHECK(CALL(ExDeleteTimer)(timer, TRUE, FALSE, &deletion));
    CHECK_NUMBER(2, gone);
    Await(&Gone);

    /* When it has expired, a periodic one for the last time. */
    Ticks = 0;
    Timer = CALL(ExAllocateTimer)(Tick, (PVOID)&Ticks, 0);
    CALL(ExSetTimer)(Timer, -5 * MILLISECOND, 5 * MILLISECOND, NULL);
    CHECK(!CALL(ExDeleteTimer)(Timer, FALSE, FALSE, &deletion));
    Await(&Gone);
    CHECK_NUMBER(3, gone);
    CHECK(Ticks >= 1);
}

static VOID NTAPI DeleteItself(PVOID Which, PVOID Context)
{
    PULONG order = Context;
    DELETION deletion = {0, 0, Delete, &order[1]};

    CHECK(!CALL(ExDeleteTimer)(Which, TRUE, FALSE, &deletion));
    CHECK_NUMBER(0, order[1]);
    order[0] = 1;
}

static void EndsItself(void)
{
    ULONG order[2] = {0, 0};

    CALL(ExSetTimer)(CALL(ExAllocateTimer)(DeleteItself, order, 0), 0, 0, NULL);
    Await(&Gone);
    CHECK(order[0] == 1 && order[1] == 1);
    /* Whoever told of the end has still to return from this driver. */
    KeFlushQueuedDpcs();
}

/* The value Left under Parameters says that a timer is left behind. */
static void Checks(PUNICODE_STRING RegistryPath)
{
    KeInitializeEvent(&Entered, SynchronizationEvent, FALSE);
    KeInitializeEvent(&Ticked, SynchronizationEvent, FALSE);
    KeInitializeEvent(&Gone, SynchronizationEvent, FALSE);
    Settings();
    Waits();
    Ends();
    EndsItself();
    if (Setting(RegistryPath, L"Left") != 0)
        CALL(ExSetTimer)(CALL(ExAllocateTimer)(Tick, (PVOID)&Ticks, 0), -MILLISECOND, MILLISECOND, NULL);
}
