/* Routines that are told of what is done to the registry, forbid it, or do it themselves (K-177). */
#define FAMILY "registry_callbacks"
#include "check.h"

#define COLLISION ((NTSTATUS)0xC01C0011)
#define BYPASS ((NTSTATUS)0xC0000503)

IMPORT(NTSTATUS, CmRegisterCallback, PVOID, PVOID, PLARGE_INTEGER);
IMPORT(NTSTATUS, CmRegisterCallbackEx, PVOID, PUNICODE_STRING, PVOID, PVOID, PLARGE_INTEGER, PVOID);
IMPORT(NTSTATUS, CmUnRegisterCallback, LARGE_INTEGER);
IMPORT(NTSTATUS, CmCallbackGetKeyObjectID, PLARGE_INTEGER, PVOID, PULONG_PTR, PCUNICODE_STRING *);
IMPORT(NTSTATUS, CmCallbackGetKeyObjectIDEx, PLARGE_INTEGER, PVOID, PULONG_PTR, PCUNICODE_STRING *, ULONG);
IMPORT(VOID, CmCallbackReleaseKeyObjectIDEx, PCUNICODE_STRING);
IMPORT(NTSTATUS, ObQueryNameString, PVOID, PVOID, ULONG, PULONG);
IMPORT(VOID, CmGetCallbackVersion, PULONG, PULONG);

/* What a callback notes of one operation, and answers. */
typedef struct {
    ULONG Digit;
    REG_NOTIFY_CLASS Before, After;
    NTSTATUS Answer, AnswerAfter, Seen;
    PVOID Information, Object;
} WATCH;

static WATCH High = {.Digit = 1}, Low = {.Digit = 2}, Plain = {.Digit = 3};
static LARGE_INTEGER HighCookie, LowCookie, PlainCookie;
static ULONG Order;
static HANDLE Key;
static UNICODE_STRING Port = RTL_CONSTANT_STRING(L"Port");
static ULONG Number = 8080;

static PVOID *CallContext(REG_NOTIFY_CLASS Class, PVOID Information)
{
    switch (Class) {
    case RegNtPreSetValueKey: return &((PREG_SET_VALUE_KEY_INFORMATION)Information)->CallContext;
    case RegNtPreQueryValueKey: return &((PREG_QUERY_VALUE_KEY_INFORMATION)Information)->CallContext;
    case RegNtPreDeleteValueKey: return &((PREG_DELETE_VALUE_KEY_INFORMATION)Information)->CallContext;
    case RegNtPreEnumerateKey: return &((PREG_ENUMERATE_KEY_INFORMATION)Information)->CallContext;
    case RegNtPreEnumerateValueKey: return &((PREG_ENUMERATE_VALUE_KEY_INFORMATION)Information)->CallContext;
    case RegNtPreQueryKey: return &((PREG_QUERY_KEY_INFORMATION)Information)->CallContext;
    case RegNtPreDeleteKey: return &((PREG_DELETE_KEY_INFORMATION)Information)->CallContext;
    case RegNtPreFlushKey: return &((PREG_FLUSH_KEY_INFORMATION)Information)->CallContext;
    case RegNtPreKeyHandleClose: return &((PREG_KEY_HANDLE_CLOSE_INFORMATION)Information)->CallContext;
    case RegNtPreCreateKeyEx:
    case RegNtPreOpenKeyEx: return &((PREG_CREATE_KEY_INFORMATION)Information)->CallContext;
    default: return NULL;
    }
}

static NTSTATUS NTAPI Told(PVOID Context, PVOID Class, PVOID Information)
{
    WATCH *watch = Context;
    REG_NOTIFY_CLASS class = (REG_NOTIFY_CLASS)(ULONG_PTR)Class;
    PREG_POST_OPERATION_INFORMATION after = Information;

    if (class == watch->Before) {
        Order = Order * 10 + watch->Digit;
        watch->Information = Information;
        CHECK(*CallContext(class, Information) == NULL);
        *CallContext(class, Information) = watch;
        if (watch->Answer == BYPASS && class == RegNtPreQueryValueKey) {
            PREG_QUERY_VALUE_KEY_INFORMATION query = Information;
            PKEY_VALUE_PARTIAL_INFORMATION value = query->KeyValueInformation;

            CHECK(RtlEqualUnicodeString(query->ValueName, &Port, FALSE));
            CHECK_NUMBER(KeyValuePartialInformation, query->KeyValueInformationClass);
            value->Type = REG_DWORD;
            value->DataLength = sizeof(ULONG);
            *(PULONG)value->Data = 99;
            *query->ResultLength = 16;
        }
        if (watch->Answer == BYPASS && class == RegNtPreOpenKeyEx)
            ObReferenceObjectByHandle(Key, 0, NULL, KernelMode, ((PREG_CREATE_KEY_INFORMATION)Information)->ResultObject,
                                      NULL);
        return watch->Answer;
    }
    if (class == watch->After) {
        Order = Order * 10 + watch->Digit;
        CHECK(after->PreInformation == watch->Information && after->CallContext == watch);
        watch->Seen = after->Status;
        watch->Object = after->Object;
        CHECK_STATUS(after->Status, after->ReturnStatus);
        if (watch->AnswerAfter == BYPASS)
            after->ReturnStatus = STATUS_NOT_FOUND;
        return watch->AnswerAfter;
    }
    return STATUS_SUCCESS;
}

