/* Exports that are others under a second name, or their lesser-known relatives (K-100, K-135, K-139, K-142, K-155, K-165). */
#define FAMILY "twins"
#include "check.h"

IMPORT(PVOID, ExAllocateFromPagedLookasideList, PPAGED_LOOKASIDE_LIST);
IMPORT(void, ExFreeToPagedLookasideList, PPAGED_LOOKASIDE_LIST, PVOID);
IMPORT(SIZE_T, ExSizeOfRundownProtectionCacheAware, void);
IMPORT(void, ExInitializeRundownProtectionCacheAware, PVOID, SIZE_T);
IMPORT(BOOLEAN, ExAcquireRundownProtectionCacheAwareEx, PVOID, ULONG);
IMPORT(void, ExReleaseRundownProtectionCacheAwareEx, PVOID, ULONG);
IMPORT(void, ExWaitForRundownProtectionReleaseCacheAware, PVOID);
IMPORT(void, ExRundownCompletedCacheAware, PVOID);
IMPORT(void, ExQueryTimerResolution, PULONG, PULONG, PULONG);
IMPORT(void, IoRegisterBootDriverReinitialization, PDRIVER_OBJECT, PDRIVER_REINITIALIZE, PVOID);
IMPORT(NTSTATUS, IoRegisterFsRegistrationChangeEx, PDRIVER_OBJECT, PVOID);
IMPORT(void, IoUnregisterFsRegistrationChange, PDRIVER_OBJECT, PVOID);
IMPORT(NTSTATUS, IoUnregisterPlugPlayNotificationEx, PVOID);
IMPORT(NTSTATUS, KeExpandKernelStackAndCalloutEx, PVOID, PVOID, SIZE_T, BOOLEAN, PVOID);
IMPORT(USHORT, KeGetCurrentNodeNumber, void);
IMPORT(KPROCESSOR_MODE, KeGetPreviousMode, void);
IMPORT(USHORT, KeQueryMaximumGroupCount, void);
IMPORT(NTSTATUS, KeWaitForMutexObject, PVOID, KWAIT_REASON, KPROCESSOR_MODE, BOOLEAN, PLARGE_INTEGER);
IMPORT(PVOID, MmAllocateContiguousMemorySpecifyCacheNode, SIZE_T, PHYSICAL_ADDRESS, PHYSICAL_ADDRESS, PHYSICAL_ADDRESS, ULONG, ULONG);
IMPORT(void, MmFreeContiguousMemorySpecifyCache, PVOID, SIZE_T, ULONG);
IMPORT(NTSTATUS, MmCopyMemory, PVOID, PVOID, SIZE_T, ULONG, PSIZE_T);
IMPORT(PVOID, MmGetVirtualForPhysical, PHYSICAL_ADDRESS);
IMPORT(ULONG, MmIsDriverVerifying, PDRIVER_OBJECT);
IMPORT(PVOID, MmLockPagableDataSection, PVOID);
IMPORT(void, MmLockPagableSectionByHandle, PVOID);
IMPORT(void, MmUnlockPagableImageSection, PVOID);
IMPORT(NTSTATUS, NtAllocateLocallyUniqueId, PLUID);
IMPORT(NTSTATUS, NtDuplicateObject, HANDLE, HANDLE, HANDLE, PHANDLE, ACCESS_MASK, ULONG, ULONG);
IMPORT(NTSTATUS, NtOpenProcess, PHANDLE, ACCESS_MASK, POBJECT_ATTRIBUTES, PCLIENT_ID);
IMPORT(NTSTATUS, NtPulseEvent, HANDLE, PLONG);
IMPORT(NTSTATUS, NtQueryInformationProcess, HANDLE, ULONG, PVOID, ULONG, PULONG);
IMPORT(NTSTATUS, NtQueryObject, HANDLE, ULONG, PVOID, ULONG, PULONG);
IMPORT(NTSTATUS, NtQuerySystemInformation, ULONG, PVOID, ULONG, PULONG);
IMPORT(PULONG, PoRegisterDeviceForIdleDetection, PDEVICE_OBJECT, ULONG, ULONG, ULONG);
IMPORT(PVOID, PsGetCurrentProcessWow64Process, void);
IMPORT(KPROCESSOR_MODE, PsGetCurrentThreadPreviousMode, void);
IMPORT(PVOID, PsGetProcessDebugPort, PEPROCESS);
IMPORT(BOOLEAN, PsGetProcessExitProcessCalled, PEPROCESS);
IMPORT(LONGLONG, PsGetProcessExitTime, void);
IMPORT(PVOID, PsGetProcessJob, PEPROCESS);
IMPORT(PVOID, PsGetProcessSectionBaseAddress, PEPROCESS);
IMPORT(PVOID, PsGetProcessWin32Process, PEPROCESS);
IMPORT(BOOLEAN, RtlEqualLuid, PLUID, PLUID);
IMPORT(NTSTATUS, RtlEthernetStringToAddressW, PCWSTR, PCWSTR *, PUCHAR);
IMPORT(ULONG, RtlNtStatusToDosErrorNoTeb, NTSTATUS);
IMPORT(NTSTATUS, RtlOemStringToCountedUnicodeString, PUNICODE_STRING, POEM_STRING, BOOLEAN);
IMPORT(NTSTATUS, RtlUnicodeStringToCountedOemString, POEM_STRING, PUNICODE_STRING, BOOLEAN);
IMPORT(ULONG, RtlxOemStringToUnicodeSize, POEM_STRING);
IMPORT(ULONG, RtlxUnicodeStringToOemSize, PUNICODE_STRING);

