/* Threads bound to processors, and the number that they are on (K-007). */
#define FAMILY "affinity"
#include "check.h"

IMPORT(void, KeSetSystemAffinityThread, KAFFINITY);
IMPORT(KAFFINITY, KeSetSystemAffinityThreadEx, KAFFINITY);
IMPORT(void, KeRevertToUserAffinityThread, void);
IMPORT(void, KeRevertToUserAffinityThreadEx, KAFFINITY);
IMPORT(void, KeSetSystemGroupAffinityThread, PGROUP_AFFINITY, PGROUP_AFFINITY);
IMPORT(void, KeRevertToUserGroupAffinityThread, PGROUP_AFFINITY);
IMPORT(ULONG, KeGetCurrentProcessorNumberEx, PPROCESSOR_NUMBER);
IMPORT(NTSTATUS, ZwQueryInformationThread, HANDLE, ULONG, PVOID, ULONG, PULONG);

#define CURRENT ((HANDLE)(LONG_PTR)-2)
/* Of THREADINFOCLASS. */
enum { Group = 30 };

static ULONG Number(void)
{
    PROCESSOR_NUMBER number = {77, 77, 0};
    ULONG index = CALL(KeGetCurrentProcessorNumberEx)(&number);

    CHECK(number.Group == 0 && number.Number == index);
    /* What inline code reads. */
    CHECK_NUMBER(index, __readgsdword(0x1A4));
    return index;
}

static KAFFINITY Kept(void)
{
    GROUP_AFFINITY affinity = {0};

    CHECK_STATUS(STATUS_SUCCESS, CALL(ZwQueryInformationThread)(CURRENT, Group, &affinity, sizeof(affinity), NULL));
    CHECK_NUMBER(0, affinity.Group);
    return affinity.Mask;
}

static void Masks(void)
{
    KAFFINITY all = KeQueryActiveProcessors();
    ULONG home = Number(), i;

    CHECK_NUMBER(all, Kept());
    for (i = 0; i < (ULONG)KeNumberProcessors; i++) {
        CALL(KeSetSystemAffinityThread)((KAFFINITY)1 << i);
        CHECK_NUMBER(i, Number());
        CHECK_NUMBER((KAFFINITY)1 << i, Kept());
    }
    CALL(KeRevertToUserAffinityThread)();
    CHECK_NUMBER(home, Number());
    CHECK_NUMBER(all, Kept());

    CHECK_NUMBER(0, CALL(KeSetSystemAffinityThreadEx)((KAFFINITY)1 << 40 | (KAFFINITY)1 << 41));
    i = Number();
    CHECK(i == 40 || i == 41);
    CHECK_NUMBER((KAFFINITY)1 << 40 | (KAFFINITY)1 << 41, CALL(KeSetSystemAffinityThreadEx)((KAFFINITY)1 << 50));
    CHECK_NUMBER(50, Number());
    CALL(KeRevertToUserAffinityThreadEx)((KAFFINITY)1 << 41);
    CHECK_NUMBER(41, Number());
    /* No processor at all: nothing changes. */
    CHECK_NUMBER(0, CALL(KeSetSystemAffinityThreadEx)(0));
    CHECK_NUMBER(41, Number());
    CALL(KeRevertToUserAffinityThreadEx)(0);
    CHECK_NUMBER(home, Number());
}

static void Groups(void)
{
    GROUP_AFFINITY wanted = {.Mask = (KAFFINITY)1 << 33}, previous, nothing = {0}, wrong = wanted;
    ULONG home = Number();

    RtlFillMemory(&previous, sizeof(previous), 0x55);
    CALL(KeSetSystemGroupAffinityThread)(&wanted, &previous);
    CHECK(RtlCompareMemory(&previous, &nothing, sizeof(nothing)) == sizeof(nothing));
    CHECK_NUMBER(33, Number());
    wanted.Mask = (KAFFINITY)1 << 34;
    CALL(KeSetSystemGroupAffinityThread)(&wanted, &previous);
    CHECK(previous.Mask == (KAFFINITY)1 << 33 && previous.Group == 0);
    CHECK_NUMBER(34, Number());
    /* A group that there is not, and one without a processor, change nothing and had nothing before. */
    wrong.Group = 1;
    CALL(KeSetSystemGroupAffinityThread)(&wrong, &wrong);
    CHECK(wrong.Mask == 0 && wrong.Group == 0);
    CHECK_NUMBER(34, Number());
    CALL(KeRevertToUserGroupAffinityThread)(&previous);
    CHECK_NUMBER(33, Number());
    CALL(KeSetSystemGroupAffinityThread)(&wanted, NULL);
    CHECK_NUMBER(34, Number());
    CALL(KeRevertToUserGroupAffinityThread)(&nothing);
    CHECK_NUMBER(home, Number());
}

/* For good, and underneath what is for the time being. */
static void ForGood(void)
{
    KAFFINITY mask = (KAFFINITY)1 << 20, all = KeQueryActiveProcessors();
    ULONG home = Number();

    CHECK_STATUS(STATUS_SUCCESS, ZwSetInformationThread(CURRENT, ThreadAffinityMask, &mask, sizeof(mask)));
    CHECK_NUMBER(20, Number());
    CALL(KeSetSystemAffinityThread)((KAFFINITY)1 << 21);
    CHECK_NUMBER(21, Number());
    CALL(KeRevertToUserAffinityThread)();
    CHECK_NUMBER(20, Number());
    mask = 0;
    CHECK_STATUS(STATUS_INVALID_PARAMETER, ZwSetInformationThread(CURRENT, ThreadAffinityMask, &mask, sizeof(mask)));
    CHECK_STATUS(STATUS_SUCCESS, ZwSetInformationThread(CURRENT, ThreadAffinityMask, &all, sizeof(all)));
    CHECK_NUMBER(home, Number());
}

static void NTAPI Settle(PVOID Context)
{
    CALL(KeSetSystemAffinityThread)((KAFFINITY)1 << (ULONG_PTR)Context);
    CHECK_NUMBER((ULONG_PTR)Context, Number());
    /* Still bound when it ends. */
    PsTerminateSystemThread(STATUS_SUCCESS);
}

static void Checks(PUNICODE_STRING RegistryPath)
{
    KIRQL old;
    ULONG home = Number(), i;

    (void)RegistryPath;
    Masks();
    Groups();
    ForGood();
    /* A processor that a bound thread had is free again when that has ended: 64 of them would have taken all. */
    for (i = 0; i < 80; i++)
        Join(Start(Settle, (PVOID)(ULONG_PTR)60));
    /* At DISPATCH_LEVEL nobody moves. */
    KeRaiseIrql(DISPATCH_LEVEL, &old);
    CALL(KeSetSystemAffinityThread)((KAFFINITY)1 << 30);
    CHECK_NUMBER(home, Number());
    CALL(KeRevertToUserAffinityThread)();
    KeLowerIrql(old);
    CHECK_NUMBER(home, Number());
}
