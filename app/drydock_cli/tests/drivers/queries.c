/* Processes and objects by handle, pulses, identifiers and checksums (K-100, K-124, K-155, K-158). */
#define FAMILY "queries"
#include "check.h"

NTSYSAPI NTSTATUS NTAPI ZwPulseEvent(HANDLE, PLONG);
NTSYSAPI NTSTATUS NTAPI ZwAllocateLocallyUniqueId(PLUID);
NTKERNELAPI BOOLEAN NTAPI KeIsWaitListEmpty(PVOID);
NTSYSAPI ULONG NTAPI RtlComputeCrc32(ULONG, const VOID *, ULONG);

static void Processes(void)
{
    OBJECT_ATTRIBUTES attributes;
    CLIENT_ID id = {PsGetCurrentProcessId(), NULL};
    HANDLE process = NULL;
    PVOID object = NULL;
    ULONG_PTR basic[6], wow = 7;
    ULONG length = 0;

    InitializeObjectAttributes(&attributes, NULL, OBJ_KERNEL_HANDLE, NULL, NULL);
    CHECK_STATUS(STATUS_SUCCESS, ZwOpenProcess(&process, PROCESS_ALL_ACCESS, &attributes, &id));
    CHECK_STATUS(STATUS_SUCCESS, ObReferenceObjectByHandle(process, 0, *PsProcessType, KernelMode, &object, NULL));
    CHECK(object == PsGetCurrentProcess());
    ObDereferenceObject(object);
    CHECK_STATUS(STATUS_SUCCESS, ZwQueryInformationProcess(process, 0, basic, sizeof(basic), &length));
    CHECK_NUMBER(sizeof(basic), length);
    CHECK_NUMBER(4, basic[4]);
    CHECK_STATUS(STATUS_INFO_LENGTH_MISMATCH, ZwQueryInformationProcess(process, 0, basic, 8, NULL));
    CHECK_STATUS(STATUS_SUCCESS, ZwQueryInformationProcess(ZwCurrentProcess(), 26, &wow, sizeof(wow), NULL));
    CHECK_NUMBER(0, wow);
    CHECK_STATUS(STATUS_INVALID_INFO_CLASS, ZwQueryInformationProcess(process, 0x7FFF, basic, 8, NULL));
    CHECK_STATUS(STATUS_SUCCESS, ZwClose(process));
    CHECK_STATUS(STATUS_INVALID_HANDLE, ZwQueryInformationProcess(process, 0, basic, sizeof(basic), NULL));
    id.UniqueProcess = (HANDLE)0x7FFFFFF0;
    CHECK_STATUS(STATUS_INVALID_CID, ZwOpenProcess(&process, PROCESS_ALL_ACCESS, &attributes, &id));
}

static HANDLE Event;
static NTSTATUS Waited;

static void NTAPI Wait(PVOID Context)
{
    (void)Context;
    Waited = ZwWaitForSingleObject(Event, FALSE, NULL);
    PsTerminateSystemThread(STATUS_SUCCESS);
}

static void Objects(void)
{
    OBJECT_ATTRIBUTES attributes;
    UNICODE_STRING name, type;
    ULONG basic[14], length = 0;
    UCHAR buffer[256];
    PUNICODE_STRING text = (PUNICODE_STRING)buffer;
    PVOID event;
    LONG old = 7;
    PKTHREAD waiter;

    RtlInitUnicodeString(&name, L"\\BaseNamedObjects\\QUERIES");
    RtlInitUnicodeString(&type, L"Event");
    InitializeObjectAttributes(&attributes, &name, OBJ_KERNEL_HANDLE, NULL, NULL);
    CHECK_STATUS(STATUS_SUCCESS, ZwCreateEvent(&Event, EVENT_ALL_ACCESS, &attributes, NotificationEvent, FALSE));
    CHECK_STATUS(STATUS_SUCCESS, ZwQueryObject(Event, 0, basic, sizeof(basic), &length));
    CHECK_NUMBER(sizeof(basic), length);
    CHECK_NUMBER(EVENT_ALL_ACCESS, basic[1]);
    CHECK(basic[2] == 1 && basic[3] == 1);
    CHECK_STATUS(STATUS_INFO_LENGTH_MISMATCH, ZwQueryObject(Event, 1, buffer, 4, &length));
    CHECK_NUMBER(sizeof(UNICODE_STRING) + name.Length + sizeof(WCHAR), length);
    CHECK_STATUS(STATUS_SUCCESS, ZwQueryObject(Event, 1, buffer, length, NULL));
    CHECK(RtlEqualUnicodeString(&name, text, TRUE) && text->MaximumLength == name.Length + sizeof(WCHAR));
    CHECK_STATUS(STATUS_SUCCESS, ZwQueryObject(Event, 2, buffer, sizeof(buffer), &length));
    CHECK(RtlEqualUnicodeString(&type, text, FALSE));
    CHECK_STATUS(STATUS_INVALID_INFO_CLASS, ZwQueryObject(Event, 99, buffer, sizeof(buffer), NULL));
    CHECK_STATUS(STATUS_INVALID_HANDLE, ZwQueryObject((HANDLE)0x7FFFFFF0, 0, basic, sizeof(basic), NULL));

    ObReferenceObjectByHandle(Event, 0, *ExEventObjectType, KernelMode, &event, NULL);
    waiter = Start(Wait, NULL);
    while (KeIsWaitListEmpty(event))
        Sleep(1);
    CHECK_STATUS(STATUS_SUCCESS, ZwPulseEvent(Event, &old));
    CHECK_NUMBER(0, old);
    Join(waiter);
    CHECK_STATUS(STATUS_SUCCESS, Waited);
    CHECK_NUMBER(0, KeReadStateEvent(event));
    ObDereferenceObject(event);
    ZwClose(Event);
}

static void Numbers(void)
{
    LUID one, two;

    CHECK_STATUS(STATUS_SUCCESS, ZwAllocateLocallyUniqueId(&one));
    CHECK_STATUS(STATUS_SUCCESS, ZwAllocateLocallyUniqueId(&two));
    CHECK(one.LowPart != two.LowPart && one.LowPart > 999);
    RtlCopyLuid(&two, &one);
    CHECK(RtlEqualLuid(&one, &two));
    CHECK_NUMBER(0xCBF43926, RtlComputeCrc32(0, "123456789", 9));
    CHECK_NUMBER(0xCBF43926, RtlComputeCrc32(RtlComputeCrc32(0, "1234", 4), "56789", 5));
}

static void Checks(PUNICODE_STRING RegistryPath)
{
    (void)RegistryPath;
    Processes();
    Objects();
    Numbers();
}
