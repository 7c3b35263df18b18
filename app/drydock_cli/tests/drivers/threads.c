/* Threads, the process, time, processors, DPCs, and routines told of them (K-007, K-009, K-100, K-125, K-128, K-131). */
#define FAMILY "threads"
#include "check.h"

IMPORT(PKTHREAD, KeGetCurrentThread, void);
IMPORT(PETHREAD, PsGetCurrentThread, void);
IMPORT(PEPROCESS, IoGetCurrentProcess, void);
IMPORT(PEPROCESS, PsGetCurrentProcess, void);
IMPORT(PEPROCESS, PsGetThreadProcess, PETHREAD);
IMPORT(PEPROCESS, IoThreadToProcess, PETHREAD);
IMPORT(HANDLE, PsGetProcessId, PEPROCESS);
IMPORT(HANDLE, PsGetThreadId, PETHREAD);
IMPORT(HANDLE, PsGetThreadProcessId, PETHREAD);
IMPORT(NTSTATUS, PsLookupThreadByThreadId, HANDLE, PETHREAD *);
IMPORT(NTSTATUS, PsLookupProcessByProcessId, HANDLE, PEPROCESS *);
IMPORT(BOOLEAN, PsIsSystemThread, PETHREAD);
IMPORT(PVOID, PsGetCurrentThreadTeb, void);
IMPORT(PVOID, PsGetCurrentThreadWin32Thread, void);
IMPORT(const char *, PsGetProcessImageFileName, PEPROCESS);
IMPORT(ULONG, PsGetCurrentProcessSessionId, void);
IMPORT(ULONG, PsGetProcessSessionId, PEPROCESS);
IMPORT(void, KeAttachProcess, PEPROCESS);
IMPORT(void, KeDetachProcess, void);
IMPORT(void, KeStackAttachProcess, PEPROCESS, PKAPC_STATE);
IMPORT(void, KeUnstackDetachProcess, PKAPC_STATE);
IMPORT(void, IoGetStackLimits, PULONG_PTR, PULONG_PTR);
IMPORT(ULONG_PTR, IoGetRemainingStackSize, void);
IMPORT(NTSTATUS, ZwOpenThread, PHANDLE, ACCESS_MASK, POBJECT_ATTRIBUTES, CLIENT_ID *);
IMPORT(NTSTATUS, ZwSetInformationThread, HANDLE, ULONG, PVOID, ULONG);
IMPORT(NTSTATUS, NtYieldExecution, void);
IMPORT(LONG, KeSetPriorityThread, PKTHREAD, LONG);
IMPORT(LONG, KeQueryPriorityThread, PKTHREAD);
IMPORT(LONG, KeSetBasePriorityThread, PKTHREAD, LONG);
IMPORT(BOOLEAN, KeAlertThread, PKTHREAD, KPROCESSOR_MODE);
IMPORT(BOOLEAN, KeTestAlertThread, KPROCESSOR_MODE);
IMPORT(NTSTATUS, ZwAlertThread, HANDLE);
IMPORT(NTSTATUS, NtAlertThread, HANDLE);
IMPORT(NTSTATUS, KeSaveExtendedProcessorState, ULONG64, PVOID);
IMPORT(void, KeRestoreExtendedProcessorState, PVOID);
IMPORT_DATA(POBJECT_TYPE, PsProcessType);
IMPORT_DATA(PEPROCESS, PsInitialSystemProcess);
IMPORT(ULONG, KeQueryTimeIncrement, void);
IMPORT(ULONG64, KeQueryInterruptTime, void);
IMPORT(ULONG64, KeQueryUnbiasedInterruptTime, void);
IMPORT(ULONG64, KeQueryInterruptTimePrecise, PULONG64);
IMPORT(void, KeQuerySystemTime, PLARGE_INTEGER);
IMPORT(void, KeQuerySystemTimePrecise, PLARGE_INTEGER);
IMPORT(void, KeQueryTickCount, PLARGE_INTEGER);
IMPORT(LARGE_INTEGER, KeQueryPerformanceCounter, PLARGE_INTEGER);
IMPORT(void, KeStallExecutionProcessor, ULONG);
IMPORT_DATA(volatile ULONG64, KeTickCount);
IMPORT(KAFFINITY, KeQueryActiveProcessors, void);
IMPORT(ULONG, KeQueryActiveProcessorCount, KAFFINITY *);
IMPORT(ULONG, KeQueryActiveProcessorCountEx, USHORT);
IMPORT(ULONG, KeQueryMaximumProcessorCount, void);
IMPORT(ULONG, KeQueryMaximumProcessorCountEx, USHORT);
IMPORT(ULONG, KeGetCurrentProcessorNumberEx, PPROCESSOR_NUMBER);
IMPORT(NTSTATUS, KeGetProcessorNumberFromIndex, ULONG, PPROCESSOR_NUMBER);
IMPORT(ULONG, KeGetProcessorIndexFromNumber, PPROCESSOR_NUMBER);
IMPORT(BOOLEAN, KeSetCoalescableTimer, PKTIMER, LARGE_INTEGER, ULONG, ULONG, PKDPC);
IMPORT(BOOLEAN, KeReadStateTimer, PKTIMER);
IMPORT(void, KeInitializeThreadedDpc, PKDPC, PKDEFERRED_ROUTINE, PVOID);
IMPORT(void, KeSetImportanceDpc, PKDPC, ULONG);
IMPORT(void, KeSetTargetProcessorDpc, PKDPC, CCHAR);
IMPORT(NTSTATUS, KeSetTargetProcessorDpcEx, PKDPC, PPROCESSOR_NUMBER);
IMPORT(NTSTATUS, PsSetCreateProcessNotifyRoutine, PVOID, BOOLEAN);
IMPORT(NTSTATUS, PsSetCreateProcessNotifyRoutineEx, PVOID, BOOLEAN);
IMPORT(NTSTATUS, PsSetCreateProcessNotifyRoutineEx2, ULONG, PVOID, BOOLEAN);
IMPORT(NTSTATUS, PsSetCreateThreadNotifyRoutine, PVOID);
IMPORT(NTSTATUS, PsRemoveCreateThreadNotifyRoutine, PVOID);
IMPORT(NTSTATUS, PsSetLoadImageNotifyRoutine, PVOID);
IMPORT(NTSTATUS, PsRemoveLoadImageNotifyRoutine, PVOID);
IMPORT(PVOID, KeRegisterProcessorChangeCallback, PVOID, PVOID, ULONG);
IMPORT(void, KeDeregisterProcessorChangeCallback, PVOID);

