/* Texts: code pages, UTF-8, numbers, GUIDs, IP addresses, and the rest of the counted strings (K-163 to K-165, K-200). */
#define FAMILY "texts"
#include "check.h"

IMPORT(ULONG, RtlxAnsiStringToUnicodeSize, PANSI_STRING);
IMPORT(ULONG, RtlxUnicodeStringToAnsiSize, PUNICODE_STRING);
IMPORT(NTSTATUS, RtlMultiByteToUnicodeN, PWCH, ULONG, PULONG, const char *, ULONG);
IMPORT(NTSTATUS, RtlUnicodeToMultiByteN, char *, ULONG, PULONG, const WCHAR *, ULONG);
IMPORT(NTSTATUS, RtlUpcaseUnicodeToMultiByteN, char *, ULONG, PULONG, const WCHAR *, ULONG);
IMPORT(NTSTATUS, RtlMultiByteToUnicodeSize, PULONG, const char *, ULONG);
IMPORT(NTSTATUS, RtlUnicodeToMultiByteSize, PULONG, const WCHAR *, ULONG);
IMPORT(NTSTATUS, RtlUnicodeToUTF8N, char *, ULONG, PULONG, const WCHAR *, ULONG);
IMPORT(NTSTATUS, RtlUTF8ToUnicodeN, PWCH, ULONG, PULONG, const char *, ULONG);
IMPORT(NTSTATUS, RtlUnicodeStringToUTF8String, PANSI_STRING, PUNICODE_STRING, BOOLEAN);
IMPORT(NTSTATUS, RtlUTF8StringToUnicodeString, PUNICODE_STRING, PANSI_STRING, BOOLEAN);
IMPORT(WCHAR, RtlAnsiCharToUnicodeChar, const UCHAR **);
IMPORT(WCHAR, RtlDowncaseUnicodeChar, WCHAR);
IMPORT(CHAR, RtlUpperChar, CHAR);
IMPORT(NTSTATUS, RtlStringFromGUID, const GUID *, PUNICODE_STRING);
IMPORT(NTSTATUS, RtlGUIDFromString, PUNICODE_STRING, GUID *);
IMPORT(NTSTATUS, ExUuidCreate, GUID *);
IMPORT(char *, RtlIpv4AddressToStringA, const UCHAR *, char *);
IMPORT(WCHAR *, RtlIpv4AddressToStringW, const UCHAR *, WCHAR *);
IMPORT(NTSTATUS, RtlIpv4AddressToStringExA, const UCHAR *, USHORT, char *, PULONG);
IMPORT(NTSTATUS, RtlIpv4AddressToStringExW, const UCHAR *, USHORT, WCHAR *, PULONG);
IMPORT(NTSTATUS, RtlIpv4StringToAddressA, const char *, BOOLEAN, const char **, UCHAR *);
IMPORT(NTSTATUS, RtlIpv4StringToAddressW, const WCHAR *, BOOLEAN, const WCHAR **, UCHAR *);
IMPORT(NTSTATUS, RtlIpv4StringToAddressExA, const char *, BOOLEAN, UCHAR *, PUSHORT);
IMPORT(NTSTATUS, RtlIpv4StringToAddressExW, const WCHAR *, BOOLEAN, UCHAR *, PUSHORT);
IMPORT(char *, RtlIpv6AddressToStringA, const UCHAR *, char *);
IMPORT(WCHAR *, RtlIpv6AddressToStringW, const UCHAR *, WCHAR *);
IMPORT(NTSTATUS, RtlIpv6AddressToStringExA, const UCHAR *, ULONG, USHORT, char *, PULONG);
IMPORT(NTSTATUS, RtlIpv6AddressToStringExW, const UCHAR *, ULONG, USHORT, WCHAR *, PULONG);
IMPORT(NTSTATUS, RtlIpv6StringToAddressA, const char *, const char **, UCHAR *);
IMPORT(NTSTATUS, RtlIpv6StringToAddressW, const WCHAR *, const WCHAR **, UCHAR *);
IMPORT(NTSTATUS, RtlIpv6StringToAddressExA, const char *, UCHAR *, PULONG, PUSHORT);
IMPORT(NTSTATUS, RtlIpv6StringToAddressExW, const WCHAR *, UCHAR *, PULONG, PUSHORT);
IMPORT(NTSTATUS, RtlInt64ToUnicodeString, ULONGLONG, ULONG, PUNICODE_STRING);
IMPORT(NTSTATUS, RtlUnicodeStringToInt64, PUNICODE_STRING, ULONG, LONGLONG *, WCHAR **);
IMPORT(NTSTATUS, RtlCharToInteger, const char *, ULONG, PULONG);
IMPORT(NTSTATUS, RtlIntegerToChar, ULONG, ULONG, LONG, char *);
IMPORT(NTSTATUS, RtlInitUnicodeStringEx, PUNICODE_STRING, const WCHAR *);
IMPORT(void, RtlInitString, PANSI_STRING, const char *);
IMPORT(void, RtlInitUTF8String, PANSI_STRING, const char *);
IMPORT(NTSTATUS, RtlInitAnsiStringEx, PANSI_STRING, const char *);
IMPORT(NTSTATUS, RtlInitStringEx, PANSI_STRING, const char *);
IMPORT(NTSTATUS, RtlInitUTF8StringEx, PANSI_STRING, const char *);
IMPORT(void, RtlCopyString, PANSI_STRING, PANSI_STRING);
IMPORT(NTSTATUS, RtlAppendStringToString, PANSI_STRING, PANSI_STRING);
IMPORT(NTSTATUS, RtlAppendAsciizToString, PANSI_STRING, const char *);
IMPORT(LONG, RtlCompareUnicodeStrings, const WCHAR *, SIZE_T, const WCHAR *, SIZE_T, BOOLEAN);
IMPORT(BOOLEAN, RtlSuffixUnicodeString, PUNICODE_STRING, PUNICODE_STRING, BOOLEAN);
IMPORT(BOOLEAN, RtlPrefixString, PANSI_STRING, PANSI_STRING, BOOLEAN);
IMPORT(void, RtlUpperString, PANSI_STRING, PANSI_STRING);
IMPORT(NTSTATUS, RtlDowncaseUnicodeString, PUNICODE_STRING, PUNICODE_STRING, BOOLEAN);
IMPORT(BOOLEAN, RtlCreateUnicodeString, PUNICODE_STRING, const WCHAR *);
IMPORT(BOOLEAN, RtlCreateUnicodeStringFromAsciiz, PUNICODE_STRING, const char *);
IMPORT(NTSTATUS, RtlDuplicateUnicodeString, ULONG, PUNICODE_STRING, PUNICODE_STRING);
IMPORT(NTSTATUS, RtlValidateUnicodeString, ULONG, PUNICODE_STRING);
IMPORT(NTSTATUS, RtlHashUnicodeString, PUNICODE_STRING, BOOLEAN, ULONG, PULONG);
IMPORT(void, RtlFreeOemString, PANSI_STRING);
IMPORT(void, RtlFreeUTF8String, PANSI_STRING);