/* From now on all three watch this operation. */
static void Watch(REG_NOTIFY_CLASS Before, REG_NOTIFY_CLASS After)
{
    WATCH *all[] = {&High, &Low, &Plain};
    ULONG index;

    for (index = 0; index < RTL_NUMBER_OF(all); index++) {
        ULONG digit = all[index]->Digit;

        RtlZeroMemory(all[index], sizeof(WATCH));
        all[index]->Digit = digit;
        all[index]->Before = Before;
        all[index]->After = After;
    }
    Order = 0;
}

static NTSTATUS Set(void)
{
    return ZwSetValueKey(Key, &Port, 7, REG_DWORD, &Number, sizeof(Number));
}

static NTSTATUS Query(PULONG Value)
{
    UCHAR buffer[32];
    ULONG length = 0;
    NTSTATUS status = ZwQueryValueKey(Key, &Port, KeyValuePartialInformation, buffer, sizeof(buffer), &length);

    *Value = NT_SUCCESS(status) ? *(PULONG)((PKEY_VALUE_PARTIAL_INFORMATION)buffer)->Data : 0;
    return status;
}

static void Registrations(void)
{
    UNICODE_STRING high = RTL_CONSTANT_STRING(L"370030"), low = RTL_CONSTANT_STRING(L"370020.5");
    LARGE_INTEGER other;
    ULONG major = 0, minor = 7;

    CALL(CmGetCallbackVersion)(&major, &minor);
    CHECK(major == 1 && minor <= 1);
    CALL(CmGetCallbackVersion)(NULL, NULL);
    CHECK_STATUS(STATUS_SUCCESS, CALL(CmRegisterCallback)(Told, &Plain, &PlainCookie));
    CHECK_STATUS(STATUS_SUCCESS, CALL(CmRegisterCallbackEx)(Told, &low, Self, &Low, &LowCookie, NULL));
    CHECK_STATUS(STATUS_SUCCESS, CALL(CmRegisterCallbackEx)(Told, &high, Self, &High, &HighCookie, NULL));
    CHECK_STATUS(COLLISION, CALL(CmRegisterCallbackEx)(Told, &high, Self, &Low, &other, NULL));
    CHECK(HighCookie.QuadPart != LowCookie.QuadPart && LowCookie.QuadPart != PlainCookie.QuadPart);
}

static void Open(PUNICODE_STRING RegistryPath)
{
    OBJECT_ATTRIBUTES attributes;
    PVOID object = NULL, same = NULL;
    ULONG disposition = 0;
    HANDLE none = NULL, again = NULL;

    InitializeObjectAttributes(&attributes, RegistryPath, OBJ_CASE_INSENSITIVE | OBJ_KERNEL_HANDLE, NULL, NULL);
    Watch(RegNtPreCreateKeyEx, RegNtPostCreateKeyEx);
    CHECK_STATUS(STATUS_SUCCESS, ZwCreateKey(&Key, KEY_ALL_ACCESS, &attributes, 0, NULL, 0, &disposition));
    CHECK_NUMBER(123321, Order);
    CHECK_NUMBER(REG_OPENED_EXISTING_KEY, disposition);
    CHECK_STATUS(STATUS_SUCCESS, ObReferenceObjectByHandle(Key, 0, NULL, KernelMode, &object, NULL));
    CHECK(High.Object == object && Plain.Object == object);

    Watch(RegNtPreOpenKeyEx, RegNtPostOpenKeyEx);
    Low.Answer = STATUS_ACCESS_DENIED;
    CHECK_STATUS(STATUS_ACCESS_DENIED, ZwOpenKey(&none, KEY_READ, &attributes));
    CHECK_NUMBER(121, Order);
    CHECK(none == NULL && High.Object == NULL);
    CHECK_STATUS(STATUS_ACCESS_DENIED, High.Seen);
    /* A routine opens the key itself: here, it gives the object that is open. */
    Watch(RegNtPreOpenKeyEx, RegNtPostOpenKeyEx);
    Low.Answer = BYPASS;
    CHECK_STATUS(STATUS_SUCCESS, ZwOpenKey(&again, KEY_READ, &attributes));
    CHECK_NUMBER(121, Order);
    CHECK(High.Object == object);
    CHECK_STATUS(STATUS_SUCCESS, ObReferenceObjectByHandle(again, 0, NULL, KernelMode, &same, NULL));
    CHECK(same == object);
    ObDereferenceObject(same);
    ObDereferenceObject(object);
    Watch(RegNtPreKeyHandleClose, RegNtPostKeyHandleClose);
    CHECK_STATUS(STATUS_SUCCESS, ZwClose(again));
    CHECK_NUMBER(123321, Order);
}

