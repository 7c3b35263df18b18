/* Processes, copies, memory of a kind, processor and pool, power (K-100, K-107, K-139, K-142, K-177). */
#define FAMILY "services"
#include "check.h"

NTKERNELAPI BOOLEAN NTAPI PsIsSystemProcess(PEPROCESS);
NTKERNELAPI BOOLEAN NTAPI PsIsThreadTerminating(PETHREAD);
NTKERNELAPI NTSTATUS NTAPI PsLookupProcessThreadByCid(PCLIENT_ID, PEPROCESS *, PETHREAD *);
NTKERNELAPI PVOID NTAPI PsGetCurrentThreadStackBase(VOID);
NTKERNELAPI PVOID NTAPI PsGetCurrentThreadStackLimit(VOID);
NTKERNELAPI PEPROCESS NTAPI PsGetCurrentThreadProcess(VOID);
NTKERNELAPI HANDLE NTAPI PsGetCurrentThreadProcessId(VOID);
NTKERNELAPI LONGLONG NTAPI PsGetProcessCreateTimeQuadPart(PEPROCESS);
NTKERNELAPI NTSTATUS NTAPI PsGetProcessExitStatus(PEPROCESS);
NTKERNELAPI PVOID NTAPI PsGetProcessPeb(PEPROCESS);
NTKERNELAPI PVOID NTAPI PsGetProcessWow64Process(PEPROCESS);
NTKERNELAPI HANDLE NTAPI PsGetProcessInheritedFromUniqueProcessId(PEPROCESS);
NTKERNELAPI BOOLEAN NTAPI PsIsProcessBeingDebugged(PEPROCESS);
NTKERNELAPI PVOID NTAPI IoGetInitialStack(VOID);
NTKERNELAPI ULONG NTAPI IoWithinStackLimits(ULONG_PTR, SIZE_T);
NTKERNELAPI BOOLEAN NTAPI IoIsSystemThread(PETHREAD);
NTKERNELAPI NTSTATUS NTAPI MmCopyVirtualMemory(PEPROCESS, PVOID, PEPROCESS, PVOID, SIZE_T, KPROCESSOR_MODE, PSIZE_T);
NTKERNELAPI ULONG NTAPI ExSetTimerResolution(ULONG, BOOLEAN);

IMPORT(BOOLEAN, PsIsProtectedProcess, PEPROCESS);
IMPORT(NTSTATUS, SeLocateProcessImageName, PEPROCESS, PUNICODE_STRING *);

NTKERNELAPI SIZE_T NTAPI ExQueryPoolBlockSize(PVOID, PBOOLEAN);
NTKERNELAPI PVOID NTAPI ExAllocateFromPagedLookasideList(PPAGED_LOOKASIDE_LIST);
NTKERNELAPI VOID NTAPI ExFreeToPagedLookasideList(PPAGED_LOOKASIDE_LIST, PVOID);

static void Processes(void)
{
    CLIENT_ID id = {PsGetCurrentProcessId(), PsGetCurrentThreadId()};
    PEPROCESS process = NULL;
    PETHREAD thread = NULL;
    PUNICODE_STRING image = NULL;
    LARGE_INTEGER now;
    ULONG_PTR here = (ULONG_PTR)&now, low, high;

    CHECK(PsIsSystemProcess(PsGetCurrentProcess()));
    CHECK(PsGetCurrentThreadProcess() == PsGetCurrentProcess());
    CHECK(PsGetCurrentThreadProcessId() == PsGetCurrentProcessId());
    CHECK(!PsIsThreadTerminating(PsGetCurrentThread()));
    CHECK_STATUS(STATUS_SUCCESS, PsLookupProcessThreadByCid(&id, &process, &thread));
    CHECK(process == PsGetCurrentProcess() && thread == PsGetCurrentThread());
    ObDereferenceObject(process);
    ObDereferenceObject(thread);
    id.UniqueThread = (HANDLE)0x7FFFFFF0;
    CHECK_STATUS(STATUS_INVALID_CID, PsLookupProcessThreadByCid(&id, &process, &thread));
    low = (ULONG_PTR)PsGetCurrentThreadStackLimit();
    high = (ULONG_PTR)PsGetCurrentThreadStackBase();
    CHECK(low < here && here < high && (ULONG_PTR)IoGetInitialStack() == high);
    CHECK(IoWithinStackLimits(here, 8) && !IoWithinStackLimits(high, 8) && !IoWithinStackLimits(high - 4, 8));
    CHECK(IoIsSystemThread(PsGetCurrentThread()));
    KeQuerySystemTime(&now);
    CHECK(PsGetProcessCreateTimeQuadPart(PsGetCurrentProcess()) <= now.QuadPart);
    CHECK_STATUS(STATUS_PENDING, PsGetProcessExitStatus(PsGetCurrentProcess()));
    CHECK(PsGetProcessPeb(PsGetCurrentProcess()) == NULL);
    CHECK(PsGetProcessWow64Process(PsGetCurrentProcess()) == NULL);
    CHECK(PsGetProcessInheritedFromUniqueProcessId(PsGetCurrentProcess()) == NULL);
    CHECK(!PsIsProcessBeingDebugged(PsGetCurrentProcess()));
    CHECK(CALL(PsIsProtectedProcess)(PsGetCurrentProcess()));
    CHECK_STATUS(STATUS_SUCCESS, CALL(SeLocateProcessImageName)(PsGetCurrentProcess(), &image));
    if (CHECK(image != NULL)) {
        CHECK_NUMBER(0, image->Length);
        ExFreePool(image);
    }
}