/* Port 80 in network byte order. */
#define PORT_80 0x5000

static BOOLEAN Same(const WCHAR *One, const WCHAR *Two)
{
    while (*One != 0 && *One == *Two)
        One++, Two++;
    return *One == *Two;
}

static BOOLEAN Is(PUNICODE_STRING Name, PCWSTR Text)
{
    UNICODE_STRING text;

    RtlInitUnicodeString(&text, Text);
    return Name->Length == text.Length && RtlCompareMemory(Name->Buffer, text.Buffer, text.Length) == text.Length;
}

static BOOLEAN IsNarrow(PANSI_STRING Name, const char *Text)
{
    SIZE_T length = strlen(Text);

    return Name->Length == length && RtlCompareMemory(Name->Buffer, Text, length) == length;
}

static void CodePages(void)
{
    ANSI_STRING narrow = RTL_CONSTANT_STRING("Port");
    UNICODE_STRING wide = RTL_CONSTANT_STRING(L"Port");
    const UCHAR *place = (const UCHAR *)"xy";
    WCHAR units[8];
    char bytes[8];
    ULONG size = 77;

    CHECK_NUMBER(10, CALL(RtlxAnsiStringToUnicodeSize)(&narrow));
    CHECK_NUMBER(5, CALL(RtlxUnicodeStringToAnsiSize)(&wide));
    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlMultiByteToUnicodeN)(units, sizeof(units), &size, "abc", 4));
    CHECK(size == 8 && Same(units, L"abc"));
    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlUnicodeToMultiByteN)(bytes, sizeof(bytes), &size, L"abc", 8));
    CHECK_NUMBER(4, size);
    CHECK_TEXT("abc", bytes);
    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlUpcaseUnicodeToMultiByteN)(bytes, sizeof(bytes), &size, L"aBc", 8));
    CHECK_TEXT("ABC", bytes);
    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlMultiByteToUnicodeSize)(&size, "abc", 3));
    CHECK_NUMBER(6, size);
    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlUnicodeToMultiByteSize)(&size, L"abc", 6));
    CHECK_NUMBER(3, size);
    CHECK(CALL(RtlAnsiCharToUnicodeChar)(&place) == L'x' && *place == 'y');
    CHECK(CALL(RtlDowncaseUnicodeChar)(L'A') == L'a' && CALL(RtlDowncaseUnicodeChar)(0xC4) == 0xE4);
    CHECK(CALL(RtlUpperChar)('a') == 'A' && CALL(RtlUpperChar)('-') == '-');
}

