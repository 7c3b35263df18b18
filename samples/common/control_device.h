/*
 * A device that user programs can open and send control codes to.
 */
#ifndef CONTROL_DEVICE_H
#define CONTROL_DEVICE_H

#include "sample.h"

/*
 * Creates \Device\<Name> and the link \??\<Name> to it, and sets routines for IRP_MJ_CREATE, IRP_MJ_CLEANUP and IRP_MJ_CLOSE
 * that succeed. The caller sets IRP_MJ_DEVICE_CONTROL. PASSIVE_LEVEL.
 */
NTSTATUS CreateControlDevice(PDRIVER_OBJECT Driver, PCWSTR Name, PDEVICE_OBJECT *Device);

/* Undoes CreateControlDevice. PASSIVE_LEVEL. */
void DeleteControlDevice(PDEVICE_OBJECT Device, PCWSTR Name);

#endif
