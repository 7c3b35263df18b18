/* A provider of network names, and the cache of files that have none (K-200). */
#define FAMILY "redirector"
#include "check.h"

IMPORT(NTSTATUS, FsRtlRegisterUncProvider, PHANDLE, PUNICODE_STRING, BOOLEAN);
IMPORT(NTSTATUS, FsRtlRegisterUncProviderEx, PHANDLE, PUNICODE_STRING, PDEVICE_OBJECT, ULONG);
IMPORT(VOID, FsRtlDeregisterUncProvider, HANDLE);
IMPORT(BOOLEAN, CcPurgeCacheSection, PSECTION_OBJECT_POINTERS, PLARGE_INTEGER, ULONG, ULONG);
IMPORT(BOOLEAN, CcUninitializeCacheMap, PFILE_OBJECT, PLARGE_INTEGER, PCACHE_UNINITIALIZE_EVENT);

static void Providers(void)
{
    UNICODE_STRING name = RTL_CONSTANT_STRING(L"\\Device\\TestRedirector"), empty = {0};
    HANDLE first = NULL, second = NULL;

    CHECK_STATUS(STATUS_SUCCESS, CALL(FsRtlRegisterUncProvider)(&first, &name, FALSE));
    CHECK_STATUS(STATUS_SUCCESS, CALL(FsRtlRegisterUncProviderEx)(&second, &name, NULL, 0));
    CHECK(first != NULL && second != NULL && first != second);
    CHECK_STATUS(STATUS_INVALID_PARAMETER, CALL(FsRtlRegisterUncProvider)(&second, &empty, FALSE));
    CALL(FsRtlDeregisterUncProvider)(first);
    /* That was its handle. */
    CHECK_STATUS(STATUS_INVALID_HANDLE, ZwClose(first));
    CHECK_STATUS(STATUS_SUCCESS, ZwClose(second));
}

static void Caches(void)
{
    SECTION_OBJECT_POINTERS pointers = {0};
    CACHE_UNINITIALIZE_EVENT done;
    LARGE_INTEGER zero = {{0}};
    FILE_OBJECT file;

    CHECK_NUMBER(TRUE, CALL(CcPurgeCacheSection)(&pointers, NULL, 0, FALSE));
    CHECK_NUMBER(TRUE, CALL(CcPurgeCacheSection)(&pointers, &zero, 4096, TRUE));
    pointers.DataSectionObject = &pointers;
    CHECK_NUMBER(FALSE, CALL(CcPurgeCacheSection)(&pointers, NULL, 0, FALSE));

    RtlZeroMemory(&file, sizeof(file));
    KeInitializeEvent(&done.Event, SynchronizationEvent, FALSE);
    CHECK_NUMBER(FALSE, CALL(CcUninitializeCacheMap)(&file, &zero, &done));
    CHECK_NUMBER(1, KeReadStateEvent(&done.Event));
    CHECK_NUMBER(FALSE, CALL(CcUninitializeCacheMap)(&file, NULL, NULL));
}

static void Checks(PUNICODE_STRING RegistryPath)
{
    (void)RegistryPath;
    Providers();
    Caches();
}