/* U+00E4, U+20AC and U+1F600: two, three and four bytes. */
static void Utf8(void)
{
    static const WCHAR Units[] = {0xE4, 0x20AC, 0xD83D, 0xDE00, 0};
    static const char Bytes[] = "\xC3\xA4\xE2\x82\xAC\xF0\x9F\x98\x80";
    UNICODE_STRING wide, back;
    ANSI_STRING narrow;
    WCHAR units[8];
    char bytes[16];
    ULONG size = 77;

    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlUnicodeToUTF8N)(bytes, sizeof(bytes), &size, Units, sizeof(Units)));
    CHECK_NUMBER(10, size);
    CHECK_TEXT(Bytes, bytes);
    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlUnicodeToUTF8N)(NULL, 0, &size, Units, sizeof(Units)));
    CHECK_NUMBER(10, size);
    CHECK_STATUS(STATUS_BUFFER_TOO_SMALL, CALL(RtlUnicodeToUTF8N)(bytes, 4, &size, Units, sizeof(Units)));
    CHECK_NUMBER(2, size);
    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlUTF8ToUnicodeN)(units, sizeof(units), &size, Bytes, sizeof(Bytes)));
    CHECK(size == sizeof(Units) && Same(units, Units));
    CHECK_STATUS(STATUS_SOME_NOT_MAPPED, CALL(RtlUTF8ToUnicodeN)(units, sizeof(units), &size, "a\xFF", 2));
    CHECK(size == 4 && units[0] == L'a' && units[1] == 0xFFFD);

    RtlInitUnicodeString(&wide, Units);
    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlUnicodeStringToUTF8String)(&narrow, &wide, TRUE));
    CHECK(IsNarrow(&narrow, Bytes) && narrow.Buffer[9] == 0);
    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlUTF8StringToUnicodeString)(&back, &narrow, TRUE));
    CHECK(Is(&back, Units));
    RtlFreeUnicodeString(&back);
    CALL(RtlFreeUTF8String)(&narrow);
    CHECK(narrow.Buffer == NULL && narrow.Length == 0);
    CALL(RtlInitUTF8String)(&narrow, Bytes);
    CHECK(narrow.Length == 9 && narrow.MaximumLength == 10 && narrow.Buffer == Bytes);
}

