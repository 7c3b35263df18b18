/* What a thread tells by its handle (K-134). */
#define FAMILY "thread_queries"
#include "check.h"

IMPORT(NTSTATUS, ZwQueryInformationThread, HANDLE, ULONG, PVOID, ULONG, PULONG);
IMPORT(NTSTATUS, NtQueryInformationThread, HANDLE, ULONG, PVOID, ULONG, PULONG);

#define CURRENT ((HANDLE)(LONG_PTR)-2)
/* Of THREADINFOCLASS. */
enum { Basic = 0, Times = 1, BasePriority = 3, StartAddress = 9, IsLast = 12, IsTerminated = 20 };

typedef struct {
    NTSTATUS ExitStatus;
    PVOID Teb;
    CLIENT_ID ClientId;
    ULONG_PTR Affinity;
    LONG Priority, BasePriority;
} BASIC;

static KEVENT Go;
static volatile ULONG Sum;

static void NTAPI Work(PVOID Context)
{
    LARGE_INTEGER frequency, begin = KeQueryPerformanceCounter(&frequency);
    ULONG i;

    (void)Context;
    /* Something that takes time: 20 ms of it, or 20 million rounds where no time passes. */
    for (i = 0; i < 20000000 && KeQueryPerformanceCounter(NULL).QuadPart - begin.QuadPart < frequency.QuadPart / 50; i++)
        Sum += i;
    KeWaitForSingleObject(&Go, Executive, KernelMode, FALSE, NULL);
    PsTerminateSystemThread(STATUS_DEVICE_BUSY);
}

static void Another(void)
{
    HANDLE thread;
    CLIENT_ID id;
    BASIC basic;
    KERNEL_USER_TIMES times;
    LARGE_INTEGER before, after;
    PVOID start;
    ULONG over = 7, length = 0;
    KPRIORITY increment = 2;

    KeInitializeEvent(&Go, NotificationEvent, FALSE);
    KeQuerySystemTime(&before);
    CHECK_STATUS(STATUS_SUCCESS, PsCreateSystemThread(&thread, THREAD_ALL_ACCESS, NULL, NULL, &id, Work, NULL));
    CHECK_STATUS(STATUS_SUCCESS, CALL(ZwQueryInformationThread)(thread, Basic, &basic, sizeof(basic), &length));
    CHECK_NUMBER(sizeof(basic), length);
    CHECK_STATUS(STATUS_PENDING, basic.ExitStatus);
    CHECK(basic.Teb == NULL && basic.ClientId.UniqueProcess == id.UniqueProcess);
    CHECK(basic.ClientId.UniqueThread == id.UniqueThread && basic.ClientId.UniqueThread != PsGetCurrentThreadId());
    CHECK_NUMBER(8, basic.BasePriority);
    CHECK_STATUS(STATUS_SUCCESS, ZwSetInformationThread(thread, ThreadBasePriority, &increment, sizeof(increment)));
    CHECK_STATUS(STATUS_SUCCESS, CALL(ZwQueryInformationThread)(thread, Basic, &basic, sizeof(basic), NULL));
    CHECK_NUMBER(10, basic.BasePriority);
    CHECK_STATUS(STATUS_SUCCESS, CALL(ZwQueryInformationThread)(thread, IsTerminated, &over, sizeof(over), NULL));
    CHECK_NUMBER(0, over);
    CHECK_STATUS(STATUS_SUCCESS, CALL(ZwQueryInformationThread)(thread, Times, &times, sizeof(times), NULL));
    CHECK_NUMBER(0, times.ExitTime.QuadPart);

    KeSetEvent(&Go, IO_NO_INCREMENT, FALSE);
    CHECK_STATUS(STATUS_SUCCESS, ZwWaitForSingleObject(thread, FALSE, NULL));
    KeQuerySystemTime(&after);
    CHECK_STATUS(STATUS_SUCCESS, CALL(ZwQueryInformationThread)(thread, Basic, &basic, sizeof(basic), NULL));
    CHECK_STATUS(STATUS_DEVICE_BUSY, basic.ExitStatus);
    CHECK_STATUS(STATUS_SUCCESS, CALL(ZwQueryInformationThread)(thread, IsTerminated, &over, sizeof(over), NULL));
    CHECK_NUMBER(1, over);
    CHECK_STATUS(STATUS_SUCCESS, CALL(NtQueryInformationThread)(thread, Times, &times, sizeof(times), NULL));
    CHECK(times.CreateTime.QuadPart >= before.QuadPart && times.CreateTime.QuadPart <= times.ExitTime.QuadPart);
    CHECK(times.ExitTime.QuadPart <= after.QuadPart);
    CHECK_NUMBER(0, times.UserTime.QuadPart);
    DbgPrint(FAMILY ": ran for %s\n", times.KernelTime.QuadPart > 0 ? "a while" : "no time");
    CHECK_STATUS(STATUS_SUCCESS, CALL(ZwQueryInformationThread)(thread, StartAddress, &start, sizeof(start), NULL));
    CHECK(start == Work);
    ZwClose(thread);
    CHECK_STATUS(STATUS_INVALID_HANDLE, CALL(ZwQueryInformationThread)(thread, Basic, &basic, sizeof(basic), NULL));
}

static void Own(void)
{
    BASIC basic;
    ULONG last = 7, length = 7;

    CHECK_STATUS(STATUS_SUCCESS, CALL(ZwQueryInformationThread)(CURRENT, Basic, &basic, sizeof(basic), &length));
    CHECK(basic.ClientId.UniqueThread == PsGetCurrentThreadId());
    CHECK_NUMBER(KeQueryPriorityThread(KeGetCurrentThread()), basic.Priority);
    CHECK_STATUS(STATUS_SUCCESS, CALL(ZwQueryInformationThread)(CURRENT, IsLast, &last, sizeof(last), NULL));
    CHECK_NUMBER(0, last);
    CHECK_STATUS(STATUS_INFO_LENGTH_MISMATCH,
                 CALL(ZwQueryInformationThread)(CURRENT, Basic, &basic, sizeof(basic) - 1, NULL));
    CHECK_STATUS(STATUS_INFO_LENGTH_MISMATCH,
                 CALL(ZwQueryInformationThread)(CURRENT, IsLast, &basic, sizeof(basic), NULL));
    CHECK_STATUS(STATUS_INVALID_INFO_CLASS, CALL(ZwQueryInformationThread)(CURRENT, BasePriority, &last, 4, NULL));
    CHECK_STATUS(STATUS_INVALID_INFO_CLASS, CALL(ZwQueryInformationThread)(CURRENT, 0x7FFF, &last, 4, NULL));
    CHECK_STATUS(STATUS_ACCESS_VIOLATION, CALL(ZwQueryInformationThread)(CURRENT, IsLast, (PVOID)16, 4, NULL));
}

static void Checks(PUNICODE_STRING RegistryPath)
{
    (void)RegistryPath;
    Another();
    Own();
}
