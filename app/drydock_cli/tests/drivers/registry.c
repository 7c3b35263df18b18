/* Keys and values below the driver's own key (K-166, K-167). */
#define FAMILY "registry"
#include "check.h"

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
    CHECK_STATUS(STATUS_SUCCESS, ZwClose(Key));
    CHECK_STATUS(STATUS_INVALID_HANDLE, ZwFlushKey(Key));
}
