/* Events and timers behind handles and names, waits on handles, and pulses (K-124 to K-129, K-155, K-159). */
#define FAMILY "named"
#include "check.h"

IMPORT(NTSTATUS, NtCreateEvent, PHANDLE, ACCESS_MASK, POBJECT_ATTRIBUTES, ULONG, BOOLEAN);
IMPORT(NTSTATUS, ZwOpenEvent, PHANDLE, ACCESS_MASK, POBJECT_ATTRIBUTES);
IMPORT(NTSTATUS, NtOpenEvent, PHANDLE, ACCESS_MASK, POBJECT_ATTRIBUTES);
IMPORT(NTSTATUS, ZwSetEvent, HANDLE, PLONG);
IMPORT(NTSTATUS, NtSetEvent, HANDLE, PLONG);
IMPORT(NTSTATUS, ZwResetEvent, HANDLE, PLONG);
IMPORT(NTSTATUS, NtResetEvent, HANDLE, PLONG);
IMPORT(NTSTATUS, ZwClearEvent, HANDLE);
IMPORT(NTSTATUS, NtClearEvent, HANDLE);
IMPORT(NTSTATUS, ZwWaitForSingleObject, HANDLE, BOOLEAN, PLARGE_INTEGER);
IMPORT(NTSTATUS, NtWaitForSingleObject, HANDLE, BOOLEAN, PLARGE_INTEGER);
IMPORT(NTSTATUS, ZwWaitForMultipleObjects, ULONG, PHANDLE, ULONG, BOOLEAN, PLARGE_INTEGER);
IMPORT(NTSTATUS, NtWaitForMultipleObjects, ULONG, PHANDLE, ULONG, BOOLEAN, PLARGE_INTEGER);
IMPORT(PKEVENT, IoCreateNotificationEvent, PUNICODE_STRING, PHANDLE);
IMPORT(PKEVENT, IoCreateSynchronizationEvent, PUNICODE_STRING, PHANDLE);
IMPORT(NTSTATUS, NtClose, HANDLE);
IMPORT(NTSTATUS, ZwCreateTimer, PHANDLE, ACCESS_MASK, POBJECT_ATTRIBUTES, ULONG);
IMPORT(NTSTATUS, ZwOpenTimer, PHANDLE, ACCESS_MASK, POBJECT_ATTRIBUTES);
IMPORT(NTSTATUS, ZwSetTimer, HANDLE, PLARGE_INTEGER, PVOID, PVOID, BOOLEAN, LONG, PBOOLEAN);
IMPORT(NTSTATUS, ZwCancelTimer, HANDLE, PBOOLEAN);

#define TIMER_ALL_ACCESS 0x1F0003

static LARGE_INTEGER AtOnce;

static void Handles(void)
{
    UNICODE_STRING name = RTL_CONSTANT_STRING(L"\\BaseNamedObjects\\Drydock"), none = RTL_CONSTANT_STRING(L"\\BaseNamedObjects\\No");
    OBJECT_ATTRIBUTES attributes;
    HANDLE one = NULL, two = NULL, three = NULL;
    LONG old = 77;

    InitializeObjectAttributes(&attributes, &name, OBJ_KERNEL_HANDLE, NULL, NULL);
    CHECK_STATUS(STATUS_SUCCESS, CALL(NtCreateEvent)(&one, EVENT_ALL_ACCESS, &attributes, NotificationEvent, FALSE));
    CHECK_STATUS(STATUS_OBJECT_NAME_COLLISION, CALL(NtCreateEvent)(&two, EVENT_ALL_ACCESS, &attributes, NotificationEvent, FALSE));
    CHECK_STATUS(STATUS_SUCCESS, CALL(ZwOpenEvent)(&two, EVENT_ALL_ACCESS, &attributes));
    CHECK_STATUS(STATUS_SUCCESS, CALL(NtOpenEvent)(&three, EVENT_ALL_ACCESS, &attributes));
    CHECK(one != two && two != three);
    CHECK_STATUS(STATUS_SUCCESS, CALL(ZwSetEvent)(one, &old));
    CHECK_NUMBER(0, old);
    CHECK_STATUS(STATUS_SUCCESS, CALL(NtSetEvent)(two, &old));
    CHECK_NUMBER(1, old);
    CHECK_STATUS(STATUS_SUCCESS, CALL(ZwWaitForSingleObject)(three, FALSE, &AtOnce));
    CHECK_STATUS(STATUS_SUCCESS, CALL(ZwResetEvent)(two, &old));
    CHECK_NUMBER(1, old);
    CHECK_STATUS(STATUS_SUCCESS, CALL(NtResetEvent)(two, &old));
    CHECK_NUMBER(0, old);
    CHECK_STATUS(STATUS_TIMEOUT, CALL(NtWaitForSingleObject)(one, FALSE, &AtOnce));
    CALL(ZwSetEvent)(one, NULL);
    CHECK_STATUS(STATUS_SUCCESS, CALL(ZwClearEvent)(two));
    CHECK_STATUS(STATUS_TIMEOUT, CALL(NtWaitForSingleObject)(one, FALSE, &AtOnce));
    CALL(ZwSetEvent)(one, NULL);
    CHECK_STATUS(STATUS_SUCCESS, CALL(NtClearEvent)(one));
    CHECK_STATUS(STATUS_TIMEOUT, CALL(NtWaitForSingleObject)(one, FALSE, &AtOnce));
    CHECK_STATUS(STATUS_SUCCESS, CALL(NtClose)(three));
    CHECK_STATUS(STATUS_INVALID_HANDLE, CALL(ZwSetEvent)(three, NULL));
    CALL(NtClose)(two);
    CALL(NtClose)(one);
    CHECK_STATUS(STATUS_OBJECT_NAME_NOT_FOUND, CALL(ZwOpenEvent)(&one, EVENT_ALL_ACCESS, &attributes));
    InitializeObjectAttributes(&attributes, &none, OBJ_KERNEL_HANDLE, NULL, NULL);
    CHECK_STATUS(STATUS_OBJECT_NAME_NOT_FOUND, CALL(NtOpenEvent)(&one, EVENT_ALL_ACCESS, &attributes));
}