#define SYSTEM_ID ((HANDLE)4)

static void Identities(void)
{
    PKTHREAD self = CALL(KeGetCurrentThread)();
    PEPROCESS process = CALL(PsGetCurrentProcess)(), other = NULL;
    PETHREAD found = NULL;
    HANDLE id = PsGetCurrentThreadId();
    ULONG_PTR low = 0, high = 0, here = (ULONG_PTR)&low;

    CHECK(self != NULL && self == (PKTHREAD)CALL(PsGetCurrentThread)());
    CHECK(id != NULL && CALL(PsGetThreadId)((PETHREAD)self) == id);
    CHECK_STATUS(STATUS_SUCCESS, CALL(PsLookupThreadByThreadId)(id, &found));
    CHECK(found == (PETHREAD)self);
    ObDereferenceObject(found);
    CHECK_STATUS(STATUS_INVALID_PARAMETER, CALL(PsLookupThreadByThreadId)((HANDLE)0x7FFFFFFC, &found));
    CHECK(CALL(PsIsSystemThread)((PETHREAD)self));
    CHECK(CALL(PsGetCurrentThreadTeb)() == NULL && CALL(PsGetCurrentThreadWin32Thread)() == NULL);

    CHECK(process != NULL && process == CALL(IoGetCurrentProcess)() && process == VALUE(PsInitialSystemProcess));
    CHECK(CALL(PsGetThreadProcess)((PETHREAD)self) == process && CALL(IoThreadToProcess)((PETHREAD)self) == process);
    CHECK(CALL(PsGetProcessId)(process) == SYSTEM_ID && CALL(PsGetThreadProcessId)((PETHREAD)self) == SYSTEM_ID);
    CHECK_STATUS(STATUS_SUCCESS, CALL(PsLookupProcessByProcessId)(SYSTEM_ID, &other));
    CHECK(other == process);
    ObDereferenceObject(other);
    CHECK_STATUS(STATUS_INVALID_PARAMETER, CALL(PsLookupProcessByProcessId)((HANDLE)0x7FFFFFFC, &other));
    CHECK_TEXT("System", CALL(PsGetProcessImageFileName)(process));
    CHECK(CALL(PsGetCurrentProcessSessionId)() == 0 && CALL(PsGetProcessSessionId)(process) == 0);
    CHECK_STATUS(STATUS_SUCCESS, ObReferenceObjectByPointer(process, 0, VALUE(PsProcessType), KernelMode));
    ObDereferenceObject(process);
    CHECK_STATUS(STATUS_OBJECT_TYPE_MISMATCH, ObReferenceObjectByPointer(self, 0, VALUE(PsProcessType), KernelMode));

    CALL(IoGetStackLimits)(&low, &high);
    CHECK(low < here && here < high);
    CHECK(CALL(IoGetRemainingStackSize)() <= here - low && CALL(IoGetRemainingStackSize)() > 4096);
}

