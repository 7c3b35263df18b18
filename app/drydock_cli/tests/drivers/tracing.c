/* Event tracing while nobody traces: registrations, events that go nowhere, and activities. */
#define FAMILY "tracing"
#include "check.h"

#define WNODE_EVENT_ITEM 8
#define WNODE_TRACED_GUID 0x20000
#define WNODE_BYTES 0x30
#define WNODE_FLAGS_INDEX 11

typedef struct {
    USHORT Id;
    UCHAR Version, Channel, Level, Opcode;
    USHORT Task;
    ULONGLONG Keyword;
} DESCRIPTOR;

typedef VOID (NTAPI *ENABLED)(const GUID *, ULONG, UCHAR, ULONGLONG, ULONGLONG, PVOID, PVOID);
typedef NTSTATUS (NTAPI *REGISTER_CLASSIC)(const GUID *, ULONG, PVOID, PVOID, PULONGLONG);
typedef NTSTATUS (NTAPI *UNREGISTER)(ULONGLONG);

IMPORT(NTSTATUS, EtwRegister, const GUID *, ENABLED, PVOID, PULONGLONG);
IMPORT(NTSTATUS, EtwUnregister, ULONGLONG);
IMPORT(NTSTATUS, EtwSetInformation, ULONGLONG, ULONG, PVOID, ULONG);
IMPORT(BOOLEAN, EtwEventEnabled, ULONGLONG, const DESCRIPTOR *);
IMPORT(BOOLEAN, EtwProviderEnabled, ULONGLONG, UCHAR, ULONGLONG);
IMPORT(NTSTATUS, EtwWrite, ULONGLONG, const DESCRIPTOR *, const GUID *, ULONG, PVOID);
IMPORT(NTSTATUS, EtwWriteEx, ULONGLONG, const DESCRIPTOR *, ULONGLONG, ULONG, const GUID *, const GUID *, ULONG, PVOID);
IMPORT(NTSTATUS, EtwWriteTransfer, ULONGLONG, const DESCRIPTOR *, const GUID *, const GUID *, ULONG, PVOID);
IMPORT(NTSTATUS, EtwWriteString, ULONGLONG, UCHAR, ULONGLONG, const GUID *, PCWSTR);
IMPORT(NTSTATUS, EtwActivityIdControl, ULONG, GUID *);
IMPORT(NTSTATUS, EtwRegisterClassicProvider, const GUID *, ULONG, PVOID, PVOID, PULONGLONG);
IMPORT(NTSTATUS, WmiTraceMessage, ULONGLONG, ULONG, const GUID *, USHORT, ...);
IMPORT(NTSTATUS, WmiTraceMessageVa, ULONGLONG, ULONG, const GUID *, USHORT, va_list);
IMPORT(NTSTATUS, WmiQueryTraceInformation, ULONG, PVOID, ULONG, PULONG, PVOID);
IMPORT(NTSTATUS, IoWMIWriteEvent, PVOID);

static const GUID Provider = {0x8c3d2a11, 0x5f60, 0x4d7e, {0x91, 0x02, 0x3b, 0x4c, 0x5d, 0x6e, 0x7f, 0x80}};
static const GUID Zero;

static VOID NTAPI Enabled(const GUID *Source, ULONG IsEnabled, UCHAR Level, ULONGLONG Any, ULONGLONG All, PVOID Filter,
                          PVOID Context)
{
    (void)Source, (void)IsEnabled, (void)Level, (void)Any, (void)All, (void)Filter, (void)Context;
    CHECK(!"called though nobody traces");
}

