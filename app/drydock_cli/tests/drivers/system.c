/* What ZwQuerySystemInformation says of the run: its process, its handles, its modules. */
#define FAMILY "system"
#include "check.h"

NTSYSAPI NTSTATUS NTAPI ZwQuerySystemInformation(ULONG, PVOID, ULONG, PULONG);
NTKERNELAPI KPROCESSOR_MODE NTAPI ExGetPreviousMode(VOID);

typedef struct {
    HANDLE Section;
    PVOID MappedBase, ImageBase;
    ULONG ImageSize, Flags;
    USHORT LoadOrderIndex, InitOrderIndex, LoadCount, OffsetToFileName;
    CHAR FullPathName[256];
} MODULE;

typedef struct {
    ULONG Count;
    MODULE Modules[1];
} MODULES;

typedef struct {
    PVOID Object;
    ULONG_PTR Process, Handle;
    ULONG Access;
    USHORT BackTrace, Type;
    ULONG Attributes, Reserved;
} HANDLE_ENTRY;

typedef struct {
    ULONG_PTR Count, Reserved;
    HANDLE_ENTRY Entries[1];
} HANDLES;

typedef struct {
    ULONG Next, Threads;
    UCHAR Between[0x30];
    UNICODE_STRING Name;
    LONG Priority;
    HANDLE Id, Parent;
    ULONG Handles;
    UCHAR Rest[0x100 - 0x64];
    struct {
        UCHAR Times[0x28];
        CLIENT_ID Id;
        UCHAR Rest[0x18];
    } Thread[1];
} PROCESS;

/* Asks for the length, then for the answer; the caller frees it. */
static PVOID Ask(ULONG Class)
{
    ULONG length = 0;
    PVOID answer;

    CHECK_STATUS(STATUS_INFO_LENGTH_MISMATCH, ZwQuerySystemInformation(Class, NULL, 0, &length));
    length += 4096;
    answer = ExAllocatePoolWithTag(NonPagedPool, length, TEST_TAG);
    CHECK_STATUS(STATUS_SUCCESS, ZwQuerySystemInformation(Class, answer, length, &length));
    return answer;
}

static void Modules(void)
{
    MODULES *modules = Ask(11);
    BOOLEAN found = FALSE;

    CHECK_TEXT("ntoskrnl.exe", modules->Modules[0].FullPathName + modules->Modules[0].OffsetToFileName);
    CHECK(*(USHORT *)modules->Modules[0].ImageBase == 0x5A4D);
    for (ULONG i = 0; i < modules->Count; i++) {
        MODULE *module = &modules->Modules[i];
        ULONG_PTR here = (ULONG_PTR)Modules - (ULONG_PTR)module->ImageBase;

        if (here < module->ImageSize) {
            found = TRUE;
            CHECK_TEXT("system.sys", module->FullPathName + module->OffsetToFileName);
        }
    }
    CHECK(found);
    ExFreePoolWithTag(modules, TEST_TAG);
}

static void Handles(void)
{
    HANDLE event;
    PVOID object = NULL;
    BOOLEAN found = FALSE;
    OBJECT_ATTRIBUTES attributes;
    HANDLES *handles;

    InitializeObjectAttributes(&attributes, NULL, OBJ_KERNEL_HANDLE, NULL, NULL);
    CHECK_STATUS(STATUS_SUCCESS, ZwCreateEvent(&event, EVENT_MODIFY_STATE, &attributes, NotificationEvent, FALSE));
    ObReferenceObjectByHandle(event, 0, NULL, KernelMode, &object, NULL);
    handles = Ask(64);
    for (ULONG i = 0; i < handles->Count; i++) {
        if (handles->Entries[i].Object != object)
            continue;
        found = TRUE;
        CHECK_NUMBER((ULONG_PTR)event, handles->Entries[i].Handle);
        CHECK_NUMBER(4, handles->Entries[i].Process);
        CHECK_NUMBER(EVENT_MODIFY_STATE, handles->Entries[i].Access);
    }
    CHECK(found);
    ExFreePoolWithTag(handles, TEST_TAG);
    ExFreePoolWithTag(Ask(16), TEST_TAG);
    ObDereferenceObject(object);
    ZwClose(event);
}

static void Processes(void)
{
    PROCESS *process = Ask(5);
    UNICODE_STRING system;
    BOOLEAN found = FALSE;

    RtlInitUnicodeString(&system, L"System");
    CHECK_NUMBER(0, process->Next);
    CHECK(RtlEqualUnicodeString(&system, &process->Name, FALSE));
    CHECK(process->Id == PsGetCurrentProcessId());
    for (ULONG i = 0; i < process->Threads; i++)
        found |= process->Thread[i].Id.UniqueThread == PsGetCurrentThreadId();
    CHECK(found);
    ExFreePoolWithTag(process, TEST_TAG);
}

static void Machine(void)
{
    UCHAR basic[0x40], debugger[2];
    LONGLONG times[6], now;
    ULONG length;

    CHECK_STATUS(STATUS_SUCCESS, ZwQuerySystemInformation(0, basic, sizeof(basic), &length));
    CHECK_NUMBER(sizeof(basic), length);
    CHECK_NUMBER(PAGE_SIZE, *(ULONG *)(basic + 8));
    CHECK_NUMBER(KeQueryTimeIncrement(), *(ULONG *)(basic + 4));
    CHECK_NUMBER(KeQueryMaximumProcessorCount(), basic[0x38]);
    CHECK_STATUS(STATUS_SUCCESS, ZwQuerySystemInformation(3, times, sizeof(times), &length));
    KeQuerySystemTime((PLARGE_INTEGER)&now);
    CHECK(times[0] <= times[1] && times[1] <= now + 156250);
    CHECK_STATUS(STATUS_SUCCESS, ZwQuerySystemInformation(35, debugger, sizeof(debugger), NULL));
    CHECK(debugger[0] == 0 && debugger[1] == 1);
    CHECK_STATUS(STATUS_INVALID_INFO_CLASS, ZwQuerySystemInformation(0x7FFF, basic, sizeof(basic), NULL));
    CHECK_NUMBER(KernelMode, ExGetPreviousMode());
}

static void Checks(PUNICODE_STRING RegistryPath)
{
    (void)RegistryPath;
    CHECK_STATUS(STATUS_ACCESS_VIOLATION, ZwQuerySystemInformation(5, (PVOID)0x10, 0x10000, NULL));
    Machine();
    Modules();
    Handles();
    Processes();
}