/* One address space: what is attached sees the same memory, and is back where it was. */
static void Attaching(void)
{
    PEPROCESS process = CALL(PsGetCurrentProcess)();
    volatile ULONG seen = 1;
    KAPC_STATE state;

    CALL(KeStackAttachProcess)(process, &state);
    seen += CALL(PsGetCurrentProcess)() == process;
    CALL(KeUnstackDetachProcess)(&state);
    CALL(KeAttachProcess)(process);
    seen += CALL(PsGetCurrentProcess)() == process;
    CALL(KeDetachProcess)();
    CHECK_NUMBER(3, seen);
    CHECK(CALL(PsGetCurrentProcess)() == process);
}

static void Priorities(void)
{
    PKTHREAD self = CALL(KeGetCurrentThread)();
    LONG before = CALL(KeQueryPriorityThread)(self), wanted = 20;

    CHECK_NUMBER(8, before);
    CHECK_NUMBER(before, CALL(KeSetPriorityThread)(self, 12));
    CHECK_NUMBER(12, CALL(KeQueryPriorityThread)(self));
    CHECK_STATUS(STATUS_SUCCESS, CALL(ZwSetInformationThread)(ZwCurrentThread(), ThreadPriority, &wanted, sizeof(wanted)));
    CHECK_NUMBER(20, CALL(KeQueryPriorityThread)(self));
    CHECK_STATUS(STATUS_INFO_LENGTH_MISMATCH, CALL(ZwSetInformationThread)(ZwCurrentThread(), ThreadPriority, &wanted, 1));
    CHECK_NUMBER(20, CALL(KeSetPriorityThread)(self, before));
    CHECK_NUMBER(0, CALL(KeSetBasePriorityThread)(self, 2));
    CHECK_NUMBER(2, CALL(KeSetBasePriorityThread)(self, 0));
    CHECK_NUMBER(before, CALL(KeQueryPriorityThread)(self));
}

static KEVENT Started, Never;
static NTSTATUS Waited;

static void NTAPI WaitAlertably(PVOID Context)
{
    (void)Context;
    KeSetEvent(&Started, IO_NO_INCREMENT, FALSE);
    Waited = KeWaitForSingleObject(&Never, Executive, KernelMode, TRUE, NULL);
    PsTerminateSystemThread(STATUS_SUCCESS);
}

/* A thread that waits until somebody alerts it. */
static PKTHREAD StartAlertable(void)
{
    PKTHREAD thread;

    KeInitializeEvent(&Started, NotificationEvent, FALSE);
    KeInitializeEvent(&Never, NotificationEvent, FALSE);
    Waited = STATUS_PENDING;
    thread = Start(WaitAlertably, NULL);
    KeWaitForSingleObject(&Started, Executive, KernelMode, FALSE, NULL);
    return thread;
}