static void Memory(void)
{
    static CHAR from[] = "copied", to[8];
    SIZE_T copied = 0;
    PHYSICAL_ADDRESS zero = {.QuadPart = 0}, most = {.QuadPart = -1};
    PUCHAR pages;
    ULONG flags = 7;
    BOOLEAN quota = TRUE;
    PVOID block;

    CHECK_STATUS(STATUS_SUCCESS, MmCopyVirtualMemory(PsGetCurrentProcess(), from, PsGetCurrentProcess(), to,
                                                     sizeof(from), KernelMode, &copied));
    CHECK_NUMBER(sizeof(from), copied);
    CHECK_TEXT("copied", to);
    CHECK_STATUS(STATUS_PARTIAL_COPY, MmCopyVirtualMemory(PsGetCurrentProcess(), (PVOID)0x1000, PsGetCurrentProcess(),
                                                          to, 4, KernelMode, &copied));
    CHECK_NUMBER(0, copied);
    pages = MmAllocateContiguousMemorySpecifyCache(5000, zero, most, zero, MmCached);
    CHECK(pages != NULL && ((ULONG_PTR)pages & (PAGE_SIZE - 1)) == 0);
    pages[4999] = 1;
    CHECK(MmGetPhysicalAddress(pages).QuadPart != 0);
    MmFreeContiguousMemorySpecifyCache(pages, 5000, MmCached);
    CHECK_STATUS(STATUS_NOT_SUPPORTED, MmIsVerifierEnabled(&flags));
    CHECK_NUMBER(0, flags);
    CHECK(!MmIsThisAnNtAsSystem());
    CHECK(!MmIsDriverVerifyingByAddress((PVOID)Memory));
    block = ExAllocatePoolWithTag(NonPagedPool, 100, TEST_TAG);
    CHECK(ExQueryPoolBlockSize(block, &quota) >= 100 && !quota);
    ExFreePoolWithTag(block, TEST_TAG);
    CHECK(ExIsProcessorFeaturePresent(PF_XMMI64_INSTRUCTIONS_AVAILABLE));
    for (ULONG feature = 0; feature < 64; feature++)
        CHECK_NUMBER(((volatile UCHAR *)0xFFFFF78000000274)[feature], ExIsProcessorFeaturePresent(feature));
    CHECK(ExSetTimerResolution(10000, TRUE) == KeQueryTimeIncrement());
    CHECK(!ExVerifySuite(1));
}

static void Lists(void)
{
    static PAGED_LOOKASIDE_LIST list;
    PVOID one, two;

    ExInitializePagedLookasideList(&list, NULL, NULL, 0, 64, TEST_TAG, 0);
    one = ExAllocateFromPagedLookasideList(&list);
    two = ExAllocateFromPagedLookasideList(&list);
    CHECK(one != NULL && two != NULL && one != two);
    CHECK_NUMBER(2, list.L.TotalAllocates);
    ExFreeToPagedLookasideList(&list, one);
    CHECK(ExAllocateFromPagedLookasideList(&list) == one);
    ExFreeToPagedLookasideList(&list, one);
    ExFreeToPagedLookasideList(&list, two);
    ExDeletePagedLookasideList(&list);
}

static void Rundown(void)
{
    PEX_RUNDOWN_REF_CACHE_AWARE reference = ExAllocateCacheAwareRundownProtection(NonPagedPool, TEST_TAG);

    CHECK(reference != NULL);
    CHECK(ExAcquireRundownProtectionCacheAware(reference));
    ExReleaseRundownProtectionCacheAware(reference);
    ExWaitForRundownProtectionReleaseCacheAware(reference);
    CHECK(!ExAcquireRundownProtectionCacheAware(reference));
    ExReInitializeRundownProtectionCacheAware(reference);
    CHECK(ExAcquireRundownProtectionCacheAware(reference));
    ExReleaseRundownProtectionCacheAware(reference);
    ExFreeCacheAwareRundownProtection(reference);
}

static ULONG Source = 77;

static NTSTATUS NTAPI OnSetting(LPCGUID Setting, PVOID Value, ULONG Length, PVOID Context)
{
    CHECK(Context == &Source && Setting->Data1 == 0x5d3e9a59 && Length == sizeof(ULONG));
    Source = *(ULONG *)Value;
    return STATUS_SUCCESS;
}

static void Power(void)
{
    static const GUID source = {0x5d3e9a59, 0xe9d5, 0x4b00, {0xa6, 0xbd, 0xff, 0x34, 0xff, 0x51, 0x65, 0x48}};
    PVOID state = PoRegisterSystemState(NULL, ES_SYSTEM_REQUIRED), handle = NULL;

    CHECK(state != NULL && PoRegisterSystemState(state, 0) == state);
    PoSetSystemState(ES_SYSTEM_REQUIRED);
    PoUnregisterSystemState(state);
    CHECK_STATUS(STATUS_SUCCESS, PoRegisterPowerSettingCallback(NULL, &source, OnSetting, &Source, &handle));
    CHECK_NUMBER(0, Source);
    CHECK_STATUS(STATUS_SUCCESS, PoUnregisterPowerSettingCallback(handle));
    CHECK_STATUS(STATUS_INVALID_PARAMETER, PoUnregisterPowerSettingCallback(handle));
}

static void Checks(PUNICODE_STRING RegistryPath)
{
    (void)RegistryPath;
    Processes();
    Memory();
    Lists();
    Rundown();
    Power();
}
