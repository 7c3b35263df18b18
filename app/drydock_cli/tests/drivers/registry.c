/* Keys and values below the driver's own key (K-166, K-167). */
#define FAMILY "registry"
#include "check.h"

IMPORT(NTSTATUS, NtCreateKey, PHANDLE, ACCESS_MASK, POBJECT_ATTRIBUTES, ULONG, PUNICODE_STRING, ULONG, PULONG);
IMPORT(NTSTATUS, NtOpenKey, PHANDLE, ACCESS_MASK, POBJECT_ATTRIBUTES);
IMPORT(NTSTATUS, NtOpenKeyEx, PHANDLE, ACCESS_MASK, POBJECT_ATTRIBUTES, ULONG);
IMPORT(NTSTATUS, ZwOpenKeyEx, PHANDLE, ACCESS_MASK, POBJECT_ATTRIBUTES, ULONG);
IMPORT(NTSTATUS, NtDeleteKey, HANDLE);
IMPORT(NTSTATUS, NtFlushKey, HANDLE);
IMPORT(NTSTATUS, NtQueryKey, HANDLE, ULONG, PVOID, ULONG, PULONG);
IMPORT(NTSTATUS, ZwQueryKey, HANDLE, ULONG, PVOID, ULONG, PULONG);
IMPORT(NTSTATUS, NtEnumerateKey, HANDLE, ULONG, ULONG, PVOID, ULONG, PULONG);
IMPORT(NTSTATUS, NtEnumerateValueKey, HANDLE, ULONG, ULONG, PVOID, ULONG, PULONG);
IMPORT(NTSTATUS, NtQueryValueKey, HANDLE, PUNICODE_STRING, ULONG, PVOID, ULONG, PULONG);
IMPORT(NTSTATUS, NtSetValueKey, HANDLE, PUNICODE_STRING, ULONG, ULONG, PVOID, ULONG);
IMPORT(NTSTATUS, NtDeleteValueKey, HANDLE, PUNICODE_STRING);
IMPORT(NTSTATUS, ZwDeleteValueKey, HANDLE, PUNICODE_STRING);
IMPORT(NTSTATUS, RtlCheckRegistryKey, ULONG, PCWSTR);
IMPORT(NTSTATUS, RtlCreateRegistryKey, ULONG, PCWSTR);
IMPORT(NTSTATUS, RtlWriteRegistryValue, ULONG, PCWSTR, PCWSTR, ULONG, PVOID, ULONG);
IMPORT(NTSTATUS, RtlDeleteRegistryValue, ULONG, PCWSTR, PCWSTR);
IMPORT(NTSTATUS, RtlQueryRegistryValuesEx, ULONG, PCWSTR, PRTL_QUERY_REGISTRY_TABLE, PVOID, PVOID);

static HANDLE Key;

static NTSTATUS Set(PCWSTR Name, ULONG Type, PVOID Data, ULONG Length)
{
    UNICODE_STRING name;

    RtlInitUnicodeString(&name, Name);
    return ZwSetValueKey(Key, &name, 0, Type, Data, Length);
}

static NTSTATUS Query(PCWSTR Name, PVOID Buffer, ULONG Room, PULONG Length)
{
    UNICODE_STRING name;

    RtlInitUnicodeString(&name, Name);
    return ZwQueryValueKey(Key, &name, KeyValuePartialInformation, Buffer, Room, Length);
}

static void Values(void)
{
    UCHAR buffer[64];
    KEY_VALUE_PARTIAL_INFORMATION *value = (PVOID)buffer;
    ULONG number = 8080, length = 0;

    CHECK_STATUS(STATUS_OBJECT_NAME_NOT_FOUND, Query(L"Port", buffer, sizeof(buffer), &length));
    CHECK_STATUS(STATUS_SUCCESS, Set(L"Port", REG_DWORD, &number, sizeof(number)));
    CHECK_STATUS(STATUS_SUCCESS, Query(L"PORT", buffer, sizeof(buffer), &length));
    CHECK_NUMBER(16, length);
    CHECK(value->Type == REG_DWORD && value->DataLength == 4 && *(PULONG)value->Data == 8080);
    CHECK_STATUS(STATUS_BUFFER_TOO_SMALL, Query(L"Port", buffer, 8, &length));
    CHECK_NUMBER(16, length);
    CHECK_STATUS(STATUS_BUFFER_OVERFLOW, Query(L"Port", buffer, 13, &length));
    CHECK_STATUS(STATUS_SUCCESS, Set(L"Name", REG_SZ, L"text", 10));
    CHECK_STATUS(STATUS_SUCCESS,
                 ZwEnumerateValueKey(Key, 1, KeyValuePartialInformation, buffer, sizeof(buffer), &length));
    CHECK_STATUS(STATUS_NO_MORE_ENTRIES,
                 ZwEnumerateValueKey(Key, 2, KeyValuePartialInformation, buffer, sizeof(buffer), &length));
}

