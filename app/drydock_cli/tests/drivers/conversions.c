/* The OEM code page, errors for statuses, Ethernet addresses, images and versions (K-165, K-207). */
#define FAMILY "conversions"
#include "check.h"

NTSYSAPI ULONG NTAPI RtlNtStatusToDosError(NTSTATUS);
NTSYSAPI PSTR NTAPI RtlEthernetAddressToStringA(const UCHAR *, PSTR);
NTSYSAPI PWSTR NTAPI RtlEthernetAddressToStringW(const UCHAR *, PWSTR);
NTSYSAPI NTSTATUS NTAPI RtlEthernetStringToAddressA(PCSTR, PCSTR *, UCHAR *);
NTSYSAPI PVOID NTAPI RtlImageNtHeader(PVOID);
NTSYSAPI PVOID NTAPI RtlImageDirectoryEntryToData(PVOID, BOOLEAN, USHORT, PULONG);
NTSYSAPI PVOID NTAPI RtlPcToFileHeader(PVOID, PVOID *);
NTSYSAPI NTSTATUS NTAPI RtlOemToUnicodeN(PWSTR, ULONG, PULONG, PCSTR, ULONG);
NTSYSAPI NTSTATUS NTAPI RtlUnicodeToOemN(PSTR, ULONG, PULONG, PCWSTR, ULONG);
NTSYSAPI NTSTATUS NTAPI RtlUpcaseUnicodeToOemN(PSTR, ULONG, PULONG, PCWSTR, ULONG);

static void Oem(void)
{
    char bytes[] = {'a', (char)0x81, (char)0xE1, 0}, buffer[8];
    STRING oem, small;
    UNICODE_STRING wide, euro;
    WCHAR units[4];
    ULONG written;

    RtlInitString(&oem, bytes);
    CHECK_STATUS(STATUS_SUCCESS, RtlOemStringToUnicodeString(&wide, &oem, TRUE));
    CHECK_NUMBER(6, wide.Length);
    CHECK(wide.Buffer[0] == 'a' && wide.Buffer[1] == 0xFC && wide.Buffer[2] == 0xDF && wide.Buffer[3] == 0);
    small.Buffer = buffer;
    small.MaximumLength = sizeof(buffer);
    CHECK_STATUS(STATUS_SUCCESS, RtlUnicodeStringToOemString(&small, &wide, FALSE));
    CHECK_NUMBER(3, small.Length);
    CHECK_TEXT(bytes, small.Buffer);
    CHECK_STATUS(STATUS_SUCCESS, RtlUpcaseUnicodeStringToOemString(&small, &wide, FALSE));
    CHECK(buffer[0] == 'A' && buffer[1] == (char)0x9A && buffer[2] == (char)0xE1);
    small.MaximumLength = 3;
    CHECK_STATUS(STATUS_SUCCESS, RtlUpcaseUnicodeStringToCountedOemString(&small, &wide, FALSE));
    CHECK_NUMBER(3, small.Length);
    small.MaximumLength = 2;
    CHECK_STATUS(STATUS_BUFFER_OVERFLOW, RtlUpcaseUnicodeStringToCountedOemString(&small, &wide, FALSE));
    RtlInitUnicodeString(&euro, L"\x20AC");
    small.MaximumLength = sizeof(buffer);
    CHECK_STATUS(STATUS_UNMAPPABLE_CHARACTER, RtlUpcaseUnicodeStringToCountedOemString(&small, &euro, FALSE));
    CHECK_STATUS(STATUS_SUCCESS, RtlUnicodeStringToOemString(&small, &euro, FALSE));
    CHECK_TEXT("?", small.Buffer);
    RtlFreeUnicodeString(&wide);
    CHECK_STATUS(STATUS_SUCCESS, RtlOemToUnicodeN(units, 4, &written, bytes, 3));
    CHECK_NUMBER(4, written);
    CHECK(units[1] == 0xFC);
    CHECK_STATUS(STATUS_SUCCESS, RtlUnicodeToOemN(buffer, 8, &written, units, 4));
    CHECK(written == 2 && buffer[1] == (char)0x81);
    CHECK_STATUS(STATUS_SUCCESS, RtlUpcaseUnicodeToOemN(buffer, 8, &written, units, 4));
    CHECK(written == 2 && buffer[0] == 'A' && buffer[1] == (char)0x9A);
}

static void Errors(void)
{
    CHECK_NUMBER(0, RtlNtStatusToDosError(STATUS_SUCCESS));
    CHECK_NUMBER(1225, RtlNtStatusToDosError(STATUS_CONNECTION_REFUSED));
    CHECK_NUMBER(5, RtlNtStatusToDosError(STATUS_ACCESS_DENIED));
    CHECK_NUMBER(995, RtlNtStatusToDosError(STATUS_CANCELLED));
    CHECK_NUMBER(1450, RtlNtStatusToDosError(STATUS_INSUFFICIENT_RESOURCES));
    CHECK_NUMBER(317, RtlNtStatusToDosError((NTSTATUS)0xC000FFFF));
    CHECK_NUMBER(1234, RtlNtStatusToDosError((NTSTATUS)0xC00704D2));
    CHECK_NUMBER(0xE0001234, RtlNtStatusToDosError((NTSTATUS)0xE0001234));
}