static void Providers(void)
{
    static const DESCRIPTOR event = {.Id = 1, .Level = 4, .Keyword = 1};
    struct {
        USHORT Size;
        CHAR Name[6];
    } traits = {sizeof(traits), "Probe"};
    struct {
        ULONGLONG Address;
        ULONG Bytes, Reserved;
    } data = {(ULONGLONG)(ULONG_PTR)&traits, sizeof(traits), 0};
    ULONGLONG registration = 0, second = 0;
    UCHAR typed = TRUE;
    KIRQL old;

    CHECK_STATUS(STATUS_INVALID_PARAMETER, CALL(EtwRegister)(NULL, Enabled, NULL, &registration));
    CHECK_STATUS(STATUS_INVALID_PARAMETER, CALL(EtwRegister)(&Provider, Enabled, NULL, NULL));
    CHECK_STATUS(STATUS_SUCCESS, CALL(EtwRegister)(&Provider, Enabled, NULL, &registration));
    CHECK_STATUS(STATUS_SUCCESS, CALL(EtwRegister)(&Provider, NULL, NULL, &second));
    CHECK(registration != 0 && second != 0 && registration != second);
    CHECK_STATUS(STATUS_SUCCESS, CALL(EtwSetInformation)(registration, 2, &traits, sizeof(traits)));
    CHECK_STATUS(STATUS_INVALID_PARAMETER, CALL(EtwSetInformation)(registration, 2, &traits, 3));
    CHECK_STATUS(STATUS_SUCCESS, CALL(EtwSetInformation)(registration, 3, &typed, sizeof(typed)));
    CHECK_STATUS(STATUS_NOT_SUPPORTED, CALL(EtwSetInformation)(registration, 77, NULL, 0));
    CHECK_STATUS(STATUS_INVALID_HANDLE, CALL(EtwSetInformation)(0, 2, &traits, sizeof(traits)));

    KeRaiseIrql(HIGH_LEVEL, &old);
    CHECK(!CALL(EtwEventEnabled)(registration, &event));
    CHECK(!CALL(EtwProviderEnabled)(registration, 4, 1));
    CHECK_STATUS(STATUS_SUCCESS, CALL(EtwWrite)(registration, &event, NULL, 1, &data));
    KeLowerIrql(old);
    CHECK_STATUS(STATUS_SUCCESS, CALL(EtwWriteEx)(registration, &event, 0, 0, NULL, &Provider, 1, &data));
    CHECK_STATUS(STATUS_SUCCESS, CALL(EtwWriteTransfer)(registration, &event, NULL, &Provider, 1, &data));
    CHECK_STATUS(STATUS_SUCCESS, CALL(EtwWriteString)(registration, 4, 1, NULL, L"nobody reads this"));
    CHECK_STATUS(STATUS_INVALID_HANDLE, CALL(EtwWrite)(0, &event, NULL, 0, NULL));
    CHECK(!CALL(EtwEventEnabled)(0, &event));

    CHECK_STATUS(STATUS_SUCCESS, CALL(EtwUnregister)(registration));
    CHECK_STATUS(STATUS_INVALID_HANDLE, CALL(EtwUnregister)(registration));
    CHECK_STATUS(STATUS_INVALID_HANDLE, CALL(EtwWriteString)(registration, 4, 1, NULL, L"too late"));
    CHECK_STATUS(STATUS_SUCCESS, CALL(EtwUnregister)(second));
}

/* How WPP begins and ends since Vista. */
static void Wpp(void)
{
    UNICODE_STRING begin = RTL_CONSTANT_STRING(L"EtwRegisterClassicProvider");
    UNICODE_STRING end = RTL_CONSTANT_STRING(L"EtwUnregister");
    UNICODE_STRING trace = RTL_CONSTANT_STRING(L"WmiTraceMessage");
    REGISTER_CLASSIC found = (REGISTER_CLASSIC)MmGetSystemRoutineAddress(&begin);
    UNREGISTER lost = (UNREGISTER)MmGetSystemRoutineAddress(&end);
    ULONGLONG registration = 0;

    if (!CHECK(found != NULL && lost != NULL) || !CHECK(MmGetSystemRoutineAddress(&trace) != NULL))
        return;
    CHECK_STATUS(STATUS_SUCCESS, found(&Provider, 0, Enabled, NULL, &registration));
    CHECK(registration != 0);
    CHECK_STATUS(STATUS_SUCCESS, lost(registration));
    CHECK_STATUS(STATUS_SUCCESS, CALL(EtwRegisterClassicProvider)(&Provider, 1, Enabled, NULL, &registration));
    CHECK_STATUS(STATUS_SUCCESS, lost(registration));
    CHECK_STATUS(STATUS_INVALID_HANDLE, lost(registration));
}

static NTSTATUS Message(ULONG Flags, ...)
{
    va_list arguments;
    NTSTATUS status;

    va_start(arguments, Flags);
    status = CALL(WmiTraceMessageVa)(1, Flags, &Provider, 10, arguments);
    va_end(arguments);
    return status;
}

