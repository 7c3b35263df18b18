/* The kernel as a whole: version, variables, look-ups by name, debug output, and how a driver ends it all (K-200, K-205 to K-208). */
#define FAMILY "kernel"
#include "check.h"

IMPORT(NTSTATUS, RtlGetVersion, PRTL_OSVERSIONINFOW);
IMPORT(BOOLEAN, PsGetVersion, PULONG, PULONG, PULONG, PUNICODE_STRING);
IMPORT(BOOLEAN, RtlIsNtDdiVersionAvailable, ULONG);
IMPORT(PVOID, MmGetSystemRoutineAddress, PUNICODE_STRING);
IMPORT(NTSTATUS, KeSaveFloatingPointState, PVOID);
IMPORT(NTSTATUS, KeRestoreFloatingPointState, PVOID);
IMPORT(ULONG64, RtlGetEnabledExtendedFeatures, ULONG64);
IMPORT_DATA(CCHAR, KeNumberProcessors);
IMPORT_DATA(ULONG, NtBuildNumber);
IMPORT_DATA(ULONG, NtGlobalFlag);
IMPORT_DATA(ULONG, InitSafeBootMode);
IMPORT_DATA(BOOLEAN, KdDebuggerEnabled);
IMPORT_DATA(BOOLEAN, KdDebuggerNotPresent);
IMPORT_DATA(BOOLEAN, NlsMbCodePageTag);
IMPORT_DATA(BOOLEAN, NlsMbOemCodePageTag);
IMPORT_DATA(USHORT, NlsAnsiCodePage);
IMPORT_DATA(ULONG_PTR, MmUserProbeAddress);
IMPORT_DATA(PVOID, MmHighestUserAddress);
IMPORT_DATA(PVOID, MmSystemRangeStart);
IMPORT(ULONG, MmQuerySystemSize, void);
IMPORT(ULONG, DbgPrintEx, ULONG, ULONG, const char *, ...);
IMPORT(ULONG, DbgPrintReturnControlC, const char *, ...);
IMPORT(ULONG, vDbgPrintEx, ULONG, ULONG, const char *, va_list);
IMPORT(ULONG, vDbgPrintExWithPrefix, const char *, ULONG, ULONG, const char *, va_list);
IMPORT(NTSTATUS, DbgQueryDebugFilterState, ULONG, ULONG);
IMPORT(NTSTATUS, DbgSetDebugFilterState, ULONG, ULONG, BOOLEAN);
IMPORT(void, DbgBreakPoint, void);
IMPORT(void, DbgBreakPointWithStatus, ULONG);
IMPORT(void, KeBugCheck, ULONG);
IMPORT(ULONG, RtlWalkFrameChain, PVOID *, ULONG, ULONG);
IMPORT(void, RtlRaiseStatus, NTSTATUS);
IMPORT(void, ExRaiseException, PEXCEPTION_RECORD);
IMPORT(void, RtlAssert, PVOID, PVOID, ULONG, const char *);

static void Version(void)
{
    RTL_OSVERSIONINFOW info = {0};
    ULONG major = 0, minor = 77, build = 0;
    UNICODE_STRING pack;

    info.dwOSVersionInfoSize = sizeof(info);
    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlGetVersion)(&info));
    CHECK(info.dwMajorVersion == 10 && info.dwMinorVersion == 0 && info.dwPlatformId == 2);
    CHECK(!CALL(PsGetVersion)(&major, &minor, &build, &pack));
    CHECK(major == 10 && minor == 0 && build == info.dwBuildNumber && pack.Length == 0);
    CHECK_NUMBER(build, VALUE(NtBuildNumber) & 0xFFFF);
    CHECK_NUMBER(0xF, VALUE(NtBuildNumber) >> 28);
    CHECK(CALL(RtlIsNtDdiVersionAvailable)(NTDDI_WIN7) && !CALL(RtlIsNtDdiVersionAvailable)(0x0F000000));
}