static void Table(PUNICODE_STRING Path)
{
    ULONG port = 0, absent = 0, fallback = 7;
    WCHAR room[16];
    UNICODE_STRING text = {0, sizeof(room), room};
    RTL_QUERY_REGISTRY_TABLE table[] = {
        {NULL, RTL_QUERY_REGISTRY_DIRECT, L"Port", &port, REG_NONE, NULL, 0},
        {NULL, RTL_QUERY_REGISTRY_DIRECT, L"Name", &text, REG_NONE, NULL, 0},
        {NULL, RTL_QUERY_REGISTRY_DIRECT, L"Absent", &absent, REG_DWORD, &fallback, sizeof(fallback)},
        {NULL, 0, NULL, NULL, 0, NULL, 0},
    };

    CHECK_STATUS(STATUS_SUCCESS, RtlQueryRegistryValues(RTL_REGISTRY_ABSOLUTE, Path->Buffer, table, NULL, NULL));
    CHECK_NUMBER(8080, port);
    CHECK_NUMBER(7, absent);
    CHECK(text.Length == 8 && memcmp(text.Buffer, L"text", 8) == 0);
}

static void Subkeys(void)
{
    UNICODE_STRING name = RTL_CONSTANT_STRING(L"Sub");
    OBJECT_ATTRIBUTES attributes;
    ULONG disposition = 0, length;
    UCHAR buffer[64];
    KEY_BASIC_INFORMATION *basic = (PVOID)buffer;
    HANDLE sub;

    InitializeObjectAttributes(&attributes, &name, OBJ_CASE_INSENSITIVE | OBJ_KERNEL_HANDLE, Key, NULL);
    CHECK_STATUS(STATUS_OBJECT_NAME_NOT_FOUND, ZwOpenKey(&sub, KEY_READ, &attributes));
    CHECK_STATUS(STATUS_SUCCESS, ZwCreateKey(&sub, KEY_ALL_ACCESS, &attributes, 0, NULL, REG_OPTION_VOLATILE, &disposition));
    CHECK_NUMBER(REG_CREATED_NEW_KEY, disposition);
    CHECK_STATUS(STATUS_SUCCESS, ZwEnumerateKey(Key, 0, KeyBasicInformation, buffer, sizeof(buffer), &length));
    CHECK(basic->NameLength == 6 && memcmp(basic->Name, L"Sub", 6) == 0);
    CHECK_STATUS(STATUS_SUCCESS, ZwDeleteKey(sub));
    CHECK_STATUS(STATUS_SUCCESS, ZwClose(sub));
    CHECK_STATUS(STATUS_NO_MORE_ENTRIES, ZwEnumerateKey(Key, 0, KeyBasicInformation, buffer, sizeof(buffer), &length));
}

