/*
 * Files of the host, by the names that drivers use.
 *
 * Without --files there is no drive: the driver says what an open comes to. With it, everything else.
 */
#define FAMILY "files"
#include "check.h"

IMPORT(NTSTATUS, NtQueryDirectoryFile, HANDLE, HANDLE, PVOID, PVOID, PIO_STATUS_BLOCK, PVOID, ULONG, ULONG, BOOLEAN, PUNICODE_STRING, BOOLEAN);
IMPORT(NTSTATUS, NtQueryInformationFile, HANDLE, PIO_STATUS_BLOCK, PVOID, ULONG, ULONG);
IMPORT(NTSTATUS, NtSetInformationFile, HANDLE, PIO_STATUS_BLOCK, PVOID, ULONG, ULONG);

IMPORT(NTSTATUS, IoVolumeDeviceToDosName, PVOID, PUNICODE_STRING);
IMPORT(NTSTATUS, RtlVolumeDeviceToDosName, PVOID, PUNICODE_STRING);

static HANDLE Open(PCWSTR Name, ACCESS_MASK Access, ULONG Disposition, ULONG Options, NTSTATUS *Status)
{
    UNICODE_STRING name;
    OBJECT_ATTRIBUTES attributes;
    IO_STATUS_BLOCK iosb;
    HANDLE handle = NULL;

    RtlInitUnicodeString(&name, Name);
    InitializeObjectAttributes(&attributes, &name, OBJ_CASE_INSENSITIVE | OBJ_KERNEL_HANDLE, NULL, NULL);
    *Status = ZwCreateFile(&handle, Access | SYNCHRONIZE, &attributes, &iosb, NULL, FILE_ATTRIBUTE_NORMAL, FILE_SHARE_READ,
                           Disposition, Options | FILE_SYNCHRONOUS_IO_NONALERT, NULL, 0);
    return handle;
}

static void Log(void)
{
    static const char Lines[] = "first line\nsecond line\n";
    FILE_STANDARD_INFORMATION standard;
    FILE_END_OF_FILE_INFORMATION end;
    IO_STATUS_BLOCK iosb;
    LARGE_INTEGER offset;
    char buffer[64];
    NTSTATUS status;
    HANDLE file = Open(L"\\??\\C:\\driver.log", GENERIC_READ | GENERIC_WRITE, FILE_CREATE, 0, &status);

    CHECK_STATUS(STATUS_SUCCESS, status);
    CHECK_STATUS(STATUS_SUCCESS, ZwWriteFile(file, NULL, NULL, NULL, &iosb, (PVOID)Lines, 23, NULL, NULL));
    CHECK_NUMBER(23, iosb.Information);
    offset.QuadPart = 11;
    CHECK_STATUS(STATUS_SUCCESS, ZwReadFile(file, NULL, NULL, NULL, &iosb, buffer, sizeof(buffer), &offset, NULL));
    CHECK_NUMBER(12, iosb.Information);
    CHECK(memcmp(buffer, "second line\n", 12) == 0);
    CHECK_STATUS(STATUS_SUCCESS,
                 ZwQueryInformationFile(file, &iosb, &standard, sizeof(standard), FileStandardInformation));
    CHECK_NUMBER(23, standard.EndOfFile.QuadPart);
    end.EndOfFile.QuadPart = 11;
    CHECK_STATUS(STATUS_SUCCESS, ZwSetInformationFile(file, &iosb, &end, sizeof(end), FileEndOfFileInformation));
    CHECK_STATUS(STATUS_END_OF_FILE, ZwReadFile(file, NULL, NULL, NULL, &iosb, buffer, sizeof(buffer), &offset, NULL));
    CHECK_STATUS(STATUS_SUCCESS, ZwClose(file));
}