static void Loggers(void)
{
    UNICODE_STRING name = RTL_CONSTANT_STRING(L"Nobody");
    ULONGLONG logger = 7;
    ULONG needed = 0;
    int value = 3;

    CHECK_STATUS(STATUS_INVALID_HANDLE,
                 CALL(WmiTraceMessage)(1, 0x2B, &Provider, 10, &value, sizeof(value), &value, sizeof(value), NULL));
    CHECK_STATUS(STATUS_INVALID_HANDLE, Message(0x2B, &value, sizeof(value), NULL));
    CHECK_STATUS(STATUS_NOT_FOUND,
                 CALL(WmiQueryTraceInformation)(GlobalLoggerHandleClass, &logger, sizeof(logger), &needed, NULL));
    CHECK_NUMBER(sizeof(logger), needed);
    CHECK_STATUS(STATUS_NOT_FOUND,
                 CALL(WmiQueryTraceInformation)(TraceHandleByNameClass, &logger, sizeof(logger), NULL, &name));
    CHECK_STATUS(STATUS_INVALID_PARAMETER_MIX,
                 CALL(WmiQueryTraceInformation)(TraceHandleByNameClass, &logger, sizeof(logger), NULL, NULL));
    CHECK_STATUS(STATUS_INVALID_HANDLE,
                 CALL(WmiQueryTraceInformation)(TraceEnableLevelClass, &logger, sizeof(ULONG), &needed, &logger));
    CHECK_NUMBER(sizeof(ULONG), needed);
    CHECK_STATUS(STATUS_INFO_LENGTH_MISMATCH,
                 CALL(WmiQueryTraceInformation)(TraceHandleClass, &logger, sizeof(ULONG), NULL, &logger));
    CHECK_STATUS(STATUS_INVALID_INFO_CLASS, CALL(WmiQueryTraceInformation)(99, &logger, sizeof(logger), NULL, NULL));
    CHECK_NUMBER(7, logger);
}

static BOOLEAN Same(const GUID *One, const GUID *Other)
{
    return RtlCompareMemory(One, Other, sizeof(GUID)) == sizeof(GUID);
}

static void NTAPI OwnActivity(PVOID Context)
{
    GUID id = Provider;

    (void)Context;
    CHECK_STATUS(STATUS_SUCCESS, CALL(EtwActivityIdControl)(1, &id));
    CHECK(Same(&id, &Zero));
    PsTerminateSystemThread(STATUS_SUCCESS);
}

static void Activities(void)
{
    GUID first = Provider, second = Zero, third = Provider;

    CHECK_STATUS(STATUS_SUCCESS, CALL(EtwActivityIdControl)(1, &first));
    CHECK(Same(&first, &Zero));
    CHECK_STATUS(STATUS_SUCCESS, CALL(EtwActivityIdControl)(3, &first));
    CHECK_STATUS(STATUS_SUCCESS, CALL(EtwActivityIdControl)(3, &second));
    CHECK(!Same(&first, &Zero) && !Same(&first, &second));
    CHECK_STATUS(STATUS_SUCCESS, CALL(EtwActivityIdControl)(2, &first));
    /* Gets and sets: what is given becomes the thread's, what was the thread's is given back. */
    CHECK_STATUS(STATUS_SUCCESS, CALL(EtwActivityIdControl)(4, &second));
    CHECK(Same(&second, &first));
    CHECK_STATUS(STATUS_SUCCESS, CALL(EtwActivityIdControl)(5, &third));
    CHECK(!Same(&third, &first) && !Same(&third, &Provider));
    CHECK_STATUS(STATUS_SUCCESS, CALL(EtwActivityIdControl)(1, &second));
    CHECK(!Same(&second, &third) && !Same(&second, &Zero));
    Join(Start(OwnActivity, NULL));
    CHECK_STATUS(STATUS_INVALID_PARAMETER, CALL(EtwActivityIdControl)(6, &first));
    CHECK_STATUS(STATUS_INVALID_PARAMETER, CALL(EtwActivityIdControl)(1, NULL));
    second = Zero;
    CHECK_STATUS(STATUS_SUCCESS, CALL(EtwActivityIdControl)(2, &second));
}

/* The system frees an event that it took; one for a logger stays the driver's. */
static void Events(void)
{
    PULONG event = ExAllocatePoolWithTag(NonPagedPool, WNODE_BYTES, TEST_TAG);
    ULONG traced[WNODE_BYTES / sizeof(ULONG)] = {WNODE_BYTES};

    RtlZeroMemory(event, WNODE_BYTES);
    event[0] = WNODE_BYTES;
    event[WNODE_FLAGS_INDEX] = WNODE_EVENT_ITEM;
    CHECK_STATUS(STATUS_SUCCESS, CALL(IoWMIWriteEvent)(event));
    traced[WNODE_FLAGS_INDEX] = WNODE_TRACED_GUID;
    CHECK_STATUS(STATUS_INVALID_HANDLE, CALL(IoWMIWriteEvent)(traced));
}

/* The value Left under Parameters says that a registration is left behind. */
static void Checks(PUNICODE_STRING RegistryPath)
{
    ULONGLONG left;

    Providers();
    Wpp();
    Loggers();
    Activities();
    Events();
    if (Setting(RegistryPath, L"Left") != 0)
        CHECK_STATUS(STATUS_SUCCESS, CALL(EtwRegister)(&Provider, Enabled, NULL, &left));
}