static void Alerts(void)
{
    OBJECT_ATTRIBUTES attributes;
    CLIENT_ID id = {NULL, NULL};
    HANDLE handle = NULL;
    PKTHREAD thread;

    CHECK(!CALL(KeTestAlertThread)(KernelMode));
    CHECK(!CALL(KeAlertThread)(CALL(KeGetCurrentThread)(), KernelMode));
    CHECK(CALL(KeAlertThread)(CALL(KeGetCurrentThread)(), KernelMode));
    CHECK(CALL(KeTestAlertThread)(KernelMode) && !CALL(KeTestAlertThread)(KernelMode));

    thread = StartAlertable();
    CHECK(!CALL(KeAlertThread)(thread, KernelMode));
    Join(thread);
    CHECK_STATUS(STATUS_ALERTED, Waited);

    thread = StartAlertable();
    InitializeObjectAttributes(&attributes, NULL, OBJ_KERNEL_HANDLE, NULL, NULL);
    id.UniqueThread = (HANDLE)0x7FFFFFFC;
    CHECK_STATUS(STATUS_INVALID_CID, CALL(ZwOpenThread)(&handle, THREAD_ALL_ACCESS, &attributes, &id));
    id.UniqueThread = CALL(PsGetThreadId)((PETHREAD)thread);
    CHECK_STATUS(STATUS_SUCCESS, CALL(ZwOpenThread)(&handle, THREAD_ALL_ACCESS, &attributes, &id));
    CHECK_STATUS(STATUS_SUCCESS, CALL(ZwAlertThread)(handle));
    Join(thread);
    CHECK_STATUS(STATUS_ALERTED, Waited);
    CHECK_STATUS(STATUS_SUCCESS, CALL(NtAlertThread)(handle));
    ZwClose(handle);
    CHECK_STATUS(STATUS_INVALID_HANDLE, CALL(ZwAlertThread)(handle));
    CHECK_STATUS(STATUS_SUCCESS, CALL(NtYieldExecution)());
}

static void Times(void)
{
    LARGE_INTEGER system, later, ticks, frequency = {.QuadPart = 0}, counter;
    ULONG64 interrupt, cell, precise = 0;
    ULONG increment = CALL(KeQueryTimeIncrement)();

    CHECK(increment >= 5000 && increment <= 156250);
    interrupt = CALL(KeQueryInterruptTime)();
    CALL(KeQuerySystemTime)(&system);
    CALL(KeQueryTickCount)(&ticks);
    cell = VALUE(KeTickCount);
    counter = CALL(KeQueryPerformanceCounter)(&frequency);
    /* 2020 to 2200, in units of 100 ns since 1601. */
    CHECK(system.QuadPart > 132223104000000000LL && system.QuadPart < 189026784000000000LL);
    CHECK(frequency.QuadPart >= 1000000);
    Sleep(50);
    CHECK(CALL(KeQueryInterruptTime)() >= interrupt + 500000);
    CHECK(CALL(KeQueryUnbiasedInterruptTime)() >= interrupt + 500000);
    CHECK(CALL(KeQueryInterruptTimePrecise)(&precise) >= interrupt + 500000 && precise != 0);
    CALL(KeQuerySystemTimePrecise)(&later);
    CHECK(later.QuadPart >= system.QuadPart + 500000);
    CALL(KeQueryTickCount)(&later);
    CHECK(later.QuadPart >= ticks.QuadPart + 500000 / increment - 1 && VALUE(KeTickCount) >= cell + 500000 / increment - 1);
    CHECK(CALL(KeQueryPerformanceCounter)(NULL).QuadPart - counter.QuadPart >= frequency.QuadPart / 20);
    interrupt = CALL(KeQueryInterruptTimePrecise)(&precise);
    CALL(KeStallExecutionProcessor)(100);
    CHECK(CALL(KeQueryInterruptTimePrecise)(&precise) >= interrupt + 1000);
}