static void Folder(void)
{
    UCHAR buffer[512];
    UNICODE_STRING pattern = RTL_CONSTANT_STRING(L"*.INI");
    FILE_BOTH_DIR_INFORMATION *entry = (PVOID)buffer;
    IO_STATUS_BLOCK iosb;
    NTSTATUS status;
    HANDLE folder = Open(L"\\SystemRoot", FILE_LIST_DIRECTORY, FILE_OPEN, FILE_DIRECTORY_FILE, &status);

    CHECK_STATUS(STATUS_SUCCESS, status);
    CHECK_STATUS(STATUS_SUCCESS, ZwQueryDirectoryFile(folder, NULL, NULL, NULL, &iosb, buffer, sizeof(buffer),
                                                      FileBothDirectoryInformation, FALSE, &pattern, FALSE));
    CHECK_NUMBER(0, entry->NextEntryOffset);
    CHECK_NUMBER(10 * sizeof(WCHAR), entry->FileNameLength);
    CHECK(memcmp(entry->FileName, L"system.ini", 20) == 0);
    CHECK_STATUS(STATUS_SUCCESS, CALL(NtQueryDirectoryFile)(folder, NULL, NULL, NULL, &iosb, buffer, sizeof(buffer),
                                                            FileBothDirectoryInformation, FALSE, &pattern, TRUE));
    CHECK(memcmp(entry->FileName, L"system.ini", 20) == 0);
    CHECK_STATUS(STATUS_NO_MORE_FILES, ZwQueryDirectoryFile(folder, NULL, NULL, NULL, &iosb, buffer, sizeof(buffer),
                                                            FileBothDirectoryInformation, FALSE, &pattern, FALSE));
    CHECK_STATUS(STATUS_SUCCESS, ZwClose(folder));
}

/* What changes a folder or a file's properties: other system calls of the host than reading and writing. */
static void Changes(void)
{
    static const WCHAR Target[] = L"\\??\\C:\\made\\moved";
    UCHAR buffer[sizeof(FILE_RENAME_INFORMATION) + sizeof(Target)];
    FILE_RENAME_INFORMATION *rename = (PVOID)buffer;
    FILE_DISPOSITION_INFORMATION disposition = {TRUE};
    FILE_BASIC_INFORMATION basic;
    IO_STATUS_BLOCK iosb;
    NTSTATUS status;
    HANDLE folder = Open(L"\\??\\C:\\made", FILE_LIST_DIRECTORY, FILE_CREATE, FILE_DIRECTORY_FILE, &status);
    HANDLE file;

    CHECK_STATUS(STATUS_SUCCESS, status);
    CHECK_STATUS(STATUS_SUCCESS, ZwClose(folder));
    file = Open(L"\\??\\C:\\old", GENERIC_WRITE | DELETE, FILE_CREATE, 0, &status);
    CHECK_STATUS(STATUS_SUCCESS, status);
    CHECK_STATUS(STATUS_SUCCESS, ZwFlushBuffersFile(file, &iosb));
    RtlZeroMemory(&basic, sizeof(basic));
    basic.LastWriteTime.QuadPart = 125911584000000000LL;
    CHECK_STATUS(STATUS_SUCCESS, ZwSetInformationFile(file, &iosb, &basic, sizeof(basic), FileBasicInformation));
    CHECK_STATUS(STATUS_SUCCESS, ZwQueryInformationFile(file, &iosb, &basic, sizeof(basic), FileBasicInformation));
    CHECK_NUMBER(125911584000000000LL, basic.LastWriteTime.QuadPart);
    basic.LastWriteTime.QuadPart = 125911584010000000LL;
    CHECK_STATUS(STATUS_SUCCESS, CALL(NtSetInformationFile)(file, &iosb, &basic, sizeof(basic), FileBasicInformation));
    RtlZeroMemory(&basic, sizeof(basic));
    CHECK_STATUS(STATUS_SUCCESS, CALL(NtQueryInformationFile)(file, &iosb, &basic, sizeof(basic), FileBasicInformation));
    CHECK_NUMBER(125911584010000000LL, basic.LastWriteTime.QuadPart);
    RtlZeroMemory(rename, sizeof(*rename));
    rename->FileNameLength = sizeof(Target) - sizeof(WCHAR);
    RtlCopyMemory(rename->FileName, Target, rename->FileNameLength);
    CHECK_STATUS(STATUS_SUCCESS, ZwSetInformationFile(file, &iosb, buffer, sizeof(buffer), FileRenameInformation));
    basic.FileAttributes = FILE_ATTRIBUTE_READONLY;
    CHECK_STATUS(STATUS_SUCCESS, ZwSetInformationFile(file, &iosb, &basic, sizeof(basic), FileBasicInformation));
    CHECK_STATUS(STATUS_CANNOT_DELETE,
                 ZwSetInformationFile(file, &iosb, &disposition, sizeof(disposition), FileDispositionInformation));
    CHECK_STATUS(STATUS_SUCCESS, ZwClose(file));
    folder = Open(L"\\??\\C:\\empty", DELETE, FILE_CREATE, FILE_DIRECTORY_FILE | FILE_DELETE_ON_CLOSE, &status);
    CHECK_STATUS(STATUS_SUCCESS, status);
    CHECK_STATUS(STATUS_SUCCESS, ZwClose(folder));
}

