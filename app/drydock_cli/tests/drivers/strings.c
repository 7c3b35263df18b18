/* Counted strings: initialising, copying, appending, comparing, converting (K-163 to K-165). */
#define FAMILY "strings"
#include "check.h"

static BOOLEAN Is(PUNICODE_STRING Name, PCWSTR Text)
{
    UNICODE_STRING text;

    RtlInitUnicodeString(&text, Text);
    return Name->Length == text.Length && RtlCompareMemory(Name->Buffer, text.Buffer, text.Length) == text.Length;
}

static void Copies(void)
{
    WCHAR room[8];
    UNICODE_STRING into = {0, sizeof(room), room};
    UNICODE_STRING longer = RTL_CONSTANT_STRING(L"0123456789");
    UNICODE_STRING shorter = RTL_CONSTANT_STRING(L"abc");

    RtlInitUnicodeString(&into, NULL);
    CHECK(into.Buffer == NULL && into.Length == 0 && into.MaximumLength == 0);
    CHECK(longer.Length == 20 && longer.MaximumLength == 22);
    into.Buffer = room;
    into.MaximumLength = sizeof(room);
    RtlCopyUnicodeString(&into, &longer);
    CHECK(Is(&into, L"01234567"));
    RtlCopyUnicodeString(&into, &shorter);
    CHECK(Is(&into, L"abc"));
    CHECK(room[3] == 0);
    CHECK_STATUS(STATUS_SUCCESS, RtlAppendUnicodeToString(&into, L"def"));
    CHECK_STATUS(STATUS_BUFFER_TOO_SMALL, RtlAppendUnicodeStringToString(&into, &shorter));
    CHECK(Is(&into, L"abcdef"));
    RtlCopyUnicodeString(&into, NULL);
    CHECK(into.Length == 0 && into.MaximumLength == sizeof(room));
}

static void Comparisons(void)
{
    UNICODE_STRING path = RTL_CONSTANT_STRING(L"\\Device\\Tcp");
    UNICODE_STRING other = RTL_CONSTANT_STRING(L"\\DEVICE\\TCP");
    UNICODE_STRING prefix = RTL_CONSTANT_STRING(L"\\device");
    ANSI_STRING one = RTL_CONSTANT_STRING("alpha"), two = RTL_CONSTANT_STRING("ALPHB");

    CHECK(!RtlEqualUnicodeString(&path, &other, FALSE) && RtlEqualUnicodeString(&path, &other, TRUE));
    CHECK(RtlCompareUnicodeString(&path, &other, TRUE) == 0);
    CHECK(RtlCompareUnicodeString(&path, &other, FALSE) > 0);
    CHECK(RtlCompareUnicodeString(&prefix, &path, TRUE) < 0);
    CHECK(RtlPrefixUnicodeString(&prefix, &path, TRUE) && !RtlPrefixUnicodeString(&prefix, &path, FALSE));
    CHECK(!RtlPrefixUnicodeString(&path, &prefix, TRUE));
    CHECK(RtlCompareString(&one, &two, TRUE) < 0 && RtlCompareString(&one, &two, FALSE) > 0);
    CHECK(!RtlEqualString(&one, &two, TRUE));
    CHECK(RtlUpcaseUnicodeChar(L'\x00e4') == L'\x00c4' && RtlUpcaseUnicodeChar(L'1') == L'1');
}

static void Conversions(void)
{
    ANSI_STRING narrow, made;
    UNICODE_STRING wide, upper, number;
    WCHAR digits[16];
    ULONG value = 0;

    RtlInitAnsiString(&narrow, "Port");
    CHECK(narrow.Length == 4 && narrow.MaximumLength == 5);
    CHECK_STATUS(STATUS_SUCCESS, RtlAnsiStringToUnicodeString(&wide, &narrow, TRUE));
    CHECK(Is(&wide, L"Port") && wide.MaximumLength == 10 && wide.Buffer[4] == 0);
    CHECK_STATUS(STATUS_SUCCESS, RtlUpcaseUnicodeString(&upper, &wide, TRUE));
    CHECK(Is(&upper, L"PORT"));
    CHECK_STATUS(STATUS_SUCCESS, RtlUnicodeStringToAnsiString(&made, &upper, TRUE));
    CHECK(made.Length == 4 && strcmp(made.Buffer, "PORT") == 0);
    made.MaximumLength = 4;
    CHECK_STATUS(STATUS_BUFFER_OVERFLOW, RtlUnicodeStringToAnsiString(&made, &upper, FALSE));
    RtlFreeAnsiString(&made);
    RtlFreeUnicodeString(&upper);
    RtlFreeUnicodeString(&wide);
    CHECK(wide.Buffer == NULL && wide.Length == 0);

    number.Buffer = digits;
    number.MaximumLength = sizeof(digits);
    CHECK_STATUS(STATUS_SUCCESS, RtlIntegerToUnicodeString(0xBEEF, 16, &number));
    CHECK(Is(&number, L"BEEF"));
    CHECK_STATUS(STATUS_SUCCESS, RtlUnicodeStringToInteger(&number, 16, &value));
    CHECK_NUMBER(0xBEEF, value);
    CHECK_STATUS(STATUS_INVALID_PARAMETER, RtlUnicodeStringToInteger(&number, 7, &value));
    number.MaximumLength = 4;
    CHECK_STATUS(STATUS_BUFFER_OVERFLOW, RtlIntegerToUnicodeString(12345, 10, &number));
}

static void Checks(PUNICODE_STRING RegistryPath)
{
    CHECK(RegistryPath->Buffer[RegistryPath->Length / sizeof(WCHAR)] == 0);
    Copies();
    Comparisons();
    Conversions();
}