static void Processors(void)
{
    KAFFINITY active = CALL(KeQueryActiveProcessors)(), same = 0;
    ULONG count = CALL(KeQueryActiveProcessorCount)(&same), i, bits = 0;
    PROCESSOR_NUMBER number = {77, 77, 77};

    for (i = 0; i < 64; i++)
        bits += active >> i & 1;
    CHECK(active == same && count == bits && count >= 1);
    CHECK(CALL(KeQueryActiveProcessorCountEx)(ALL_PROCESSOR_GROUPS) == count);
    CHECK(CALL(KeQueryActiveProcessorCountEx)(0) == count && CALL(KeQueryActiveProcessorCountEx)(5) == 0);
    CHECK(CALL(KeQueryMaximumProcessorCount)() >= count && CALL(KeQueryMaximumProcessorCountEx)(0) >= count);
    CHECK(CALL(KeGetCurrentProcessorNumberEx)(&number) < count);
    CHECK(number.Group == 0 && number.Reserved == 0 && number.Number < count);
    CHECK_STATUS(STATUS_SUCCESS, CALL(KeGetProcessorNumberFromIndex)(count - 1, &number));
    CHECK(number.Group == 0 && number.Number == count - 1);
    CHECK_NUMBER(count - 1, CALL(KeGetProcessorIndexFromNumber)(&number));
    CHECK_STATUS(STATUS_INVALID_PARAMETER, CALL(KeGetProcessorNumberFromIndex)(count, &number));
    number.Number = (UCHAR)count;
    CHECK_NUMBER((ULONG)-1, CALL(KeGetProcessorIndexFromNumber)(&number));
}

static volatile LONG Ran;
static KEVENT Done;

static void NTAPI OnDpc(PKDPC Dpc, PVOID Context, PVOID One, PVOID Two)
{
    (void)Dpc;
    if (Context == &Ran && One == (PVOID)1 && Two == (PVOID)2)
        InterlockedIncrement(&Ran);
    KeSetEvent(&Done, IO_NO_INCREMENT, FALSE);
}

static void NTAPI OnTimer(PKDPC Dpc, PVOID Context, PVOID One, PVOID Two)
{
    (void)Dpc, (void)One, (void)Two;
    if (InterlockedIncrement(Context) == 2)
        KeSetEvent(&Done, IO_NO_INCREMENT, FALSE);
}

static void Dpcs(void)
{
    PROCESSOR_NUMBER number = {0, 0, 0};
    LARGE_INTEGER soon = Milliseconds(5);
    LONG expired = 0;
    KTIMER timer;
    KDPC dpc;

    KeInitializeEvent(&Done, SynchronizationEvent, FALSE);
    CALL(KeInitializeThreadedDpc)(&dpc, OnDpc, (PVOID)&Ran);
    CALL(KeSetImportanceDpc)(&dpc, HighImportance);
    CHECK_NUMBER(HighImportance, dpc.Importance);
    CALL(KeSetTargetProcessorDpc)(&dpc, 0);
    CHECK_STATUS(STATUS_SUCCESS, CALL(KeSetTargetProcessorDpcEx)(&dpc, &number));
    number.Group = 9;
    CHECK_STATUS(STATUS_INVALID_PARAMETER, CALL(KeSetTargetProcessorDpcEx)(&dpc, &number));
    CHECK(KeInsertQueueDpc(&dpc, (PVOID)1, (PVOID)2));
    KeWaitForSingleObject(&Done, Executive, KernelMode, FALSE, NULL);
    CHECK_NUMBER(1, Ran);

    KeInitializeTimer(&timer);
    KeInitializeDpc(&dpc, OnTimer, &expired);
    CHECK(!CALL(KeReadStateTimer)(&timer));
    CHECK(!CALL(KeSetCoalescableTimer)(&timer, soon, 1, 1, &dpc));
    KeWaitForSingleObject(&Done, Executive, KernelMode, FALSE, NULL);
    CHECK(CALL(KeReadStateTimer)(&timer));
    CHECK(KeCancelTimer(&timer));
    KeFlushQueuedDpcs();
    CHECK(expired >= 2);
}

static void NTAPI OnImage(PUNICODE_STRING Name, HANDLE Process, PVOID Info)
{
    (void)Name, (void)Process, (void)Info;
}

static void NTAPI OnProcess(HANDLE Parent, HANDLE Process, BOOLEAN Create)
{
    (void)Parent, (void)Process, (void)Create;
}

static void NTAPI OnProcessor(PVOID Context, PVOID Change, PNTSTATUS Status)
{
    (void)Change, (void)Status;
    ++*(ULONG *)Context;
}

static volatile LONG Created, Ended;
static HANDLE CreatedId, EndedId;

static void NTAPI OnThread(HANDLE Process, HANDLE Thread, BOOLEAN Create)
{
    if (Process != SYSTEM_ID)
        return;
    if (Create) {
        CreatedId = Thread;
        InterlockedIncrement(&Created);
    } else {
        EndedId = Thread;
        InterlockedIncrement(&Ended);
    }
}

