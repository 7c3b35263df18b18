/* Results that drivers want in fields of packed structures: x64 code stores to any alignment. */
#define FAMILY "unaligned"
#include "check.h"

IMPORT(NTSTATUS, IoCheckDesiredAccess, PVOID, ACCESS_MASK);
IMPORT(void, ExQueryTimerResolution, PVOID, PVOID, PVOID);
IMPORT(void, RtlInitializeBitMap, PVOID, PULONG, ULONG);
IMPORT(ULONG, RtlFindLongestRunClear, PVOID, PVOID);
IMPORT(ULONG, RtlFindFirstRunClear, PVOID, PVOID);
IMPORT(ULONG, RtlFindLastBackwardRunClear, PVOID, ULONG, PVOID);
IMPORT(ULONG, RtlFindClearRuns, PVOID, PVOID, ULONG, BOOLEAN);
IMPORT(NTSTATUS, RtlUnicodeStringToInteger, PUNICODE_STRING, ULONG, PVOID);
IMPORT(NTSTATUS, RtlCreateSecurityDescriptor, PVOID, ULONG);
IMPORT(NTSTATUS, RtlSetDaclSecurityDescriptor, PVOID, BOOLEAN, PVOID, BOOLEAN);
IMPORT(NTSTATUS, RtlGetDaclSecurityDescriptor, PVOID, PVOID, PVOID, PVOID);
IMPORT(NTSTATUS, RtlGetOwnerSecurityDescriptor, PVOID, PVOID, PVOID);
IMPORT(NTSTATUS, RtlGetGroupSecurityDescriptor, PVOID, PVOID, PVOID);
IMPORT(NTSTATUS, RtlAbsoluteToSelfRelativeSD, PVOID, PVOID, PVOID);
IMPORT(void, RtlInitializeGenericTableAvl, PVOID, PVOID, PVOID, PVOID, PVOID);
IMPORT(PVOID, RtlLookupElementGenericTableFullAvl, PVOID, PVOID, PVOID, PVOID);
IMPORT(PVOID, RtlEnumerateGenericTableWithoutSplayingAvl, PVOID, PVOID);

IMPORT(ULONG, RtlRandom, PVOID);
IMPORT(void, RtlMapGenericMask, PVOID, PVOID);
IMPORT(NTSTATUS, RtlRunOnceExecuteOnce, PVOID, PVOID, PVOID, PVOID);
IMPORT(NTSTATUS, RtlHashUnicodeString, PUNICODE_STRING, BOOLEAN, ULONG, PVOID);
IMPORT(NTSTATUS, RtlIpv4AddressToStringExA, PVOID, USHORT, PSTR, PVOID);
IMPORT(NTSTATUS, RtlIpv4StringToAddressA, PCSTR, BOOLEAN, PVOID, PVOID);
IMPORT(LONG, strtol, const char *, PVOID, int);
IMPORT(char *, strtok_s, char *, const char *, PVOID);

#pragma pack(push, 1)
typedef struct _PACKED {
    UCHAR Byte;
    HANDLE Handle;
    PVOID Object;
    PVOID Other;
    IO_STATUS_BLOCK Iosb;
    CLIENT_ID Client;
    UNICODE_STRING String;
    LARGE_INTEGER Time;
    ULONG Number;
    UCHAR Guard;
} PACKED;
#pragma pack(pop)

C_ASSERT(FIELD_OFFSET(PACKED, Handle) == 1);

static PACKED Packed;
/* The field's address as any other, which compilers take for aligned. */
#define FIELD(name) ((PVOID)((PUCHAR)&Packed + FIELD_OFFSET(PACKED, name)))