/* Which key an object stands for. */
static void Identity(PVOID Object)
{
    static const WCHAR end[] = L"\\Services\\registry_callbacks";
    LARGE_INTEGER wrong = {.QuadPart = 0x12345};
    PCUNICODE_STRING name = NULL, again = NULL, own = NULL;
    ULONG_PTR id = 0, same = 0;
    UNICODE_STRING tail, expected;
    ULONGLONG room[64];
    POBJECT_NAME_INFORMATION asked = (PVOID)room;
    ULONG needed = 0;

    CHECK_STATUS(STATUS_SUCCESS, CALL(CmCallbackGetKeyObjectID)(&HighCookie, Object, &id, &name));
    CHECK_STATUS(STATUS_SUCCESS, CALL(CmCallbackGetKeyObjectID)(&LowCookie, Object, NULL, &again));
    CHECK_STATUS(STATUS_SUCCESS, CALL(CmCallbackGetKeyObjectIDEx)(&HighCookie, Object, &same, &own, 0));
    CHECK_STATUS(STATUS_SUCCESS, CALL(CmCallbackGetKeyObjectIDEx)(&HighCookie, Object, NULL, NULL, 0));
    CHECK_STATUS(STATUS_INVALID_PARAMETER, CALL(CmCallbackGetKeyObjectIDEx)(&HighCookie, Object, &same, &own, 1));
    CHECK_STATUS(STATUS_INVALID_PARAMETER, CALL(CmCallbackGetKeyObjectID)(&wrong, Object, &id, &name));
    CHECK_STATUS(STATUS_INVALID_PARAMETER, CALL(CmCallbackGetKeyObjectID)(&HighCookie, Self, &id, &name));
    if (!CHECK(id != 0 && id == same && name != NULL && name == again && own != NULL && own != name))
        return;
    CHECK(RtlEqualUnicodeString(name, own, FALSE));
    CHECK_STATUS(STATUS_SUCCESS, CALL(ObQueryNameString)(Object, asked, sizeof(room), &needed));
    CHECK(RtlEqualUnicodeString(name, &asked->Name, FALSE));
    CHECK_NUMBER(sizeof(*asked) + name->Length + sizeof(WCHAR), needed);
    RtlInitUnicodeString(&expected, end);
    tail = *name;
    tail.Buffer += (name->Length - expected.Length) / sizeof(WCHAR);
    tail.Length = expected.Length;
    CHECK(name->Length > expected.Length && RtlEqualUnicodeString(&tail, &expected, TRUE));
    CALL(CmCallbackReleaseKeyObjectIDEx)(own);
}