static void Variables(void)
{
    ULONG onStack = 0;

    CHECK_NUMBER(KeQueryActiveProcessorCount(NULL), VALUE(KeNumberProcessors));
    CHECK(VALUE(NtGlobalFlag) == 0 && VALUE(InitSafeBootMode) == 0);
    CHECK(VALUE(KdDebuggerEnabled) == FALSE && VALUE(KdDebuggerNotPresent) == TRUE);
    CHECK(!VALUE(NlsMbCodePageTag) && !VALUE(NlsMbOemCodePageTag) && VALUE(NlsAnsiCodePage) == 1252);
    CHECK((ULONG_PTR)VALUE(MmHighestUserAddress) < VALUE(MmUserProbeAddress) + 0x10000);
    CHECK((PVOID)&onStack >= VALUE(MmSystemRangeStart) && (ULONG_PTR)&onStack >= VALUE(MmUserProbeAddress));
    CHECK((PVOID)Variables >= VALUE(MmSystemRangeStart));
    CHECK_NUMBER(MmLargeSystem, CALL(MmQuerySystemSize)());
}

static void Names(void)
{
    UNICODE_STRING known = RTL_CONSTANT_STRING(L"RtlUlongByteSwap"), unknown = RTL_CONSTANT_STRING(L"RtlNobodys");
    ULONG(NTAPI * swap)(ULONG) = CALL(MmGetSystemRoutineAddress)(&known);

    CHECK(swap != NULL && swap(0x12345678) == 0x78563412);
    CHECK(CALL(MmGetSystemRoutineAddress)(&unknown) == NULL);
}

static void FloatingPoint(void)
{
    UCHAR save[512];

    CHECK_STATUS(STATUS_SUCCESS, CALL(KeSaveFloatingPointState)(save));
    CHECK_STATUS(STATUS_SUCCESS, CALL(KeRestoreFloatingPointState)(save));
    /* x87 and SSE are always there; bit 62 is no feature. */
    CHECK_NUMBER(3, CALL(RtlGetEnabledExtendedFeatures)(3));
    CHECK_NUMBER(0, CALL(RtlGetEnabledExtendedFeatures)(1ULL << 62));
}

static __attribute__((noinline)) void Frames(void)
{
    PVOID frames[8] = {NULL};
    ULONG count = CALL(RtlWalkFrameChain)(frames, 8, 0);

    CHECK(count >= 2 && (PUCHAR)frames[0] > (PUCHAR)Frames && (PUCHAR)frames[0] < (PUCHAR)Frames + 256);
}

static ULONG Print(ULONG Which, ...)
{
    va_list arguments;
    ULONG status;

    va_start(arguments, Which);
    status = Which == 0 ? CALL(vDbgPrintEx)(0, 0, "printed %d %s\n", arguments)
                        : CALL(vDbgPrintExWithPrefix)("prefix: ", 0, 0, "printed %d %s\n", arguments);
    va_end(arguments);
    return status;
}

/* families.rs looks for the lines. */
static void Debug(void)
{
    CHECK_STATUS(STATUS_SUCCESS, CALL(DbgPrintEx)(0, 0, "printed %d %s\n", 1, "one"));
    CHECK_STATUS(STATUS_SUCCESS, CALL(DbgPrintReturnControlC)("printed %d %s\n", 2, "two"));
    CHECK_STATUS(STATUS_SUCCESS, Print(0, 3, "three"));
    CHECK_STATUS(STATUS_SUCCESS, Print(1, 4, "four"));
    CHECK_NUMBER(1, CALL(DbgQueryDebugFilterState)(0, 0));
    CHECK_STATUS(STATUS_SUCCESS, CALL(DbgSetDebugFilterState)(0, 0, TRUE));
}

/* What does not come back, one by one: the value End under Parameters says which. */
static void End(PUNICODE_STRING RegistryPath)
{
    ULONG end = Setting(RegistryPath, L"End");
    EXCEPTION_RECORD record = {.ExceptionCode = STATUS_DEVICE_BUSY};

    switch (end) {
    case 1: CALL(KeBugCheck)(0xE2); break;
    case 2: CALL(DbgBreakPoint)(); break;
    case 3: CALL(DbgBreakPointWithStatus)(3); break;
    case 4: CALL(RtlAssert)("1 == 2", "kernel.c", 17, "arithmetic"); break;
    case 5: CALL(RtlRaiseStatus)(STATUS_DEVICE_BUSY); break;
    case 6: CALL(ExRaiseException)(&record); break;
    case 7: IoInitializeTimer((PDEVICE_OBJECT)1, NULL, NULL); break;
    }
}

static void Checks(PUNICODE_STRING RegistryPath)
{
    End(RegistryPath);
    Version();
    Variables();
    Names();
    FloatingPoint();
    Frames();
    Debug();
}