static void Lookaside(void)
{
    static PAGED_LOOKASIDE_LIST list;
    PVOID block;

    ExInitializePagedLookasideList(&list, NULL, NULL, 0, 64, TEST_TAG, 0);
    block = CALL(ExAllocateFromPagedLookasideList)(&list);
    CHECK(block != NULL);
    CALL(ExFreeToPagedLookasideList)(&list, block);
    CHECK(CALL(ExAllocateFromPagedLookasideList)(&list) == block);
    CALL(ExFreeToPagedLookasideList)(&list, block);
    ExDeletePagedLookasideList(&list);
}

static void Rundown(void)
{
    SIZE_T size = CALL(ExSizeOfRundownProtectionCacheAware)();
    PVOID reference;

    CHECK(size >= sizeof(EX_RUNDOWN_REF) && size <= PAGE_SIZE);
    reference = ExAllocatePoolWithTag(NonPagedPool, size, TEST_TAG);
    CALL(ExInitializeRundownProtectionCacheAware)(reference, size);
    CHECK(CALL(ExAcquireRundownProtectionCacheAwareEx)(reference, 3));
    CALL(ExReleaseRundownProtectionCacheAwareEx)(reference, 2);
    CALL(ExReleaseRundownProtectionCacheAwareEx)(reference, 1);
    CALL(ExWaitForRundownProtectionReleaseCacheAware)(reference);
    CHECK(!CALL(ExAcquireRundownProtectionCacheAwareEx)(reference, 1));
    CALL(ExRundownCompletedCacheAware)(reference);
    CHECK(!CALL(ExAcquireRundownProtectionCacheAwareEx)(reference, 1));
    ExFreePoolWithTag(reference, TEST_TAG);
}

static void Memory(void)
{
    static CHAR from[] = "copied", to[8];
    PHYSICAL_ADDRESS zero = {.QuadPart = 0}, most = {.QuadPart = -1};
    SIZE_T copied = 0;
    PUCHAR pages;
    PVOID section;

    pages = CALL(MmAllocateContiguousMemorySpecifyCacheNode)(5000, zero, most, zero, MmCached, 0x80000000);
    CHECK(pages != NULL && ((ULONG_PTR)pages & (PAGE_SIZE - 1)) == 0);
    pages[4999] = 1;
    CHECK(CALL(MmGetVirtualForPhysical)(MmGetPhysicalAddress(pages)) == pages);
    CALL(MmFreeContiguousMemorySpecifyCache)(pages, 5000, MmCached);
    CHECK_STATUS(STATUS_SUCCESS, CALL(MmCopyMemory)(to, from, sizeof(from), 2, &copied));
    CHECK_NUMBER(sizeof(from), copied);
    CHECK_TEXT("copied", to);
    CHECK_STATUS(STATUS_INVALID_PARAMETER_4, CALL(MmCopyMemory)(to, from, sizeof(from), 3, &copied));
    CHECK(CALL(MmIsDriverVerifying)(Self) == 0);
    section = CALL(MmLockPagableDataSection)(Memory);
    CHECK(section != NULL);
    CALL(MmUnlockPagableImageSection)(section);
    CALL(MmLockPagableSectionByHandle)(section);
    CALL(MmUnlockPagableImageSection)(section);
    CHECK(from[0] == 'c');
}