/* The same by the names of system calls, on a key of its own. */
static void Native(void)
{
    UNICODE_STRING name = RTL_CONSTANT_STRING(L"Native"), value = RTL_CONSTANT_STRING(L"Value"), sub = RTL_CONSTANT_STRING(L"Sub");
    OBJECT_ATTRIBUTES attributes;
    HANDLE key, other, third, below;
    ULONG disposition = 0, length = 0, number = 17;
    UCHAR buffer[128];
    KEY_FULL_INFORMATION *full = (PVOID)buffer;
    KEY_BASIC_INFORMATION *basic = (PVOID)buffer;
    KEY_VALUE_PARTIAL_INFORMATION *partial = (PVOID)buffer;

    InitializeObjectAttributes(&attributes, &name, OBJ_CASE_INSENSITIVE | OBJ_KERNEL_HANDLE, Key, NULL);
    CHECK_STATUS(STATUS_SUCCESS, CALL(NtCreateKey)(&key, KEY_ALL_ACCESS, &attributes, 0, NULL, REG_OPTION_VOLATILE, &disposition));
    CHECK_NUMBER(REG_CREATED_NEW_KEY, disposition);
    CHECK_STATUS(STATUS_SUCCESS, CALL(NtOpenKey)(&other, KEY_READ, &attributes));
    ZwClose(other);
    CHECK_STATUS(STATUS_SUCCESS, CALL(ZwOpenKeyEx)(&other, KEY_READ, &attributes, 0));
    CHECK_STATUS(STATUS_SUCCESS, CALL(NtOpenKeyEx)(&third, KEY_READ, &attributes, 0));
    CHECK_STATUS(STATUS_SUCCESS, CALL(NtSetValueKey)(key, &value, 0, REG_DWORD, &number, sizeof(number)));
    CHECK_STATUS(STATUS_SUCCESS, CALL(NtQueryValueKey)(other, &value, KeyValuePartialInformation, buffer, sizeof(buffer), &length));
    CHECK(partial->Type == REG_DWORD && *(PULONG)partial->Data == 17);
    CHECK_STATUS(STATUS_SUCCESS, CALL(NtEnumerateValueKey)(third, 0, KeyValuePartialInformation, buffer, sizeof(buffer), &length));
    CHECK(*(PULONG)partial->Data == 17);
    InitializeObjectAttributes(&attributes, &sub, OBJ_CASE_INSENSITIVE | OBJ_KERNEL_HANDLE, key, NULL);
    CHECK_STATUS(STATUS_SUCCESS, CALL(NtCreateKey)(&below, KEY_ALL_ACCESS, &attributes, 0, NULL, REG_OPTION_VOLATILE, NULL));
    CHECK_STATUS(STATUS_SUCCESS, CALL(NtEnumerateKey)(key, 0, KeyBasicInformation, buffer, sizeof(buffer), &length));
    CHECK(basic->NameLength == 6 && memcmp(basic->Name, L"Sub", 6) == 0);
    CHECK_STATUS(STATUS_SUCCESS, CALL(NtQueryKey)(key, KeyFullInformation, buffer, sizeof(buffer), &length));
    CHECK(full->SubKeys == 1 && full->Values == 1 && full->MaxNameLen == 6 && full->MaxValueDataLen == 4);
    CHECK_STATUS(STATUS_BUFFER_TOO_SMALL, CALL(ZwQueryKey)(key, KeyFullInformation, buffer, 8, &length));
    CHECK_STATUS(STATUS_SUCCESS, CALL(ZwQueryKey)(key, KeyBasicInformation, buffer, sizeof(buffer), &length));
    CHECK(basic->NameLength == 12 && memcmp(basic->Name, L"Native", 12) == 0);
    CHECK_STATUS(STATUS_SUCCESS, CALL(NtFlushKey)(key));
    CHECK_STATUS(STATUS_SUCCESS, CALL(NtDeleteValueKey)(key, &value));
    CHECK_STATUS(STATUS_OBJECT_NAME_NOT_FOUND, CALL(ZwDeleteValueKey)(key, &value));
    CHECK_STATUS(STATUS_CANNOT_DELETE, CALL(NtDeleteKey)(key));
    CHECK_STATUS(STATUS_SUCCESS, CALL(NtDeleteKey)(below));
    CHECK_STATUS(STATUS_SUCCESS, CALL(NtDeleteKey)(key));
    ZwClose(below);
    ZwClose(third);
    ZwClose(other);
    ZwClose(key);
}

/* By path instead of by handle. */
static void Paths(PUNICODE_STRING Path)
{
    ULONG number = 42, read = 0;
    RTL_QUERY_REGISTRY_TABLE table[] = {
        {NULL, RTL_QUERY_REGISTRY_DIRECT, L"Written", &read, REG_NONE, NULL, 0},
        {NULL, 0, NULL, NULL, 0, NULL, 0},
    };

    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlCheckRegistryKey)(RTL_REGISTRY_ABSOLUTE, Path->Buffer));
    CHECK_STATUS(STATUS_OBJECT_NAME_NOT_FOUND, CALL(RtlCheckRegistryKey)(RTL_REGISTRY_SERVICES, L"Nobody"));
    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlCreateRegistryKey)(RTL_REGISTRY_SERVICES, L"Somebody"));
    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlCheckRegistryKey)(RTL_REGISTRY_SERVICES, L"Somebody"));
    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlWriteRegistryValue)(RTL_REGISTRY_ABSOLUTE, Path->Buffer, L"Written", REG_DWORD, &number, sizeof(number)));
    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlQueryRegistryValuesEx)(RTL_REGISTRY_ABSOLUTE, Path->Buffer, table, NULL, NULL));
    CHECK_NUMBER(42, read);
    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlDeleteRegistryValue)(RTL_REGISTRY_ABSOLUTE, Path->Buffer, L"Written"));
    CHECK_STATUS(STATUS_OBJECT_NAME_NOT_FOUND, CALL(RtlDeleteRegistryValue)(RTL_REGISTRY_ABSOLUTE, Path->Buffer, L"Written"));
}

static void Checks(PUNICODE_STRING RegistryPath)
{
    WCHAR room[128];
    UNICODE_STRING path = {0, sizeof(room), room};
    OBJECT_ATTRIBUTES attributes;

    RtlCopyUnicodeString(&path, RegistryPath);
    RtlAppendUnicodeToString(&path, L"\\Checks");
    InitializeObjectAttributes(&attributes, &path, OBJ_CASE_INSENSITIVE | OBJ_KERNEL_HANDLE, NULL, NULL);
    CHECK_STATUS(STATUS_SUCCESS, ZwCreateKey(&Key, KEY_ALL_ACCESS, &attributes, 0, NULL, REG_OPTION_VOLATILE, NULL));
    Values();
    Table(&path);
    Subkeys();
    Native();
    Paths(&path);
    CHECK_STATUS(STATUS_SUCCESS, ZwClose(Key));
    CHECK_STATUS(STATUS_INVALID_HANDLE, ZwFlushKey(Key));
}