static void Devices(void)
{
    UNICODE_STRING name = RTL_CONSTANT_STRING(L"\\Device\\Unaligned");
    OBJECT_ATTRIBUTES attributes;

    CHECK_STATUS(STATUS_SUCCESS,
                 IoCreateDevice(Self, 0, &name, FILE_DEVICE_UNKNOWN, 0, FALSE, FIELD(Object)));
    CHECK(Packed.Object == Self->DeviceObject);
    IoDeleteDevice(Packed.Object);

    RtlInitUnicodeString(&name, L"\\Device\\Tcp");
    CHECK_STATUS(STATUS_SUCCESS, IoGetDeviceObjectPointer(&name, FILE_READ_DATA, FIELD(Object), FIELD(Other)));
    CHECK(IoGetRelatedDeviceObject(Packed.Object) == Packed.Other);
    ObDereferenceObject(Packed.Object);

    InitializeObjectAttributes(&attributes, &name, OBJ_KERNEL_HANDLE, NULL, NULL);
    CHECK_STATUS(STATUS_SUCCESS, ZwCreateFile(FIELD(Handle), GENERIC_READ | SYNCHRONIZE, &attributes, FIELD(Iosb), NULL, 0,
                                              0, FILE_OPEN, 0, NULL, 0));
    CHECK_STATUS(STATUS_SUCCESS, Packed.Iosb.Status);
    CHECK_STATUS(STATUS_SUCCESS, ObReferenceObjectByHandle(Packed.Handle, 0, *IoFileObjectType, KernelMode, FIELD(Object),
                                                           NULL));
    ObDereferenceObject(Packed.Object);
    ZwClose(Packed.Handle);
}

static void NTAPI Nothing(PVOID Context)
{
    (void)Context;
}

static void Threads(void)
{
    PVOID thread;

    CHECK_STATUS(STATUS_SUCCESS,
                 PsCreateSystemThread(FIELD(Handle), THREAD_ALL_ACCESS, NULL, NULL, FIELD(Client), Nothing, NULL));
    CHECK(Packed.Client.UniqueThread != NULL);
    CHECK_STATUS(STATUS_SUCCESS,
                 ObReferenceObjectByHandle(Packed.Handle, THREAD_ALL_ACCESS, *PsThreadType, KernelMode, FIELD(Object), NULL));
    ZwClose(Packed.Handle);
    thread = Packed.Object;
    Join(thread);
    CHECK_STATUS(STATUS_SUCCESS, ZwCreateEvent(FIELD(Handle), EVENT_ALL_ACCESS, NULL, NotificationEvent, FALSE));
    ZwClose(Packed.Handle);
}

static void Values(void)
{
    LARGE_INTEGER time;

    RtlInitUnicodeString(FIELD(String), L"four");
    CHECK_NUMBER(8, Packed.String.Length);
    RtlSecondsSince1970ToTime(1, FIELD(Time));
    time = Packed.Time;
    CHECK(RtlTimeToSecondsSince1970(FIELD(Time), FIELD(Number)) != FALSE);
    CHECK_NUMBER(1, Packed.Number);
    CHECK(time.QuadPart == Packed.Time.QuadPart);
    Packed.Number = GENERIC_READ;
    CHECK_STATUS(STATUS_SUCCESS, CALL(IoCheckDesiredAccess)(FIELD(Number), FILE_GENERIC_READ));
    CHECK_NUMBER(FILE_GENERIC_READ, Packed.Number);
    CALL(ExQueryTimerResolution)(FIELD(Object), FIELD(Other), FIELD(Number));
    CHECK(Packed.Number > 0);
    CHECK_NUMBER(0, Packed.Guard);
}

static void Bitmaps(void)
{
    static ULONG bits[1] = {0x0000000F};
    ULONG64 map[2];

    CALL(RtlInitializeBitMap)(map, bits, 32);
    CHECK_NUMBER(28, CALL(RtlFindLongestRunClear)(map, FIELD(Number)));
    CHECK_NUMBER(4, Packed.Number);
    Packed.Number = 0;
    CHECK_NUMBER(28, CALL(RtlFindFirstRunClear)(map, FIELD(Number)));
    CHECK_NUMBER(4, Packed.Number);
    Packed.Number = 0;
    CHECK_NUMBER(28, CALL(RtlFindLastBackwardRunClear)(map, 31, FIELD(Number)));
    CHECK_NUMBER(4, Packed.Number);
    CHECK_NUMBER(1, CALL(RtlFindClearRuns)(map, FIELD(Time), 1, TRUE));
    CHECK_NUMBER(4, Packed.Time.LowPart);
    CHECK_NUMBER(28, Packed.Time.HighPart);
}