static void Processes(void)
{
    PEPROCESS process = PsGetCurrentProcess();
    OBJECT_ATTRIBUTES attributes;
    CLIENT_ID id = {PsGetCurrentProcessId(), NULL};
    HANDLE handle, twin;
    PVOID object, other;
    ULONG_PTR basic[6];
    ULONG length = 0;

    CHECK(CALL(PsGetCurrentProcessWow64Process)() == NULL && CALL(PsGetProcessDebugPort)(process) == NULL);
    CHECK(CALL(PsGetProcessJob)(process) == NULL && CALL(PsGetProcessSectionBaseAddress)(process) == NULL);
    CHECK(CALL(PsGetProcessWin32Process)(process) == NULL);
    CHECK(!CALL(PsGetProcessExitProcessCalled)(process) && CALL(PsGetProcessExitTime)() == 0);
    CHECK(CALL(PsGetCurrentThreadPreviousMode)() == KernelMode && CALL(KeGetPreviousMode)() == KernelMode);

    InitializeObjectAttributes(&attributes, NULL, OBJ_KERNEL_HANDLE, NULL, NULL);
    CHECK_STATUS(STATUS_SUCCESS, CALL(NtOpenProcess)(&handle, PROCESS_ALL_ACCESS, &attributes, &id));
    CHECK_STATUS(STATUS_SUCCESS, CALL(NtQueryInformationProcess)(handle, 0, basic, sizeof(basic), &length));
    CHECK_NUMBER(sizeof(basic), length);
    CHECK_STATUS(STATUS_SUCCESS, CALL(NtDuplicateObject)(ZwCurrentProcess(), handle, ZwCurrentProcess(), &twin, 0, OBJ_KERNEL_HANDLE,
                                                         DUPLICATE_SAME_ACCESS));
    CHECK(twin != handle);
    CHECK_STATUS(STATUS_SUCCESS, ObReferenceObjectByHandle(handle, 0, NULL, KernelMode, &object, NULL));
    CHECK_STATUS(STATUS_SUCCESS, ZwClose(handle));
    CHECK_STATUS(STATUS_SUCCESS, ObReferenceObjectByHandle(twin, 0, NULL, KernelMode, &other, NULL));
    CHECK(object == process && other == process);
    ObDereferenceObject(object);
    ObDereferenceObject(other);
    CHECK_STATUS(STATUS_SUCCESS, ZwClose(twin));
}

static void Queries(void)
{
    OBJECT_ATTRIBUTES attributes;
    HANDLE event;
    ULONG counts[14], length = 0;
    UCHAR system[64];
    LONG old = 7;
    LUID one, two;

    InitializeObjectAttributes(&attributes, NULL, OBJ_KERNEL_HANDLE, NULL, NULL);
    CHECK_STATUS(STATUS_SUCCESS, ZwCreateEvent(&event, EVENT_ALL_ACCESS, &attributes, NotificationEvent, TRUE));
    CHECK_STATUS(STATUS_SUCCESS, CALL(NtPulseEvent)(event, &old));
    CHECK_NUMBER(1, old);
    CHECK_STATUS(STATUS_SUCCESS, CALL(NtPulseEvent)(event, &old));
    CHECK_NUMBER(0, old);
    CHECK_STATUS(STATUS_SUCCESS, CALL(NtQueryObject)(event, 0, counts, sizeof(counts), &length));
    CHECK_NUMBER(sizeof(counts), length);
    CHECK_NUMBER(1, counts[2]);
    CHECK_STATUS(STATUS_SUCCESS, ZwClose(event));
    CHECK_STATUS(STATUS_INFO_LENGTH_MISMATCH, CALL(NtQuerySystemInformation)(0, system, 3, &length));
    CHECK_STATUS(STATUS_SUCCESS, CALL(NtQuerySystemInformation)(0, system, sizeof(system), &length));
    CHECK_NUMBER(64, length);
    CHECK_STATUS(STATUS_SUCCESS, CALL(NtAllocateLocallyUniqueId)(&one));
    CHECK_STATUS(STATUS_SUCCESS, CALL(NtAllocateLocallyUniqueId)(&two));
    CHECK(CALL(RtlEqualLuid)(&one, &one) && !CALL(RtlEqualLuid)(&one, &two));
}

static ULONG_PTR CalledOut;

static void NTAPI CallOut(PVOID Parameter)
{
    CalledOut = (ULONG_PTR)Parameter;
}