static void Guids(void)
{
    static const GUID Known = {0x6F2A1C55, 0x12AB, 0x34CD, {0x9A, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0xFF}};
    UNICODE_STRING text, bad = RTL_CONSTANT_STRING(L"{6F2A1C55-12AB}");
    GUID read = {0}, made[2];

    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlStringFromGUID)(&Known, &text));
    CHECK(text.Length == 76 && text.MaximumLength == 78);
    CHECK(Is(&text, L"{6F2A1C55-12AB-34CD-9A01-0203040506FF}") || Is(&text, L"{6f2a1c55-12ab-34cd-9a01-0203040506ff}"));
    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlGUIDFromString)(&text, &read));
    CHECK_NUMBER(sizeof(GUID), RtlCompareMemory(&read, &Known, sizeof(GUID)));
    RtlFreeUnicodeString(&text);
    CHECK_STATUS(STATUS_INVALID_PARAMETER, CALL(RtlGUIDFromString)(&bad, &read));
    CHECK(NT_SUCCESS(CALL(ExUuidCreate)(&made[0])) && NT_SUCCESS(CALL(ExUuidCreate)(&made[1])));
    CHECK(RtlCompareMemory(&made[0], &made[1], sizeof(GUID)) != sizeof(GUID));
}

static void Addresses(void)
{
    static const UCHAR Four[] = {192, 0, 2, 17};
    static const UCHAR Six[] = {0x20, 1, 0xD, 0xB8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x17};
    char text[80];
    const char *end;
    WCHAR wide[80];
    const WCHAR *wideEnd;
    UCHAR read[16];
    ULONG room, scope;
    USHORT port;

    end = CALL(RtlIpv4AddressToStringA)(Four, text);
    CHECK(end == text + 10);
    CHECK_TEXT("192.0.2.17", text);
    wideEnd = CALL(RtlIpv4AddressToStringW)(Four, wide);
    CHECK(wideEnd == wide + 10 && Same(wide, L"192.0.2.17"));
    room = sizeof(text);
    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlIpv4AddressToStringExA)(Four, PORT_80, text, &room));
    CHECK_NUMBER(14, room);
    CHECK_TEXT("192.0.2.17:80", text);
    room = 3;
    CHECK_STATUS(STATUS_INVALID_PARAMETER, CALL(RtlIpv4AddressToStringExW)(Four, 0, wide, &room));
    CHECK_NUMBER(11, room);
    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlIpv4AddressToStringExW)(Four, 0, wide, &room));
    CHECK(Same(wide, L"192.0.2.17"));
    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlIpv4StringToAddressA)("192.0.2.17 x", TRUE, &end, read));
    CHECK(RtlCompareMemory(read, Four, 4) == 4 && *end == ' ');
    CHECK_STATUS(STATUS_INVALID_PARAMETER, CALL(RtlIpv4StringToAddressA)("192.2", TRUE, &end, read));
    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlIpv4StringToAddressW)(L"0xC0.529", FALSE, &wideEnd, read));
    CHECK(RtlCompareMemory(read, "\xC0\0\2\x11", 4) == 4 && *wideEnd == 0);
    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlIpv4StringToAddressExA)("192.0.2.17:80", TRUE, read, &port));
    CHECK_NUMBER(PORT_80, port);
    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlIpv4StringToAddressExW)(L"192.0.2.17", TRUE, read, &port));
    CHECK_NUMBER(0, port);
    CHECK_STATUS(STATUS_INVALID_PARAMETER, CALL(RtlIpv4StringToAddressExW)(L"192.0.2.17:", TRUE, read, &port));

    end = CALL(RtlIpv6AddressToStringA)(Six, text);
    CHECK(end == text + 12);
    CHECK_TEXT("2001:db8::17", text);
    wideEnd = CALL(RtlIpv6AddressToStringW)(Six, wide);
    CHECK(Same(wide, L"2001:db8::17") && *wideEnd == 0);
    room = sizeof(text);
    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlIpv6AddressToStringExA)(Six, 3, PORT_80, text, &room));
    CHECK_TEXT("[2001:db8::17%3]:80", text);
    CHECK_NUMBER(20, room);
    room = 80;
    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlIpv6AddressToStringExW)(Six, 0, 0, wide, &room));
    CHECK(Same(wide, L"2001:db8::17") && room == 13);
    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlIpv6StringToAddressA)("2001:DB8::17/64", &end, read));
    CHECK(RtlCompareMemory(read, Six, 16) == 16 && *end == '/');
    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlIpv6StringToAddressW)(L"2001:db8:0:0:0:0:0:17", &wideEnd, read));
    CHECK(RtlCompareMemory(read, Six, 16) == 16 && *wideEnd == 0);
    CHECK_STATUS(STATUS_INVALID_PARAMETER, CALL(RtlIpv6StringToAddressW)(L"2001::db8::17x", &wideEnd, read));
    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlIpv6StringToAddressExA)("[2001:db8::17%3]:80", read, &scope, &port));
    CHECK(RtlCompareMemory(read, Six, 16) == 16 && scope == 3 && port == PORT_80);
    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlIpv6StringToAddressExW)(L"2001:db8::17", read, &scope, &port));
    CHECK(scope == 0 && port == 0);
    CHECK_STATUS(STATUS_INVALID_PARAMETER, CALL(RtlIpv6StringToAddressExW)(L"[2001:db8::17", read, &scope, &port));
}