static void Numbers(void)
{
    UNICODE_STRING text = RTL_CONSTANT_STRING(L"17");

    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlUnicodeStringToInteger)(&text, 10, FIELD(Number)));
    CHECK_NUMBER(17, Packed.Number);
}

static void Security(void)
{
    ULONG64 descriptor[5], relative[8];
    BOOLEAN present, defaulted;

    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlCreateSecurityDescriptor)(descriptor, 1));
    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlSetDaclSecurityDescriptor)(descriptor, TRUE, NULL, FALSE));
    Packed.Object = Packed.Other = Packed.Handle = Self;
    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlGetDaclSecurityDescriptor)(descriptor, &present, FIELD(Object), &defaulted));
    CHECK(present && Packed.Object == NULL);
    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlGetOwnerSecurityDescriptor)(descriptor, FIELD(Other), &defaulted));
    CHECK(Packed.Other == NULL);
    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlGetGroupSecurityDescriptor)(descriptor, FIELD(Handle), &defaulted));
    CHECK(Packed.Handle == NULL);
    Packed.Number = sizeof(relative);
    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlAbsoluteToSelfRelativeSD)(descriptor, relative, FIELD(Number)));
    CHECK_NUMBER(20, Packed.Number);
}

static void Tables(void)
{
    ULONG64 table[16];
    int element = 1;

    CALL(RtlInitializeGenericTableAvl)(table, NULL, NULL, NULL, NULL);
    Packed.Number = 9;
    CHECK(CALL(RtlLookupElementGenericTableFullAvl)(table, &element, FIELD(Object), FIELD(Number)) == NULL);
    CHECK_NUMBER(0, Packed.Number);
    Packed.Other = NULL;
    CHECK(CALL(RtlEnumerateGenericTableWithoutSplayingAvl)(table, FIELD(Other)) == NULL);
}

static ULONG NTAPI InitializeOnce(PVOID Once, PVOID Parameter, PVOID *Context)
{
    (void)Once;
    *Context = Parameter;
    return TRUE;
}

static void Runtime(void)
{
    static GENERIC_MAPPING mapping = {1, 2, 4, 8};
    static PVOID once;
    UNICODE_STRING text = RTL_CONSTANT_STRING(L"a");
    char words[] = "one two", digits[] = "12x", address[] = "10.0.0.1/";
    UCHAR bytes[4];
    char room[32];
    ULONG aligned = 5;

    Packed.Number = 5;
    CHECK_NUMBER(CALL(RtlRandom)(&aligned), CALL(RtlRandom)(FIELD(Number)));
    CHECK_NUMBER(aligned, Packed.Number);
    Packed.Number = GENERIC_WRITE;
    CALL(RtlMapGenericMask)(FIELD(Number), &mapping);
    CHECK_NUMBER(2, Packed.Number);
    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlRunOnceExecuteOnce)(&once, InitializeOnce, &mapping, FIELD(Object)));
    CHECK(Packed.Object == &mapping);
    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlHashUnicodeString)(&text, FALSE, 0, FIELD(Number)));
    CHECK_NUMBER('a', Packed.Number);
    CHECK_NUMBER(12, CALL(strtol)(digits, FIELD(Object), 10));
    CHECK(Packed.Object == &digits[2]);
    CHECK(CALL(strtok_s)(words, " ", FIELD(Other)) == words && CALL(strtok_s)(NULL, " ", FIELD(Other)) == &words[4]);
    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlIpv4StringToAddressA)(address, TRUE, FIELD(Object), bytes));
    CHECK(Packed.Object == &address[8] && bytes[3] == 1);
    Packed.Number = sizeof(room);
    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlIpv4AddressToStringExA)(bytes, 0, room, FIELD(Number)));
    CHECK_TEXT("10.0.0.1", room);
    CHECK_NUMBER(9, Packed.Number);
    CHECK_NUMBER(0, Packed.Guard);
}

static void Checks(PUNICODE_STRING RegistryPath)
{
    (void)RegistryPath;
    Devices();
    Threads();
    Values();
    Bitmaps();
    Numbers();
    Security();
    Tables();
    Runtime();
}