/* Shared by name; made signalled. */
static void Shared(void)
{
    UNICODE_STRING kept = RTL_CONSTANT_STRING(L"\\BaseNamedObjects\\Kept"), once = RTL_CONSTANT_STRING(L"\\BaseNamedObjects\\Once");
    HANDLE handles[3];
    PKEVENT first, second, third;

    first = CALL(IoCreateNotificationEvent)(&kept, &handles[0]);
    second = CALL(IoCreateNotificationEvent)(&kept, &handles[1]);
    third = CALL(IoCreateSynchronizationEvent)(&once, &handles[2]);
    CHECK(first != NULL && first == second && third != NULL && third != first);
    CHECK(KeReadStateEvent(first) && KeReadStateEvent(third));
    /* All: each is signalled. The second is then taken, the first stays. */
    CHECK_STATUS(STATUS_SUCCESS, CALL(ZwWaitForMultipleObjects)(2, &handles[1], WaitAll, FALSE, &AtOnce));
    CHECK(KeReadStateEvent(first) && !KeReadStateEvent(third));
    CHECK_STATUS(STATUS_TIMEOUT, CALL(NtWaitForMultipleObjects)(2, &handles[1], WaitAll, FALSE, &AtOnce));
    CHECK_STATUS(STATUS_WAIT_0, CALL(NtWaitForMultipleObjects)(2, &handles[1], WaitAny, FALSE, &AtOnce));
    KeClearEvent(first);
    KeSetEvent(third, IO_NO_INCREMENT, FALSE);
    CHECK_STATUS(STATUS_WAIT_1, CALL(ZwWaitForMultipleObjects)(2, &handles[1], WaitAny, FALSE, &AtOnce));
    CHECK_STATUS(STATUS_TIMEOUT, CALL(ZwWaitForMultipleObjects)(2, &handles[1], WaitAny, FALSE, &AtOnce));
    CHECK_STATUS(STATUS_INVALID_PARAMETER, CALL(ZwWaitForMultipleObjects)(0, handles, WaitAny, FALSE, &AtOnce));
    ZwClose(handles[0]);
    ZwClose(handles[1]);
    ZwClose(handles[2]);
}

static KEVENT Entered, Pulsed[2];
static ULONG Objects;

static void NTAPI WaitForPulse(PVOID Context)
{
    PVOID objects[] = {&Pulsed[0], &Pulsed[1]};

    (void)Context;
    KeSetEvent(&Entered, IO_NO_INCREMENT, FALSE);
    KeWaitForMultipleObjects(Objects, objects, WaitAll, Executive, KernelMode, FALSE, NULL, NULL);
    PsTerminateSystemThread(STATUS_SUCCESS);
}

/* A pulse lets go whoever waits and leaves the event as it is not signalled. */
static void Pulses(void)
{
    LARGE_INTEGER moment = Milliseconds(1);
    PKTHREAD waiter;

    for (Objects = 1; Objects <= 2; Objects++) {
        KeInitializeEvent(&Entered, NotificationEvent, FALSE);
        KeInitializeEvent(&Pulsed[0], NotificationEvent, FALSE);
        KeInitializeEvent(&Pulsed[1], NotificationEvent, TRUE);
        waiter = Start(WaitForPulse, NULL);
        KeWaitForSingleObject(&Entered, Executive, KernelMode, FALSE, NULL);
        /* Whoever has said that he waits may not wait yet. */
        do
            CHECK_NUMBER(0, KePulseEvent(&Pulsed[0], IO_NO_INCREMENT, FALSE));
        while (KeWaitForSingleObject(waiter, Executive, KernelMode, FALSE, &moment) == STATUS_TIMEOUT);
        Join(waiter);
        CHECK(!KeReadStateEvent(&Pulsed[0]));
    }
    CHECK_NUMBER(1, KePulseEvent(&Pulsed[1], IO_NO_INCREMENT, FALSE));
    CHECK(!KeReadStateEvent(&Pulsed[1]));
}