static HANDLE OwnId;

static void NTAPI TellId(PVOID Context)
{
    (void)Context;
    OwnId = PsGetCurrentThreadId();
    PsTerminateSystemThread(STATUS_SUCCESS);
}

static void Notifications(void)
{
    ULONG told = 0;
    PVOID registration;

    CHECK_STATUS(STATUS_SUCCESS, CALL(PsSetCreateProcessNotifyRoutine)(OnProcess, FALSE));
    CHECK_STATUS(STATUS_INVALID_PARAMETER, CALL(PsSetCreateProcessNotifyRoutine)(OnProcess, FALSE));
    CHECK_STATUS(STATUS_SUCCESS, CALL(PsSetCreateProcessNotifyRoutine)(OnProcess, TRUE));
    CHECK_STATUS(STATUS_INVALID_PARAMETER, CALL(PsSetCreateProcessNotifyRoutine)(OnProcess, TRUE));
    CHECK_STATUS(STATUS_SUCCESS, CALL(PsSetCreateProcessNotifyRoutineEx)(OnProcess, FALSE));
    CHECK_STATUS(STATUS_SUCCESS, CALL(PsSetCreateProcessNotifyRoutineEx)(OnProcess, TRUE));
    CHECK_STATUS(STATUS_INVALID_PARAMETER, CALL(PsSetCreateProcessNotifyRoutineEx2)(1, OnProcess, FALSE));
    CHECK_STATUS(STATUS_SUCCESS, CALL(PsSetCreateProcessNotifyRoutineEx2)(0, OnProcess, FALSE));
    CHECK_STATUS(STATUS_INVALID_PARAMETER, CALL(PsSetCreateProcessNotifyRoutineEx2)(0, OnProcess, FALSE));
    CHECK_STATUS(STATUS_INVALID_PARAMETER, CALL(PsSetCreateProcessNotifyRoutineEx)(OnProcess, TRUE));
    CHECK_STATUS(STATUS_SUCCESS, CALL(PsSetCreateProcessNotifyRoutineEx2)(0, OnProcess, TRUE));
    CHECK_STATUS(STATUS_SUCCESS, CALL(PsSetLoadImageNotifyRoutine)(OnImage));
    CHECK_STATUS(STATUS_SUCCESS, CALL(PsRemoveLoadImageNotifyRoutine)(OnImage));
    CHECK_STATUS(STATUS_PROCEDURE_NOT_FOUND, CALL(PsRemoveLoadImageNotifyRoutine)(OnImage));

    CHECK_STATUS(STATUS_SUCCESS, CALL(PsSetCreateThreadNotifyRoutine)(OnThread));
    Join(Start(TellId, NULL));
    CHECK_STATUS(STATUS_SUCCESS, CALL(PsRemoveCreateThreadNotifyRoutine)(OnThread));
    CHECK_NUMBER(1, Created);
    CHECK_NUMBER(1, Ended);
    CHECK(CreatedId == OwnId && EndedId == OwnId && OwnId != NULL);
    Join(Start(TellId, NULL));
    CHECK_NUMBER(1, Created);
    CHECK_STATUS(STATUS_PROCEDURE_NOT_FOUND, CALL(PsRemoveCreateThreadNotifyRoutine)(OnThread));

    /* 1: of processors that are there already, each is begun and completed. */
    registration = CALL(KeRegisterProcessorChangeCallback)(OnProcessor, &told, 1);
    CHECK(registration != NULL && told == 2 * CALL(KeQueryMaximumProcessorCount)());
    CALL(KeDeregisterProcessorChangeCallback)(registration);
}

static void Registers(void)
{
    UCHAR save[4096];

    CHECK_STATUS(STATUS_SUCCESS, CALL(KeSaveExtendedProcessorState)(6, save));
    CALL(KeRestoreExtendedProcessorState)(save);
}

static void Checks(PUNICODE_STRING RegistryPath)
{
    (void)RegistryPath;
    Identities();
    Attaching();
    Priorities();
    Alerts();
    Times();
    Processors();
    Dpcs();
    Notifications();
    Registers();
}