static void Outside(void)
{
    NTSTATUS status;

    CHECK(Open(L"\\??\\C:\\link", GENERIC_READ, FILE_OPEN, 0, &status) == NULL);
    CHECK_STATUS(STATUS_ACCESS_DENIED, status);
    CHECK(Open(L"\\??\\C:\\..\\secret", GENERIC_READ, FILE_OPEN, 0, &status) == NULL);
    CHECK_STATUS(STATUS_OBJECT_NAME_INVALID, status);
}

static void DriveLetter(PDEVICE_OBJECT Volume)
{
    UNICODE_STRING expected = RTL_CONSTANT_STRING(L"C:"), name = {0, 0, NULL};

    CHECK_STATUS(STATUS_SUCCESS, CALL(IoVolumeDeviceToDosName)(Volume, &name));
    CHECK(RtlEqualUnicodeString(&name, &expected, FALSE));
    ExFreePool(name.Buffer);
    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlVolumeDeviceToDosName)(Volume, &name));
    CHECK(RtlEqualUnicodeString(&name, &expected, FALSE));
    ExFreePool(name.Buffer);
}

/* A device that is no volume has no letter. */
static void NoDriveLetter(void)
{
    UNICODE_STRING name = {0, 0, NULL};
    PDEVICE_OBJECT device;

    CHECK_STATUS(STATUS_SUCCESS, IoCreateDevice(Self, 0, NULL, FILE_DEVICE_UNKNOWN, 0, FALSE, &device));
    CHECK_STATUS(STATUS_INVALID_DEVICE_REQUEST, CALL(IoVolumeDeviceToDosName)(device, &name));
    CHECK(name.Buffer == NULL);
    IoDeleteDevice(device);
}

static void Checks(PUNICODE_STRING RegistryPath)
{
    UNICODE_STRING name = RTL_CONSTANT_STRING(L"\\??\\C:\\doomed");
    OBJECT_ATTRIBUTES attributes;
    NTSTATUS status;
    HANDLE file = Open(L"\\??\\C:\\doomed", DELETE, FILE_OPEN, 0, &status);

    PFILE_OBJECT object = NULL;

    (void)RegistryPath;
    NoDriveLetter();
    if (file == NULL) {
        CHECK_STATUS(STATUS_OBJECT_PATH_NOT_FOUND, status);
        CHECK(Open(L"\\SystemRoot\\system.ini", GENERIC_READ, FILE_OPEN, 0, &status) == NULL);
        CHECK_STATUS(STATUS_OBJECT_PATH_NOT_FOUND, status);
        return;
    }
    CHECK_STATUS(STATUS_SUCCESS, ObReferenceObjectByHandle(file, 0, *IoFileObjectType, KernelMode, (PVOID *)&object, NULL));
    DriveLetter(object->DeviceObject);
    ObDereferenceObject(object);
    ZwClose(file);
    InitializeObjectAttributes(&attributes, &name, OBJ_CASE_INSENSITIVE | OBJ_KERNEL_HANDLE, NULL, NULL);
    CHECK_STATUS(STATUS_SUCCESS, ZwDeleteFile(&attributes));
    CHECK_STATUS(STATUS_OBJECT_NAME_NOT_FOUND, ZwDeleteFile(&attributes));
    Log();
    Folder();
    Changes();
    Outside();
}