static void Numbers(void)
{
    WCHAR digits[40], *end = NULL;
    UNICODE_STRING number = {0, sizeof(digits), digits}, text = RTL_CONSTANT_STRING(L"-0x1F!");
    LONGLONG value = 0;
    ULONG small = 0;
    char narrow[12];

    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlInt64ToUnicodeString)(0xFEDCBA9876543210ULL, 16, &number));
    CHECK(Is(&number, L"FEDCBA9876543210"));
    number.MaximumLength = 8;
    CHECK_STATUS(STATUS_BUFFER_OVERFLOW, CALL(RtlInt64ToUnicodeString)(123456, 10, &number));
    CHECK_STATUS(STATUS_INVALID_PARAMETER, CALL(RtlInt64ToUnicodeString)(1, 7, &number));
    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlUnicodeStringToInt64)(&text, 0, &value, &end));
    CHECK(value == -31 && *end == L'!');
    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlCharToInteger)("0b101", 0, &small));
    CHECK_NUMBER(5, small);
    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlCharToInteger)("-12x", 10, &small));
    CHECK_NUMBER((ULONG)-12, small);
    CHECK_STATUS(STATUS_INVALID_PARAMETER, CALL(RtlCharToInteger)("1", 5, &small));
    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlIntegerToChar)(0xBEEF, 16, sizeof(narrow), narrow));
    CHECK_TEXT("BEEF", narrow);
    CHECK_STATUS(STATUS_BUFFER_OVERFLOW, CALL(RtlIntegerToChar)(12345, 10, 3, narrow));
}