static void Processors(void)
{
    ULONG longest = 0, shortest = 0, current = 0;
    KMUTEX mutex;

    CALL(ExQueryTimerResolution)(&longest, &shortest, &current);
    CHECK(longest >= current && current >= shortest && shortest > 0);
    CHECK_NUMBER(0, CALL(KeGetCurrentNodeNumber)());
    CHECK_NUMBER(1, CALL(KeQueryMaximumGroupCount)());
    CHECK_STATUS(STATUS_SUCCESS, CALL(KeExpandKernelStackAndCalloutEx)(CallOut, (PVOID)5, 0x4000, FALSE, NULL));
    CHECK_NUMBER(5, CalledOut);
    KeInitializeMutex(&mutex, 0);
    CHECK_STATUS(STATUS_SUCCESS, CALL(KeWaitForMutexObject)(&mutex, Executive, KernelMode, FALSE, NULL));
    CHECK_NUMBER(0, KeReadStateMutex(&mutex));
    KeReleaseMutex(&mutex, FALSE);
}

static void Texts(void)
{
    static WCHAR units[16];
    static CHAR bytes[16];
    UNICODE_STRING wide = {0, sizeof(units), units};
    OEM_STRING oem;
    OEM_STRING small = {0, sizeof(bytes), bytes};
    UCHAR address[6];
    PCWSTR end = NULL;

    RtlInitString((PSTRING)&oem, "caf\x82");
    CHECK_NUMBER(10, CALL(RtlxOemStringToUnicodeSize)(&oem));
    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlOemStringToCountedUnicodeString)(&wide, &oem, FALSE));
    CHECK_NUMBER(8, wide.Length);
    CHECK(units[3] == 0xE9);
    CHECK_NUMBER(5, CALL(RtlxUnicodeStringToOemSize)(&wide));
    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlUnicodeStringToCountedOemString)(&small, &wide, FALSE));
    CHECK(small.Length == 4 && RtlCompareMemory(bytes, "caf\x82", 4) == 4);
    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlEthernetStringToAddressW)(L"01-23-45-67-89-aB", &end, address));
    CHECK(*end == 0 && address[0] == 1 && address[5] == 0xAB);
    CHECK_STATUS(STATUS_INVALID_PARAMETER, CALL(RtlEthernetStringToAddressW)(L"01-23", &end, address));
    CHECK_NUMBER(5, CALL(RtlNtStatusToDosErrorNoTeb)(STATUS_ACCESS_DENIED));
}

static NTSTATUS NTAPI Arrived(PVOID Notification, PVOID Context)
{
    (void)Notification;
    (void)Context;
    return STATUS_SUCCESS;
}

static void NTAPI FileSystem(PDEVICE_OBJECT Device, BOOLEAN Active)
{
    (void)Device;
    (void)Active;
}

static void NTAPI CallBack(PDRIVER_OBJECT Driver, PVOID Context, ULONG Count)
{
    CHECK(Driver == Self && Context == &CalledOut && Count == 1);
    DbgPrint(FAMILY ": called back, %d failed\n", Failed);
}

static void Registrations(void)
{
    static GUID class = {1, 2, 3, {4}};
    PVOID entry = NULL;

    CHECK_STATUS(STATUS_SUCCESS, IoRegisterPlugPlayNotification(EventCategoryDeviceInterfaceChange, 0, &class, Self, Arrived, NULL,
                                                                &entry));
    CHECK_STATUS(STATUS_SUCCESS, CALL(IoUnregisterPlugPlayNotificationEx)(entry));
    CHECK_STATUS(STATUS_SUCCESS, CALL(IoRegisterFsRegistrationChangeEx)(Self, FileSystem));
    CHECK_STATUS(STATUS_DEVICE_ALREADY_ATTACHED, CALL(IoRegisterFsRegistrationChangeEx)(Self, FileSystem));
    CALL(IoUnregisterFsRegistrationChange)(Self, FileSystem);
    CALL(IoRegisterBootDriverReinitialization)(Self, CallBack, &CalledOut);
    CHECK(CALL(PoRegisterDeviceForIdleDetection)(NULL, 1, 1, 2) == NULL);
}

static void Checks(PUNICODE_STRING RegistryPath)
{
    (void)RegistryPath;
    Lookaside();
    Rundown();
    Memory();
    Processes();
    Queries();
    Processors();
    Texts();
    Registrations();
}