#define CANCEL(expected, handle)                                                                                       \
    do {                                                                                                               \
        BOOLEAN state = 77;                                                                                            \
        CHECK_STATUS(STATUS_SUCCESS, CALL(ZwCancelTimer)(handle, &state));                                             \
        CHECK_NUMBER(expected, state);                                                                                 \
    } while (0)

static void Timers(void)
{
    UNICODE_STRING name = RTL_CONSTANT_STRING(L"\\BaseNamedObjects\\DrydockTimer");
    LARGE_INTEGER soon = Milliseconds(1), late = Milliseconds(3600 * 1000);
    OBJECT_ATTRIBUTES attributes;
    HANDLE one, two, event;
    BOOLEAN state = 77;

    InitializeObjectAttributes(&attributes, &name, OBJ_KERNEL_HANDLE, NULL, NULL);
    CHECK_STATUS(STATUS_INVALID_PARAMETER_4, CALL(ZwCreateTimer)(&one, TIMER_ALL_ACCESS, NULL, 2));
    CHECK_STATUS(STATUS_SUCCESS, CALL(ZwCreateTimer)(&one, TIMER_ALL_ACCESS, &attributes, NotificationTimer));
    CHECK_STATUS(STATUS_OBJECT_NAME_COLLISION, CALL(ZwCreateTimer)(&two, TIMER_ALL_ACCESS, &attributes, NotificationTimer));
    CHECK_STATUS(STATUS_OBJECT_TYPE_MISMATCH, CALL(ZwOpenEvent)(&two, EVENT_ALL_ACCESS, &attributes));
    CHECK_STATUS(STATUS_SUCCESS, CALL(ZwOpenTimer)(&two, TIMER_ALL_ACCESS, &attributes));
    CHECK_STATUS(STATUS_TIMEOUT, CALL(ZwWaitForSingleObject)(one, FALSE, &AtOnce));
    CHECK_STATUS(STATUS_SUCCESS, CALL(ZwSetTimer)(one, &soon, NULL, NULL, FALSE, 0, &state));
    CHECK_NUMBER(FALSE, state);
    CHECK_STATUS(STATUS_SUCCESS, CALL(ZwWaitForSingleObject)(two, FALSE, NULL));
    CHECK_STATUS(STATUS_SUCCESS, CALL(ZwWaitForSingleObject)(one, FALSE, &AtOnce));
    CANCEL(TRUE, two);
    CHECK_STATUS(STATUS_SUCCESS, CALL(ZwSetTimer)(one, &late, NULL, NULL, FALSE, 0, &state));
    CHECK_NUMBER(TRUE, state);
    CHECK_STATUS(STATUS_TIMEOUT, CALL(ZwWaitForSingleObject)(one, FALSE, &AtOnce));
    CANCEL(FALSE, one);
    CHECK_STATUS(STATUS_INVALID_PARAMETER_6, CALL(ZwSetTimer)(one, &late, NULL, NULL, FALSE, -1, NULL));
    CHECK_STATUS(STATUS_TIMER_RESUME_IGNORED, CALL(ZwSetTimer)(one, &late, NULL, NULL, TRUE, 0, NULL));
    /* The last handle takes the name, and a timer that is set is so no more. */
    CALL(NtClose)(two);
    CALL(NtClose)(one);
    CHECK_STATUS(STATUS_OBJECT_NAME_NOT_FOUND, CALL(ZwOpenTimer)(&one, TIMER_ALL_ACCESS, &attributes));
    CHECK_STATUS(STATUS_INVALID_HANDLE, CALL(ZwCancelTimer)(one, NULL));

    CHECK_STATUS(STATUS_SUCCESS, CALL(ZwCreateTimer)(&one, TIMER_ALL_ACCESS, NULL, SynchronizationTimer));
    CHECK_STATUS(STATUS_SUCCESS, CALL(ZwSetTimer)(one, &soon, NULL, NULL, FALSE, 1, NULL));
    CHECK_STATUS(STATUS_SUCCESS, CALL(ZwWaitForSingleObject)(one, FALSE, NULL));
    CHECK_STATUS(STATUS_SUCCESS, CALL(ZwWaitForSingleObject)(one, FALSE, NULL));
    CHECK_STATUS(STATUS_SUCCESS, CALL(ZwCancelTimer)(one, NULL));
    CHECK_STATUS(STATUS_OBJECT_TYPE_MISMATCH, CALL(ZwSetEvent)(one, NULL));
    CHECK_STATUS(STATUS_SUCCESS, CALL(NtCreateEvent)(&event, EVENT_ALL_ACCESS, NULL, NotificationEvent, FALSE));
    CHECK_STATUS(STATUS_OBJECT_TYPE_MISMATCH, CALL(ZwCancelTimer)(event, NULL));
    CALL(NtClose)(event);
    CALL(NtClose)(one);
}

static void Checks(PUNICODE_STRING RegistryPath)
{
    (void)RegistryPath;
    Handles();
    Shared();
    Pulses();
    Timers();
}
