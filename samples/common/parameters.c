#define DRIVER_NAME "parameters"
#include "parameters.h"

#define VALUE_BYTES_MAX 512

/* A value as ZwQueryValueKey returns it, with room for its data. */
typedef union _VALUE {
    KEY_VALUE_PARTIAL_INFORMATION Information;
    UCHAR Room[FIELD_OFFSET(KEY_VALUE_PARTIAL_INFORMATION, Data) + VALUE_BYTES_MAX];
} VALUE;

static HANDLE OpenKey(HANDLE Parent, PCUNICODE_STRING Name)
{
    OBJECT_ATTRIBUTES attributes;
    HANDLE key;

    InitializeObjectAttributes(&attributes, (PUNICODE_STRING)Name, OBJ_CASE_INSENSITIVE | OBJ_KERNEL_HANDLE, Parent, NULL);
    return NT_SUCCESS(ZwOpenKey(&key, KEY_READ, &attributes)) ? key : NULL;
}

HANDLE OpenParameters(PCUNICODE_STRING RegistryPath)
{
    UNICODE_STRING name = RTL_CONSTANT_STRING(L"Parameters");
    HANDLE service, parameters;

    service = OpenKey(NULL, RegistryPath);
    if (service == NULL)
        return NULL;
    parameters = OpenKey(service, &name);
    ZwClose(service);
    return parameters;
}

void CloseParameters(HANDLE Key)
{
    if (Key != NULL)
        ZwClose(Key);
}

static BOOLEAN ReadValue(HANDLE Key, PCWSTR Name, ULONG Type, VALUE *Value)
{
    UNICODE_STRING name;
    ULONG length;
    NTSTATUS status;

    if (Key == NULL)
        return FALSE;
    RtlInitUnicodeString(&name, Name);
    status = ZwQueryValueKey(Key, &name, KeyValuePartialInformation, Value, sizeof(*Value), &length);
    /* A value that does not fit gives STATUS_BUFFER_OVERFLOW, which is no success either. */
    return NT_SUCCESS(status) && Value->Information.Type == Type;
}

ULONG ReadNumber(HANDLE Key, PCWSTR Name, ULONG Default)
{
    VALUE value;
    ULONG number;

    if (!ReadValue(Key, Name, REG_DWORD, &value) || value.Information.DataLength != sizeof(number))
        return Default;
    RtlCopyMemory(&number, value.Information.Data, sizeof(number));
    return number;
}

/* Copies up to the terminator, which a REG_SZ need not have. */
static BOOLEAN CopyAscii(PSTR Text, ULONG Size, const WCHAR *Wide, ULONG Count)
{
    ULONG i;

    for (i = 0; i < Count && Wide[i] != L'\0'; i++) {
        if (i + 1 >= Size || Wide[i] > 0x7E || Wide[i] < 0x20)
            return FALSE;
        Text[i] = (CHAR)Wide[i];
    }
    Text[i] = '\0';
    return TRUE;
}

void ReadText(HANDLE Key, PCWSTR Name, PSTR Text, ULONG Size, PCSTR Default)
{
    VALUE value;

    if (ReadValue(Key, Name, REG_SZ, &value) &&
        CopyAscii(Text, Size, (const WCHAR *)value.Information.Data, value.Information.DataLength / sizeof(WCHAR)))
        return;
    RtlCopyMemory(Text, Default, strlen(Default) + 1);
}