static void Values(void)
{
    UCHAR buffer[256];
    ULONG value, length;
    PVOID object = NULL;

    Watch(RegNtPreSetValueKey, RegNtPostSetValueKey);
    CHECK_STATUS(STATUS_SUCCESS, Set());
    CHECK_NUMBER(123321, Order);
    ObReferenceObjectByHandle(Key, 0, NULL, KernelMode, &object, NULL);
    CHECK(object != NULL && High.Object == object && Low.Object == object);
    CHECK_STATUS(STATUS_SUCCESS, Query(&value));
    CHECK_NUMBER(8080, value);
    Identity(object);
    ObDereferenceObject(object);

    /* What a routine forbids is not done, and told to those above it alone. */
    Watch(RegNtPreSetValueKey, RegNtPostSetValueKey);
    Low.Answer = STATUS_ACCESS_DENIED;
    Number = 1;
    CHECK_STATUS(STATUS_ACCESS_DENIED, Set());
    CHECK_NUMBER(121, Order);
    CHECK_STATUS(STATUS_ACCESS_DENIED, High.Seen);
    Watch(RegNtPreQueryValueKey, RegNtPostQueryValueKey);
    CHECK_STATUS(STATUS_SUCCESS, Query(&value));
    CHECK_NUMBER(8080, value);

    /* What a routine does itself is a success. */
    Watch(RegNtPreQueryValueKey, RegNtPostQueryValueKey);
    Low.Answer = BYPASS;
    CHECK_STATUS(STATUS_SUCCESS, Query(&value));
    CHECK_NUMBER(99, value);
    CHECK_NUMBER(121, Order);
    /* Afterwards the status can be another. */
    Watch(RegNtPreQueryValueKey, RegNtPostQueryValueKey);
    Low.AnswerAfter = BYPASS;
    CHECK_STATUS(STATUS_NOT_FOUND, Query(&value));
    CHECK_NUMBER(123321, Order);
    CHECK_STATUS(STATUS_SUCCESS, Plain.Seen);
    CHECK_STATUS(STATUS_NOT_FOUND, High.Seen);

    Watch(RegNtPreEnumerateValueKey, RegNtPostEnumerateValueKey);
    CHECK_STATUS(STATUS_NO_MORE_ENTRIES,
                 ZwEnumerateValueKey(Key, 99, KeyValueBasicInformation, buffer, sizeof(buffer), &length));
    CHECK_NUMBER(123321, Order);
    CHECK_STATUS(STATUS_NO_MORE_ENTRIES, High.Seen);
    Watch(RegNtPreEnumerateKey, RegNtPostEnumerateKey);
    CHECK_STATUS(STATUS_NO_MORE_ENTRIES, ZwEnumerateKey(Key, 99, KeyBasicInformation, buffer, sizeof(buffer), &length));
    CHECK_NUMBER(123321, Order);
    Watch(RegNtPreQueryKey, RegNtPostQueryKey);
    CHECK_STATUS(STATUS_SUCCESS, ZwQueryKey(Key, KeyFullInformation, buffer, sizeof(buffer), &length));
    CHECK_NUMBER(123321, Order);
    Watch(RegNtPreFlushKey, RegNtPostFlushKey);
    CHECK_STATUS(STATUS_SUCCESS, ZwFlushKey(Key));
    CHECK_NUMBER(123321, Order);
    Watch(RegNtPreDeleteValueKey, RegNtPostDeleteValueKey);
    CHECK_STATUS(STATUS_SUCCESS, ZwDeleteValueKey(Key, &Port));
    CHECK_NUMBER(123321, Order);
}

static void Delete(void)
{
    UNICODE_STRING name = RTL_CONSTANT_STRING(L"Doomed");
    OBJECT_ATTRIBUTES attributes;
    HANDLE doomed = NULL;

    InitializeObjectAttributes(&attributes, &name, OBJ_CASE_INSENSITIVE | OBJ_KERNEL_HANDLE, Key, NULL);
    CHECK_STATUS(STATUS_SUCCESS, ZwCreateKey(&doomed, KEY_ALL_ACCESS, &attributes, 0, NULL, 0, NULL));
    Watch(RegNtPreDeleteKey, RegNtPostDeleteKey);
    High.Answer = STATUS_ACCESS_DENIED;
    CHECK_STATUS(STATUS_ACCESS_DENIED, ZwDeleteKey(doomed));
    CHECK_NUMBER(1, Order);
    Watch(RegNtPreDeleteKey, RegNtPostDeleteKey);
    CHECK_STATUS(STATUS_SUCCESS, ZwDeleteKey(doomed));
    CHECK_NUMBER(123321, Order);
    ZwClose(doomed);
}

/* The value Left under Parameters says that a routine is left registered. */
static void Checks(PUNICODE_STRING RegistryPath)
{
    ULONG left = Setting(RegistryPath, L"Left");

    Registrations();
    Open(RegistryPath);
    Values();
    Delete();
    CHECK_STATUS(STATUS_SUCCESS, CALL(CmUnRegisterCallback)(LowCookie));
    CHECK_STATUS(STATUS_INVALID_PARAMETER, CALL(CmUnRegisterCallback)(LowCookie));
    Watch(RegNtPreSetValueKey, RegNtPostSetValueKey);
    CHECK_STATUS(STATUS_SUCCESS, Set());
    CHECK_NUMBER(1331, Order);
    ZwDeleteValueKey(Key, &Port);
    CHECK_STATUS(STATUS_SUCCESS, CALL(CmUnRegisterCallback)(PlainCookie));
    ZwClose(Key);
    if (left == 0)
        CHECK_STATUS(STATUS_SUCCESS, CALL(CmUnRegisterCallback)(HighCookie));
}
