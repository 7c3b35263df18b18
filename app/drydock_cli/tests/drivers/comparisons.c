/* Altitudes of filters, spans of time, advanced MDLs and the rights that control requests need. */
#define FAMILY "comparisons"
#include "check.h"

IMPORT(LONG, RtlCompareAltitudes, PCUNICODE_STRING, PCUNICODE_STRING);
IMPORT(VOID, RtlTimeToElapsedTimeFields, PLARGE_INTEGER, PTIME_FIELDS);
IMPORT(NTSTATUS, IoValidateDeviceIoControlAccess, PIRP, ULONG);

static int Compared(PCWSTR One, PCWSTR Other)
{
    UNICODE_STRING one, other;
    LONG result;

    RtlInitUnicodeString(&one, One);
    RtlInitUnicodeString(&other, Other);
    result = CALL(RtlCompareAltitudes)(&one, &other);
    return result < 0 ? -1 : result > 0;
}

static void Altitudes(void)
{
    CHECK_NUMBER(0, Compared(L"370030", L"370030"));
    CHECK_NUMBER(-1, Compared(L"99999", L"370030"));
    CHECK_NUMBER(1, Compared(L"370030.1", L"370030"));
    CHECK_NUMBER(1, Compared(L"370030.5", L"370030.45"));
    CHECK_NUMBER(0, Compared(L"0370030.50", L"370030.5"));
    CHECK_NUMBER(-1, Compared(L"12345678901234567890123", L"12345678901234567890124"));
}

static void Spans(void)
{
    LARGE_INTEGER span;
    TIME_FIELDS fields;

    span.QuadPart = ((((40LL * 24 + 5) * 60 + 6) * 60 + 7) * 1000 + 8) * 10000;
    RtlFillMemory(&fields, sizeof(fields), 0x55);
    CALL(RtlTimeToElapsedTimeFields)(&span, &fields);
    CHECK(fields.Year == 0 && fields.Month == 0 && fields.Day == 40 && fields.Weekday == 0);
    CHECK(fields.Hour == 5 && fields.Minute == 6 && fields.Second == 7 && fields.Milliseconds == 8);
}

static void Advanced(void)
{
    PUCHAR memory = ExAllocatePoolWithTag(NonPagedPool, 3 * PAGE_SIZE, TEST_TAG);
    PMDL mdl = IoAllocateMdl(memory + 100, 2 * PAGE_SIZE, FALSE, FALSE, NULL);
    PFN_NUMBER second;

    CHECK_STATUS(STATUS_INVALID_PARAMETER_1, MmAdvanceMdl(mdl, 10));
    MmProbeAndLockPages(mdl, KernelMode, IoWriteAccess);
    second = MmGetMdlPfnArray(mdl)[1];
    CHECK_STATUS(STATUS_INVALID_PARAMETER_2, MmAdvanceMdl(mdl, 2 * PAGE_SIZE + 1));
    CHECK_STATUS(STATUS_SUCCESS, MmAdvanceMdl(mdl, 10));
    CHECK(MmGetMdlVirtualAddress(mdl) == memory + 110 && MmGetMdlByteCount(mdl) == 2 * PAGE_SIZE - 10);
    CHECK(MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority) == memory + 110);
    CHECK_STATUS(STATUS_SUCCESS, MmAdvanceMdl(mdl, PAGE_SIZE));
    CHECK(MmGetMdlVirtualAddress(mdl) == memory + PAGE_SIZE + 110 && MmGetMdlPfnArray(mdl)[0] == second);
    CHECK(MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority) == memory + PAGE_SIZE + 110);
    MmUnlockPages(mdl);
    IoFreeMdl(mdl);
    ExFreePoolWithTag(memory, TEST_TAG);
}

static void Rights(void)
{
    PIRP irp = IoAllocateIrp(1, FALSE);
    PIO_STACK_LOCATION location = IoGetNextIrpStackLocation(irp);
    FILE_OBJECT file;

    RtlZeroMemory(&file, sizeof(file));
    location->MajorFunction = IRP_MJ_DEVICE_CONTROL;
    location->FileObject = &file;
    IoSetNextIrpStackLocation(irp);
    irp->RequestorMode = UserMode;
    CHECK_STATUS(STATUS_SUCCESS, CALL(IoValidateDeviceIoControlAccess)(irp, FILE_ANY_ACCESS));
    CHECK_STATUS(STATUS_ACCESS_DENIED, CALL(IoValidateDeviceIoControlAccess)(irp, FILE_READ_ACCESS));
    file.ReadAccess = TRUE;
    CHECK_STATUS(STATUS_SUCCESS, CALL(IoValidateDeviceIoControlAccess)(irp, FILE_READ_ACCESS));
    CHECK_STATUS(STATUS_ACCESS_DENIED, CALL(IoValidateDeviceIoControlAccess)(irp, FILE_READ_ACCESS | FILE_WRITE_ACCESS));
    irp->RequestorMode = KernelMode;
    CHECK_STATUS(STATUS_SUCCESS, CALL(IoValidateDeviceIoControlAccess)(irp, FILE_WRITE_ACCESS));
    CHECK_STATUS(STATUS_INVALID_PARAMETER, CALL(IoValidateDeviceIoControlAccess)(irp, 4));
    location->MajorFunction = IRP_MJ_READ;
    CHECK_STATUS(STATUS_INVALID_PARAMETER, CALL(IoValidateDeviceIoControlAccess)(irp, FILE_READ_ACCESS));
    IoFreeIrp(irp);
}

static void Checks(PUNICODE_STRING RegistryPath)
{
    (void)RegistryPath;
    Altitudes();
    Spans();
    Advanced();
    Rights();
}