static void Strings(void)
{
    char room[8], upper[8];
    ANSI_STRING into = {0, sizeof(room), room}, other = {0, sizeof(upper), upper}, abc, oem;
    UNICODE_STRING path = RTL_CONSTANT_STRING(L"\\Device\\Tcp"), tail = RTL_CONSTANT_STRING(L"\\TCP"), made, odd;
    ULONG hash[2];

    CALL(RtlInitString)(&abc, "abc");
    CHECK(abc.Length == 3 && abc.MaximumLength == 4);
    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlInitAnsiStringEx)(&abc, NULL));
    CHECK(abc.Length == 0 && abc.MaximumLength == 0 && abc.Buffer == NULL);
    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlInitUTF8StringEx)(&abc, "ab"));
    CHECK(IsNarrow(&abc, "ab"));
    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlInitStringEx)(&abc, "abc"));
    CHECK(IsNarrow(&abc, "abc"));
    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlInitUnicodeStringEx)(&made, L"abc"));
    CHECK(made.Length == 6 && made.MaximumLength == 8);
    CALL(RtlCopyString)(&into, &abc);
    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlAppendStringToString)(&into, &abc));
    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlAppendAsciizToString)(&into, "de"));
    CHECK(IsNarrow(&into, "abcabcde"));
    CHECK_STATUS(STATUS_BUFFER_TOO_SMALL, CALL(RtlAppendAsciizToString)(&into, "f"));
    CHECK_STATUS(STATUS_BUFFER_TOO_SMALL, CALL(RtlAppendStringToString)(&into, &abc));
    CALL(RtlUpperString)(&other, &into);
    CHECK(IsNarrow(&other, "ABCABCDE"));
    CHECK(CALL(RtlPrefixString)(&abc, &into, FALSE) && !CALL(RtlPrefixString)(&abc, &other, FALSE));
    CHECK(CALL(RtlPrefixString)(&abc, &other, TRUE) && !CALL(RtlPrefixString)(&into, &abc, FALSE));
    CHECK(CALL(RtlSuffixUnicodeString)(&tail, &path, TRUE) && !CALL(RtlSuffixUnicodeString)(&tail, &path, FALSE));
    CHECK(CALL(RtlCompareUnicodeStrings)(L"abc", 3, L"ABD", 3, TRUE) < 0);
    CHECK(CALL(RtlCompareUnicodeStrings)(L"abc", 3, L"ab", 2, FALSE) > 0 && CALL(RtlCompareUnicodeStrings)(L"a", 1, L"A", 1, TRUE) == 0);

    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlDowncaseUnicodeString)(&made, &path, TRUE));
    CHECK(Is(&made, L"\\device\\tcp"));
    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlHashUnicodeString)(&path, TRUE, 0, &hash[0]));
    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlHashUnicodeString)(&made, TRUE, 0, &hash[1]));
    CHECK(hash[0] == hash[1]);
    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlHashUnicodeString)(&made, FALSE, 1, &hash[1]));
    CHECK(hash[0] != hash[1]);
    CHECK_STATUS(STATUS_INVALID_PARAMETER, CALL(RtlHashUnicodeString)(&made, FALSE, 9, &hash[1]));
    RtlFreeUnicodeString(&made);
    CHECK(CALL(RtlCreateUnicodeString)(&made, L"xyz") && Is(&made, L"xyz") && made.Buffer[3] == 0);
    RtlFreeUnicodeString(&made);
    CHECK(CALL(RtlCreateUnicodeStringFromAsciiz)(&made, "xyz") && Is(&made, L"xyz"));
    RtlFreeUnicodeString(&made);
    /* 1: with a terminator behind it. */
    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlDuplicateUnicodeString)(1, &path, &made));
    CHECK(Is(&made, L"\\Device\\Tcp") && made.MaximumLength == 24 && made.Buffer != path.Buffer && made.Buffer[11] == 0);
    CHECK_STATUS(STATUS_SUCCESS, RtlUnicodeStringToAnsiString(&oem, &made, TRUE));
    CALL(RtlFreeOemString)(&oem);
    CHECK(oem.Buffer == NULL);
    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlValidateUnicodeString)(0, &made));
    odd = made;
    odd.Length = 3;
    CHECK_STATUS(STATUS_INVALID_PARAMETER, CALL(RtlValidateUnicodeString)(0, &odd));
    CHECK_STATUS(STATUS_INVALID_PARAMETER, CALL(RtlValidateUnicodeString)(1, &made));
    RtlFreeUnicodeString(&made);
}

static void Checks(PUNICODE_STRING RegistryPath)
{
    (void)RegistryPath;
    CodePages();
    Utf8();
    Guids();
    Addresses();
    Numbers();
    Strings();
}