static void Ethernet(void)
{
    static const UCHAR address[6] = {0x00, 0x1B, 0xC5, 0x0A, 0xFF, 0x42};
    UCHAR back[6];
    CHAR text[18];
    WCHAR wide[18];
    PCSTR end;

    CHECK(RtlEthernetAddressToStringA(address, text) == text + 17);
    CHECK_TEXT("00-1B-C5-0A-FF-42", text);
    CHECK(RtlEthernetAddressToStringW(address, wide) == wide + 17 && wide[15] == '4' && wide[17] == 0);
    CHECK_STATUS(STATUS_SUCCESS, RtlEthernetStringToAddressA("00-1b-C5-0A-FF-42 x", &end, back));
    CHECK(RtlCompareMemory(address, back, 6) == 6 && *end == ' ');
    CHECK_STATUS(STATUS_INVALID_PARAMETER, RtlEthernetStringToAddressA("00-1B-C5", &end, back));
    CHECK(*end == 0);
    CHECK_STATUS(STATUS_INVALID_PARAMETER, RtlEthernetStringToAddressA("00:1B", &end, back));
    CHECK(*end == ':');
}

static void Images(void)
{
    PVOID base = NULL, imports;
    ULONG size = 0;
    PUCHAR header;
    PULONG directory;
    static UCHAR nothing[0x80] = {'M', 'Z'};

    CHECK(RtlPcToFileHeader((PVOID)Images, &base) == base && base != NULL);
    header = RtlImageNtHeader(base);
    CHECK(header != NULL && *(ULONG *)header == 0x4550);
    /* Directory 1, the imports: behind the file header and the optional header's other fields. */
    directory = (PULONG)(header + 24 + 112 + 8);
    imports = RtlImageDirectoryEntryToData(base, TRUE, 1, &size);
    CHECK((PUCHAR)imports == (PUCHAR)base + directory[0] && size == directory[1] && size > 0);
    CHECK(RtlImageDirectoryEntryToData((PVOID)((ULONG_PTR)base | 1), TRUE, 1, &size) != NULL && size == directory[1]);
    CHECK(RtlImageDirectoryEntryToData(base, TRUE, 77, &size) == NULL && size == 0);
    CHECK(RtlImageNtHeader(nothing) == NULL && RtlImageNtHeader(NULL) == NULL && RtlImageNtHeader((PVOID)0x10) == NULL);
}

static void Versions(void)
{
    RTL_OSVERSIONINFOEXW version;
    ULONGLONG atLeast, exactly = 0;

    RtlZeroMemory(&version, sizeof(version));
    version.dwOSVersionInfoSize = sizeof(version);
    version.dwMajorVersion = 6;
    version.dwMinorVersion = 1;
    atLeast = VerSetConditionMask(0, VER_MAJORVERSION, VER_GREATER_EQUAL);
    atLeast = VerSetConditionMask(atLeast, VER_MINORVERSION, VER_GREATER_EQUAL);
    exactly = VerSetConditionMask(exactly, VER_MAJORVERSION, VER_EQUAL);
    CHECK_STATUS(STATUS_SUCCESS, RtlVerifyVersionInfo(&version, VER_MAJORVERSION | VER_MINORVERSION, atLeast));
    CHECK_STATUS(STATUS_REVISION_MISMATCH, RtlVerifyVersionInfo(&version, VER_MAJORVERSION, exactly));
    version.dwMajorVersion = 10;
    CHECK_STATUS(STATUS_SUCCESS, RtlVerifyVersionInfo(&version, VER_MAJORVERSION, exactly));
    CHECK_STATUS(STATUS_REVISION_MISMATCH,
                 RtlVerifyVersionInfo(&version, VER_MAJORVERSION | VER_MINORVERSION, atLeast));
    version.wProductType = VER_NT_SERVER;
    CHECK_STATUS(STATUS_REVISION_MISMATCH,
                 RtlVerifyVersionInfo(&version, VER_PRODUCT_TYPE, VerSetConditionMask(0, VER_PRODUCT_TYPE, VER_EQUAL)));
    CHECK_STATUS(STATUS_INVALID_PARAMETER, RtlVerifyVersionInfo(&version, 0, 0));
}

static void Checks(PUNICODE_STRING RegistryPath)
{
    (void)RegistryPath;
    Oem();
    Errors();
    Ethernet();
    Images();
    Versions();
}
