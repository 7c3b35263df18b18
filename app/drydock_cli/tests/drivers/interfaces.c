/* Interfaces and relations of devices, none of which is a physical one (K-200). */
#define FAMILY "interfaces"
#include "check.h"

static const GUID Class = {0xcac88484, 0x7515, 0x4c03, {0x82, 0xe6, 0x71, 0xa8, 0x7a, 0xba, 0xc3, 0x61}};

/* What ends the run: the value End under Parameters says which. */
static void End(PUNICODE_STRING RegistryPath, PDEVICE_OBJECT Device)
{
    ULONG end = Setting(RegistryPath, L"End");

    switch (end) {
    case 1: IoInvalidateDeviceRelations(Device, BusRelations); break;
    case 2: IoInvalidateDeviceState(Device); break;
    case 3: IoRequestDeviceEject(Device); break;
    }
    CHECK_NUMBER(0, end);
}

static void Checks(PUNICODE_STRING RegistryPath)
{
    UNICODE_STRING link = RTL_CONSTANT_STRING(L"\\??\\ROOT#NET#0000#{cac88484-7515-4c03-82e6-71a87abac361}");
    UNICODE_STRING empty = {0}, alias = {0};
    PWSTR list = NULL;
    PDEVICE_OBJECT device;
    HANDLE key = NULL;
    ULONG length;

    CHECK_STATUS(STATUS_SUCCESS, IoCreateDevice(Self, 0, NULL, FILE_DEVICE_NETWORK, 0, FALSE, &device));
    CHECK_STATUS(STATUS_INVALID_DEVICE_REQUEST, IoRegisterDeviceInterface(device, &Class, NULL, &alias));
    CHECK_STATUS(STATUS_INVALID_DEVICE_REQUEST, IoRegisterDeviceInterface(NULL, &Class, NULL, &alias));
    CHECK(alias.Buffer == NULL);
    CHECK_STATUS(STATUS_OBJECT_NAME_NOT_FOUND, IoSetDeviceInterfaceState(&link, TRUE));
    CHECK_STATUS(STATUS_OBJECT_NAME_NOT_FOUND, IoSetDeviceInterfaceState(&link, FALSE));
    CHECK_STATUS(STATUS_INVALID_PARAMETER, IoSetDeviceInterfaceState(&empty, TRUE));
    CHECK_STATUS(STATUS_OBJECT_NAME_NOT_FOUND, IoGetDeviceInterfaceAlias(&link, &Class, &alias));
    CHECK_STATUS(STATUS_INVALID_DEVICE_REQUEST, IoGetDeviceInterfaces(&Class, device, 0, &list));
    CHECK_STATUS(STATUS_SUCCESS, IoGetDeviceInterfaces(&Class, NULL, DEVICE_INTERFACE_INCLUDE_NONACTIVE, &list));
    if (CHECK(list != NULL)) {
        CHECK_NUMBER(0, *list);
        ExFreePool(list);
    }
    CHECK_STATUS(STATUS_INVALID_DEVICE_REQUEST,
                 IoGetDeviceProperty(device, DevicePropertyEnumeratorName, sizeof(empty), &empty, &length));
    CHECK_STATUS(STATUS_INVALID_DEVICE_REQUEST, IoOpenDeviceRegistryKey(device, PLUGPLAY_REGKEY_DRIVER, KEY_READ, &key));
    CHECK(key == NULL);
    End(RegistryPath, device);
    IoDeleteDevice(device);
}
